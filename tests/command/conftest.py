# SPDX-License-Identifier: Apache-2.0
"""The store that the command's tests work on."""

from pathlib import Path

import pytest
from commands import LAST_KEY, add_rows, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store: group 0, dim 2, adagrad, keys 1 to 5 and the last; group 7, dim 3, sgd, key 1."""
    path = tmp_path / "store"
    with opened(path, seed=3) as storage:
        storage.add_group(0, 2, {"name": "zeros"}, {"name": "adagrad", "gamma": 0.5})
        storage.add_group(7, 3, {"name": "zeros"}, {"name": "sgd", "gamma": 1.0})
        add_rows(storage, 0, [1, 2, 3, 4, 5, LAST_KEY])
        add_rows(storage, 0, [2, 3])
        add_rows(storage, 0, [3])
        add_rows(storage, 7, [1], value=10)
    return path
