# SPDX-License-Identifier: Apache-2.0
"""Initial values of rows in plain TensorFlow ops: docs/initial_values.md, bit for bit.

The order of operations is the engine's (cc/damo/base/random.cc). TensorFlow rounds after each op, as the
engine does; where its graph optimizer may reorder a sum, the sum is written so that it cannot.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

_U64 = tf.uint64

# Philox4x32-10: multipliers, and the Weyl steps of the key.
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = 0xFFFFFFFF

# AS 241, PPND16: coefficients from the highest power down, of numerator and denominator, for the middle,
# the tails and the far tails.
_CENTRAL = (
    (
        2509.0809287301226727,
        33430.575583588128105,
        67265.770927008700853,
        45921.953931549871457,
        13731.693765509461125,
        1971.5909503065514427,
        133.14166789178437745,
        3.387132872796366608,
    ),
    (
        5226.495278852854561,
        28729.085735721942674,
        39307.89580009271061,
        21213.794301586595867,
        5394.1960214247511077,
        687.1870074920579083,
        42.313330701600911252,
        1.0,
    ),
)
_NEAR_TAIL = (
    (
        7.7454501427834140764e-4,
        2.27238449892691845833e-2,
        0.24178072517745061177,
        1.27045825245236838258,
        3.64784832476320460504,
        5.7694972214606914055,
        4.6303378461565452959,
        1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9,
        5.475938084995344946e-4,
        1.51986665636165571966e-2,
        0.14810397642748007459,
        0.68976733498510000455,
        1.6763848301838038494,
        2.05319162663775882187,
        1.0,
    ),
)
_FAR_TAIL = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        0.29656057182850489123,
        1.7848265399172913358,
        5.4637849111641143699,
        6.6579046435011037772,
    ),
    (
        2.04426310338993978564e-15,
        1.4215117583164458887e-7,
        1.84631831751005468180e-5,
        7.868691311456132591e-4,
        1.48753612908506148525e-2,
        0.13692988092273580531,
        0.59983220655588793769,
        1.0,
    ),
)
_LN2_HIGH = float.fromhex("0x1.62e42feep-1")
_LN2_LOW = 1.90821492927058770002e-10
_SQRT_HALF = 0.70710678118654752440
_LEAST_EXPONENT = -64  # far below that of 2**-33, the smallest probability there is


def initial_values(
    keys: tf.Tensor, *, seed: int, group: int, dim: int, initializer: dict[str, Any]
) -> tf.Tensor:
    """The weights that keys without a row read as.

    Args:
        keys: int64 `[n]`, the bits of the keys.
        seed: of the store.
        group: number of the group.
        dim: weights per row.
        initializer: the group's, as the engine names its parameters, all of them filled in.

    Returns:
        float32 `[n, dim]`, the engine's bits, with subnormal values taken for 0 as TensorFlow's threads do.

    Raises:
        ValueError: an initializer that is not known here.
    """
    name = initializer["name"]
    num_keys = tf.size(keys)
    if name in ("zeros", "ones"):
        return tf.fill([num_keys, dim], tf.constant(0.0 if name == "zeros" else 1.0))

    def words(attempt: tf.Tensor) -> tf.Tensor:
        return _words(keys, seed, group, attempt, dim)

    if name in ("random_uniform", "xavier_uniform"):
        low, width = _uniform_range(initializer, dim)
        return tf.cast(low + width * (words(_u64(0)) * 2.0**-32), tf.float32)
    if name in ("random_normal", "truncate_normal"):
        draw = _quantiles_of if name == "random_normal" else _truncated_quantiles_of
        return tf.cast(initializer["mean"] + initializer["stddev"] * draw(words), tf.float32)
    raise ValueError(f"initializer '{name}' cannot be exported: its values are not known outside the engine")


def _uniform_range(initializer: dict[str, Any], dim: int) -> tuple[float, float]:
    """The least value, and how far the others are above it, as the engine computes them."""
    if initializer["name"] == "random_uniform":
        return initializer["min"], initializer["max"] - initializer["min"]
    limit = float(np.sqrt(6 / (1 + float(dim))))
    return -limit, 2 * limit


# ---- random words ----


def _u64(value: int) -> tf.Tensor:
    return tf.constant(value, _U64)


def _low(x: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_and(x, _u64(_LOW))


def _high(x: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.right_shift(x, _u64(32))


def _words(keys: tf.Tensor, seed: int, group: int, attempt: tf.Tensor, dim: int) -> tf.Tensor:
    """The random word of each element: float64 `[n, dim]`, integers below 2**32."""
    bits = tf.bitcast(keys, _U64)[:, tf.newaxis]
    blocks = tf.constant(np.arange(-(-dim // 4), dtype=np.uint64))[tf.newaxis, :]
    nothing = tf.zeros_like(bits) * blocks
    third = _u64(group) + attempt * _u64(256)
    state = [_low(bits) + nothing, _high(bits) + nothing, third + nothing, nothing + blocks]
    for turn in range(_ROUNDS):
        round_keys = [
            (word + turn * step) & _LOW for word, step in zip((seed, seed >> 32), _WEYL, strict=True)
        ]
        product0 = state[0] * _u64(_MULTIPLIERS[0])
        product1 = state[2] * _u64(_MULTIPLIERS[1])
        state = [
            _xor(_high(product1), state[1], _u64(round_keys[0])),
            _low(product1),
            _xor(_high(product0), state[3], _u64(round_keys[1])),
            _low(product0),
        ]
    words = tf.stack(state, axis=-1)  # [n, blocks, 4]
    words = tf.reshape(words, [-1, 4 * blocks.shape[1]])[:, :dim]
    return tf.cast(tf.bitcast(words, tf.int64), tf.float64)


def _xor(a: tf.Tensor, b: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(a, b), c)


# ---- normal distribution ----


def _quantiles_of(words: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    return _normal_quantile((words(_u64(0)) + 0.5) * 2.0**-32)


def _truncated_quantiles_of(words: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """For each element the first of its draws that is within two standard deviations."""

    def some_are_outside(_: tf.Tensor, quantiles: tf.Tensor) -> tf.Tensor:
        return tf.reduce_any(tf.abs(quantiles) > 2)

    def draw_again(attempt: tf.Tensor, quantiles: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        drawn = _normal_quantile((words(attempt) + 0.5) * 2.0**-32)
        return attempt + _u64(1), tf.where(tf.abs(quantiles) > 2, drawn, quantiles)

    _, quantiles = tf.while_loop(some_are_outside, draw_again, [_u64(1), _quantiles_of(words)])
    return quantiles


def _polynomial(coefficients: tuple[float, ...], x: tf.Tensor) -> tf.Tensor:
    value = tf.fill(tf.shape(x), tf.constant(coefficients[0], tf.float64))
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def _normal_quantile(p: tf.Tensor) -> tf.Tensor:
    """The quantile function of the standard normal distribution; p float64 in (0, 1)."""
    q = p - 0.5
    middle = 0.180625 - q * q
    central = _polynomial(_CENTRAL[0], middle) * q / _polynomial(_CENTRAL[1], middle)
    r = tf.sqrt(_negative_log(tf.where(q < 0, p, 1 - p)))
    near = _polynomial(_NEAR_TAIL[0], r - 1.6) / _polynomial(_NEAR_TAIL[1], r - 1.6)
    far = _polynomial(_FAR_TAIL[0], r - 5) / _polynomial(_FAR_TAIL[1], r - 5)
    magnitude = tf.where(r <= 5, near, far)
    return tf.where(tf.abs(q) <= 0.425, central, tf.where(q < 0, -magnitude, magnitude))


def _negative_log(x: tf.Tensor) -> tf.Tensor:
    """-log(x) for x float64 in [2**-33, 1): the engine's series, and its exact frexp by bits."""
    bits = tf.bitcast(x, tf.int64)
    exponent = tf.bitwise.right_shift(bits, tf.constant(52, tf.int64)) - 1022
    half = tf.constant(0x3FE0000000000000, tf.int64)
    fraction = tf.bitwise.bitwise_and(bits, tf.constant((1 << 52) - 1, tf.int64))
    mantissa = tf.bitcast(tf.bitwise.bitwise_or(fraction, half), tf.float64)
    is_small = mantissa < _SQRT_HALF
    mantissa = tf.where(is_small, mantissa * 2, mantissa)
    exponent -= tf.cast(is_small, tf.int64)
    s = (mantissa - 1) / (mantissa + 1)
    s2 = s * s
    series = tf.zeros_like(s)
    for odd in range(23, 0, -2):
        series = series * s2 + 1.0 / odd
    # From tables and with a difference: the graph optimizer would turn a sum of products by `exponent`
    # into a product by a sum, and a sum of three into one in another order.
    exponents = np.arange(_LEAST_EXPONENT, 2, dtype=np.float64)
    place = exponent - _LEAST_EXPONENT
    high = tf.gather(tf.constant(-(_LN2_HIGH * exponents)), place)
    low = tf.gather(tf.constant(_LN2_LOW * exponents), place)
    return high - (low + 2 * s * series)
