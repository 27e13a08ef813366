# SPDX-License-Identifier: Apache-2.0
"""What the `damo-tf` command does for stores that are large: no pass over rows unasked, work in parts."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import damo
import numpy as np
import pytest
from click.testing import CliRunner, Result

from damo_tf.command import command, output

NUM_ROWS = 150_000  # more than are deleted, or removed, at a time


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments)])


def run_json(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def make_store(path: Path, num_rows: int, ttl_seconds: int | None = None) -> Path:
    """A closed store, a second after 1970: in group 0 rows of dim 1, key 0 and the next ones."""
    with damo.PyStorage(path, memory_budget=32 << 20, clock="event") as storage:
        storage.add_group(0, 1, {"name": "zeros"}, {"name": "sgd"}, ttl_seconds=ttl_seconds)
        storage.advance_clock(1_000)
        keys = np.arange(num_rows, dtype=np.uint64)
        storage.apply_gradients(0, keys, np.ones(num_rows, np.float32))
    return path


# ---- no pass over rows unasked ----


@pytest.fixture
def unreadable(tmp_path) -> Path:
    """A store whose rows, which have a time to live, cannot be read: a bit of their file has flipped."""
    path = make_store(tmp_path / "store", 100, ttl_seconds=60)
    table = max(path.glob("*.sst"), key=lambda file: file.stat().st_size)
    data = bytearray(table.read_bytes())
    data[60] ^= 1
    table.write_bytes(data)
    return path


def test_info_without_scan_reads_no_row_and_says_that_its_numbers_are_bounds(unreadable):
    found = run_json("info", unreadable, "--no-scan")
    printed = run("info", unreadable, "--no-scan").stdout

    assert (found["rows"], found["rows_exact"]) == (100, False)
    (group,) = found["groups"]
    assert (group["rows"], group["rows_exact"], group["bytes"]) == (100, False, 100 * (9 + 32 + 4))
    assert re.search(r"^rows: +at most 100$", printed, re.M)
    assert re.search(r"^0 +1 +at most 100 +at most 4500 +1$", printed, re.M)
    assert run("info", unreadable).exit_code == 1  # with the histograms it would


def test_info_counts_the_rows_that_are_not_expired(tmp_path):
    path = make_store(tmp_path / "store", 10, ttl_seconds=60)
    with damo.PyStorage(path) as storage:
        storage.advance_clock(61_000)
        storage.apply_gradients(0, np.arange(8, 12, dtype=np.uint64), np.ones(4, np.float32))

    found = run_json("info", path)

    assert (found["rows"], found["rows_exact"]) == (4, True)
    (group,) = found["groups"]
    assert (group["rows"], group["rows_exact"], group["bytes"]) == (4, True, 4 * (9 + 32 + 4))
    assert "at most" not in run("info", path).stdout


# ---- work in parts ----


def interrupt() -> None:
    raise KeyboardInterrupt


def fail() -> None:
    raise OSError("no space")


@pytest.fixture(params=[(interrupt, 130, "interrupted"), (fail, 1, "no space")], ids=["interrupt", "failure"])
def ending(request) -> tuple[Callable[[], None], int, str]:
    """What ends a command in its midst; its status, and how its message begins."""
    ending: tuple[Callable[[], None], int, str] = request.param
    return ending


def run_until(done: int, ending: tuple[Callable[[], None], int, str], *arguments: object) -> str:
    """Runs a command that ends when it reports so much done; returns the rest of its message."""
    end, status, message = ending

    def advance(now: int, _total: int | None = None) -> None:
        if now >= done:
            end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "_ignore", advance)  # what is told how far a command is where nobody watches
        result = run(*arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    (line,) = result.stderr.splitlines()
    start = f"damo-tf: {message}; "
    assert line.startswith(start)
    return line.removeprefix(start)


def test_delete_that_ends_early_says_what_is_done_and_can_be_repeated(tmp_path, ending):
    path, keys = make_store(tmp_path / "store", NUM_ROWS), tmp_path / "keys.npy"
    np.save(keys, np.arange(100, NUM_ROWS))

    message = run_until(65_536, ending, "delete", path, 0, keys)

    assert message == (
        f"the first 65536 of {NUM_ROWS - 100} keys have no row any more; repeat the command for the rest"
    )
    with damo.PyStorage(path, read_only=True) as storage:
        assert storage.size() == NUM_ROWS - 65_536
        rows = [storage.row(0, key) is not None for key in (99, 100, 65_635, 65_636, NUM_ROWS - 1)]
        assert rows == [True, False, False, True, True]
    assert run_json("delete", path, 0, keys)["deleted"] == NUM_ROWS - 100 - 65_536
    assert run_json("info", path)["rows"] == 100


def test_expire_that_ends_early_says_what_is_done_and_can_be_repeated(tmp_path, ending):
    path = make_store(tmp_path / "store", NUM_ROWS, ttl_seconds=60)
    with damo.PyStorage(path) as storage:
        storage.advance_clock(61_000)

    message = run_until(1, ending, "expire", path)

    said = re.fullmatch(r"(\d+) rows are removed; repeat the command for the rest", message)
    removed = int(said[1])
    assert 0 < removed < NUM_ROWS
    with damo.PyStorage(path, read_only=True) as storage:
        assert storage.stats()["groups"][0]["rows"] == NUM_ROWS - removed
    assert run_json("expire", path)["removed"] == NUM_ROWS - removed


def test_expire_says_when_no_row_can_expire(tmp_path):
    path = make_store(tmp_path / "store", 10)

    assert run_json("expire", path) == {
        "directory": str(path),
        "groups_with_ttl": [],
        "removed": 0,
        "rows": 10,
    }
    assert run("expire", path).stdout.splitlines()[-1] == (
        "groups with a time to live:  none; --ttl-seconds gives one to all that have none"
    )
    assert run_json("expire", path, "--ttl-seconds", 60)["groups_with_ttl"] == [0]
    assert "time to live" not in run("expire", path, "--ttl-seconds", 60).stdout
