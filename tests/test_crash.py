# SPDX-License-Identifier: Apache-2.0
"""Training that is killed at random moments, again and again (contract C6).

A process acknowledges each batch on a pipe until it is killed. Whoever opens the store next must find exactly
the effects of batches 0 .. k - 1, k at least what was acknowledged, bit for bit as the NumPy table has them.

Processes to be killed are forked by one that never opens a store, so that a start costs milliseconds.
"""

import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from crash_batches import BATCH, DIM, FILTER_CAPACITY, NUM_KEYS, OPTIMIZER, make_batch
from oracles import OracleTable
from stored_rows import step_of

import damo_tf

BUDGET = 4 << 20
TIMEOUT_SECONDS = 120  # on any machine: a process that says nothing for so long hangs

SERVER = """
import json, os, signal, sys
import numpy as np
import crash_batches as batches
if sys.argv[1] == "layer":
    import keras, tensorflow as tf, damo_tf  # loaded, not used: this process forks
import damo

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def open_module(life):
    storage = damo.PyStorage(life["path"], durability=life["durability"], memory_budget=life["budget"])
    optimizer = damo.PyOptimizer({"name": batches.OPTIMIZER})
    initializer = damo.PyInitializer({"name": "ones"})
    table = damo.PyEmbedding(
        storage, optimizer, initializer, batches.DIM,
        min_count=life["min_count"], filter_capacity=batches.FILTER_CAPACITY,
    )
    def train(number):
        keys, gradients = batches.make_batch(number)
        weights = np.empty(keys.size * batches.DIM, np.float32)
        table.lookup(keys, weights)
        table.apply_gradients(keys, gradients.reshape(-1))
    return storage, train

def open_layer(life):
    store = damo_tf.Store(life["path"], durability=life["durability"], memory_budget=life["budget"])
    layer = damo_tf.Embedding(batches.DIM, store=store, initializer="ones", optimizer=batches.OPTIMIZER)
    @tf.function
    def step(ids, gradients):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(ids) * gradients)
        return tape.gradient(loss, layer.trainable_variables)
    def train(number):
        keys, gradients = batches.make_batch(number)
        step(tf.constant(keys), tf.constant(gradients))
    layer.build((batches.BATCH,))
    return store, train

def live(life):
    say("opening")
    storage, train = (open_layer if sys.argv[1] == "layer" else open_module)(life)
    groups = storage.stats()["groups"]
    step = groups[0]["step"] if groups else 0
    say("opened", step)
    for number in range(step, step + life["batches"]):
        train(number)
        say("applied", number + 1)
        if life["flush_every"] and (number + 1) % life["flush_every"] == 0:
            storage.flush()
            say("flushed", number + 1)
    if life["wait"]:
        say("waiting")
        signal.pause()
    say("closing")
    storage.close()
    say("closed")

say("ready")
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            live(json.loads(line))
            os._exit(0)
        except BaseException as error:
            say("failed", repr(error))
            os._exit(1)
    say("pid", child)
    os.waitpid(child, 0)
    say("dead")
"""


class ForkServer:
    """Starts processes that train one store, and kills them.

    Attributes:
        steps: by word ("opened", "applied", "flushed"), the last number that the last process said with it.
    """

    def __init__(self, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER, kind],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._unread = b""
        self.steps: dict[str, int] = {}
        assert self._read_line(TIMEOUT_SECONDS) == "ready"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def run_and_kill(self, life: dict, word: str, delay: float | None) -> None:
        """Starts a process and kills it `delay` seconds after it has said `word`; None: lets it end."""
        self._start(life)
        pid, said, is_dead = None, False, False
        while not is_dead:
            if pid is not None and said and delay is not None:
                line = self._read_line(delay)  # waits so long, unless there is something to be read
                if line is None:
                    with suppress(ProcessLookupError):  # it has just ended by itself
                        os.kill(pid, signal.SIGKILL)
                    delay = None
                    continue
                delay = max(0.0, delay - 0.001)
            else:
                line = self._read_line(TIMEOUT_SECONDS)
            assert line is not None, "the process hangs"
            first, number = self._note(line)
            said |= first == word
            is_dead = first == "dead"
            if first == "pid":
                pid = number

    def run_and_kill_when(self, life: dict, is_time: Callable[[], bool]) -> bool:
        """Starts a process and kills it as soon as `is_time`, asked again and again; says whether it was."""
        self._start(life)
        pid, killed = None, False
        while True:
            if pid is not None and not killed and is_time():
                with suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(pid, signal.SIGKILL)
                killed = True
            line = self._read_line(TIMEOUT_SECONDS if pid is None or killed else 0.0)
            if line is None:
                assert pid is not None and not killed, "the process hangs"
                continue
            first, number = self._note(line)
            if first == "dead":
                return killed
            if first == "pid":
                pid = number

    def _start(self, life: dict) -> None:
        self.steps = {}
        self._process.stdin.write(json.dumps(life).encode() + b"\n")
        self._process.stdin.flush()

    def _note(self, line: str) -> tuple[str, int]:
        """Notes what was said; returns the word and its number, -1 where there is none."""
        first, *rest = line.split(" ", 1)
        assert first != "failed", rest
        number = int(rest[0]) if rest else -1
        if rest and first != "pid":
            self.steps[first] = number
        return first, number

    def _read_line(self, timeout: float) -> str | None:
        while b"\n" not in self._unread:
            if not select.select([self._process.stdout], [], [], timeout)[0]:
                return None
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            assert data, "the server died"
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode()


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    """A server of processes that train through the module `damo`."""
    started = ForkServer("module")
    yield started
    started.close()


@pytest.fixture(scope="module")
def layer_server() -> Iterator[ForkServer]:
    """A server of processes that train through the Keras layer."""
    started = ForkServer("layer")
    yield started
    started.close()


class Oracle:
    """The NumPy table, after as many batches as it is asked for, more and more."""

    def __init__(self, min_count: int = 0) -> None:
        self.table = OracleTable(
            DIM,
            optimizer=OPTIMIZER,
            initializer="ones",
            min_count=min_count,
            filter_capacity=FILTER_CAPACITY,
        )

    def advance(self, num_batches: int) -> None:
        for number in range(self.table.global_step, num_batches):
            self.table.apply_gradients(*make_batch(number))

    def assert_equal(self, store: damo_tf.Store, num_rows: int | None = None) -> None:
        """Asserts that the store has these rows, bit for bit, and no others, and as many counts.

        Weights of all; slots and counts of `num_rows` of them, None: of all.
        """
        assert step_of(store) == self.table.global_step
        assert store.size(0) == len(self.table.rows)
        counted = len(self.table.filter.counters) / (8192 * self.table.filter.num_pages)
        assert store.stats()["groups"][0]["filter_fill"] == counted
        keys = np.arange(NUM_KEYS, dtype=np.uint64)
        assert store.lookup(0, keys).tobytes() == self.table.lookup(keys).tobytes()
        for key, expected in itertools.islice(self.table.rows.items(), num_rows):
            actual = store.row(0, key)
            assert actual.update_num == expected.update_num, key
            for name, values in expected.slots.items():
                assert actual.slots[name].tobytes() == values.tobytes(), (key, name)


class Bounds:
    """How many batches the store may have, from what the processes that trained it have said."""

    def __init__(self, durability: str) -> None:
        self._proof = "flushed" if durability == "checkpoint" else "applied"
        self.least = self.most = 0

    def note(self, said: dict[str, int]) -> None:
        if "opened" not in said:
            return
        self.check(said["opened"])
        self.least = max(said["opened"], said.get(self._proof, 0))
        self.most = said.get("applied", said["opened"]) + 1  # one more may have had no time to be told

    def check(self, found: int) -> None:
        assert self.least <= found <= self.most
        self.least = self.most = found


def life_of(path: Path, durability: str, **settings: int) -> dict:
    life = {
        "path": str(path),
        "durability": durability,
        "budget": BUDGET,
        "batches": 60,
        "flush_every": 0,
        "wait": 0,
        "min_count": 0,
    }
    return {**life, **settings}


MOMENTS = ["opening", "opening", "opened", "applied", "applied", "applied", "flushed", "closing"]


@pytest.mark.parametrize(
    ("durability", "min_count"), [("wal", 0), ("sync", 0), ("checkpoint", 0), ("wal", 2), ("checkpoint", 2)]
)
def test_no_kill_loses_a_batch_or_leaves_part_of_one(tmp_path, server, seed, durability, min_count):
    chosen, path, bounds = random.Random(seed), tmp_path / "store", Bounds(durability)
    oracle = Oracle(min_count)
    for moment in chosen.sample(MOMENTS, len(MOMENTS)):
        flush_every = 3 if moment == "flushed" else chosen.choice([0, 3, 7])
        life = life_of(
            path,
            durability,
            batches=chosen.randint(10, 30),
            flush_every=flush_every,
            min_count=min_count,
        )
        server.run_and_kill(life, moment, chosen.uniform(0, 0.02 if moment == "closing" else 0.15))
        bounds.note(server.steps)
        if chosen.random() < 0.3:
            continue  # the next process opens what this one has left
        with damo_tf.Store(path, memory_budget=BUDGET, durability=durability) as store:
            found = step_of(store) if store.stats()["groups"] else 0
            bounds.check(found)
            oracle.advance(found)
            if found:
                oracle.assert_equal(store, 300)
    server.run_and_kill(life_of(path, durability, batches=20, min_count=min_count), "closed", None)
    bounds.note(server.steps)
    oracle.advance(server.steps["applied"])
    with damo_tf.Store(path) as store:
        oracle.assert_equal(store)


@pytest.mark.parametrize("durability", ["wal", "sync", "checkpoint"])
def test_no_kill_while_the_layer_trains_loses_a_batch(tmp_path, layer_server, seed, durability):
    chosen, path, oracle, bounds = random.Random(seed), tmp_path / "store", Oracle(), Bounds(durability)
    for moment in ("opened", "applied", "flushed"):
        life = life_of(path, durability, batches=200, flush_every=5)
        layer_server.run_and_kill(life, moment, chosen.uniform(0, 0.3))
        bounds.note(layer_server.steps)
    layer_server.run_and_kill(life_of(path, durability, batches=5), "closed", None)
    bounds.note(layer_server.steps)
    oracle.advance(layer_server.steps["applied"])
    with damo_tf.Store(path) as store:
        oracle.assert_equal(store)


def has_unfinished_table(path: Path) -> bool:
    """Whether a table is being written in the database's own directory: by a compaction.

    Tables of flushes are written in a folder beside it and moved there when they are whole.
    """
    for file in path.glob("*.sst"):
        with suppress(FileNotFoundError):  # removed meanwhile
            if file.stat().st_size == 0:
                return True
    return False


@pytest.mark.parametrize("durability", ["wal", "sync", "checkpoint"])
def test_no_kill_during_a_compaction_loses_a_batch(tmp_path, server, durability):
    path, oracle, bounds, num_hits = tmp_path / "store", Oracle(), Bounds(durability), 0
    for _ in range(2):
        # Four tables in level 0 are compacted: a flush after each batch makes many compactions.
        life = life_of(path, durability, batches=60, flush_every=1)
        num_hits += server.run_and_kill_when(
            life, lambda: "flushed" in server.steps and has_unfinished_table(path)
        )
        bounds.note(server.steps)
        with damo_tf.Store(path, memory_budget=BUDGET, durability=durability) as store:
            found = step_of(store)
            bounds.check(found)
            oracle.advance(found)
            oracle.assert_equal(store, 300)
    assert num_hits > 0, "no kill met a compaction"
    server.run_and_kill(life_of(path, durability, batches=20), "closed", None)
    bounds.note(server.steps)
    oracle.advance(server.steps["applied"])
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
