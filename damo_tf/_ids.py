# SPDX-License-Identifier: Apache-2.0
"""Ids as models have them, dense, ragged or sparse, checked and made keys."""

from typing import Any, TypeAlias

import keras
import tensorflow as tf

#: What ids may be: a dense, a ragged or a sparse tensor.
Ids: TypeAlias = tf.Tensor | tf.RaggedTensor | tf.SparseTensor


class IdsDtypeError(TypeError, NotImplementedError):
    """Ids that are not integers.

    A `Sequential` model that begins with an embedding, and not with a `keras.Input`, first tries itself on
    an input of the layer's own dtype, a float. NotImplementedError tells it to wait for real ids.
    """

    __init__ = Exception.__init__  # what autograph looks for, to raise the same type out of a tf.function


def check_ids(ids: Any) -> None:
    """Raises TypeError unless `ids` is a tensor of integers, symbolic or not."""
    dtype = keras.backend.standardize_dtype(ids.dtype)
    if "int" not in dtype:
        raise IdsDtypeError(
            "ids must be integers: floats cannot hold 64 bits, and strings become ids in a "
            f"`damo_tf.FeatureHash`. Received dtype: {dtype}"
        )


def as_keys(ids: Any) -> Ids:
    """Ids as int64 or uint64, bits unchanged; ragged and sparse ones stay so."""
    ids = ids if isinstance(ids, (tf.SparseTensor, tf.RaggedTensor)) else tf.convert_to_tensor(ids)
    check_ids(ids)
    return ids if ids.dtype in (tf.int64, tf.uint64) else tf.cast(ids, tf.int64)


def flat_values(ids: Ids) -> tf.Tensor:
    """What there is in `ids`, which for ragged and sparse ones is less than their shape says."""
    if isinstance(ids, tf.RaggedTensor):
        return ids.flat_values
    return ids.values if isinstance(ids, tf.SparseTensor) else ids


def as_int64(keys: tf.Tensor) -> tf.Tensor:
    """The bits of int64 or uint64 keys as int64."""
    return tf.bitcast(keys, tf.int64) if keys.dtype == tf.uint64 else keys


def as_vector(keys: Ids) -> tf.Tensor:
    """The keys one after another, int64."""
    return tf.reshape(as_int64(flat_values(keys)), [-1])


def as_one_vector(keys: list[Ids]) -> tf.Tensor:
    """The keys of all tensors one after another, int64."""
    return tf.concat([as_vector(k) for k in keys], axis=0)
