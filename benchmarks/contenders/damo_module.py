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
            settings.directory,
            settings.ttl_seconds,
            memory_budget=settings.memory_budget,
            durability=settings.durability,
            read_only=settings.read_only,
        )
        self._num_checkpoints = 0
        self._num_rows_at_opening = self._storage.size()  # not on the clock: with a time to live it is a scan
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
        """Runs an operator's tool on all rows, and returns how many those were.

        Args:
            name: "dump", to a file beside the store; "checkpoint", to a new directory there; "verify"; or
                "expire".
        """
        beside = self._storage.directory
        match name:
            case "dump":
                return self._storage.dump(f"{beside}.dump")
            case "checkpoint":
                self._num_checkpoints += 1
                self._storage.checkpoint(f"{beside}.checkpoint-{self._num_checkpoints}")
                return self._num_rows_at_opening
            case "verify":
                return self._verify()
            case "expire":
                return self._expire()
        raise ValueError(f"`name` must be that of a tool. Received: name={name!r}")

    def _verify(self) -> int:
        found = self._storage.verify()
        if found["problems"]:
            raise RuntimeError(f"verify found: {found['problems'][0]}")
        num_rows: int = found["rows"]
        return num_rows

    def _expire(self) -> int:
        """How many rows were looked at: those that are due are in no count."""
        looked_at = 0

        def note(scanned: int, _removed: int) -> None:
            nonlocal looked_at
            looked_at = scanned

        self._storage.expire(note)
        return looked_at

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
