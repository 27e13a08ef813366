# SPDX-License-Identifier: Apache-2.0
"""A disk that gets full while a user trains: the error, what is left, how training goes on (README, Limits).

The soft limit of a process on the size of its files stands for the disk: a write past it fails, as one does
for which there is no room, and the process may lift it.
"""

import errno
import hashlib
import json
import os

import numpy as np
import pytest
from crash_batches import BATCH, NUM_KEYS
from crash_processes import Oracle

import damo_tf

NUM_BATCHES = 30
#: Bytes: some ten batches of the redo log, whose records have 80 bytes a row.
ROOM = 10 * BATCH * 80

TRAIN = """
import hashlib, json, resource, signal, sys
import numpy as np
import crash_batches as batches

path, durability, num_batches, room = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # else the signal ends the process; the write fails either way

def limit(num_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))

{open_store}

def rows():
    return hashlib.sha256(lookup(np.arange(batches.NUM_KEYS, dtype=np.uint64)).tobytes()).hexdigest()

def failure():
    before = step()
    try:
        train(before)
    except BaseException as error:
        names = [base.__module__ + "." + base.__name__ for base in type(error).__mro__]
        return {{"types": names, "text": str(error), "step": step(), "rows": rows()}}

limit(room)
first = failure()
again = failure()
limit(resource.RLIM_INFINITY)
train(step())
store.close()
print(json.dumps([first, again]))
"""

MODULE = """
import damo

store = damo.PyStorage(path, durability=durability)
table = damo.PyEmbedding(
    store, damo.PyOptimizer({"name": batches.OPTIMIZER}), damo.PyInitializer({"name": "ones"}), batches.DIM
)

def step():
    return store.stats()["groups"][0]["step"]

def lookup(keys):
    weights = np.empty(keys.size * batches.DIM, np.float32)
    table.lookup(keys, weights)
    return weights

def train(first):
    for number in range(first, num_batches):
        keys, gradients = batches.make_batch(number)
        table.apply_gradients(keys, gradients.reshape(-1))
"""

LAYER = """
import keras
from known_gradients import WeightedSum
import damo_tf

store = damo_tf.Store(path, durability=durability)
layer = damo_tf.Embedding(batches.DIM, store=store, initializer="ones", optimizer=batches.OPTIMIZER)
model = keras.Sequential([keras.Input([1], dtype="int64"), layer])
model.compile(loss=WeightedSum())

def step():
    return store.stats()["groups"][0]["step"]

def lookup(keys):
    return layer(keys.astype(np.int64)).numpy()

def train(first):
    keys, gradients = zip(*map(batches.make_batch, range(first, num_batches)))
    model.fit(
        np.concatenate(keys).astype(np.int64)[:, None],
        np.concatenate(gradients)[:, None],
        batch_size=batches.BATCH,
        shuffle=False,
        verbose=0,
    )
"""


@pytest.mark.parametrize("durability", ["wal", "sync"])
@pytest.mark.parametrize(
    ("open_store", "error"),
    [(MODULE, "builtins.OSError"), (LAYER, "tensorflow.python.framework.errors_impl.UnknownError")],
    ids=["module", "layer"],
)
def test_a_full_disk_stops_training_with_an_error_and_once_there_is_room_training_goes_on(
    tmp_path, run_with_tensorflow, open_store, error, durability
):
    path, oracle = tmp_path / "store", Oracle()
    program = TRAIN.format(open_store=open_store)

    failures = json.loads(run_with_tensorflow(program, path, durability, NUM_BATCHES, ROOM))

    assert 0 < failures[0]["step"] < NUM_BATCHES
    oracle.advance(failures[0]["step"])
    for failure in failures:
        assert error in failure["types"]
        assert "I/O error" in failure["text"]
        assert f"'{path}/redo/" in failure["text"]
        assert os.strerror(errno.EFBIG) in failure["text"]
        assert failure["step"] == oracle.table.global_step
        expected = oracle.table.lookup(np.arange(NUM_KEYS, dtype=np.uint64))
        assert failure["rows"] == hashlib.sha256(expected.tobytes()).hexdigest()
    oracle.advance(NUM_BATCHES)
    with damo_tf.Store(path) as store:
        oracle.assert_equal(store)
