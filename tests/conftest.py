# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several test files share.

Keras and damo_tf are imported where they are used: tests of the `damo` module run without TensorFlow.
"""

import functools
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from crash_processes import ForkServer
    from forked_programs import ProgramServer

    import damo_tf


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """This test's seed; pytest shows the printed line when the test fails.

    It follows from the test's name, so that a failure repeats; DAMO_TEST_SEED overrides it.
    """
    chosen = int(os.environ.get("DAMO_TEST_SEED", zlib.crc32(request.node.nodeid.encode())))
    print(f"DAMO_TEST_SEED={chosen}")
    return chosen


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def keras_seed(seed: int) -> None:
    """Makes Keras's own random choices, such as initial weights of dense layers, follow `seed`."""
    import keras

    keras.utils.set_random_seed(seed)


@pytest.fixture
def store(tmp_path: Path) -> "Iterator[damo_tf.Store]":
    """A new store of seed 0, closed after the test."""
    import damo_tf

    with damo_tf.Store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def sgd_store(store: "damo_tf.Store") -> "damo_tf.Store":
    """A new store with group 0 of `small_groups.add_sgd`."""
    from small_groups import add_sgd

    add_sgd(store)
    return store


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., str]:
    """Runs a program in a process of its own, which must succeed, and returns what it printed."""

    def run(program: str, *arguments: object) -> str:
        completed = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=False,
        )
        assert completed.returncode == 0, completed.stderr
        return completed.stdout

    return run


@pytest.fixture(scope="session")
def program_server() -> "Iterator[ProgramServer]":
    """A process that has loaded TensorFlow, for all tests that need it."""
    from forked_programs import ProgramServer

    server = ProgramServer()
    yield server
    server.close()


@pytest.fixture
def run_with_tensorflow(program_server: "ProgramServer", tmp_path: Path) -> Callable[..., str]:
    """As `run_python`, with TensorFlow and Keras loaded already: seconds less. damo_tf is not."""
    return functools.partial(program_server.run, folder=tmp_path)


@pytest.fixture(scope="session")
def fork_servers() -> "Iterator[Callable[[str], ForkServer]]":
    """Servers of processes that train, to be killed: through the module `damo` or through the Keras layer."""
    from crash_processes import ForkServer

    @functools.cache
    def get(kind: str) -> ForkServer:
        started.append(ForkServer(kind))
        return started[-1]

    started: list[ForkServer] = []
    yield get
    for server in started:
        server.close()
