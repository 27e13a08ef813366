# SPDX-License-Identifier: Apache-2.0
"""Runs the `damo-tf` command, in this process or in one of its own, on small stores."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import damo
import numpy as np
from click.testing import CliRunner, Result

from damo_tf.command import command

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm"}
TIMEOUT_SECONDS = 120  # on any machine: a command that takes longer hangs
LAST_KEY = 2**64 - 1


def run(*arguments: object, status: int = 0, stdin: bytes | None = None) -> Result:
    """Runs the command in this process."""
    result = CliRunner().invoke(command, [*map(str, arguments)], input=stdin)
    assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
    return result


def run_json(*arguments: object, status: int = 0, stdin: bytes | None = None) -> dict[str, Any]:
    """The one JSON object that the command prints."""
    result = run(*arguments, "--json", status=status, stdin=stdin)
    assert result.stderr == ""
    (line,) = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def failure(*arguments: object, status: int = 1, stdin: bytes | None = None) -> str:
    """The one line that the command writes to stderr as it fails."""
    result = run(*arguments, status=status, stdin=stdin)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("damo-tf: ")
    return line


def add_rows(storage: damo.PyStorage, group: int, keys: Any, value: float = 1.0) -> None:
    dim = storage.group_config(group)["dim"]
    array = np.asarray(keys, np.uint64)
    storage.apply_gradients(group, array, np.full(len(array) * dim, value, np.float32))


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[damo.PyStorage]:
    with damo.PyStorage(path, memory_budget=8 << 20, **options) as storage:
        yield storage


def content(directory: Path) -> dict[str, str]:
    """Names and hashes of all files but RocksDB's log of what it did."""
    return {
        str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(directory.rglob("*"))
        if file.is_file() and not file.name.startswith("LOG")
    }


HOLD_OPEN = """
import sys
import damo
storage = damo.PyStorage(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def open_elsewhere(path: Path) -> Iterator[None]:
    """A process that has the store open for writing while the block runs."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_OPEN, str(path)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout.readline() == b"open\n"
            yield
        finally:
            process.communicate(timeout=TIMEOUT_SECONDS)


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "damo_tf", *map(str, arguments)], env=ENVIRONMENT, **options
    )
