# SPDX-License-Identifier: Apache-2.0
"""Feature hashes in plain TensorFlow ops: docs/feature_hash.md, bit for bit.

XXH3 with 64 bits by its specification, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, whose
names are kept. Sums and products are those of uint64, modulo 2**64.
"""

import functools
import struct
from typing import Any

import numpy as np
import tensorflow as tf

from damo_tf.layers import FeatureHash

_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_PRIME32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_PRIME64 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
_MX1 = 0x165667919E3779F9
_MX2 = 0x9FB21C651E98DF25
_MASK = (1 << 64) - 1

#: Of each kind of hash but the first the least length that it is for.
_LENGTHS = (1, 4, 9, 17, 129, 241)
_STRIPE = 64
_STRIPES_PER_BLOCK = 16
#: Initial accumulators of long values.
_ACCUMULATORS = (
    _PRIME32[2],
    *_PRIME64[:4],
    _PRIME32[1],
    _PRIME64[4],
    _PRIME32[0],
)


def hash_of(layer: FeatureHash, values: tf.Tensor) -> tf.Tensor:
    """What a `FeatureHash` layer makes of values, in ops of TensorFlow's.

    Args:
        layer: the layer.
        values: string or integers, dense of any shape.

    Returns:
        The ids, of the values' shape and the layer's dtype.
    """
    with tf.init_scope():
        (seed,) = xxh3(tf.constant([layer.field]), 0).numpy().tolist()
    if values.dtype != tf.string:
        wide = values if values.dtype in (tf.int64, tf.uint64) else tf.cast(values, tf.int64)
        values = tf.strings.as_string(wide)
    flat = tf.reshape(values, [-1])
    keys = xxh3(flat, seed)
    if layer.padding_value is not None:
        padding_key = _u64(layer.padding_key)
        keys = tf.where(tf.equal(keys, padding_key), keys + _u64(1), keys)
        keys = tf.where(tf.equal(flat, str(layer.padding_value)), padding_key, keys)
    keys = tf.ensure_shape(tf.reshape(keys, tf.shape(values)), values.shape)
    return keys if layer.compute_dtype == "uint64" else tf.bitcast(keys, tf.int64)


def xxh3(values: tf.Tensor, seed: int) -> tf.Tensor:
    """XXH3_64bits of each value.

    Args:
        values: string `[n]`.
        seed: in [0, 2**64).

    Returns:
        uint64 `[n]`.
    """
    lengths = tf.strings.length(values)
    kinds = tf.searchsorted(tf.constant(_LENGTHS), lengths, side="right")
    places = tf.dynamic_partition(tf.range(tf.size(values)), kinds, len(_LENGTHS) + 1)
    of_kinds = (_empty, _to_3, _to_8, _to_16, _to_128, _to_240, _long)
    hashes = []
    for of_kind, of_places in zip(of_kinds, places, strict=True):
        arguments = (tf.gather(values, of_places), tf.gather(lengths, of_places), seed)
        # The lengths of a request's values are of one kind or two: the others cost nothing.
        hashes.append(
            tf.cond(
                tf.size(of_places) > 0,
                functools.partial(of_kind, *arguments),
                functools.partial(tf.zeros, [0], tf.uint64),
            )
        )
    return tf.dynamic_stitch(places, hashes)


# ---- By length: values, their lengths and the seed to hashes ----


def _empty(values: tf.Tensor, lengths: tf.Tensor, seed: int) -> tf.Tensor:
    return tf.zeros_like(_wide(lengths)) + _avalanche64(_u64(seed ^ _secret(56) ^ _secret(64)))


def _to_3(values: tf.Tensor, lengths: tf.Tensor, seed: int) -> tf.Tensor:
    first, middle, last = (
        _wide(_bytes(values, place, 1, tf.uint8)[:, 0]) for place in (0 * lengths, lengths // 2, lengths - 1)
    )
    combined = _or(_or(_shl(first, 16), _shl(middle, 24)), _or(last, _shl(_wide(lengths), 8)))
    return _avalanche64(_xor(combined, _u64((_secret32(0) ^ _secret32(4)) + seed)))


def _to_8(values: tf.Tensor, lengths: tf.Tensor, seed: int) -> tf.Tensor:
    first, last = (_wide(_bytes(values, place, 4, tf.uint32)[:, 0]) for place in (0 * lengths, lengths - 4))
    (swapped,) = struct.unpack(">I", struct.pack("<I", seed & 0xFFFFFFFF))
    flip = (_secret(8) ^ _secret(16)) - (seed ^ (swapped << 32))
    mixed = _xor(last + _shl(first, 32), _u64(flip))
    mixed = _xor(mixed, _xor(_rotl(mixed, 49), _rotl(mixed, 24))) * _u64(_MX2)
    mixed = _xor(mixed, _shr(mixed, 35) + _wide(lengths)) * _u64(_MX2)
    return _xor(mixed, _shr(mixed, 28))


def _to_16(values: tf.Tensor, lengths: tf.Tensor, seed: int) -> tf.Tensor:
    low = _xor(_words(values, 0 * lengths, 1)[:, 0], _u64((_secret(24) ^ _secret(32)) + seed))
    high = _xor(_words(values, lengths - 8, 1)[:, 0], _u64((_secret(40) ^ _secret(48)) - seed))
    swapped = tf.bitcast(tf.reverse(tf.bitcast(low, tf.uint8), [-1]), tf.uint64)
    return _avalanche(_wide(lengths) + swapped + high + _folded_product(low, high))


def _to_128(values: tf.Tensor, lengths: tf.Tensor, seed: int) -> tf.Tensor:
    length = lengths[:, tf.newaxis]
    from_begin = tf.minimum(tf.constant([0, 16, 32, 48]), length - 16)
    from_end = tf.maximum(length - tf.constant([16, 32, 48, 64]), 0)
    mixes = _mix16(values, tf.concat([from_begin, from_end], axis=1), [0, 32, 64, 96, 16, 48, 80, 112], seed)
    both = mixes[:, :4] + mixes[:, 4:]
    counts = length > tf.constant([0, 32, 64, 96])
    return _avalanche(_wide(lengths) * _u64(_PRIME64[0]) + _sum(tf.where(counts, both, _u64(0))))


def _to_240(values: tf.Tensor, lengths: tf.Tensor, seed: int) -> tf.Tensor:
    length = lengths[:, tf.newaxis]
    starts = [16 * i for i in range(15)]
    places = tf.concat([tf.minimum(tf.constant(starts), length - 16), length - 16], axis=1)
    mixes = _mix16(values, places, [*starts[:8], *(start + 3 for start in starts[:7]), 136 - 17], seed)
    first = _avalanche(_wide(lengths) * _u64(_PRIME64[0]) + _sum(mixes[:, :8]))
    counts = length >= tf.constant([start + 16 for start in starts[8:]])
    return _avalanche(first + mixes[:, 15] + _sum(tf.where(counts, mixes[:, 8:15], _u64(0))))


def _long(values: tf.Tensor, lengths: tf.Tensor, seed: int) -> tf.Tensor:
    secret = _secret_of_seed(seed)
    keys = tf.constant(np.stack([_unpacked(secret, 8 * i, 8) for i in range(_STRIPES_PER_BLOCK)]))
    scramble_key = tf.constant(_unpacked(secret, len(secret) - _STRIPE, 8))
    num_stripes = (lengths - 1) // _STRIPE

    def one_stripe(i: tf.Tensor, accumulators: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        in_block = i % _STRIPES_PER_BLOCK
        words = _words(values, tf.minimum(_STRIPE * i, lengths - _STRIPE), 8)
        more = _accumulated(accumulators, words, keys[in_block])
        more = tf.where(tf.equal(in_block, _STRIPES_PER_BLOCK - 1), _scrambled(more, scramble_key), more)
        return i + 1, tf.where((i < num_stripes)[:, tf.newaxis], more, accumulators)

    most = tf.reduce_max(tf.concat([num_stripes, [0]], axis=0))
    # From an array: of a list above and below 2**63 TensorFlow's graphs make floats on the way.
    begin = _wide(0 * lengths)[:, tf.newaxis] + tf.constant(np.array(_ACCUMULATORS, np.uint64))
    _, accumulators = tf.while_loop(lambda i, _: i < most, one_stripe, [0, begin])
    last_key = tf.constant(_unpacked(secret, len(secret) - _STRIPE - 7, 8))
    accumulators = _accumulated(accumulators, _words(values, lengths - _STRIPE, 8), last_key)
    keyed = _xor(accumulators, tf.constant(_unpacked(secret, 11, 8)))
    products = _folded_product(keyed[:, 0::2], keyed[:, 1::2])
    return _avalanche(_wide(lengths) * _u64(_PRIME64[0]) + _sum(products))


# ---- Steps ----


def _mix16(values: tf.Tensor, places: tf.Tensor, of_secret: list[int], seed: int) -> tf.Tensor:
    """The mixes of 16 bytes of each value from each of its places, `[n, places]`; each with its secret."""
    words = _bytes(values[:, tf.newaxis], places, 16, tf.uint64)
    keys = [((_secret(place) + seed) & _MASK, (_secret(place + 8) - seed) & _MASK) for place in of_secret]
    keyed = _xor(words, tf.constant(np.array(keys, np.uint64)))
    return _folded_product(keyed[..., 0], keyed[..., 1])


def _accumulated(accumulators: tf.Tensor, words: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    keyed = _xor(words, key)
    neighbours = tf.gather(words, [1, 0, 3, 2, 5, 4, 7, 6], axis=1)
    return accumulators + neighbours + _low(keyed) * _shr(keyed, 32)


def _scrambled(accumulators: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    return _xor(_xor(accumulators, _shr(accumulators, 47)), key) * _u64(_PRIME32[0])


def _folded_product(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The halves of the product of 128 bits, XORed."""
    low = _low(a) * _low(b)
    across = _shr(a, 32) * _low(b)
    sum_across = _shr(low, 32) + _low(across) + _low(a) * _shr(b, 32)
    high = _shr(across, 32) + _shr(sum_across, 32) + _shr(a, 32) * _shr(b, 32)
    return _xor(high, _or(_shl(sum_across, 32), _low(low)))


def _avalanche(x: tf.Tensor) -> tf.Tensor:
    """That of XXH3."""
    x = _xor(x, _shr(x, 37)) * _u64(_MX1)
    return _xor(x, _shr(x, 32))


def _avalanche64(x: tf.Tensor) -> tf.Tensor:
    """That of XXH64, which XXH3 has for the shortest values."""
    x = _xor(x, _shr(x, 33)) * _u64(_PRIME64[1])
    x = _xor(x, _shr(x, 29)) * _u64(_PRIME64[2])
    return _xor(x, _shr(x, 32))


# ---- Secret ----


def _unpacked(secret: bytes, place: int, count: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.frombuffer(secret, "<u8", count, place)


def _secret(place: int) -> int:
    return int(_unpacked(_SECRET, place, 1)[0])


def _secret32(place: int) -> int:
    return _secret(place) & 0xFFFFFFFF


def _secret_of_seed(seed: int) -> bytes:
    """The secret of long values."""
    words = _unpacked(_SECRET, 0, len(_SECRET) // 8).tolist()
    signed = ((word + (seed if i % 2 == 0 else -seed)) & _MASK for i, word in enumerate(words))
    return struct.pack(f"<{len(words)}Q", *signed)


# ---- Bytes and bits ----


def _bytes(values: tf.Tensor, places: tf.Tensor, count: int, dtype: tf.DType) -> tf.Tensor:
    """`count` bytes of each value, from places of its own, as little-endian numbers: `[..., numbers]`."""
    parts = tf.strings.substr(values, places, tf.fill(tf.shape(places), count))
    raw = tf.io.decode_raw(parts, tf.uint8, fixed_length=count)
    if dtype == tf.uint8:
        return raw
    shape = tf.concat([tf.shape(places), [count // dtype.size, dtype.size]], axis=0)
    return tf.bitcast(tf.reshape(raw, shape), dtype)


def _words(values: tf.Tensor, places: tf.Tensor, count: int) -> tf.Tensor:
    return _bytes(values, places, 8 * count, tf.uint64)


def _u64(value: int) -> tf.Tensor:
    return tf.constant(value & _MASK, tf.uint64)


def _wide(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(x, tf.uint64)


def _low(x: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_and(x, _u64(0xFFFFFFFF))


def _shl(x: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.left_shift(x, _u64(bits))


def _shr(x: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(x, _u64(bits))


def _rotl(x: tf.Tensor, bits: int) -> tf.Tensor:
    return _or(_shl(x, bits), _shr(x, 64 - bits))


def _sum(x: tf.Tensor) -> tf.Tensor:
    """Over the last axis."""
    return tf.reduce_sum(x, axis=-1)


def _or(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_or(a, b)


def _xor(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(a, b)
