# SPDX-License-Identifier: Apache-2.0
"""`keras.layers.Embedding` with `keras.optimizers.Adam`: rows in memory, all of them updated each step."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.contenders import LEARNING_RATE, Settings


class KerasEmbedding:
    """A stock layer and a stock optimizer."""

    def __init__(self, settings: Settings) -> None:
        self._layer = keras.layers.Embedding(settings.rows, settings.dim)
        self._layer.build((None,))
        self._optimizer = keras.optimizers.Adam(LEARNING_RATE)
        self._optimizer.build(self._layer.trainable_variables)
        self._step = tf.function(self._take_step, input_signature=[tf.TensorSpec([None], tf.int64)])

    def prefill(self, first: int, last: int) -> None:
        """Nothing: the vocabulary is there from the start."""

    def prepare(self, batches: NDArray[np.int64]) -> Any:
        """Tensors of ranks."""
        return [tf.constant(batch) for batch in batches]

    def run(self, prepared: Any) -> None:
        """Takes the steps."""
        for ids in prepared:
            self._step(ids)

    def settle(self) -> None:
        """Nothing runs in the background."""

    def figures(self) -> dict[str, float]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing to close."""

    def _take_step(self, ids: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            embeddings = self._layer(ids)
        gradients = tf.stop_gradient(embeddings)
        variables = self._layer.trainable_variables
        self._optimizer.apply_gradients(
            zip(tape.gradient(embeddings, variables, output_gradients=gradients), variables, strict=True)
        )


def make(settings: Settings) -> KerasEmbedding:
    """Makes layer and optimizer."""
    return KerasEmbedding(settings)
