# SPDX-License-Identifier: Apache-2.0
"""Groups of small rows that are easy to reckon with, and what tests of stores look at."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import damo_tf

DIM = 2
SGD = {"name": "sgd", "gamma": 1.0}
ONES = np.ones((1, DIM), np.float32)


def add_sgd(store: damo_tf.Store, group: int = 0, dim: int = DIM) -> None:
    """A group whose rows begin at 0 and move by minus the gradient."""
    store.add_group(group, dim, initializer="zeros", optimizer=SGD)


def message_of(exception: type[BaseException], call: Callable[[], object]) -> str:
    """The text with which `call` raises `exception`."""
    with pytest.raises(exception) as caught:
        call()
    return str(caught.value.args[0])


def content(directory: Path) -> dict[str, bytes | None]:
    """All that lies in a directory, by relative path; None for a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }
