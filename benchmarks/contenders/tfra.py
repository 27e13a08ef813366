# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Recommenders Addons 0.8.1 with TensorFlow 2.16: cuckoo hash tables in memory, at their fastest.

Lazy Adam written by hand on `lookup` and `upsert` of three tables: weights and both moments.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras
from tensorflow_recommenders_addons import dynamic_embedding as de

from benchmarks.contenders import LEARNING_RATE, Settings
from benchmarks.contenders.memory import GrowingTable

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7


class Tfra(GrowingTable):
    """Three tables."""

    def __init__(self, settings: Settings) -> None:
        uniform = tf_keras.initializers.RandomUniform(-0.05, 0.05, seed=1)
        self._weights, self._first, self._second = (
            de.get_variable(name, dim=settings.dim, initializer=initializer)
            for name, initializer in (("weights", uniform), ("first", 0.0), ("second", 0.0))
        )
        self._num_steps = tf.Variable(0.0)
        super().__init__(self._take_step)

    def figures(self) -> dict[str, float]:
        """Rows in the table."""
        return {"rows": float(self._weights.size())}

    def _take_step(self, ids: tf.Tensor) -> tf.Tensor:
        keys, places = tf.unique(ids)
        rows = self._weights.lookup(keys)
        embeddings = tf.gather(rows, places)
        gradient = tf.math.unsorted_segment_sum(embeddings, places, tf.size(keys))
        num_steps = self._num_steps.assign_add(1.0)
        first = BETA_1 * self._first.lookup(keys) + (1 - BETA_1) * gradient
        second = BETA_2 * self._second.lookup(keys) + (1 - BETA_2) * tf.square(gradient)
        rate = LEARNING_RATE * tf.sqrt(1 - BETA_2**num_steps) / (1 - BETA_1**num_steps)
        self._weights.upsert(keys, rows - rate * first / (tf.sqrt(second) + EPSILON))
        self._first.upsert(keys, first)
        self._second.upsert(keys, second)
        return num_steps


def make(settings: Settings) -> Tfra:
    """Makes the tables."""
    return Tfra(settings)
