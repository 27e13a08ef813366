# SPDX-License-Identifier: Apache-2.0
"""What contenders whose rows are TensorFlow's, in memory, have in common.

Runs under a peer's TensorFlow, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.ids import scatter

PREFILL_BATCH = 1 << 16


class InMemory:
    """A contender without files and without work in the background.

    Args:
        take_step: looks the rows of ids, int64 `[n]`, up and updates them.
    """

    def __init__(self, take_step: Callable[[tf.Tensor], Any]) -> None:
        self._step = tf.function(take_step, input_signature=[tf.TensorSpec([None], tf.int64)])

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


class FixedVocabulary(InMemory):
    """Ids are ranks, all of which have a row from the start."""

    def prefill(self, first: int, last: int) -> None:
        """Nothing."""

    def prepare(self, batches: NDArray[np.int64]) -> Any:
        """Tensors of ranks."""
        return [tf.constant(batch) for batch in batches]


class GrowingTable(InMemory):
    """Ids are keys, which get a row when they are first trained."""

    def prefill(self, first: int, last: int) -> None:
        """Trains on every rank once."""
        for begin in range(first, last, PREFILL_BATCH):
            self._step(tf.constant(scatter(np.arange(begin, min(begin + PREFILL_BATCH, last)))))

    def prepare(self, batches: NDArray[np.int64]) -> Any:
        """Tensors of keys."""
        return [tf.constant(scatter(batch)) for batch in batches]
