# SPDX-License-Identifier: Apache-2.0
"""Waits until RocksDB's threads have ended what they do in the background, whoever opened the database."""

from __future__ import annotations

import time
from pathlib import Path

#: Seconds between two looks.
PAUSE = 0.001
#: Looks in a row that find nobody at work. One is not enough: the next compaction may be about to begin.
LOOKS = 3


def wait_for_compactions(threads: Path = Path("/proc/self/task")) -> None:
    """Returns when no compaction of this process runs.

    Args:
        threads: the folder in which Linux describes the threads of this process.
    """
    idle = 0
    while idle < LOOKS:
        time.sleep(PAUSE)
        idle = 0 if any(map(_compacts, threads.iterdir())) else idle + 1


def _compacts(thread: Path) -> bool:
    """Whether a thread is one of RocksDB's pool for compactions, and does not sleep."""
    try:
        name, _, rest = (thread / "stat").read_text().partition("(")[2].rpartition(")")
    except FileNotFoundError:  # has just ended
        return False
    return name.startswith("rocksdb:low") and rest.split()[0] != "S"
