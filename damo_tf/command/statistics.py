# SPDX-License-Identifier: Apache-2.0
"""Figures over all rows of a store, from one pass in parts: histograms, and the largest rows."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import damo
import numpy as np
import numpy.typing as npt

from damo_tf._parts import rows_per_part

MINUTE, HOUR, DAY = 60, 3_600, 86_400
#: Lower bounds of the classes of age, in seconds; the last class has no upper bound.
AGE_BOUNDS = (0, MINUTE, HOUR, DAY, 7 * DAY, 30 * DAY, 90 * DAY, 365 * DAY)
#: Lower bounds of the classes of update counts, which are below 2**62.
_COUNT_BOUNDS = 1 << np.arange(62)


@dataclass
class Histograms:
    """How old the rows of a group are, and how often they were updated.

    Args:
        now: milliseconds since the Unix epoch: when ages are as of.
    """

    now: int
    _ages: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(AGE_BOUNDS), np.int64))
    _counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_COUNT_BOUNDS), np.int64))

    def add(self, update_times: npt.NDArray[np.int64], update_nums: npt.NDArray[np.int64]) -> None:
        """Counts rows in. Times after `now`, of a clock that was put back, are the youngest age."""
        ages = (self.now - update_times) // 1000
        classes = np.maximum(np.searchsorted(AGE_BOUNDS, ages, side="right") - 1, 0)
        self._ages += np.bincount(classes, minlength=len(AGE_BOUNDS))
        classes = np.searchsorted(_COUNT_BOUNDS, update_nums, side="right") - 1
        self._counts += np.bincount(classes, minlength=len(_COUNT_BOUNDS))

    def ages(self) -> list[dict[str, int | None]]:
        """Rows by seconds since their last update, all classes; the last one has `to_seconds` `None`."""
        bounds = [*AGE_BOUNDS, None]
        return [
            {"from_seconds": bounds[i], "to_seconds": bounds[i + 1], "rows": int(rows)}
            for i, rows in enumerate(self._ages)
        ]

    def update_counts(self) -> list[dict[str, int]]:
        """Rows by number of updates: 1, 2 to 3, 4 to 7 and so on; classes without rows are left out."""
        return [
            {"from": 1 << i, "to": (2 << i) - 1, "rows": int(rows)}
            for i, rows in enumerate(self._counts)
            if rows
        ]


@dataclass(frozen=True)
class RankedRow:
    """A row of which much is told, but not its numbers."""

    group: int
    key: int
    norm: float
    update_num: int
    update_time: int


class Ranking:
    """The rows with the largest weights, or the most updates, of all that it is shown.

    Args:
        by: `"norm"`, the Euclidean norm of the weights, or `"count"`.
        limit: how many to keep; memory use grows with it, not with the rows shown.
    """

    def __init__(self, by: str, limit: int) -> None:
        self._by = by
        self._limit = limit
        self._best: list[tuple[float, int, int, RankedRow]] = []

    def add(self, group: int, keys: Any, weights: Any, update_times: Any, update_nums: Any) -> None:
        """Shows rows of a group, `weights` being `[n, dim]`."""
        norms = np.sqrt(np.einsum("ij,ij->i", weights, weights, dtype=np.float64))
        scores = norms if self._by == "norm" else update_nums.astype(np.float64)
        order = np.argsort(-scores, kind="stable")[: self._limit]
        candidates = [
            (
                -float(scores[i]),
                group,
                int(keys[i]),
                RankedRow(group, int(keys[i]), float(norms[i]), int(update_nums[i]), int(update_times[i])),
            )
            for i in order
        ]
        self._best = heapq.nsmallest(self._limit, self._best + candidates, key=lambda entry: entry[:3])

    def rows(self) -> list[RankedRow]:
        """The best first; among equals by group and key."""
        return [row for *_, row in self._best]


def scan(storage: damo.PyStorage, group: int, visit: Callable[..., None]) -> None:
    """Calls `visit(keys, weights [n, dim], update_times, update_nums)` with the rows of a group in parts."""
    dim = storage.group_config(group)["dim"]

    def visit_part(keys: Any, weights: Any, update_times: Any, update_nums: Any, _slots: Any) -> None:
        visit(keys, weights.reshape(-1, dim), update_times, update_nums)

    storage.read_rows(group, visit_part, rows_per_part=rows_per_part(storage, group))
