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


def read(path: Path) -> Examples:
    """Reads a file into memory, 316 bytes a line.

    Every column is a field; its missing value is a feature like any other.

    Raises:
        DataError: the file is unreadable or a line malformed.
    """
    hashers = [field_hasher(field.name) for field in FIELDS]
    ids, labels = array("Q"), array("f")
    for number, (label, *values) in read_columns(path, b"\t", 1 + len(FIELDS)):
        if label not in (b"0", b"1"):
            raise bad_line(path, number, f"label must be 0 or 1. Found: {quoted(label)}")
        labels.append(label == b"1")
        for i, name in enumerate(INTEGERS):
            if values[i]:
                values[i] = bucket(parse_integer(path, number, name, values[i]))
        ids.extend([hasher(value) for hasher, value in zip(hashers, values, strict=True)])
    return Examples(
        FIELDS,
        np.frombuffer(ids, np.uint64).reshape(-1, len(FIELDS)),
        np.frombuffer(labels, np.float32),
    )
