# SPDX-License-Identifier: Apache-2.0
"""What the engine must compute, in plain NumPy, written from the definitions.

Nothing of damo_tf is imported here. Initial values, optimizer steps and sums of gradients perform
the engine's float32 operations in the engine's order, so they equal the engine's results bit for
bit and tests compare with `np.array_equal`. Schedules are doubles that pass through the machine's
pow, exp and cos: compare those to within a few units in the last place.

A *spec* names an algorithm and its parameters as users do: `"adam"` or
`{"name": "adam", "gamma": 0.01}`.

    table = OracleTable(dim=4, optimizer="adam", initializer="random_uniform", seed=7)
    table.apply_gradients([3, 5, 3], gradients)      # float32 [3, 4]; key 3 takes one step
    table.lookup([3, 9])                             # float32 [2, 4]; 9 reads as its initial value
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Keys = NDArray[np.uint64]
Words = NDArray[np.uint32]
Value = bool | int | float | str
Spec = str | Mapping[str, Value]
Slots = dict[str, Float32s]

_MASK32 = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF


def as_keys(keys: ArrayLike) -> Keys:
    """Returns `keys` as uint64; signed integers keep their bits, so -1 is 2^64 - 1."""
    if not hasattr(keys, "dtype"):  # Python's integers: NumPy would make floats of [0, 2**64 - 1]
        return (np.asarray(keys, object) & _MASK64).astype(np.uint64)
    array = np.asarray(keys)
    if array.dtype.kind not in "iu":
        raise TypeError(f"keys must be integers. Received: dtype {array.dtype}")
    return array.astype(np.uint64)


def split_spec(
    kind: str, spec: Spec, known: Mapping[str, Mapping[str, Value]]
) -> tuple[str, dict[str, Value]]:
    """Splits a spec into name and parameters, with the defaults of `known` filled in."""
    given = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = str(given.pop("name"))
    if name not in known or not given.keys() <= known[name].keys():
        raise ValueError(f"unknown {kind} or parameter: {spec!r}")
    return name, {**known[name], **given}


# ---- random numbers ----


def philox4x32(counter: ArrayLike, key: tuple[int, int]) -> Words:
    """Philox4x32-10 (Salmon et al. 2011). counter: uint32 [..., 4]; returns uint32 [..., 4]."""
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    k0, k1 = key
    for _ in range(10):
        product0 = c0 * np.uint64(0xD2511F53)
        product1 = c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            product1 & np.uint64(_MASK32),
            (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            product0 & np.uint64(_MASK32),
        )
        k0 = (k0 + 0x9E3779B9) & _MASK32
        k1 = (k1 + 0xBB67AE85) & _MASK32
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def row_words(seed: int, group: int, keys: ArrayLike, dim: int, attempt: int = 0) -> Words:
    """The random words of the rows' elements: uint32 [n, dim]. docs/initial_values.md."""
    rows = as_keys(keys).reshape(-1)
    blocks = -(-dim // 4)
    counter = np.empty((rows.size, blocks, 4), np.uint64)
    counter[..., 0] = (rows & np.uint64(_MASK32))[:, None]
    counter[..., 1] = (rows >> np.uint64(32))[:, None]
    counter[..., 2] = group | attempt << 8
    counter[..., 3] = np.arange(blocks)
    words = philox4x32(counter, (seed & _MASK32, (seed & _MASK64) >> 32))
    return np.asarray(words.reshape(rows.size, 4 * blocks)[:, :dim])


def natural_log(x: Float64s) -> Float64s:
    """Natural logarithm by the engine's series: log m = 2 atanh((m - 1) / (m + 1))."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < math.sqrt(0.5)
    mantissa = np.where(small, mantissa * 2, mantissa)
    exponent = (exponent - small).astype(np.float64)
    s = (mantissa - 1) / (mantissa + 1)
    series = np.zeros_like(s)
    for odd in range(23, 0, -2):
        series = series * (s * s) + 1 / odd
    ln2_high = float.fromhex("0x1.62e42feep-1")
    ln2_low = 1.90821492927058770002e-10
    log: Float64s = ln2_high * exponent + (ln2_low * exponent + 2 * s * series)
    return log


def _horner(coefficients: tuple[float, ...], x: Float64s) -> Float64s:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


# AS 241, PPND16 (Wichura 1988): (numerator, denominator), highest power first.
# fmt: off
_CENTRAL = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)
_NEAR_TAIL = (
    (7.7454501427834140764e-4, 2.27238449892691845833e-2, 0.24178072517745061177,
     1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055,
     4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 1.51986665636164571966e-2,
     0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494,
     2.05319162663775882187, 1.0),
)
_FAR_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
     2.65321895265761230930e-2, 0.29656057182850489123, 1.7848265399172913358,
     5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.84631831751005468180e-5,
     7.868691311456132591e-4, 1.48753612908506148525e-2, 0.13692988092273580531,
     0.59983220655588793769, 1.0),
)
# fmt: on


def normal_quantile(p: ArrayLike) -> Float64s:
    """Quantile function of the standard normal distribution for p in (0, 1), by AS 241."""
    p = np.asarray(p, np.float64)
    q = p - 0.5
    r = 0.180625 - q * q
    central = _horner(_CENTRAL[0], r) * q / _horner(_CENTRAL[1], r)
    r = np.sqrt(-natural_log(np.where(q < 0, p, 1 - p)))
    near = _horner(_NEAR_TAIL[0], r - 1.6) / _horner(_NEAR_TAIL[1], r - 1.6)
    far = _horner(_FAR_TAIL[0], r - 5) / _horner(_FAR_TAIL[1], r - 5)
    tail = np.where(r <= 5, near, far)
    return np.where(np.abs(q) <= 0.425, central, np.where(q < 0, -tail, tail))


# ---- initializers ----

INITIALIZERS: dict[str, dict[str, Value]] = {
    "zeros": {},
    "ones": {},
    "random_uniform": {"min": -1.0, "max": 1.0},
    "random_normal": {"mean": 0.0, "stddev": 1.0},
    "truncate_normal": {"mean": 0.0, "stddev": 1.0},
    "xavier_uniform": {},
}


def _uniform(words: Words, low: float, high: float) -> Float64s:
    return low + (high - low) * (words.astype(np.float64) * 2.0**-32)


def _normal(words: Words) -> Float64s:
    return normal_quantile((words.astype(np.float64) + 0.5) * 2.0**-32)


def _truncated_normal(seed: int, group: int, keys: Keys, dim: int) -> Float64s:
    values = _normal(row_words(seed, group, keys, dim))
    attempt = 0
    while (beyond := np.abs(values) > 2).any():
        attempt += 1
        values = np.where(beyond, _normal(row_words(seed, group, keys, dim, attempt)), values)
    return values


def initial_weights(
    initializer: Spec, keys: ArrayLike, dim: int, *, seed: int = 0, group: int = 0
) -> Float32s:
    """The weights of rows that were never updated: float32 keys.shape + [dim]."""
    name, p = split_spec("initializer", initializer, INITIALIZERS)
    rows = as_keys(keys)
    flat = rows.reshape(-1)
    if name in ("zeros", "ones"):
        values = np.full((flat.size, dim), float(name == "ones"))
    elif name == "random_uniform":
        values = _uniform(row_words(seed, group, flat, dim), float(p["min"]), float(p["max"]))
    elif name == "xavier_uniform":
        limit = math.sqrt(6 / (1 + dim))
        values = _uniform(row_words(seed, group, flat, dim), -limit, limit)
    elif name == "random_normal":
        values = float(p["mean"]) + float(p["stddev"]) * _normal(row_words(seed, group, flat, dim))
    else:
        values = float(p["mean"]) + float(p["stddev"]) * _truncated_normal(seed, group, flat, dim)
    return values.astype(np.float32).reshape(*rows.shape, dim)


# ---- optimizers ----


@dataclass(frozen=True)
class Step:
    """What an update knows besides the rows; factors are rounded to float32 once, where used."""

    t: NDArray[np.int64]  # the rows' numbers of updates, this one included: [n, 1]
    rate: float  # learning rate of this call
    p: Mapping[str, float]  # the optimizer's parameters


def _f32(value: ArrayLike) -> Float32s:
    return np.asarray(value, np.float64).astype(np.float32)


def _integer_power(base: float, exponent: NDArray[np.int64]) -> Float64s:
    """base^exponent in double: the squares base^(2^i) multiplied from the smallest up."""
    power = np.ones(exponent.shape)
    square = np.float64(base)
    for bit in range(int(exponent.max(initial=0)).bit_length()):
        power = np.where((exponent >> bit) & 1, power * square, power)
        square = square * square
    return power


def _sgd(w: Float32s, g: Float32s, _: Slots, step: Step) -> Float32s:
    return w - _f32(step.rate) * (g + _f32(step.p["lambda"]) * w)


def _adagrad(w: Float32s, g: Float32s, s: Slots, step: Step) -> Float32s:
    g = g + _f32(step.p["lambda"]) * w
    s["sum"] = s["sum"] + g * g
    rate = step.rate / (1 + (step.t - 1).astype(np.float64) * step.p["eta"])
    root: Float32s = np.sqrt(s["sum"])
    return w - _f32(rate) * (g / (root + _f32(step.p["epsilon"])))


def _adam_direction(g: Float32s, s: Slots, step: Step) -> Float32s:
    """Advances the moments; rate * m_hat / (sqrt(v_hat) + epsilon)."""
    beta1, beta2 = step.p["beta1"], step.p["beta2"]
    s["m"] = _f32(beta1) * s["m"] + _f32(1 - beta1) * g
    s["v"] = _f32(beta2) * s["v"] + _f32(1 - beta2) * g * g
    rate = step.rate / (1 - _integer_power(beta1, step.t))
    v_scale = 1 / np.sqrt(1 - _integer_power(beta2, step.t))
    return _f32(rate) * (s["m"] / (np.sqrt(s["v"]) * _f32(v_scale) + _f32(step.p["epsilon"])))


def _adam(w: Float32s, g: Float32s, s: Slots, step: Step) -> Float32s:
    return w - _adam_direction(g + _f32(step.p["lambda"]) * w, s, step)


def _adamw(w: Float32s, g: Float32s, s: Slots, step: Step) -> Float32s:
    return _f32(1 - step.rate * step.p["lambda"]) * w - _adam_direction(g, s, step)


def _lion(w: Float32s, g: Float32s, s: Slots, step: Step) -> Float32s:
    beta1, beta2 = step.p["beta1"], step.p["beta2"]
    direction: Float32s = np.sign(_f32(beta1) * s["m"] + _f32(1 - beta1) * g)
    s["m"] = _f32(beta2) * s["m"] + _f32(1 - beta2) * g
    return w - _f32(step.rate) * (direction + _f32(step.p["lambda"]) * w)


def _ftrl(w: Float32s, g: Float32s, s: Slots, step: Step) -> Float32s:
    alpha, lambda1 = _f32(step.rate), _f32(step.p["lambda1"])
    smallest, largest = _f32(np.finfo(np.float32).tiny), _f32(np.finfo(np.float32).max)
    if alpha < smallest:
        return w
    n: Float32s = np.minimum(s["n"] + g * g, largest)
    root: Float32s = np.sqrt(n)
    sigma = (root - np.sqrt(s["n"])) / alpha
    z: Float32s = s["z"] + (g - sigma * w)
    s["z"], s["n"] = z, n
    divisor = (_f32(step.p["beta"]) + root) / alpha + _f32(step.p["lambda2"])
    moved = -(z - np.sign(z) * lambda1) / divisor
    return np.where(np.abs(z) <= lambda1, np.float32(0), np.where(divisor > 0, moved, w))


@dataclass(frozen=True)
class Optimizer:
    """An update rule: `step(weights, gradients, slots, step)` replaces slots, returns weights."""

    step: Callable[[Float32s, Float32s, Slots, Step], Float32s]
    slot_names: tuple[str, ...]
    rate_name: str
    defaults: Mapping[str, Value]
    row_options: tuple[str, ...] = ("clipnorm", "clipvalue")


_DECAYING = ("clipnorm", "clipvalue", "weight_decay")
_ADAM_DEFAULTS = {"gamma": 1e-3, "beta1": 0.9, "beta2": 0.999, "lambda": 0.0, "epsilon": 1e-8}
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(_sgd, (), "gamma", {"gamma": 1e-3, "lambda": 0.0}, _DECAYING),
    "ftrl": Optimizer(
        _ftrl, ("z", "n"), "gamma", {"gamma": 5e-3, "beta": 0.0, "lambda1": 0.0, "lambda2": 0.0}
    ),
    "adagrad": Optimizer(
        _adagrad,
        ("sum",),
        "gamma",
        {"gamma": 1e-2, "lambda": 0.0, "eta": 0.0, "epsilon": 1e-10},
        _DECAYING,
    ),
    "adam": Optimizer(_adam, ("m", "v"), "gamma", _ADAM_DEFAULTS, _DECAYING),
    "adamw": Optimizer(_adamw, ("m", "v"), "gamma", {**_ADAM_DEFAULTS, "lambda": 1e-2}),
    "lion": Optimizer(_lion, ("m",), "eta", {"eta": 3e-4, "beta1": 0.9, "beta2": 0.99, "lambda": 1e-2}),
}


def _optimizer(spec: Spec) -> tuple[Optimizer, dict[str, float]]:
    off = dict.fromkeys(_DECAYING, math.inf) | {"weight_decay": 0.0}
    known = {k: {**v.defaults, **{o: off[o] for o in v.row_options}} for k, v in OPTIMIZERS.items()}
    name, p = split_spec("optimizer", spec, known)
    return OPTIMIZERS[name], {key: float(value) for key, value in p.items()}


def _sum_of_squares(values: Float32s) -> Float64s:
    """[..., dim] to [..., 1]: element i goes to partial sum i mod 16, these are folded by halves."""
    squares = values.astype(np.float64) ** 2
    padding = [(0, 0)] * (squares.ndim - 1) + [(0, -squares.shape[-1] % 16)]
    squares = np.pad(squares, padding)
    sums = np.zeros((*squares.shape[:-1], 16))
    for first in range(0, squares.shape[-1], 16):
        sums = sums + squares[..., first : first + 16]
    for half in (8, 4, 2, 1):
        sums = sums[..., :half] + sums[..., half : 2 * half]
    return sums


def _clipped(gradients: Float32s, p: Mapping[str, float]) -> Float32s:
    norm = np.sqrt(_sum_of_squares(gradients))
    factor = _f32(p["clipnorm"] / norm)
    gradients = np.where(norm > p["clipnorm"], gradients * factor, gradients)
    limit = _f32(p["clipvalue"])
    return np.clip(gradients, -limit, limit)


def optimizer_step(
    optimizer: Spec,
    weights: ArrayLike,
    gradients: ArrayLike,
    slots: Mapping[str, ArrayLike],
    update_num: ArrayLike,
    learning_rate: float | None = None,
) -> tuple[Float32s, Slots]:
    """One step of one row or of several, row options included. Changes none of its arguments.

    Args:
        optimizer: spec.
        weights: float32 [dim] or [n, dim].
        gradients: as `weights`.
        slots: the optimizer's slots by name, each as `weights`; all zero in a fresh row.
        update_num: the rows' numbers of updates, this one included (1 at the first): [] or [n].
        learning_rate: rate of this call; None takes the optimizer's own.

    Returns:
        The next weights, and the next slots by name.
    """
    rule, p = _optimizer(optimizer)
    rate = p[rule.rate_name] if learning_rate is None else float(learning_rate)
    step = Step(t=np.asarray(update_num, np.int64)[..., None], rate=rate, p=p)
    next_slots = {name: np.asarray(slots[name], np.float32) for name in rule.slot_names}
    with np.errstate(all="ignore"):
        next_weights = np.asarray(weights, np.float32)
        if p.get("weight_decay", 0.0) > 0:
            next_weights = _f32(1 - rate * p["weight_decay"]) * next_weights
        next_weights = rule.step(
            next_weights, _clipped(np.asarray(gradients, np.float32), p), next_slots, step
        )
    return next_weights, next_slots


# ---- schedules: the tf.compat.v1.train formulas ----


def exponential_decay(
    base: float, step: int, *, decay_steps: float, decay_rate: float, staircase: bool = False
) -> float:
    periods = math.floor(step / decay_steps) if staircase else step / decay_steps
    return base * math.pow(decay_rate, periods)


def nature_exponential_decay(
    base: float, step: int, *, decay_steps: float, decay_rate: float, staircase: bool = False
) -> float:
    periods = math.floor(step / decay_steps) if staircase else step / decay_steps
    return base * math.exp(-decay_rate * periods)


def inverse_time_decay(
    base: float, step: int, *, decay_steps: float, decay_rate: float, staircase: bool = False
) -> float:
    periods = math.floor(step / decay_steps) if staircase else step / decay_steps
    return base / (1 + decay_rate * periods)


def polynomial_decay(
    base: float,
    step: int,
    *,
    decay_steps: float,
    end_learning_rate: float = 1e-4,
    power: float = 1.0,
    cycle: bool = False,
) -> float:
    if cycle:
        decay_steps *= max(1, math.ceil(step / decay_steps))
    progress = min(step, decay_steps) / decay_steps
    return (base - end_learning_rate) * math.pow(1 - progress, power) + end_learning_rate


def cosine_decay(base: float, step: int, *, decay_steps: float, alpha: float = 0.0) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * (min(step, decay_steps) / decay_steps)))
    return base * ((1 - alpha) * cosine + alpha)


def linear_cosine_decay(
    base: float,
    step: int,
    *,
    decay_steps: float,
    num_periods: float = 0.5,
    alpha: float = 0.0,
    beta: float = 0.001,
) -> float:
    done = min(step, decay_steps)
    linear = (decay_steps - done) / decay_steps
    cosine = 0.5 * (1 + math.cos(math.pi * (2 * num_periods * (done / decay_steps))))
    return base * ((alpha + linear) * cosine + beta)


SCHEDULES: dict[str, Callable[..., float]] = {
    "exponential_decay": exponential_decay,
    "polynomial_decay": polynomial_decay,
    "nature_exponential_decay": nature_exponential_decay,
    "inverse_time_decay": inverse_time_decay,
    "cosine_decay": cosine_decay,
    "liner_cosine_decay": linear_cosine_decay,
    "linear_cosine_decay": linear_cosine_decay,
}


def scheduled_rate(schedule: Mapping[str, Value], base: float, step: int) -> float:
    """The learning rate of the apply call that `step` calls came before."""
    p = dict(schedule)
    return SCHEDULES[str(p.pop("name"))](base, step, **p)


# ---- the table ----


@dataclass
class Row:
    """One row of an OracleTable."""

    weights: Float32s
    slots: Slots
    update_num: int


# ---- admission ----


def _mix(word: int) -> int:
    """MurmurHash3's finalizer (Appleby 2011) of a 64-bit word."""
    word = ((word ^ (word >> 33)) * 0xFF51AFD7ED558CCD) & _MASK64
    word = ((word ^ (word >> 33)) * 0xC4CEB9FE1A85EC53) & _MASK64
    return word ^ (word >> 33)


class OracleFilter:
    """A counting Bloom filter in pages of 8,192 counters (docs/admission.md), as a dict of counters.

    Args:
        capacity: n, keys that it is for.
        fpr: p, the false-positive rate that it has with so many.

    Attributes:
        num_pages, num_probes: of m = -n ln p / (ln 2)^2 counters, and k = -log2 p.
        counters: (page, place in it) to a count from 1 to 15; the others are 0.
    """

    def __init__(self, capacity: int, fpr: float = 1e-3) -> None:
        self.num_pages = math.ceil(-capacity * math.log(fpr) / math.log(2) ** 2 / 8192)
        self.num_probes = max(1, round(-math.log2(fpr)))
        self.counters: dict[tuple[int, int], int] = {}

    def places(self, key: int) -> list[tuple[int, int]]:
        """The key's counters, one for each probe; a place may occur twice."""
        step = 0x9E3779B97F4A7C15
        word = _mix((key + step) & _MASK64)
        page = word * self.num_pages >> 64
        words = [_mix((word + (i // 4 + 1) * step) & _MASK64) for i in range(self.num_probes)]
        return [(page, words[i] >> 13 * (i % 4) & 8191) for i in range(self.num_probes)]

    def add(self, key: int, n: int = 1) -> None:
        """Counts n more occurrences of a key; no counter goes beyond 15."""
        for place in self.places(key):
            self.counters[place] = min(15, self.counters.get(place, 0) + n)

    def count(self, key: int) -> int:
        """The least of the key's counters."""
        return min(self.counters.get(place, 0) for place in self.places(key))


class OracleBags:
    """Bags of keys, whose rows become one vector each: the sum of weight times row over a divisor.

    The divisor is 1 (sum), the sum of the weights (mean) or the root of the sum of their squares (sqrtn);
    it is computed in double and rounded. Where it is 0, and for no keys, the vector is zeros. Products are
    added in float32, in order. `padding_key` is in no sum.

    bags: the keys of each; weights: likewise, None: all are 1; combiners: of each bag.
    """

    def __init__(
        self,
        bags: Sequence[Sequence[int]],
        combiners: Sequence[str],
        weights: Sequence[Sequence[float]] | None = None,
        padding_key: int | None = None,
    ) -> None:
        self.bags = [as_keys(np.asarray(bag, np.int64)) for bag in bags]
        given = [np.ones(len(bag)) for bag in bags] if weights is None else weights
        self.weights = [np.asarray(w, np.float32) for w in given]
        self.counts = [
            np.ones(len(bag), bool) if padding_key is None else bag != padding_key for bag in self.bags
        ]
        self.divisors = [
            self._divisor(combiner, w[c].astype(np.float64))
            for combiner, w, c in zip(combiners, self.weights, self.counts, strict=True)
        ]

    @property
    def keys(self) -> Keys:
        """Those of all bags, one after another."""
        return np.concatenate(self.bags)

    def combined(self, rows: Callable[[Keys], Float32s]) -> Float32s:
        """The vector of each bag; `rows` gives those of keys."""
        vectors = []
        for bag, w, c, divisor in zip(self.bags, self.weights, self.counts, self.divisors, strict=True):
            of_bag = rows(bag)
            total = np.zeros(of_bag.shape[1], np.float32)
            for i in np.flatnonzero(c):
                total = total + of_bag[i] * w[i]
            vectors.append(total / divisor if divisor else np.zeros_like(total))
        return np.stack(vectors)

    def row_gradients(self, gradients: ArrayLike) -> Float32s:
        """The gradient of each key's row, given those of the vectors."""
        rows = []
        for w, gradient, divisor in zip(self.weights, _f32(gradients), self.divisors, strict=True):
            factors = w / divisor if divisor else np.zeros_like(w)
            rows.append(factors[:, None] * gradient)
        return np.concatenate(rows)

    @staticmethod
    def _divisor(combiner: str, weights: Float64s) -> np.float32:
        divisors = {"sum": 1.0, "mean": weights.sum(), "sqrtn": np.sqrt(np.square(weights).sum())}
        return np.float32(divisors[combiner])


class OracleTable:
    """One group of a store as a dict from key to row (contracts C1, C2, C3, C8, C9).

    Args:
        dim: width of a row.
        optimizer, initializer: specs.
        seed, group: with the key they determine the initial value.
        schedule: spec of a learning-rate schedule; None keeps the optimizer's own rate.
        padding_key: key that reads as zeros and takes no gradient; None: no key does.
        missing: "initial" or "zeros": how a key without a row reads.
        min_count: occurrences after which a key gets a row, 1 to 15, as counted by a filter; until then it
            reads as zeros. 0: with the first, and there is no filter.
        filter_capacity, filter_fpr: of the filter.

    Attributes:
        rows: key (0 <= key < 2^64) to Row, in the order of their first update.
        global_step: number of apply calls so far.
        skipped: number of steps left out because the summed gradient was not finite.
        blocked: number of steps left out because the key had not occurred often enough.
        filter: an OracleFilter.
    """

    def __init__(
        self,
        dim: int,
        *,
        optimizer: Spec = "adam",
        initializer: Spec = "random_uniform",
        seed: int = 0,
        group: int = 0,
        schedule: Mapping[str, Value] | None = None,
        padding_key: int | None = None,
        missing: str = "initial",
        min_count: int = 0,
        filter_capacity: int = 1 << 20,
        filter_fpr: float = 1e-3,
    ) -> None:
        self.dim = dim
        self.optimizer = optimizer
        self.initializer = initializer
        self.seed = seed
        self.group = group
        self.schedule = schedule
        self.padding_key = None if padding_key is None else padding_key & _MASK64
        self.missing = "zeros" if min_count else missing
        self.min_count = min_count
        self.filter_capacity = filter_capacity
        self.filter_fpr = filter_fpr
        self.filter = OracleFilter(filter_capacity, filter_fpr)
        self.rows: dict[int, Row] = {}
        self.global_step = 0
        self.skipped = 0
        self.blocked = 0

    def lookup(self, keys: ArrayLike) -> Float32s:
        """The rows' weights: float32 keys.shape + [dim]. Changes nothing."""
        rows = as_keys(keys)
        if self.missing == "initial":
            values = self._initial(rows.reshape(-1))
        else:
            values = np.zeros((rows.size, self.dim), np.float32)
        for i, key in enumerate(rows.reshape(-1).tolist()):
            if key == self.padding_key:
                values[i] = 0
            elif key in self.rows:
                values[i] = self.rows[key].weights
        return values.reshape(*rows.shape, self.dim)

    def apply_gradients(
        self, keys: ArrayLike, gradients: ArrayLike, learning_rate: float | None = None
    ) -> None:
        """One step for each distinct key, with the sum of its gradients.

        A row whose gradient is not finite, or whose step would make it so, is left alone and counted.

        keys: integers of any shape; gradients: float32 keys.shape + [dim]; learning_rate: of this call, None:
        the table's own.
        """
        occurrences = as_keys(keys).reshape(-1)
        sums = self._summed(occurrences, np.asarray(gradients, np.float32))
        finite = {key: total for key, total in sums.items() if np.isfinite(total).all()}
        self.skipped += len(sums) - len(finite)
        admitted = self._admitted(finite, occurrences) if self.min_count else finite
        self.blocked += len(finite) - len(admitted)
        if admitted:
            self._step(admitted, self.learning_rate() if learning_rate is None else learning_rate)
        self.global_step += 1

    def learning_rate(self) -> float:
        """The rate of the next apply call."""
        rule, p = _optimizer(self.optimizer)
        base = p[rule.rate_name]
        if self.schedule is None:
            return base
        return scheduled_rate(self.schedule, base, self.global_step)

    def _admitted(self, gradients: Mapping[int, Float32s], keys: Keys) -> dict[int, Float32s]:
        """Those of keys with a row, and of the others that have occurred often enough; counts these."""
        admitted = {}
        added = []
        for key, gradient in gradients.items():
            n = int(np.count_nonzero(keys == key))
            if key in self.rows:
                admitted[key] = gradient
                continue
            if self.filter.count(key) + n >= self.min_count:
                admitted[key] = gradient
            added.append((key, n))
        for key, n in added:  # all of a call are counted at once, whatever their order
            self.filter.add(key, n)
        return admitted

    def _initial(self, keys: ArrayLike) -> Float32s:
        return initial_weights(self.initializer, keys, self.dim, seed=self.seed, group=self.group)

    def _summed(self, keys: Keys, gradients: Float32s) -> dict[int, Float32s]:
        """The sum of each key's gradients, in float32, in order of occurrence from the first."""
        sums: dict[int, Float32s] = {}
        with np.errstate(all="ignore"):
            rows = gradients.reshape(keys.size, self.dim)
            for key, gradient in zip(keys.tolist(), rows, strict=True):
                if key != self.padding_key:
                    sums[key] = sums[key] + gradient if key in sums else gradient
        return sums

    def _step(self, gradients: Mapping[int, Float32s], learning_rate: float) -> None:
        slot_names = _optimizer(self.optimizer)[0].slot_names
        born = np.array([key for key in gradients if key not in self.rows], np.uint64)
        new_rows = {}
        for key, weights in zip(born.tolist(), self._initial(born), strict=True):
            zeros = {name: np.zeros(self.dim, np.float32) for name in slot_names}
            new_rows[key] = Row(weights, zeros, update_num=0)
        rows = [new_rows[key] if key in new_rows else self.rows[key] for key in gradients]
        weights, slots = optimizer_step(
            self.optimizer,
            np.stack([row.weights for row in rows]),
            np.stack(list(gradients.values())),
            {name: np.stack([row.slots[name] for row in rows]) for name in slot_names},
            [row.update_num + 1 for row in rows],
            learning_rate,
        )
        for i, (key, row) in enumerate(zip(gradients, rows, strict=True)):
            next_slots = {name: slots[name][i] for name in slot_names}
            if not all(np.isfinite(values).all() for values in (weights[i], *next_slots.values())):
                self.skipped += 1
                continue
            row.weights, row.slots = weights[i], next_slots
            row.update_num += 1
            self.rows[key] = row
