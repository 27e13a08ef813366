# SPDX-License-Identifier: Apache-2.0
"""The store and the table that tests of the module `damo` work on."""

from collections.abc import Iterator
from pathlib import Path

import damo
import pytest
from damo_tables import make_embedding


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[damo.PyStorage]:
    """A new store, closed after the test."""
    with damo.PyStorage(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def embedding(storage: damo.PyStorage) -> damo.PyEmbedding:
    """Group 0 of the store: its rows begin at 0 and move by minus the gradient."""
    return make_embedding(storage)
