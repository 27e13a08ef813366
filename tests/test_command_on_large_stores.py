# SPDX-License-Identifier: Apache-2.0
"""What the `damo-tf` command does for stores that are large: no pass over rows unasked."""

import json
import re
from pathlib import Path
from typing import Any

import damo
import numpy as np
import pytest
from click.testing import CliRunner, Result

from damo_tf.command import command


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
