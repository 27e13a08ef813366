# SPDX-License-Identifier: Apache-2.0
"""Ids as models have them, checked and made keys."""

from typing import Any

import keras
import tensorflow as tf


class IdsDtypeError(TypeError, NotImplementedError):
    """Ids that are not integers.

    A `Sequential` model that begins with an embedding, and not with a `keras.Input`, first tries itself on
    an input of the layer's own dtype, a float. NotImplementedError tells it to wait for real ids.
    """

    __init__ = Exception.__init__  # what autograph looks for, to raise the same type out of a tf.function


def check_ids(ids: Any) -> None:
    """Raises TypeError unless `ids` is a dense tensor of integers, symbolic or not."""
    if isinstance(ids, (tf.SparseTensor, tf.RaggedTensor)) or (
        isinstance(ids, keras.KerasTensor) and (ids.sparse or ids.ragged)
    ):
        raise TypeError(f"ids must be a dense tensor. Received: {ids!r}")
    dtype = keras.backend.standardize_dtype(ids.dtype)
    if "int" not in dtype:
        raise IdsDtypeError(f"ids must be integers; floats cannot hold 64 bits. Received dtype: {dtype}")


def as_keys(ids: Any) -> tf.Tensor:
    """Ids as int64 or uint64, bits unchanged."""
    ids = ids if isinstance(ids, (tf.SparseTensor, tf.RaggedTensor)) else tf.convert_to_tensor(ids)
    check_ids(ids)
    return ids if ids.dtype in (tf.int64, tf.uint64) else tf.cast(ids, tf.int64)


def as_one_vector(keys: list[tf.Tensor]) -> tf.Tensor:
    """The keys of all tensors one after another, int64."""
    return tf.concat([tf.reshape(_as_int64(k), [-1]) for k in keys], axis=0)


def _as_int64(keys: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(keys, tf.int64) if keys.dtype == tf.uint64 else keys
