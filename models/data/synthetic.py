# SPDX-License-Identifier: Apache-2.0
"""Made-up logs that follow factorization machines: clicks in Criteo's format, ratings in MovieLens's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data.criteo import CATEGORIES, INTEGERS
from models.data.movielens import GENRES

MISSING_SHARE = 0.1
BIAS = -1.5
NUM_LATENT_COLUMNS = 4  # columns that interact in pairs
LATENT_DIM = 4

RATINGS_OF_A_USER = 40


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


def write_ratings(folder: Path, *, rows: int, seed: int) -> None:
    """Writes a MovieLens folder of about `rows` ratings, the same for the same `rows` and `seed`.

    There are `rows / 40` users and as many items, of one to three genres. The affinity of a user to an item
    is the sum of normal variates, one per user and genre of the item, over the square root of their number,
    and a third of one per user and item. Users rate what is popular and what
    they have an affinity to, no item twice. The rating is the affinity with some noise.
    """
    rng = np.random.default_rng(seed)
    count = max(rows // RATINGS_OF_A_USER, RATINGS_OF_A_USER)
    genres = np.array([_some_genres(rng) for _ in range(count)])  # [items, genres]
    affinity = rng.normal(size=(count, len(GENRES))) @ (genres / np.sqrt(genres.sum(axis=1))[:, np.newaxis]).T
    affinity += rng.normal(0, 1 / 3, affinity.shape)
    popularity = -0.5 * np.log(1 + rng.permutation(count))
    # The largest of logits with Gumbel noise are draws without replacement from their softmax.
    noisy = popularity + 1.5 * affinity + rng.gumbel(size=affinity.shape)
    rated = np.argsort(-noisy, axis=1)[:, : max(1, rows // count)]
    users = np.arange(count)[:, np.newaxis]
    noise = rng.normal(0, 0.7, rated.shape)
    ratings = np.clip(np.round(3.2 + affinity[users, rated] + noise), 1, 5).astype(int)
    seconds = rng.permuted(np.arange(rated.size).reshape(rated.shape), axis=1) * 61
    lines = [
        f"{user + 1}\t{item + 1}\t{rating}\t{second}\n"
        for user in range(count)
        for item, rating, second in zip(rated[user], ratings[user], seconds[user], strict=True)
    ]
    (folder / "u.data").write_text("".join(lines), encoding="ascii")
    (folder / "u.user").write_text(
        "".join(
            f"{user}|{20 + user % 50}|{'MF'[user % 2]}|other|{user % 97:05d}\n"
            for user in range(1, count + 1)
        ),
        encoding="ascii",
    )
    (folder / "u.item").write_text(
        "".join(
            f"{item}|A film||||{'|'.join(map(str, flags))}\n" for item, flags in enumerate(genres, start=1)
        ),
        encoding="ascii",
    )


def _some_genres(rng: np.random.Generator) -> NDArray[np.int64]:
    """Flags of one to three genres."""
    flags = np.zeros(len(GENRES), np.int64)
    flags[rng.choice(len(GENRES), rng.integers(1, 4), replace=False)] = 1
    return flags


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
