# SPDX-License-Identifier: Apache-2.0
"""MovieLens-100K (Harper and Konstan 2015): a folder with u.data, u.user and u.item.

A rating of 4 or more is a positive example.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.data.examples import PADDING, Examples, Field
from models.data.hashing import feature_hash, field_hasher
from models.data.lines import bad_line, parse_integer, quoted, read_columns

# Columns of u.user.
USER_FIELDS = ("user", "age", "gender", "occupation", "zip")
# The last columns of u.item, after its id, title, two dates and link.
# fmt: off
GENRES = (
    b"unknown", b"Action", b"Adventure", b"Animation", b"Children's", b"Comedy", b"Crime",
    b"Documentary", b"Drama", b"Fantasy", b"Film-Noir", b"Horror", b"Musical", b"Mystery",
    b"Romance", b"Sci-Fi", b"Thriller", b"War", b"Western",
)
# fmt: on
NUM_ITEM_COLUMNS = 5 + len(GENRES)
POSITIVE_RATING = 4


def read(folder: Path) -> Examples:
    """Reads the ratings of a folder, joined with the features of user and item.

    The hour of the rating, in UTC, is a field, too.

    Raises:
        DataError: a file is unreadable, a line malformed, or a rating's user or item unknown.
    """
    users, items = _read_users(folder / "u.user"), _read_items(folder / "u.item")
    num_genres = max(1, *(len(genres) for _, *genres in items.values()))
    hash_hour = field_hasher("hour")
    ids, labels = [], []
    path = folder / "u.data"
    for number, (user, item, rating, timestamp) in read_columns(path, b"\t", 4):
        if user not in users:
            raise bad_line(path, number, f"user {quoted(user)} is not in u.user")
        if item not in items:
            raise bad_line(path, number, f"item {quoted(item)} is not in u.item")
        if rating not in (b"1", b"2", b"3", b"4", b"5"):
            raise bad_line(path, number, f"rating must be 1 to 5. Found: {quoted(rating)}")
        hour = parse_integer(path, number, "timestamp", timestamp) // 3600 % 24
        item_id, *genres = items[item]
        padding = [PADDING] * (num_genres - len(genres))
        ids.append([*users[user], hash_hour(b"%d" % hour), item_id, *genres, *padding])
        labels.append(int(rating) >= POSITIVE_RATING)
    single = (Field(name) for name in (*USER_FIELDS, "hour", "item"))
    return Examples(
        (*single, Field("genre", num_genres)),
        np.array(ids, np.uint64),
        np.array(labels, np.float32),
    )


def _read_users(path: Path) -> dict[bytes, list[int]]:
    """Feature ids of each user, in the order of `USER_FIELDS`."""
    return {
        columns[0]: [feature_hash(*feature) for feature in zip(USER_FIELDS, columns, strict=True)]
        for _, columns in read_columns(path, b"|", len(USER_FIELDS))
    }


def _read_items(path: Path) -> dict[bytes, list[int]]:
    """Feature ids of each item: the item itself, then its genres."""
    items = {}
    for number, (item, *columns) in read_columns(path, b"|", NUM_ITEM_COLUMNS):
        flags = dict(zip(GENRES, columns[-len(GENRES) :], strict=True))
        for genre, flag in flags.items():
            if flag not in (b"0", b"1"):
                problem = f"genre {quoted(genre)} must be 0 or 1. Found: {quoted(flag)}"
                raise bad_line(path, number, problem)
        genres = [feature_hash("genre", genre) for genre, flag in flags.items() if flag == b"1"]
        items[item] = [feature_hash("item", item), *genres]
    return items
