# SPDX-License-Identifier: Apache-2.0
"""Criteo display-advertising logs.

A line is an impression, tab separated: label (1: clicked), 13 integers, 26 categorical values. An
empty column is a missing value.
"""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import numpy as np

from models.data.examples import Examples, Field
from models.data.hashing import field_hasher
from models.data.lines import bad_line, parse_integer, quoted, read_columns

INTEGERS = tuple(f"I{i}" for i in range(1, 14))
CATEGORIES = tuple(f"C{i}" for i in range(1, 27))
FIELDS = tuple(Field(name) for name in INTEGERS + CATEGORIES)


def bucket(value: int) -> bytes:
    """The category of an integer: itself up to 2, then the floor of its squared logarithm.

    The columns are long-tailed counts; the squared logarithm is common practice for them.
    """
    return b"%d" % value if value <= 2 else b"log%d" % math.floor(math.log(value) ** 2)


def read(path: Path, *, numeric: bool = False) -> Examples:
    """Reads a file into memory, 316 bytes a line; 264 with `numeric`.

    Every column is a field; its missing value is a feature like any other.

    Args:
        path: of the file.
        numeric: integers are no fields but numbers, `log(1 + value)` as in DLRM; 0 where missing or
            negative. Default `False`.

    Raises:
        DataError: the file is unreadable or a line malformed.
    """
    fields = FIELDS[len(INTEGERS) :] if numeric else FIELDS
    hashers = [field_hasher(field.name) for field in fields]
    ids, labels, numbers = array("Q"), array("f"), array("f")
    for number, (label, *values) in read_columns(path, b"\t", 1 + len(FIELDS)):
        if label not in (b"0", b"1"):
            raise bad_line(path, number, f"label must be 0 or 1. Found: {quoted(label)}")
        labels.append(label == b"1")
        integers = [
            parse_integer(path, number, name, value) if value else None
            for name, value in zip(INTEGERS, values, strict=False)
        ]
        features = values[len(INTEGERS) :]
        if numeric:
            numbers.extend(math.log1p(max(integer or 0, 0)) for integer in integers)
        else:
            features = [b"" if integer is None else bucket(integer) for integer in integers] + features
        ids.extend([hasher(value) for hasher, value in zip(hashers, features, strict=True)])
    return Examples(
        fields,
        np.frombuffer(ids, np.uint64).reshape(-1, len(fields)),
        np.frombuffer(labels, np.float32),
        np.frombuffer(numbers, np.float32).reshape(-1, len(INTEGERS)) if numeric else None,
    )
