# SPDX-License-Identifier: Apache-2.0
"""A TensorFlow variable of a fixed vocabulary, with lazy Adam written by hand: rows in memory, no new ids."""

from __future__ import annotations

import tensorflow as tf

from benchmarks.contenders import LEARNING_RATE, Settings
from benchmarks.contenders.memory import FixedVocabulary

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7


class TfVariable(FixedVocabulary):
    """Weights and both moments as resource variables `[rows, dim]`; a batch touches its own rows only."""

    def __init__(self, settings: Settings) -> None:
        shape = (settings.rows, settings.dim)
        self._weights = tf.Variable(tf.random.uniform(shape, -0.05, 0.05, seed=1))
        self._first = tf.Variable(tf.zeros(shape))
        self._second = tf.Variable(tf.zeros(shape))
        self._num_steps = tf.Variable(0.0)
        super().__init__(self._take_step)

    def _take_step(self, ids: tf.Tensor) -> tf.Tensor:
        keys, places = tf.unique(ids)
        rows = tf.gather(self._weights, keys)
        embeddings = tf.gather(rows, places)
        gradient = tf.math.unsorted_segment_sum(embeddings, places, tf.size(keys))
        num_steps = self._num_steps.assign_add(1.0)
        first = BETA_1 * tf.gather(self._first, keys) + (1 - BETA_1) * gradient
        second = BETA_2 * tf.gather(self._second, keys) + (1 - BETA_2) * tf.square(gradient)
        rate = LEARNING_RATE * tf.sqrt(1 - BETA_2**num_steps) / (1 - BETA_1**num_steps)
        weights = rows - rate * first / (tf.sqrt(second) + EPSILON)
        for variable, values in ((self._first, first), (self._second, second), (self._weights, weights)):
            variable.scatter_update(tf.IndexedSlices(values, keys))
        return num_steps


def make(settings: Settings) -> TfVariable:
    """Makes the variables."""
    return TfVariable(settings)
