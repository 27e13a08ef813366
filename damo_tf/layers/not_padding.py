# SPDX-License-Identifier: Apache-2.0
"""The mask of padded ids."""

from typing import Any

import keras
import tensorflow as tf

from damo_tf._ids import as_int64, as_keys


@keras.saving.register_keras_serializable("damo_tf")
class NotPadding(keras.Operation):
    """Whether ids stand for something, as the mask of an `Embedding` with `padding_key`.

    An operation of its own, because a functional model has it as a node.

    Args:
        padding_key: integer in [0, 2**64), the key of the ids that do not.
    """

    def __init__(self, padding_key: int, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.padding_key = padding_key

    def call(self, ids: Any) -> tf.Tensor:
        """Bools in the shape of `ids`, which are dense integers."""
        return tf.not_equal(as_int64(as_keys(ids)), as_int64(tf.constant(self.padding_key, tf.uint64)))

    def compute_output_spec(self, ids: Any) -> keras.KerasTensor:
        """Bools in the shape of `ids`."""
        return keras.KerasTensor(ids.shape, "bool")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"padding_key": self.padding_key, "name": self.name}
