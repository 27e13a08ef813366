# SPDX-License-Identifier: Apache-2.0
"""Training whose gradients are known: the loss is the sum of embeddings times given numbers.

Those numbers are the embeddings' gradients, whatever the embeddings are, so a plain NumPy table
can tell the rows bit for bit. They are multiples of 1/8 between -1 and 1: float16 and bfloat16 hold
them exactly, times any power of two in range.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from oracles import OracleTable

#: What DIM, the embedding's width, and the ids' shape are in these tests.
DIM = 4
IDS_SHAPE = (6, 3)


class KnownGradients:
    """Batches of ids, with repetitions inside and across batches, and the gradient of each.

    Attributes:
        ids: int64 [steps, *IDS_SHAPE].
        gradients: float32 [steps, *IDS_SHAPE, DIM].
    """

    def __init__(self, rng: np.random.Generator, steps: int = 3) -> None:
        self.ids = rng.integers(-5, 6, (steps, *IDS_SHAPE))
        eighths = rng.integers(-8, 9, (*self.ids.shape, DIM))
        self.gradients = (eighths / 8).astype(np.float32)

    def __iter__(self) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        for ids, gradients in zip(self.ids, self.gradients, strict=True):
            yield tf.constant(ids), tf.constant(gradients)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def keys(self) -> list[int]:
        return np.unique(self.ids).tolist()

    def oracle(self, **settings: Any) -> OracleTable:
        """A table that has had every batch. Settings are those of OracleTable."""
        table = OracleTable(DIM, **settings)
        for ids, gradients in zip(self.ids, self.gradients, strict=True):
            table.apply_gradients(ids, gradients)
        return table

    def fit(self, model: keras.Model, **settings: Any) -> None:
        """Trains a compiled model that maps ids to embeddings, one step per batch."""
        model.fit(
            self.ids.reshape(-1, IDS_SHAPE[1]),
            self.gradients.reshape(-1, IDS_SHAPE[1], DIM),
            batch_size=IDS_SHAPE[0],
            shuffle=False,
            verbose=0,
            **settings,
        )


def weighted_sum(gradients: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(embeddings, tf.float32) * gradients)


class WeightedSum(keras.losses.Loss):
    """`weighted_sum` as a Keras loss: of y_true, the gradients, and y_pred, the embeddings."""

    def __init__(self, reduction: str = "sum") -> None:
        super().__init__(reduction=reduction)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(y_true * y_pred, axis=[1, 2])


def sequential(layer: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input(IDS_SHAPE[1:], dtype="int64"), layer])


def functional(layer: keras.layers.Layer) -> keras.Model:
    ids = keras.Input(IDS_SHAPE[1:], dtype="int64")
    return keras.Model(ids, layer(ids))


class Subclassed(keras.Model):
    """Not built before its first batch: the table handle is made while Keras traces."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        super().__init__()
        self.embedding = layer

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        return self.embedding(ids)


# ---- Loops ----


def train_step(layer: keras.layers.Layer, ids: tf.Tensor, gradients: tf.Tensor) -> list[tf.Tensor]:
    """One step of a layer; returns the gradients of its weights."""
    with tf.GradientTape() as tape:
        loss = weighted_sum(gradients, layer(ids))
    return tape.gradient(loss, layer.trainable_variables)


def eager_tape(layer: keras.layers.Layer, batches: KnownGradients) -> None:
    for batch in batches:
        train_step(layer, *batch)


def tape_in_function(layer: keras.layers.Layer, batches: KnownGradients) -> int:
    """Returns how often the function was traced."""
    step = tf.function(lambda ids, gradients: train_step(layer, ids, gradients))
    for batch in batches:
        step(*batch)
    return step.experimental_get_tracing_count()


def tape_around_function(layer: keras.layers.Layer, batches: KnownGradients) -> None:
    forward = tf.function(layer)
    for ids, gradients in batches:
        with tf.GradientTape() as tape:
            loss = weighted_sum(gradients, forward(ids))
        tape.gradient(loss, layer.trainable_variables)


def while_loop_of_steps(layer: keras.layers.Layer, batches: KnownGradients) -> None:
    all_ids, all_gradients = tf.constant(batches.ids), tf.constant(batches.gradients)

    def step(i: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies(train_step(layer, all_ids[i], all_gradients[i])):
            return i + 1

    tf.function(lambda: tf.while_loop(lambda i: i < len(batches), step, [0]))()
