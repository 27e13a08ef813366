# SPDX-License-Identifier: Apache-2.0
"""StoreMetrics: what the stores of a model do while it trains, in Keras's logs and on TensorBoard."""

import os
from collections import defaultdict
from contextlib import suppress
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from damo_tf._arguments import check_freq, check_int, check_path
from damo_tf.callbacks.batch_counter import BatchCounter, iterations_of
from damo_tf.callbacks.summaries import write_histogram, write_scalar
from damo_tf.layers.in_model import embeddings_of, stores_of
from damo_tf.store import Store

#: Counters of a group that are shown as they grew since they were last shown: in `Store.stats()`, and here.
_GROWTHS = {"inserted": "new", "blocked": "blocked", "expired": "expired", "skipped": "skipped"}
#: Those that the other figures are made of.
_COUNTERS = (
    *_GROWTHS,
    "lookups",
    "cache_hits",
    "lookup_calls",
    "lookup_seconds",
    "apply_calls",
    "apply_seconds",
)


class StoreMetrics(keras.callbacks.Callback):
    """Writes figures about the stores that a model's `damo_tf.Embedding` layers use.

    At the end of each epoch they are in the logs of Keras, so in `History`, `CSVLogger` and the progress bar,
    and in TensorBoard's; with an integer `update_freq` TensorBoard has points in between. Put this callback
    before those that are to read them. Of each group of rows, as `rows/GROUP/NAME`:

    | name | figure |
    |---|---|
    | `rows` | rows of the group; where rows have a time to live an upper bound, see `Store.stats` |
    | `new` | rows that came into being |
    | `blocked` | gradients dropped because their id had not occurred `min_count` times |
    | `expired` | times that a row was found past its time to live |
    | `skipped` | rows left alone because of a gradient that was not finite |
    | `hit_rate` | share of the ids looked up whose row was in memory; absent if none was looked up |
    | `dirty` | rows newer in memory than on disk |
    | `lookup_ms` | milliseconds of a lookup, on average; absent if there was none |
    | `apply_ms` | milliseconds of a step's update, on average; absent if there was none |

    and of each store, as `rows/NAME`: `disk_bytes`, all its files, and `redo_bytes`, its redo log. What is
    counted or averaged is so over the epoch in Keras's logs, and since the last point on TensorBoard, over
    training only: validation within `fit` is left out. For a model on several stores the name of the
    store's directory follows `rows/`, the whole path where two have one name. Of a model that is built by its
    first batch, that batch is not counted. The axis is the number of batches trained: those that this object
    has seen, after those that the model's optimizer had counted before it.

    TensorBoard also gets, at the end of each epoch, histograms `rows/GROUP/norm`, the Euclidean norms of
    rows, and `rows/GROUP/updates`, how often rows were updated, of the first `histogram_rows` rows in the
    order of keys: where ids are hashes, a sample like any other. Taking it costs a `flush` and reads these
    rows only.

    Example:

    >>> metrics = damo_tf.callbacks.StoreMetrics("log")
    >>> history = model.fit(x, y, epochs=2, callbacks=[metrics], verbose=0)
    >>> history.history["rows/9/new"]  # of group 9
    [8.0, 0.0]

    Args:
        log_dir: path, made if absent, of TensorBoard's logs. The events are in its subdirectory `store`, so
            that it can be that of `keras.callbacks.TensorBoard`, too.
        update_freq: `"epoch"` (default), or an integer >= 1: every so many batches as well.
        histogram_rows: integer >= 0: rows of each group in a histogram; 0: no histograms. Default 4096.

    Raises:
        ValueError: an argument breaks its rule; or, after the first batch, the model has no
            `damo_tf.Embedding`.
        TypeError: an argument is of the wrong type.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        update_freq: str | int = "epoch",
        histogram_rows: int = 4096,
    ) -> None:
        super().__init__()
        self._update_freq = check_freq("update_freq", update_freq)
        check_int("histogram_rows", histogram_rows, 0, 1 << 31)
        self._log_dir = os.path.join(check_path("log_dir", log_dir), "store")
        self._histogram_rows = int(histogram_rows)
        self._writer: Any = None
        self._groups: dict[tuple[str, int], Store] = {}  # by the beginning of their figures' names
        self._last: dict[str, float] = {}  # counters when they were last looked at
        self._epoch_growth: dict[str, float] = defaultdict(float)  # of counters
        self._point_growth: dict[str, float] = defaultdict(float)  # since TensorBoard's last point
        self._written_at = 0  # the step of that
        self._batches = BatchCounter()
        self._step = 0  # batches trained

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Keras calls it."""
        self._writer = tf.summary.create_file_writer(self._log_dir)
        self._step = self._written_at = max(self._step, iterations_of(self.model))
        self._find_groups()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keras calls it."""
        self._batches.begin_epoch(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Keras calls it."""
        self._step += self._batches.advance(self.model, self.params, batch)
        if not self._groups:  # the first batch has built the model
            self._find_groups()
            self._check_groups()
        if self._update_freq is not None and self._step - self._written_at >= self._update_freq:
            stats = self._stats()
            self._note_growth(stats)
            self._write_point(stats)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Keras calls it."""
        if self._writer is not None:  # within `fit`
            self._note_growth(self._stats())

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Keras calls it."""
        if self._writer is not None:
            self._last = self._counters(self._stats())  # what was counted meanwhile is not of training

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keras calls it; adds the figures to `logs`."""
        stats = self._stats()
        self._note_growth(stats)
        if self._update_freq is None or self._step > self._written_at:
            self._write_point(stats)
        figures = self._figures(stats, self._epoch_growth)
        self._epoch_growth.clear()
        if logs is not None:
            logs.update(figures)
        if self._histogram_rows > 0:
            self._write_histograms()
        self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Keras calls it."""
        self._writer.close()
        self._writer = None

    def _find_groups(self) -> None:
        """Finds what figures are of, and begins to count."""
        self._groups = {}
        names = _names_of(stores_of(self.model))
        for layer in embeddings_of(self.model):
            self._groups[names[layer.store.directory], layer.group] = layer.store
        self._epoch_growth.clear()
        self._point_growth.clear()
        self._last = self._counters(self._stats())

    def _check_groups(self) -> None:
        if not self._groups:
            raise ValueError(
                "StoreMetrics needs a model with a damo_tf.Embedding. "
                f"Received: model '{self.model.name}' without"
            )

    def _stats(self) -> dict[str, dict[str, Any]]:
        """The stores' stats, by the beginning of their figures' names."""
        stores = {name: store for (name, _), store in self._groups.items()}
        return {name: store.stats() for name, store in stores.items()}

    def _counters(self, stats: dict[str, dict[str, Any]]) -> dict[str, float]:
        groups = {f"{name}{group}/": stats[name]["groups"][group] for name, group in self._groups}
        return {prefix + name: values[name] for prefix, values in groups.items() for name in _COUNTERS}

    def _note_growth(self, stats: dict[str, dict[str, Any]]) -> None:
        now = self._counters(stats)
        for name, value in now.items():
            self._epoch_growth[name] += value - self._last[name]
            self._point_growth[name] += value - self._last[name]
        self._last = now

    def _figures(
        self, stats: dict[str, dict[str, Any]], counters_growth: dict[str, float]
    ) -> dict[str, float]:
        """All figures, by name."""
        figures: dict[str, float] = {}
        for name, values in stats.items():
            figures |= {f"{name}{figure}": values[figure] for figure in ("disk_bytes", "redo_bytes")}
        for name, group in self._groups:
            prefix = f"{name}{group}/"
            growth = {counter: counters_growth[prefix + counter] for counter in _COUNTERS}
            figures |= _group_figures(prefix, stats[name]["groups"][group], growth)
        return figures

    def _write_point(self, stats: dict[str, dict[str, Any]]) -> None:
        """Writes a point of each curve on TensorBoard."""
        step = self._step
        with self._writer.as_default():
            for name, value in self._figures(stats, self._point_growth).items():
                write_scalar(name, value, step)
        self._point_growth.clear()
        self._written_at = step

    def _write_histograms(self) -> None:
        for (name, group), store in self._groups.items():
            norms, updates = _sample(store, group, self._histogram_rows)
            if len(norms) == 0:
                continue
            with self._writer.as_default():
                write_histogram(f"{name}{group}/norm", norms, self._step)
                write_histogram(f"{name}{group}/updates", updates, self._step)


def _names_of(stores: list[Store]) -> dict[str, str]:
    """How the names of a store's figures begin, by its directory."""
    if len(stores) == 1:
        return {stores[0].directory: "rows/"}
    short = [os.path.basename(store.directory) for store in stores]
    unique = len(set(short)) == len(short)
    return {
        store.directory: f"rows/{name if unique else store.directory.strip('/')}/"
        for store, name in zip(stores, short, strict=True)
    }


def _group_figures(prefix: str, now: dict[str, Any], growth: dict[str, float]) -> dict[str, float]:
    figures = {"rows": now["rows"], "dirty": now["dirty"]}
    figures |= {name: growth[counter] for counter, name in _GROWTHS.items()}
    for name, part, whole in (
        ("hit_rate", growth["cache_hits"], growth["lookups"]),
        ("lookup_ms", 1e3 * growth["lookup_seconds"], growth["lookup_calls"]),
        ("apply_ms", 1e3 * growth["apply_seconds"], growth["apply_calls"]),
    ):
        if whole > 0:
            figures[name] = part / whole
    return {prefix + name: float(value) for name, value in figures.items()}


class _EnoughError(Exception):
    """Ends a reading of rows."""


def _sample(store: Store, group: int, num_rows: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Norms and update counts of the first rows of a group."""
    norms, updates = np.empty(0, np.float32), np.empty(0, np.int64)

    def keep(keys: Any, weights: Any, _update_times: Any, update_nums: Any, _slots: Any) -> None:
        nonlocal norms, updates
        norms = np.linalg.norm(weights.reshape(len(keys), -1), axis=1)
        updates = update_nums.copy()
        raise _EnoughError

    with suppress(_EnoughError):
        store.storage.read_rows(group, keep, rows_per_part=num_rows)
    return norms, updates
