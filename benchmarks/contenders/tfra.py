# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Recommenders Addons 0.8.1 with TensorFlow 2.16: cuckoo hash tables in memory, at their fastest.

Lazy Adam written by hand on `lookup` and `upsert` of three tables: weights and both moments.
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
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7


class Tfra:
    """Three tables."""

    def __init__(self, settings: Settings) -> None:
        uniform = tf_keras.initializers.RandomUniform(-0.05, 0.05, seed=1)
        self._weights, self._first, self._second = (
            de.get_variable(name, dim=settings.dim, initializer=initializer)
            for name, initializer in (("weights", uniform), ("first", 0.0), ("second", 0.0))
        )
        self._num_steps = tf.Variable(0.0)
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
        return {"rows": float(self._weights.size())}

    def close(self) -> None:
        """Nothing to close."""

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
