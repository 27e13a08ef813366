# SPDX-License-Identifier: Apache-2.0
"""The engine through the `damo` module, from NumPy: starts in a blink, for there is no TensorFlow to load.

It reads and writes the same rows as `damo_layer`.
"""

from __future__ import annotations

from typing import Any

import damo
import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import LEARNING_RATE, Settings, numbers
from benchmarks.ids import scatter

#: Model to its groups: number to dim (`None`: the settings'), initializer and optimizer. Dims and kinds of
#: optimizer must be those that the layers ask for, or opening fails.
GROUPS: dict[str, dict[int, tuple[int | None, str, str]]] = {
    "layer": {0: (None, "random_uniform", "adam")},
    "deepfm": {0: (1, "zeros", "ftrl"), 1: (None, "random_normal", "adam")},
}
PREFILL_BATCH = 1 << 18


class DamoModule:
    """A store in `settings.directory` with the groups of `settings.model`; steps are taken in the last."""

    def __init__(self, settings: Settings) -> None:
        self._storage = damo.PyStorage(
            settings.directory, memory_budget=settings.memory_budget, durability=settings.durability
        )
        self._dims: dict[int, int] = {}
        for group, (dim, initializer, optimizer) in GROUPS[settings.model].items():
            self._dims[group] = dim or settings.dim
            self._storage.add_group(
                group, self._dims[group], {"name": initializer}, {"name": optimizer, "gamma": LEARNING_RATE}
            )
        self._group = max(self._dims)

    def prefill(self, first: int, last: int) -> None:
        """Applies small gradients to the ranks, in the order of their keys."""
        keys = np.sort(scatter(np.arange(first, last)).view(np.uint64))
        for group, dim in self._dims.items():
            gradients = np.full(PREFILL_BATCH * dim, 1e-3, np.float32)
            for begin in range(0, len(keys), PREFILL_BATCH):
                batch = keys[begin : begin + PREFILL_BATCH]
                self._storage.apply_gradients(group, batch, gradients[: len(batch) * dim])

    def prepare(self, batches: NDArray[np.int64]) -> Any:
        """Arrays of keys."""
        return [scatter(batch).view(np.uint64) for batch in batches]

    def run(self, prepared: Any) -> None:
        """Takes the steps."""
        for keys in prepared:
            weights = np.empty(len(keys) * self._dims[self._group], np.float32)
            self._storage.lookup(self._group, keys, weights)
            self._storage.apply_gradients(self._group, keys, weights)

    def tool(self, name: str) -> int:
        """Runs an operator's tool on all rows: "dump", to a file beside the store. Returns their number."""
        if name == "dump":
            return self._storage.dump(f"{self._storage.directory}.dump")
        raise ValueError(f"`name` must be 'dump'. Received: name={name!r}")

    def settle(self) -> None:
        """Flushes the store."""
        self._storage.flush()

    def figures(self) -> dict[str, float]:
        """Numbers of the store's statistics and of its group's; `cache_rows` for `rows` in `cache`."""
        stats = self._storage.stats()
        return numbers({**stats, **stats["groups"][self._group], "groups": None})

    def close(self) -> None:
        """Closes the store."""
        self._storage.close()


def make(settings: Settings) -> DamoModule:
    """Opens the store."""
    return DamoModule(settings)
