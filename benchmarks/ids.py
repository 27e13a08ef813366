# SPDX-License-Identifier: Apache-2.0
"""Streams of ids, as files that every contender reads.

An id is the rank of a feature, 0 the most frequent. Contenders with a fixed vocabulary use ranks as they
are: the order of a vocabulary sorted by frequency, and their best case. The others `scatter` them over all
64-bit keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ranks: TypeAlias = NDArray[np.int64]

EXPONENT = 1.05
SEED = 7


@dataclass(frozen=True)
class IdFile:
    """A `.npy` file of ranks `[steps, ...batch]`."""

    path: Path
    batch: int  # ids in a step

    def mean_unique(self) -> float:
        """Distinct ids in a step, on average."""
        batches = np.load(self.path, mmap_mode="r")
        return float(np.mean([len(np.unique(batch)) for batch in batches]))


def scatter(ranks: Ranks) -> Ranks:
    """The 64-bit key of each rank: distinct ranks get distinct keys, neighbours get distant ones.

    The finalizer of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
    """
    x = ranks.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))).view(np.int64)


class Streams:
    """Makes id files in a folder, the same ones each time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cdf: tuple[int, NDArray[np.float64]] = 0, np.empty(0)

    def zipf(self, rows: int, steps: int, batch: int) -> IdFile:
        """Ranks drawn with probability in proportion to `1 / (rank + 1) ** EXPONENT`."""
        return self._write(f"zipf-{rows}", self._draw_zipf(rows, (steps, batch)))

    def zipf_fields(self, rows: int, steps: int, batch: int, fields: int) -> IdFile:
        """As `zipf`, for examples `[batch, fields]` whose fields share the ranks out among them."""
        places = self._draw_zipf(rows // fields, (steps, batch, fields))
        return self._write(f"zipf-fields-{rows}", places * fields + np.arange(fields))

    def hot_set(self, hot: int, rows: int, steps: int, batch: int) -> IdFile:
        """Zipf over `hot` ranks that lie evenly among all `rows`."""
        return self._write(f"hot-{hot}-{rows}", self._draw_zipf(hot, (steps, batch)) * (rows // hot))

    def uniform(self, rows: int, steps: int, batch: int) -> IdFile:
        """Ranks drawn alike."""
        return self._write(f"uniform-{rows}", self._rng(rows).integers(rows, size=(steps, batch)))

    def mixed(self, hot: int, rows: int, hot_share: float, steps: int, batch: int) -> IdFile:
        """A share of ranks from the first `hot`, the others from all `rows`, each drawn alike."""
        rng = self._rng(rows)
        is_hot = rng.random((steps, batch)) < hot_share
        limits = np.where(is_hot, hot, rows)
        return self._write(f"mixed-{rows}-{hot_share}", rng.integers(limits))

    def consecutive(self, steps: int, batch: int) -> IdFile:
        """Every rank once."""
        return self._write("consecutive", np.arange(steps * batch).reshape(steps, batch))

    def _rng(self, salt: int) -> np.random.Generator:
        return np.random.default_rng([SEED, salt])

    def _draw_zipf(self, rows: int, shape: tuple[int, ...]) -> Ranks:
        if self._cdf[0] != rows:
            cdf = np.cumsum(np.arange(1, rows + 1, dtype=np.float64) ** -EXPONENT)
            self._cdf = rows, cdf / cdf[-1]
        return np.searchsorted(self._cdf[1], self._rng(rows).random(shape)).astype(np.int64)

    def _write(self, name: str, ranks: Ranks) -> IdFile:
        path = self._folder / f"{name}-{'x'.join(map(str, ranks.shape))}.npy"
        np.save(path, ranks)
        return IdFile(path, int(np.prod(ranks.shape[1:])))
