# SPDX-License-Identifier: Apache-2.0
"""Training that is killed in the midst of a flush, an eviction, a checkpoint, a compaction, or closing (C6).

test_crash.py kills at random moments; here each kill is aimed. Files tell what a process is at: it is
stopped, looked at again, and killed only if it is still so. Evictions show in no file: there a thread of the
process watches its figures, and kills it.
"""

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from crash_processes import BUDGET, Bounds, ForkServer, Oracle, life_of
from stored_rows import step_of

import damo_tf

#: Lives that a phase may take until a kill meets it. One is enough but for the quickest machines.
MAX_LIVES = 4


def is_flushing(path: Path) -> bool:
    """Whether rows are on their way into the database: their files lie in a folder of their own."""
    return any((path / "ingest").glob("*.sst"))


def is_compacting(path: Path) -> bool:
    """Whether a table is being written in the database's own directory.

    Tables of flushes are written elsewhere, and moved there when they are whole.
    """
    for file in path.glob("*.sst"):
        with suppress(FileNotFoundError):  # removed meanwhile
            if file.stat().st_size == 0:
                return True
    return False


def is_taking_a_checkpoint(path: Path) -> bool:
    return any(path.parent.glob("*.unfinished"))


#: Phase to how often a process flushes and takes checkpoints, and how it is seen to be in that phase.
PHASES: dict[str, tuple[dict, Callable[[ForkServer, Path], bool]]] = {
    "flush": ({"flush_every": 3}, lambda server, path: "applied" in server.steps and is_flushing(path)),
    "checkpoint": ({"checkpoint_every": 2}, lambda server, path: is_taking_a_checkpoint(path)),
    # Four tables in level 0 are compacted: a flush after each batch makes many compactions.
    "compaction": (
        {"flush_every": 1},
        lambda server, path: "flushed" in server.steps and is_compacting(path),
    ),
    "close": ({"batches": 5}, lambda server, path: server.last_word == "closing"),
    "eviction": ({"die_evicting": 1}, lambda server, path: False),
}


def kill_in(server: ForkServer, path: Path, durability: str, phase: str) -> bool:
    """One life; says whether it ended by a kill in that phase."""
    settings, is_time = PHASES[phase]
    killed = server.run_and_kill_when(life_of(path, durability, **settings), lambda: is_time(server, path))
    if phase != "eviction":
        return killed
    evicting = server.steps.get("evicting")
    return evicting is not None and server.steps.get("applied", server.steps["opened"]) <= evicting


def assert_checkpoints_are_whole(path: Path) -> None:
    for checkpoint in path.parent.glob(f"{path.name}-*"):
        if checkpoint.suffix != ".unfinished":
            with damo_tf.Store(checkpoint, read_only=True) as store:
                assert step_of(store) == int(checkpoint.name.rpartition("-")[2])
        shutil.rmtree(checkpoint)


@pytest.mark.parametrize("durability", ["wal", "sync", "checkpoint"])
@pytest.mark.parametrize("kind", ["module", "layer"])
def test_no_kill_aimed_at_a_phase_loses_a_batch_or_leaves_part_of_one(
    tmp_path, fork_servers, seed, kind, durability
):
    server, chosen, path = fork_servers(kind), random.Random(seed), tmp_path / "store"
    oracle, bounds = Oracle(), Bounds(durability)
    for phase in chosen.sample(sorted(PHASES), len(PHASES)):
        for _ in range(MAX_LIVES):
            met = kill_in(server, path, durability, phase)
            bounds.note(server.steps)
            if met:
                break
        assert met, f"no kill met the phase: {phase}"
        if kind == "layer" and chosen.random() < 0.5:
            continue  # the next process opens what this one has left
        with damo_tf.Store(path, memory_budget=BUDGET, durability=durability) as store:
            found = step_of(store)
            bounds.check(found)
            oracle.advance(found)
            oracle.assert_equal(store, 100)
        assert_checkpoints_are_whole(path)

    server.run_and_kill(life_of(path, durability, batches=10), "closed", None)
    bounds.note(server.steps)
    assert not list((path / "redo").glob("*.redo")), "closing leaves no log"
    oracle.advance(server.steps["applied"])
    with damo_tf.Store(path) as store:
        oracle.assert_equal(store)
