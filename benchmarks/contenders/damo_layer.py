# SPDX-License-Identifier: Apache-2.0
"""damo_tf as its users run it: the layer in a tf.function."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import damo_tf
from benchmarks.contenders import LEARNING_RATE, Settings, numbers
from benchmarks.ids import scatter

PREFILL_BATCH = 1 << 16


class DamoLayer:
    """A `damo_tf.Embedding` on a store in `settings.directory`."""

    def __init__(self, settings: Settings) -> None:
        self._store = damo_tf.Store(
            settings.directory, memory_budget=settings.memory_budget, durability=settings.durability
        )
        self._bag = settings.bag
        self._fused = settings.fused
        self._layer = damo_tf.Embedding(
            settings.dim,
            store=self._store,
            optimizer=damo_tf.optimizers.Adam(learning_rate=LEARNING_RATE),
            combiner="mean" if settings.bag and settings.fused else None,
        )
        self._layer.build((None,))
        self._settings = settings
        self._step = tf.function(self._take_step, input_signature=[tf.TensorSpec([None], tf.int64)])

    def prefill(self, first: int, last: int) -> None:
        """Brings rows into memory; `damo_module` has made them, which it does sooner."""
        for begin in range(first, last, PREFILL_BATCH):
            ranks = np.arange(begin, min(begin + PREFILL_BATCH, last))
            self._layer(tf.constant(scatter(ranks)), training=True)

    def prepare(self, batches: NDArray[np.int64]) -> Any:
        """Tensors of keys."""
        depth = self._settings.look_ahead
        if depth is None:
            return [tf.constant(scatter(batch)) for batch in batches]
        dataset = tf.data.Dataset.from_tensor_slices(scatter(batches))
        if depth > 0:
            dataset = look_ahead()(dataset, self._layer, depth=depth)
        if self._settings.cold_files:
            drop_from_page_cache(Path(self._settings.directory))
        return iter(dataset)  # no row is read before the first batch is asked for

    def run(self, prepared: Any) -> None:
        """Takes the steps."""
        for ids in prepared:
            self._step(ids)
            if self._settings.device_seconds > 0:
                time.sleep(self._settings.device_seconds)

    def settle(self) -> None:
        """Flushes the store."""
        self._store.flush()

    def figures(self) -> dict[str, float]:
        """Numbers of the store's statistics and of its group's; `cache_rows` for `rows` in `cache`.

        `can_prefetch` is 1 if this damo_tf has look-ahead.
        """
        stats = self._store.stats()
        stats["can_prefetch"] = int(look_ahead() is not None)
        return numbers({**stats, **stats["groups"][self._layer.group], "groups": None})

    def close(self) -> None:
        """Closes the store."""
        self._store.close()

    def _take_step(self, ids: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            embeddings = self._layer(tf.reshape(ids, [-1, self._bag]) if self._bag else ids, training=True)
            if self._bag and not self._fused:
                embeddings = tf.reduce_mean(embeddings, axis=1)
        gradients = tf.stop_gradient(embeddings)
        return tape.gradient(embeddings, self._layer.trainable_variables, output_gradients=gradients)


def make(settings: Settings) -> DamoLayer:
    """Opens the store."""
    return DamoLayer(settings)


def look_ahead() -> Any:
    """`damo_tf.data.prefetch_rows`; `None` where this damo_tf does not have it."""
    return getattr(getattr(damo_tf, "data", None), "prefetch_rows", None)


def drop_from_page_cache(directory: Path) -> None:
    """Lets the system forget what it has of table files, so that rows are read from the disk."""
    for path in directory.rglob("*.sst"):
        with suppress(FileNotFoundError):  # merged with others meanwhile
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
