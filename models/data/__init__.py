# SPDX-License-Identifier: Apache-2.0
"""Public click and rating logs as hashed examples."""

from __future__ import annotations

from pathlib import Path

from models.data import criteo, movielens
from models.data.examples import PADDING, Examples, Field, field_slots

__all__ = ["PADDING", "Examples", "Field", "field_slots", "read"]


def read(path: Path, *, numeric: bool = False) -> Examples:
    """Reads a MovieLens-100K folder or, where `path` is no folder, a Criteo TSV file.

    Args:
        path: of file or folder.
        numeric: quantities are no categorical fields but `Examples.numbers`. Default `False`.

    Raises:
        DataError: a file is missing, unreadable, or has a bad line.
    """
    reader = movielens if path.is_dir() else criteo
    return reader.read(path, numeric=numeric)
