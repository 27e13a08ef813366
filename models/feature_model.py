# SPDX-License-Identifier: Apache-2.0
"""What all models begin with: tables of rows for the features of an example."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import damo_tf
from models import data

WEIGHTS_GROUP = 0
VECTORS_GROUP = 1


class FeatureModel(keras.Model):
    """A model that sees an example as one vector for each of its fields.

    Each feature has a vector, a row in `VECTORS_GROUP`; that of a field is the sum of those of its features.

    Args:
        fields: the fields of an example, in the order of their slots.
        store: an open `damo_tf.Store`.
        dim: width of the vectors.
        learning_rate: of the model; the vectors' is `RATE_OF_VECTORS` times that.
        embedding: makes the layers that hold the rows; takes what `damo_tf.Embedding`, the default, takes.
    """

    #: Standard deviation of new vectors.
    INITIAL_STDDEV: ClassVar[float] = 0.01
    #: Learning rate of the vectors over that of the model.
    RATE_OF_VECTORS: ClassVar[float] = 1.0

    def __init__(
        self,
        fields: Sequence[data.Field],
        *,
        store: damo_tf.Store,
        dim: int,
        learning_rate: float,
        embedding: Callable[..., keras.layers.Layer] = damo_tf.Embedding,
    ) -> None:
        super().__init__()
        self._embedding = functools.partial(embedding, store=store, padding_key=data.PADDING)
        self.feature_vectors = self._embedding(
            dim,
            group=VECTORS_GROUP,
            initializer=damo_tf.initializers.RandomNormal(stddev=self.INITIAL_STDDEV),
            optimizer=damo_tf.optimizers.Adam(learning_rate=self.RATE_OF_VECTORS * learning_rate),
        )
        # [fields, slots]: 1 where the slot is one of the field's.
        self.slots_of_fields = np.repeat(
            np.eye(len(fields), dtype=np.float32), [field.slots for field in fields], axis=1
        )

    def field_vectors(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The vectors of the fields.

        Args:
            ids: integer `[batch, slots]`, feature ids; `data.PADDING` in unused slots.
            training: as `damo_tf.Embedding` takes it. Default `None`: as the model is called.

        Returns:
            float32 `[batch, fields, dim]`.
        """
        return ops.matmul(self.slots_of_fields, self.feature_vectors(ids, training=training))

    def make_weights(self) -> keras.layers.Layer:
        """A table of one weight for each feature, for models with a linear part; rows in `WEIGHTS_GROUP`."""
        return self._embedding(
            1,
            group=WEIGHTS_GROUP,
            initializer=damo_tf.initializers.Zeros(),
            optimizer=damo_tf.optimizers.Ftrl(learning_rate=0.02),
        )


def mlp(hidden: Sequence[int], **last: Any) -> keras.Sequential:
    """A multi-layer perceptron on flattened inputs.

    Args:
        hidden: units of each hidden layer; they are ReLUs.
        **last: arguments of the last layer, a `keras.layers.Dense`.
    """
    layers = [keras.layers.Dense(units, activation="relu") for units in hidden]
    return keras.Sequential([keras.layers.Flatten(), *layers, keras.layers.Dense(**last)])
