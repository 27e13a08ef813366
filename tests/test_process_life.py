# SPDX-License-Identifier: Apache-2.0
"""Stores across processes and threads: two openers, fork, exit, crash (contracts C6 and C11)."""

import gc
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from numbered_batches import DIM, NUM_KEYS, apply, make_batch, open_table, oracle_after, train_and_close
from stored_rows import assert_rows_equal, step_of

import damo_tf

TIMEOUT_SECONDS = 120  # on any machine: a program that takes longer hangs

PRELUDE = """
import os, signal, sys, threading
import damo
from numbered_batches import apply, make_batch, open_table

def say(*words):
    print(*words, flush=True)
"""


def start(program: str, *arguments: object) -> subprocess.Popen:
    """Runs PRELUDE and `program` in a process of its own, as the leader of a process group."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", PRELUDE + program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextmanager
def running(program: str, *arguments: object) -> Iterator[subprocess.Popen]:
    """As `start`; at the end neither the process nor its children are left."""
    process = start(program, *arguments)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def run(program: str, *arguments: object) -> tuple[int, str]:
    """Exit status and output of a program, whose children must be gone when it is."""
    with running(program, *arguments) as process:
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        print(errors, file=sys.stderr)  # pytest shows it when the test fails
        return process.returncode, output


def assert_has_batches(directory: Path, num_batches: int) -> None:
    """Asserts that a closed store holds exactly the effects of batches 0 .. num_batches - 1."""
    with damo_tf.Store(directory) as store:
        assert_rows_equal(store, oracle_after(num_batches))


# ---- Two processes ----

HOLD_OPEN = """
storage, embedding = open_table(sys.argv[1])
apply(embedding, 0)
say("open")
for line in sys.stdin:
    apply(embedding, int(line))
    say("applied")
"""


def test_a_second_process_is_refused_until_the_first_has_closed(tmp_path):
    path = tmp_path / "store"
    with running(HOLD_OPEN, path) as first:
        assert first.stdout.readline() == "open\n"
        with pytest.raises(RuntimeError) as caught:
            damo_tf.Store(path)
        assert str(caught.value).startswith(
            f"failed precondition: open store '{path}': another process has it open for writing; close it "
            "there, or open it read-only ("
        )
        first.communicate("1\n", timeout=TIMEOUT_SECONDS)  # it ends at the end of its input
        assert first.returncode == 0
    assert_has_batches(path, 2)


def test_a_reader_beside_a_writer_sees_the_rows_as_of_its_opening(tmp_path):
    path = tmp_path / "store"
    with running(HOLD_OPEN, path) as writer:
        assert writer.stdout.readline() == "open\n"
        with damo_tf.Store(path, read_only=True) as reader:
            assert_rows_equal(reader, oracle_after(1))
            writer.stdin.write("1\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "applied\n"
            assert_rows_equal(reader, oracle_after(1))
        with damo_tf.Store(path, read_only=True) as reader:
            assert_rows_equal(reader, oracle_after(2))
        writer.communicate("2\n", timeout=TIMEOUT_SECONDS)
        assert writer.returncode == 0
    assert_has_batches(path, 3)


def test_processes_that_multiprocessing_spawns_open_stores(tmp_path):
    storage, embedding = open_table(tmp_path / "parent")
    apply(embedding, 0)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=train_and_close, args=(tmp_path / "child", 3))
    process.start()
    process.join(TIMEOUT_SECONDS)
    assert process.exitcode == 0
    apply(embedding, 1)
    storage.close()
    assert_has_batches(tmp_path / "child", 3)
    assert_has_batches(tmp_path / "parent", 2)


# ---- Fork ----

USE_IN_FORKED_CHILD = """
path, other_path, how_to_end = sys.argv[1:]
storage, embedding = open_table(path)
apply(embedding, 0)
keys, floats = make_batch(0)
floats = floats.reshape(-1)

child = os.fork()
if child == 0:
    attempts = {
        "lookup": lambda: embedding.lookup(keys, floats),
        "apply": lambda: embedding.apply_gradients(keys, floats),
        "row": lambda: storage.row(0, 1),
        "size": lambda: storage.size(),
        "stats": lambda: storage.stats(),
        "flush": lambda: storage.flush(),
        "close": lambda: storage.close(),
        "group": lambda: storage.group_config(0),
        "embedding": lambda: open_table(path),
        "other": lambda: open_table(other_path),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
            say(name, "was not refused")
        except RuntimeError as error:
            say(name, error)
    say("closed", storage.closed)
    damo.close_all()
    if how_to_end == "os._exit":
        os._exit(7)
    if how_to_end == "exception":
        raise SystemExit(7)
    del storage, embedding, attempts
    sys.exit(7)

say("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
apply(embedding, 1)
storage.close()
"""


@pytest.mark.parametrize("how_to_end", ["os._exit", "sys.exit", "exception"])
def test_a_forked_child_is_refused_and_ends_and_the_parent_goes_on(tmp_path, how_to_end):
    path, other_path = tmp_path / "store", tmp_path / "other"
    status, output = run(USE_IN_FORKED_CHILD, path, other_path, how_to_end)
    assert status == 0
    lines = dict(line.split(" ", 1) for line in output.splitlines())
    cure = "(multiprocessing start method 'spawn')"
    for name in ("lookup", "apply", "row", "size", "stats", "flush", "close", "group"):
        assert lines[name].startswith("failed precondition: "), lines[name]
        assert f"store '{path}' was opened by process " in lines[name]
        assert lines[name].endswith(f"; open it in a process started afresh {cure}")
        assert "and cannot be used in its forked child" in lines[name]
    for name, opened in (("embedding", path), ("other", other_path)):
        assert lines[name].startswith(f"failed precondition: open store '{opened}': process ")
        assert "after that had opened stores" in lines[name]
        assert lines[name].endswith(cure)
    assert lines["closed"] == "True"
    assert lines["status"] == "7"
    assert not other_path.exists()
    assert_has_batches(path, 2)


FORK_AMID_THREADS = """
storage, embedding = open_table(sys.argv[1])
apply(embedding, 0)
keys, floats = make_batch(0)
floats = floats.reshape(-1)
done = threading.Event()

def add_groups():
    for group in range(1, 256):
        if done.is_set(): return
        storage.add_group(group, 1, {"name": "ones"}, {"name": "sgd"})

def open_and_close():
    while not done.is_set():
        damo.PyStorage(sys.argv[2]).close()

def look_up():
    mine = floats.copy()
    while not done.is_set():
        embedding.lookup(keys, mine)

threads = [threading.Thread(target=work) for work in (add_groups, open_and_close, look_up)]
for thread in threads:
    thread.start()

for _ in range(30):
    child = os.fork()
    if child == 0:
        for attempt in (
            lambda: embedding.apply_gradients(keys, floats),
            lambda: storage.add_group(0, 1, {"name": "ones"}, {"name": "sgd"}),
            lambda: storage.size(0),
            lambda: damo.PyStorage(sys.argv[1]),
            lambda: damo.PyStorage(sys.argv[2]),
        ):
            try:
                attempt()
                os._exit(1)
            except RuntimeError:
                pass
        storage.closed
        damo.close_all()
        os._exit(0)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done.set()
for thread in threads:
    thread.join()
"""


def test_a_child_forked_while_threads_hold_locks_is_refused_too(tmp_path):
    status, output = run(FORK_AMID_THREADS, tmp_path / "store", tmp_path / "other")
    assert output.split() == ["0"] * 30
    assert status == 0


FORK_BEFORE_OPENING = """
child = os.fork()
storage, embedding = open_table(sys.argv[1 if child else 2])
apply(embedding, 0)
storage.close()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0)
"""


def test_a_child_forked_before_any_store_was_opened_opens_its_own(tmp_path):
    status, _ = run(FORK_BEFORE_OPENING, tmp_path / "parent", tmp_path / "child")
    assert status == 0
    for name in ("parent", "child"):
        assert_has_batches(tmp_path / name, 1)


# ---- Exit ----

TRAIN_AND_END = """
path, durability, ending = sys.argv[1:]
storage, embedding = open_table(path, durability=durability, memory_budget=4 << 20)
for number in range(20):
    apply(embedding, number)
    if number == 9:
        storage.flush()
endings = {
    "return": lambda: None,
    "sys.exit": lambda: sys.exit(3),
    "exception": lambda: 1 / 0,
    "os._exit": lambda: os._exit(3),
    "kill -9": lambda: os.kill(os.getpid(), signal.SIGKILL),
}
endings[ending]()
"""
STATUS_OF_ENDING = {
    "return": 0,
    "sys.exit": 3,
    "exception": 1,
    "os._exit": 3,
    "kill -9": -signal.SIGKILL,
}


@pytest.mark.parametrize("durability", ["wal", "sync"])
@pytest.mark.parametrize("ending", STATUS_OF_ENDING)
def test_a_process_that_ends_without_closing_loses_nothing(tmp_path, durability, ending):
    status, _ = run(TRAIN_AND_END, tmp_path / "store", durability, ending)
    assert status == STATUS_OF_ENDING[ending]
    assert_has_batches(tmp_path / "store", 20)


@pytest.mark.parametrize("ending", ["return", "sys.exit", "exception"])
def test_an_orderly_exit_loses_nothing_in_checkpoint_mode_either(tmp_path, ending):
    status, _ = run(TRAIN_AND_END, tmp_path / "store", "checkpoint", ending)
    assert status == STATUS_OF_ENDING[ending]
    assert_has_batches(tmp_path / "store", 20)


@pytest.mark.parametrize("ending", ["os._exit", "kill -9"])
def test_a_crash_in_checkpoint_mode_returns_to_the_last_flush(tmp_path, ending):
    status, _ = run(TRAIN_AND_END, tmp_path / "store", "checkpoint", ending)
    assert status == STATUS_OF_ENDING[ending]
    assert_has_batches(tmp_path / "store", 10)  # 20 batches do not fill a memtable: nothing else was saved


END_WITH_BUSY_THREADS = """
storage, embedding = open_table(sys.argv[1])
apply(embedding, 0)
keys, floats = make_batch(0)
floats = floats.reshape(-1)

def look_up():
    mine = floats.copy()
    while True:
        embedding.lookup(keys, mine)

for _ in range(3):
    threading.Thread(target=look_up, daemon=True).start()
apply(embedding, 1)
"""


def test_a_process_ends_while_daemon_threads_use_the_store(tmp_path):
    status, _ = run(END_WITH_BUSY_THREADS, tmp_path / "store")
    assert status == 0
    assert_has_batches(tmp_path / "store", 2)


# ---- Crash ----

TRAIN_UNTIL_KILLED = """
path, durability, flush_every = sys.argv[1], sys.argv[2], int(sys.argv[3])
storage, embedding = open_table(path, durability=durability, memory_budget=4 << 20)
for number in range(storage.stats()["groups"][0]["step"], 10**9):
    apply(embedding, number)
    if (number + 1) % flush_every == 0:
        storage.flush()
        say("flushed", number + 1)
    say("applied", number + 1)
"""


def kill_after(program: str, num_lines: int, *arguments: object) -> dict[str, int]:
    """Kills a program that has said `num_lines` lines; returns the last number it said with each word.

    Among them are lines that it said before it died and this process had not read.
    """
    with running(program, *arguments) as process:
        lines = [process.stdout.readline() for _ in range(num_lines)]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        rest, errors = process.stdout.read(), process.stderr.read()
    print(errors, file=sys.stderr)
    whole_lines = "".join(lines) + rest[: rest.rfind("\n") + 1]
    return {word: int(number) for word, number in (line.split() for line in whole_lines.splitlines())}


NEVER = 10**9


@pytest.mark.parametrize("durability", ["wal", "sync"])
@pytest.mark.parametrize("num_lines", [1, 20, 90])
def test_kill_loses_no_acknowledged_batch_and_leaves_no_part_of_one(tmp_path, durability, num_lines):
    said = kill_after(TRAIN_UNTIL_KILLED, num_lines, tmp_path / "store", durability, NEVER)
    with damo_tf.Store(tmp_path / "store") as store:
        # One more batch may have been applied than the process had time to say.
        assert said["applied"] <= step_of(store) <= said["applied"] + 1
        assert_rows_equal(store, oracle_after(step_of(store)))


@pytest.mark.parametrize("num_lines", [10, 77])
def test_kill_in_checkpoint_mode_leaves_a_prefix_not_before_the_last_flush(tmp_path, num_lines):
    said = kill_after(TRAIN_UNTIL_KILLED, num_lines, tmp_path / "store", "checkpoint", 5)
    with damo_tf.Store(tmp_path / "store") as store:
        assert said["flushed"] <= step_of(store) <= said["applied"] + 1
        assert_rows_equal(store, oracle_after(step_of(store)))


@pytest.mark.parametrize("durability", ["wal", "checkpoint"])
def test_training_that_is_killed_again_and_again_goes_on_where_it_was(tmp_path, durability):
    for _ in range(4):
        said = kill_after(TRAIN_UNTIL_KILLED, 14, tmp_path / "store", durability, 6)
    with damo_tf.Store(tmp_path / "store") as store:
        assert step_of(store) >= said["flushed"] >= 4 * 6
        assert_rows_equal(store, oracle_after(step_of(store)))


TRAIN_BY_EVENTS_AND_DIE = """
storage = damo.PyStorage(sys.argv[1], 60, clock="event")
sgd, zeros = damo.PyOptimizer({"name": "sgd"}), damo.PyInitializer({"name": "zeros"})
embedding = damo.PyEmbedding(storage, sgd, zeros, 1)
def train(second, *keys):
    storage.advance_clock(1000 * second)
    embedding.apply_gradients(np.array(keys, np.uint64), np.ones(len(keys), np.float32))
train(0, *range(40_000))  # more than are removed at once: Store::kExpirePartRows
train(30, 5, 6)
train(60, 6)
say(storage.expire())
train(70, 7)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_keeps_the_time_of_events_and_what_was_expired(tmp_path):
    status, output = run("import numpy as np\n" + TRAIN_BY_EVENTS_AND_DIE, tmp_path / "store")
    assert (status, output) == (-signal.SIGKILL, "39998\n")
    with damo_tf.Store(tmp_path / "store", ttl_seconds=60) as store:
        assert store.stats()["now"] == 70_000
        assert store.size() == 3
        assert [store.row(0, key).update_num for key in (5, 6, 7)] == [2, 3, 1]
        store.advance_clock(90_000)
        assert store.expire() == 1


def test_a_killed_first_opening_leaves_a_directory_that_opens(tmp_path):
    for _ in range(3):
        with running("say('ready')\ndamo.PyStorage(sys.argv[1])", tmp_path / "store") as process:
            assert process.stdout.readline() == "ready\n"
            os.kill(process.pid, signal.SIGKILL)  # at whatever point it may be
            process.wait()
    train_and_close(tmp_path / "store", 1)
    assert_has_batches(tmp_path / "store", 1)


# ---- Threads ----


def run_threads(*targets: Callable[[], object]) -> list[BaseException]:
    """Runs every target in a thread of its own; returns what they raised."""
    failures: list[BaseException] = []

    def call(target):
        try:
            target()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=call, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_threads_that_open_one_directory_get_one_store(tmp_path):
    num_threads, num_rounds = 6, 5
    barrier = threading.Barrier(num_threads)
    numbers = iter(range(num_threads * num_rounds))

    def open_and_train():
        for _ in range(num_rounds):
            barrier.wait()  # all open; then all let go, and the store closes
            storage, embedding = open_table(tmp_path / "store")
            apply(embedding, next(numbers))
            assert not storage.closed
            del storage, embedding

    assert run_threads(*[open_and_train] * num_threads) == []
    gc.collect()
    with damo_tf.Store(tmp_path / "store") as store:
        assert step_of(store) == num_threads * num_rounds


def test_closing_a_store_that_other_threads_use_ends_their_calls_cleanly(tmp_path):
    storage, embedding = open_table(tmp_path / "store")
    num_threads = 4
    num_applied = itertools.count()
    started = threading.Barrier(num_threads + 1)
    keys, gradients = make_batch(0)

    def train_until_closed():
        started.wait()
        while True:
            embedding.apply_gradients(keys, gradients.reshape(-1))
            next(num_applied)
            embedding.lookup(keys, np.empty(keys.size * DIM, np.float32))

    def close():
        started.wait()
        storage.close()

    failures = run_threads(close, *[train_until_closed] * num_threads)
    assert len(failures) == num_threads
    for failure in failures:
        assert type(failure) is RuntimeError
        assert str(failure).endswith(f"store '{tmp_path / 'store'}' is closed")
    with damo_tf.Store(tmp_path / "store") as store:  # what returned is there, and nothing that failed
        assert step_of(store) == next(num_applied)
        assert store.size() == (np.unique(keys).size if step_of(store) else 0)
        assert store.lookup(0, range(NUM_KEYS)).shape == (NUM_KEYS, DIM)
