# SPDX-License-Identifier: Apache-2.0
"""`keras.layers.Embedding` with `keras.optimizers.Adam`: rows in memory, all of them updated each step."""

from __future__ import annotations

import keras
import tensorflow as tf

from benchmarks.contenders import LEARNING_RATE, Settings
from benchmarks.contenders.memory import FixedVocabulary


class KerasEmbedding(FixedVocabulary):
    """A stock layer and a stock optimizer."""

    def __init__(self, settings: Settings) -> None:
        self._layer = keras.layers.Embedding(settings.rows, settings.dim)
        self._layer.build((None,))
        self._optimizer = keras.optimizers.Adam(LEARNING_RATE)
        self._optimizer.build(self._layer.trainable_variables)
        super().__init__(self._take_step)

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
