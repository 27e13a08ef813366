# SPDX-License-Identifier: Apache-2.0
"""Processes that train one store and are killed, and what the store must have afterwards.

A process acknowledges each batch on a pipe until it is killed. Whoever opens the store next must find exactly
the effects of batches 0 .. k - 1, k at least what was acknowledged, bit for bit as the NumPy table has them.

Processes to be killed are forked by one that never opens a store, so that a start costs milliseconds.
"""

import itertools
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from crash_batches import DIM, FILTER_CAPACITY, NUM_KEYS, OPTIMIZER, make_batch
from oracles import OracleTable
from stored_rows import step_of

import damo_tf

BUDGET = 4 << 20
TIMEOUT_SECONDS = 120  # on any machine: a process that says nothing for so long hangs

SERVER = """
import json, os, signal, sys, threading
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

# The call under way, its number and the rows that had been evicted before; None between calls.
call = None

def evicted(storage):
    groups = storage.stats()["groups"]
    return groups[0]["evicted"] if groups else 0

# Kills this process in the midst of a call that has evicted rows.
def die_evicting(storage):
    while True:
        watched = call
        if watched is not None and evicted(storage) > watched[1] and call is watched:
            say("evicting", watched[0])
            os.kill(os.getpid(), signal.SIGKILL)

def live(life):
    global call
    say("opening")
    storage, train = (open_layer if sys.argv[1] == "layer" else open_module)(life)
    groups = storage.stats()["groups"]
    step = groups[0]["step"] if groups else 0
    say("opened", step)
    if life["die_evicting"]:
        sys.setswitchinterval(1e-4)
        threading.Thread(target=die_evicting, args=(storage,), daemon=True).start()
    for number in range(step, step + life["batches"]):
        if life["die_evicting"]:
            call = number, evicted(storage)
        train(number)
        call = None
        say("applied", number + 1)
        if life["flush_every"] and (number + 1) % life["flush_every"] == 0:
            storage.flush()
            say("flushed", number + 1)
        if life["checkpoint_every"] and (number + 1) % life["checkpoint_every"] == 0:
            storage.checkpoint(f"{life['path']}-{os.getpid()}-{number + 1}")
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
    say("dead", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def stands_still(pid: int) -> bool:
    """Whether no thread of a stopped process runs any more; a process that is ending counts as such."""
    for status in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            if status.read_text().rpartition(")")[2].split()[0] not in "TtZX":
                return False
    return True


class ForkServer:
    """Starts processes that train one store, and kills them.

    Attributes:
        steps: by word ("opened", "applied", "flushed"), the last number that the last process said with it;
            with "dead" the exit code, which the server says.
        last_word: the last one that it said.
    """

    def __init__(self, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER, kind],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._unread = b""
        self._pid: int | None = None
        self.steps: dict[str, int] = {}
        self.last_word = ""
        assert self._read_line(TIMEOUT_SECONDS) == "ready"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def run_and_kill(self, life: dict, word: str, delay: float | None) -> bool:
        """Starts a process and kills it `delay` seconds after it has said `word`; None: lets it end.

        Says whether the kill met it alive: it may have come to its end before.
        """
        self._start(life)
        said = False
        while self.last_word != "dead":
            if self._pid is None or not said or delay is None:
                self._hear(TIMEOUT_SECONDS)
            elif self._hear(delay):  # waits so long, unless there is something to be read
                delay = max(0.0, delay - 0.001)
            else:
                with suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(self._pid, signal.SIGKILL)
                delay = None
            said |= self.last_word == word
        return self.steps["dead"] == -signal.SIGKILL

    def run_and_kill_when(self, life: dict, is_time: Callable[[], bool]) -> bool:
        """Starts a process and kills it when `is_time`, asked again and again; says whether it came to that.

        The process stands still while it is asked for the last time: when it dies, it is so.
        """
        self._start(life)
        killed = False
        while self.last_word != "dead":
            if self._pid is None or killed:
                self._hear(TIMEOUT_SECONDS)
                continue
            self._hear(0.0)
            if is_time():
                with suppress(ProcessLookupError):  # it has just ended by itself
                    killed = self._kill_if(self._pid, is_time)
        return killed

    def _kill_if(self, pid: int, is_time: Callable[[], bool]) -> bool:
        """Stops a process, and kills it if `is_time` then, or else lets it go on."""
        os.kill(pid, signal.SIGSTOP)
        while not stands_still(pid):
            pass
        while self._hear(0.0):
            pass
        kills = self.last_word != "dead" and is_time()
        os.kill(pid, signal.SIGKILL if kills else signal.SIGCONT)
        return kills

    def _start(self, life: dict) -> None:
        self._pid, self.steps, self.last_word = None, {}, ""
        self._process.stdin.write(json.dumps(life).encode() + b"\n")
        self._process.stdin.flush()

    def _hear(self, timeout: float) -> bool:
        """Notes the next thing that is said; False if nothing is, which must not take TIMEOUT_SECONDS."""
        line = self._read_line(timeout)
        assert line is not None or timeout < TIMEOUT_SECONDS, "the process hangs"
        if line is None:
            return False
        self.last_word, *rest = line.split(" ", 1)
        assert self.last_word != "failed", rest
        if self.last_word == "pid":
            self._pid = int(rest[0])
        elif rest:
            self.steps[self.last_word] = int(rest[0])
        return True

    def _read_line(self, timeout: float) -> str | None:
        while b"\n" not in self._unread:
            if not select.select([self._process.stdout], [], [], timeout)[0]:
                return None
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            assert data, "the server died"
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode()


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
    """What a process is to do: 60 batches, if it is left alone."""
    life = {
        "path": str(path),
        "durability": durability,
        "budget": BUDGET,
        "batches": 60,
        "flush_every": 0,
        "wait": 0,
        "checkpoint_every": 0,
        "die_evicting": 0,
        "min_count": 0,
    }
    return {**life, **settings}
