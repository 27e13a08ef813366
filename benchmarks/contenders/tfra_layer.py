# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Recommenders Addons 0.8.1 as its documentation shows it: layer and optimizer.

`de.keras.layers.Embedding`, which makes ids distinct, and tf_keras's Adam in a `DynamicEmbeddingOptimizer`;
the legacy Adam, which takes less than half the time of the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from tensorflow_recommenders_addons import dynamic_embedding as de

from benchmarks.contenders import LEARNING_RATE, Settings
from benchmarks.ids import scatter

PREFILL_BATCH = 1 << 16


class TfraLayer:
    """A layer, its optimizer, and their tables."""

    def __init__(self, settings: Settings) -> None:
        self._layer = de.keras.layers.Embedding(
            settings.dim, initializer=tf_keras.initializers.RandomUniform(-0.05, 0.05), name="rows"
        )
        self._optimizer = de.DynamicEmbeddingOptimizer(tf_keras.optimizers.legacy.Adam(LEARNING_RATE))
        self._step = tf.function(self._take_step, input_signature=[tf.TensorSpec([None], tf.int64)])

    def prefill(self, first: int, last: int) -> None:
        """Trains on every rank once."""
        for begin in range(first, last, PREFILL_BATCH):
            self._step(tf.constant(scatter(np.arange(begin, min(begin + PREFILL_BATCH, last)))))

    def prepare(self, batches: NDArray[np.int64]) -> Any:
        """Tensors of keys."""
        return [tf.constant(scatter(batch)) for batch in batches]

    def run(self, prepared: Any) -> None:
        """Takes the steps."""
        for ids in prepared:
            self._step(ids)

    def settle(self) -> None:
        """Nothing runs in the background."""

    def figures(self) -> dict[str, float]:
        """Rows in the table."""
        return {"rows": float(self._layer.params.size())}

    def close(self) -> None:
        """Nothing to close."""

    def _take_step(self, ids: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            embeddings = self._layer(ids)
        variables = self._layer.trainable_variables
        gradients = tape.gradient(embeddings, variables, output_gradients=tf.stop_gradient(embeddings))
        self._optimizer.apply_gradients(zip(gradients, variables, strict=True))


def make(settings: Settings) -> TfraLayer:
    """Makes layer and optimizer."""
    return TfraLayer(settings)
