# SPDX-License-Identifier: Apache-2.0
"""The FeatureHash layer: from the values of a field to the ids of its rows."""

from typing import Any

import keras
import tensorflow as tf

from damo_tf import ops
from damo_tf._arguments import (
    check_feature_dtype,
    check_field,
    check_key_of_padding,
    check_padding_value,
)
from damo_tf.layers.substitution import current_substitute

_DTYPES = ("int64", "uint64")


@keras.saving.register_keras_serializable("damo_tf")
class FeatureHash(keras.layers.Layer):
    """Turns the values of a field, strings or integers, into the 64-bit ids that `damo_tf.Embedding` takes.

    There is no vocabulary and there are no buckets. The id is a hash of field and value, XXH3 with 64 bits:
    the same in eager code, in a `tf.function`, in `tf.data` and in `damo_tf.feature_hash`, which needs no
    TensorFlow; and the same for ever. docs/feature_hash.md says what is hashed. An integer is hashed as its
    decimal text, so 7 and "7" are one feature. Strings are bytes to TensorFlow; those made of a Python str
    are UTF-8.

    Different features share an id, and so a row, only if all 64 bits agree. That happens to some pair among
    a million features with a probability of 3e-8, among a hundred million 3e-4, among a billion 3 %. Who
    may choose values at will, however, can look for pairs that agree.

    Example:

    >>> hashed = damo_tf.FeatureHash(field="user")
    >>> hashed(tf.constant(["ann", "bob"])).numpy()
    array([6798141962548268224, 6298301586775751947])
    >>> damo_tf.feature_hash("user", "ann")
    6798141962548268224

    In a model, with an empty string as padding:

    >>> user = keras.Input((3,), dtype="string")
    >>> ids = damo_tf.FeatureHash(field="user", padding_value="", padding_key=0)(user)
    >>> vectors = damo_tf.Embedding(8, store=store, padding_key=0)(ids)

    Args:
        field: str, not empty: the name of the field, such as a column of the data. The same value in two
            fields has two ids. Features that share a table and mean the same (clicked item, shown item)
            share their field.
        padding_value: str, bytes (UTF-8) or int that stands for no feature. Its id is `padding_key`, and no
            other value gets that one. Default `None`: every value is an ordinary one, the empty string too.
        padding_key: integer, the `padding_key` of the embedding; a negative one stands for its bits. Default
            0. Not used without `padding_value`.
        dtype: `"int64"` (default) or `"uint64"`, the same bits.
        **kwargs: `name` of `keras.layers.Layer`.

    Call arguments:
        inputs: a tensor of strings or integers, dense of any shape, ragged or sparse, or a dict or list of
            such.

    Input shape:
        Any.

    Output shape:
        The input's, and as dense, ragged or sparse as that is. What is absent from a sparse tensor has no id.

    Raises:
        TypeError: an input of another type; floats are never rounded.
        ValueError: an argument that breaks its rule.
    """

    def __init__(
        self,
        *,
        field: str,
        padding_value: str | bytes | int | None = None,
        padding_key: int = 0,
        dtype: str = "int64",
        **kwargs: Any,
    ) -> None:
        self.field = check_field(field)
        self.padding_value = check_padding_value(padding_value)
        self.padding_key = check_key_of_padding(padding_key)
        # autocast: Keras would round floats to integers before they could be refused.
        super().__init__(dtype=dtype, autocast=False, **kwargs)
        if self.compute_dtype not in _DTYPES:
            raise ValueError(f"`dtype` must be 'int64' or 'uint64'. Received: dtype={dtype!r}")
        self.supports_jit = False  # XLA knows no strings

    def call(self, inputs: Any) -> Any:
        """Hashes each value; see the class."""
        return tf.nest.map_structure(self._hash, inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape

    def compute_output_spec(self, inputs: Any) -> Any:
        """The outputs as `keras.KerasTensor`s."""
        return tf.nest.map_structure(self._spec, inputs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "field": self.field,
            "padding_value": self.padding_value,
            "padding_key": self.padding_key,
            "dtype": self.compute_dtype,
        }

    def _hash(self, values: Any) -> Any:
        if isinstance(values, tf.RaggedTensor):
            return values.with_flat_values(self._hash(values.flat_values))
        if isinstance(values, tf.SparseTensor):
            return values.with_values(self._hash(values.values))
        values = tf.convert_to_tensor(values)
        check_feature_dtype("inputs", values.dtype.name)
        if (substitute := current_substitute()) is not None:
            return substitute.hash(self, values)
        return ops.feature_hash(
            values,
            self.field,
            padding_value=self.padding_value,
            padding_key=self.padding_key,
            dtype=self.compute_dtype,
        )

    def _spec(self, values: Any) -> keras.KerasTensor:
        check_feature_dtype("inputs", keras.backend.standardize_dtype(values.dtype))
        return keras.KerasTensor(
            values.shape,
            self.compute_dtype,
            sparse=getattr(values, "sparse", False),
            ragged=getattr(values, "ragged", False),
        )
