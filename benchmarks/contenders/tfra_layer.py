# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Recommenders Addons 0.8.1 as its documentation shows it: layer and optimizer.

`de.keras.layers.Embedding`, which makes ids distinct, and tf_keras's Adam in a `DynamicEmbeddingOptimizer`;
the legacy Adam, which takes less than half the time of the other.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras
from tensorflow_recommenders_addons import dynamic_embedding as de

from benchmarks.contenders import LEARNING_RATE, Settings
from benchmarks.contenders.memory import GrowingTable


class TfraLayer(GrowingTable):
    """A layer, its optimizer, and their tables."""

    def __init__(self, settings: Settings) -> None:
        self._layer = de.keras.layers.Embedding(
            settings.dim, initializer=tf_keras.initializers.RandomUniform(-0.05, 0.05), name="rows"
        )
        self._optimizer = de.DynamicEmbeddingOptimizer(tf_keras.optimizers.legacy.Adam(LEARNING_RATE))
        super().__init__(self._take_step)

    def figures(self) -> dict[str, float]:
        """Rows in the table."""
        return {"rows": float(self._layer.params.size())}

    def _take_step(self, ids: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            embeddings = self._layer(ids)
        variables = self._layer.trainable_variables
        gradients = tape.gradient(embeddings, variables, output_gradients=tf.stop_gradient(embeddings))
        self._optimizer.apply_gradients(zip(gradients, variables, strict=True))


def make(settings: Settings) -> TfraLayer:
    """Makes layer and optimizer."""
    return TfraLayer(settings)
