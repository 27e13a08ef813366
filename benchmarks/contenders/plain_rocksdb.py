# SPDX-License-Identifier: Apache-2.0
"""Read, modify and write straight on RocksDB, in C++ (`benchmarks/cc/plain_rocksdb.cc`).

What anybody would write first: MultiGet of sorted keys, Adam, one WriteBatch. Ids are made distinct before
the clock starts, which spares it work that the others do inside.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.build import NATIVE
from benchmarks.contenders import LEARNING_RATE, Settings
from benchmarks.ids import scatter

PREFILL_BATCH = 1 << 20


def load_module(folder: Path = NATIVE) -> Any:
    """The extension module, from its build folder."""
    path = folder / f"_plain_rocksdb{sysconfig.get_config_var('EXT_SUFFIX')}"
    spec = importlib.util.spec_from_file_location("_plain_rocksdb", path)
    if spec is None or spec.loader is None or not path.exists():
        raise ImportError(f"{path} is missing: `make bench-build` makes it")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PlainRocksDb:
    """A database in `settings.directory`."""

    def __init__(self, settings: Settings) -> None:
        self._database = load_module().Database(
            settings.directory, settings.memory_budget, settings.dim, LEARNING_RATE
        )

    def prefill(self, first: int, last: int) -> None:
        """Ingests sorted tables, which costs no compaction."""
        keys = np.sort(scatter(np.arange(first, last)).view(np.uint64))
        for begin in range(0, len(keys), PREFILL_BATCH):
            self._database.ingest(keys[begin : begin + PREFILL_BATCH])

    def prepare(self, batches: NDArray[np.int64]) -> Any:
        """Sorted distinct keys of each batch, and how often each occurs."""
        return [
            (keys, counts.astype(np.float32))
            for keys, counts in (
                np.unique(scatter(batch).view(np.uint64), return_counts=True) for batch in batches
            )
        ]

    def run(self, prepared: Any) -> None:
        """Takes the steps."""
        for keys, counts in prepared:
            self._database.step(keys, counts)

    def settle(self) -> None:
        """Waits for flushes and compactions."""
        self._database.settle()

    def figures(self) -> dict[str, float]:
        """None."""
        return {}

    def close(self) -> None:
        """Closes the database."""
        self._database.close()


def make(settings: Settings) -> PlainRocksDb:
    """Opens the database."""
    return PlainRocksDb(settings)
