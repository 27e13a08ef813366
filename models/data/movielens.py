# SPDX-License-Identifier: Apache-2.0
"""MovieLens-100K (Harper and Konstan 2015): a folder with u.data, u.user and u.item.

A rating of 4 or more is a positive example.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data.examples import PADDING, Examples, Field, field_slots
from models.data.hashing import feature_hash, field_hasher
from models.data.lines import bad_line, parse_integer, quoted, read_columns
from models.errors import DataError

# Columns of u.user.
USER_FIELDS = ("user", "age", "gender", "occupation", "zip")
QUANTITIES = ("age", "hour")
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


def read(folder: Path, *, numeric: bool = False) -> Examples:
    """Reads the ratings of a folder, joined with the features of user and item.

    The hour of the rating, in UTC, is a field, too.

    Args:
        folder: of the files.
        numeric: age and hour are no fields but numbers, in centuries and days. Default `False`.

    Raises:
        DataError: a file is unreadable, a line malformed, or a rating's user or item unknown.
    """
    examples, _ = _read_ratings(folder)
    if numeric:
        return _without_fields(examples, QUANTITIES)
    return dataclasses.replace(examples, numbers=None)


def read_in_time(folder: Path, *, history: int = 0, liked_only: bool = False) -> Examples:
    """Reads likewise, in the order of time, and ratings of one second in that of the file.

    Args:
        folder: of the files.
        history: with more than 0, there is one more field, "history", of as many slots: the latest items that
            the user had liked before, oldest first, with the ids they have as "item". Default 0.
        liked_only: leave out ratings that are no positive examples. Default `False`.

    Raises:
        DataError: `folder` is no folder; else as `read`.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: must be a MovieLens-100K folder")
    examples, seconds = _read_ratings(folder)
    order = np.argsort(seconds, kind="stable")
    fields, ids, labels = examples.fields, examples.ids[order], examples.labels[order]
    if history > 0:
        ids = np.concatenate([ids, _histories(fields, ids, labels, history)], axis=1)
        fields = (*fields, Field("history", history))
    chosen = labels > 0 if liked_only else slice(None)
    return Examples(fields, ids[chosen], labels[chosen])


def _read_ratings(folder: Path) -> tuple[Examples, NDArray[np.int64]]:
    """The examples with all fields and numbers, in the order of u.data, and their seconds since 1970."""
    users, items = _read_users(folder / "u.user"), _read_items(folder / "u.item")
    num_genres = max(1, *(len(genres) for _, *genres in items.values()))
    hash_hour = field_hasher("hour")
    ids, labels, numbers, seconds = [], [], [], []
    path = folder / "u.data"
    for number, (user, item, rating, timestamp) in read_columns(path, b"\t", 4):
        if user not in users:
            raise bad_line(path, number, f"user {quoted(user)} is not in u.user")
        if item not in items:
            raise bad_line(path, number, f"item {quoted(item)} is not in u.item")
        if rating not in (b"1", b"2", b"3", b"4", b"5"):
            raise bad_line(path, number, f"rating must be 1 to 5. Found: {quoted(rating)}")
        seconds.append(parse_integer(path, number, "timestamp", timestamp))
        hour = seconds[-1] // 3600 % 24
        user_ids, age = users[user]
        item_id, *genres = items[item]
        padding = [PADDING] * (num_genres - len(genres))
        ids.append([*user_ids, hash_hour(b"%d" % hour), item_id, *genres, *padding])
        labels.append(int(rating) >= POSITIVE_RATING)
        numbers.append((age / 100, hour / 24))
    single = (Field(name) for name in (*USER_FIELDS, "hour", "item"))
    examples = Examples(
        (*single, Field("genre", num_genres)),
        np.array(ids, np.uint64),
        np.array(labels, np.float32),
        np.array(numbers, np.float32),
    )
    return examples, np.array(seconds, np.int64)


def _without_fields(examples: Examples, names: Sequence[str]) -> Examples:
    slots = field_slots(examples.fields)
    return dataclasses.replace(
        examples,
        fields=tuple(field for field in examples.fields if field.name not in names),
        ids=np.delete(examples.ids, [slot for name in names for slot in slots[name]], axis=1),
    )


def _histories(
    fields: Sequence[Field], ids: NDArray[np.uint64], labels: NDArray[np.float32], length: int
) -> NDArray[np.uint64]:
    """The last items that the user of each example had liked before it, `[examples, length]`."""
    slots = field_slots(fields)
    pairs = ids[:, [slots["user"].start, slots["item"].start]].tolist()
    histories = np.full((len(ids), length), PADDING, np.uint64)
    liked: dict[int, collections.deque[int]] = collections.defaultdict(
        functools.partial(collections.deque, maxlen=length)
    )
    for history, (user, item), label in zip(histories, pairs, labels, strict=True):
        history[: len(liked[user])] = liked[user]
        if label:
            liked[user].append(item)
    return histories


def _read_users(path: Path) -> dict[bytes, tuple[list[int], int]]:
    """Feature ids of each user, in the order of `USER_FIELDS`, and the age in years."""
    users = {}
    for number, columns in read_columns(path, b"|", len(USER_FIELDS)):
        ids = [feature_hash(*feature) for feature in zip(USER_FIELDS, columns, strict=True)]
        users[columns[0]] = ids, parse_integer(path, number, "age", columns[1])
    return users


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
