# SPDX-License-Identifier: Apache-2.0
"""Training that is killed at random moments, again and again (contract C6), and files that are damaged."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from crash_batches import BATCH, NUM_KEYS
from crash_processes import BUDGET, Bounds, ForkServer, Oracle, life_of
from stored_rows import step_of

import damo_tf


@pytest.fixture
def server(fork_servers) -> ForkServer:
    """A server of processes that train through the module `damo`."""
    return fork_servers("module")


@pytest.fixture
def layer_server(fork_servers) -> ForkServer:
    """A server of processes that train through the Keras layer."""
    return fork_servers("layer")


MOMENTS = ["opening", "opening", "opened", "applied", "applied", "applied", "flushed", "closing"]
#: Batches of a process that is to be at it when it is killed, on a fast machine, too.
LONG = 200


@pytest.mark.parametrize(
    ("durability", "min_count"), [("wal", 0), ("sync", 0), ("checkpoint", 0), ("wal", 2), ("checkpoint", 2)]
)
def test_no_kill_loses_a_batch_or_leaves_part_of_one(tmp_path, server, seed, durability, min_count):
    chosen, path, bounds = random.Random(seed), tmp_path / "store", Bounds(durability)
    oracle, num_met = Oracle(min_count), 0
    for moment in chosen.sample(MOMENTS, len(MOMENTS)):
        flush_every = 3 if moment == "flushed" else chosen.choice([0, 3, 7])
        life = life_of(
            path,
            durability,
            batches=chosen.randint(10, 30) if moment == "closing" else LONG,
            flush_every=flush_every,
            min_count=min_count,
        )
        delay = chosen.uniform(0, 0.02 if moment == "closing" else 0.05)
        num_met += server.run_and_kill(life, moment, delay)
        bounds.note(server.steps)
        if chosen.random() < 0.3:
            continue  # the next process opens what this one has left
        with damo_tf.Store(path, memory_budget=BUDGET, durability=durability) as store:
            found = step_of(store) if store.stats()["groups"] else 0
            bounds.check(found)
            oracle.advance(found)
            if found:
                oracle.assert_equal(store, 300)
    assert num_met >= len(MOMENTS) / 2, "a kill that comes after the end tests nothing"
    server.run_and_kill(life_of(path, durability, batches=20, min_count=min_count), "closed", None)
    bounds.note(server.steps)
    oracle.advance(server.steps["applied"])
    with damo_tf.Store(path) as store:
        oracle.assert_equal(store)


@pytest.mark.parametrize("durability", ["wal", "sync", "checkpoint"])
def test_no_kill_while_the_layer_trains_loses_a_batch(tmp_path, layer_server, seed, durability):
    chosen, path, oracle, bounds = random.Random(seed), tmp_path / "store", Oracle(), Bounds(durability)
    num_met = 0
    for moment in ("opened", "applied", "flushed"):
        life = life_of(path, durability, batches=LONG, flush_every=5)
        num_met += layer_server.run_and_kill(life, moment, chosen.uniform(0, 0.3))
        bounds.note(layer_server.steps)
    assert num_met >= 2, "a kill that comes after the end tests nothing"
    layer_server.run_and_kill(life_of(path, durability, batches=5), "closed", None)
    bounds.note(layer_server.steps)
    oracle.advance(layer_server.steps["applied"])
    with damo_tf.Store(path) as store:
        oracle.assert_equal(store)


# ---- damaged files ----


@pytest.fixture
def killed_store(tmp_path, server) -> tuple[Path, int]:
    """A store that was killed with all it has in its redo log, and the number of its batches."""
    path = tmp_path / "store"
    room = 16 * BUDGET  # for all rows: nothing is flushed
    server.run_and_kill(life_of(path, "wal", batches=30, wait=1, budget=room), "waiting", 0.0)
    return path, server.steps["applied"]


def copy_of(path: Path, name: str) -> Path:
    return Path(shutil.copytree(path, path.with_name(name)))


def flip_byte(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)


def test_a_truncated_redo_log_gives_a_prefix(killed_store, seed):
    path, num_batches = killed_store
    chosen, oracle, found = random.Random(seed), Oracle(), 0
    size = max((path / "redo").glob("*.redo")).stat().st_size
    for i, kept in enumerate([0, *sorted(chosen.sample(range(size), 6)), size]):
        copy = copy_of(path, f"truncated{i}")
        os.truncate(max((copy / "redo").glob("*.redo")), kept)
        with damo_tf.Store(copy, memory_budget=BUDGET) as store:
            assert found <= step_of(store) <= num_batches + 1
            found = step_of(store)
            oracle.advance(found)
            oracle.assert_equal(store, 300)
    assert found >= num_batches


def test_a_damaged_record_before_others_is_data_loss(killed_store, seed):
    path, _ = killed_store
    chosen = random.Random(seed)
    first = min((path / "redo").glob("*.redo"))
    record_bytes = BATCH * 80  # about
    for i in range(5):
        copy = copy_of(path, f"damaged{i}")
        flip_byte(copy / "redo" / first.name, chosen.randrange(first.stat().st_size - 3 * record_bytes))
        before = (copy / "redo" / first.name).read_bytes()
        with pytest.raises(RuntimeError, match="data loss"):
            damo_tf.Store(copy, memory_budget=BUDGET)
        assert (copy / "redo" / first.name).read_bytes() == before, "what is left is not touched"


def test_a_damaged_table_file_is_an_error_and_never_a_fresh_row(tmp_path, server, seed):
    path, oracle = tmp_path / "store", Oracle()
    server.run_and_kill(life_of(path, "wal", batches=30, flush_every=10), "closed", None)
    oracle.advance(30)
    chosen, keys, num_errors = random.Random(seed), np.arange(NUM_KEYS, dtype=np.uint64), 0
    expected = oracle.table.lookup(keys)
    for i in range(8):
        copy = copy_of(path, f"damaged{i}")
        table = max(copy.glob("*.sst"), key=lambda file: file.stat().st_size)
        flip_byte(table, chosen.randrange(table.stat().st_size))
        try:
            with damo_tf.Store(copy, memory_budget=BUDGET, read_only=True) as store:
                for part in range(0, NUM_KEYS, 100):
                    try:
                        found = store.lookup(0, keys[part : part + 100])
                    except RuntimeError as error:
                        assert "data loss" in str(error)
                        num_errors += 1
                        continue
                    assert found.tobytes() == expected[part : part + 100].tobytes()
        except RuntimeError as error:
            assert "data loss" in str(error)
            num_errors += 1
    assert num_errors > 0
