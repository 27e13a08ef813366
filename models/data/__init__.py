# SPDX-License-Identifier: Apache-2.0
"""Public click and rating logs as hashed examples."""

from __future__ import annotations

from pathlib import Path

from models.data import criteo, movielens
from models.data.examples import PADDING, Examples, Field

__all__ = ["PADDING", "Examples", "Field", "read"]


def read(path: Path) -> Examples:
    """Reads a MovieLens-100K folder or, where `path` is no folder, a Criteo TSV file.

    Raises:
        DataError: a file is missing, unreadable, or has a bad line.
    """
    return movielens.read(path) if path.is_dir() else criteo.read(path)
