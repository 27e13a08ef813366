# SPDX-License-Identifier: Apache-2.0
"""A made-up click log in the Criteo format, whose labels follow a factorization machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data.criteo import CATEGORIES, INTEGERS

MISSING_SHARE = 0.1
BIAS = -1.5
NUM_LATENT_COLUMNS = 4  # columns that interact in pairs
LATENT_DIM = 4


def write_log(path: Path, *, rows: int, seed: int) -> None:
    """Writes a log of `rows` lines, the same for the same `rows` and `seed`.

    Categorical columns have 10 to 1,000 values, Zipf-distributed; integers are log-normal. The
    logit of a click is the sum of one weight per categorical value, of the products of latent
    vectors between the values of the first columns, and of the integers' logarithms. Values are
    left empty after that: a missing value had its effect, too.
    """
    rng = np.random.default_rng(seed)
    sizes = np.geomspace(10, 1_000, len(CATEGORIES)).astype(int)
    values = np.stack([_zipf(rng, rows, size) for size in sizes])
    counts = np.floor(np.exp(rng.normal(1.0, 1.5, (len(INTEGERS), rows)))).astype(int)
    logits = BIAS + _first_order(rng, values) + _second_order(rng, values[:NUM_LATENT_COLUMNS])
    logits += 0.1 * (np.log1p(counts) - 1.3).sum(axis=0)
    clicks = rng.random(rows) < 1 / (1 + np.exp(-logits))
    columns = [_text(rng, column, "d") for column in counts]
    columns += [_text(rng, column, "08x") for column in values]
    with path.open("w", encoding="ascii") as file:
        for line in zip(np.where(clicks, "1", "0"), *columns, strict=True):
            file.write("\t".join(line) + "\n")


def _zipf(rng: np.random.Generator, rows: int, size: int) -> NDArray[np.int64]:
    """`rows` draws from `size` values, the k-th of them in proportion to 1 / k."""
    weights = 1 / np.arange(1, size + 1)
    return rng.choice(size, rows, p=weights / weights.sum())


def _first_order(rng: np.random.Generator, values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum over the columns of one weight per value."""
    return np.sum([rng.normal(0, 0.3, column.max() + 1)[column] for column in values], axis=0)


def _second_order(rng: np.random.Generator, values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum over the pairs of columns of the dot product of their values' latent vectors."""
    vectors = np.stack([rng.normal(0, 0.7, (column.max() + 1, LATENT_DIM))[column] for column in values])
    return ((vectors.sum(axis=0) ** 2 - (vectors**2).sum(axis=0)) / 2).sum(axis=1)


def _text(rng: np.random.Generator, column: NDArray[np.int64], form: str) -> list[str]:
    """The column as it stands in the file, with some values missing."""
    missing = rng.random(len(column)) < MISSING_SHARE
    return ["" if gone else format(v, form) for v, gone in zip(column, missing, strict=True)]
