# SPDX-License-Identifier: Apache-2.0
"""One group that several `PyEmbedding` share, and one `PyEmbedding` that several threads share."""

import itertools
import sys
import threading

import damo
import numpy as np
import pytest
from damo_tables import DIM, FLOATS, KEYS, keys_of, lookup, make_embedding

# ---- One group, several PyEmbedding ----


def test_embeddings_of_one_group_share_its_rows(storage, tmp_path):
    first = make_embedding(storage, {"name": "sgd", "gamma": 1})
    second = make_embedding(damo.PyStorage(tmp_path / "store"), {"name": "sgd", "gamma": 1.0, "lambda": 0})
    first.apply_gradients(keys_of(1), np.ones(DIM, np.float32))
    second.apply_gradients(keys_of(1), np.ones(DIM, np.float32))
    np.testing.assert_array_equal(lookup(first, keys_of(1)), [[-2] * DIM])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimension": 8}, "has dim 3, asked for 8"),
        ({"optimizer": {"name": "adam"}}, "has optimizer 'sgd', asked for 'adam'"),
        (
            {"optimizer": {"name": "sgd", "gamma": 0.5}},
            'has optimizer {"gamma":1.0,"lambda":0.0,"name":"sgd"}, '
            'asked for {"gamma":0.5,"lambda":0.0,"name":"sgd"}',
        ),
        (
            {"initializer": {"name": "ones"}},
            'has initializer {"name":"zeros"}, asked for {"name":"ones"}',
        ),
        (
            {"schedule": {"name": "cosine_decay", "decay_steps": 5}},
            'has schedule {"name":"constant"}, '
            'asked for {"alpha":0.0,"decay_steps":5.0,"name":"cosine_decay"}',
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_embeddings_of_one_group_with_other_settings_are_refused(storage, embedding, change, message):
    with pytest.raises(ValueError) as caught:
        make_embedding(storage, **change)
    assert str(caught.value) == f"add group 0 to store '{storage.directory}': {message}"


@pytest.mark.parametrize("group", [-1, 256])
def test_a_group_outside_its_range_is_refused(storage, group):
    with pytest.raises(ValueError) as caught:
        make_embedding(storage, group=group)
    assert str(caught.value) == f"`group` must be in [0, 256). Received: group={group}"


@pytest.mark.parametrize("dimension", [-1, 0, 65537])
def test_a_dimension_outside_its_range_is_refused(storage, dimension):
    with pytest.raises(ValueError, match=rf"`dim` must be in \[1, 65536\]\. Received: dim={dimension}$"):
        make_embedding(storage, dimension=dimension)
    assert storage.stats()["groups"] == {}


def test_a_group_that_does_not_exist_is_a_key_error_that_lists_those_that_do(storage, embedding):
    make_embedding(storage, group=7)
    with pytest.raises(KeyError) as caught:
        storage.size(1)
    assert caught.value.args == (f"store '{storage.directory}' has no group 1; it has: 0, 7",)


def test_an_embedding_keeps_its_store_open(tmp_path):
    embedding = make_embedding(damo.PyStorage(tmp_path / "store"))
    embedding.apply_gradients(keys_of(1), np.ones(DIM, np.float32))
    np.testing.assert_array_equal(lookup(embedding, keys_of(1)), [[-1] * DIM])
    assert not damo.PyStorage(tmp_path / "store").closed


def test_an_embedding_of_a_closed_store_says_so(storage, embedding):
    storage.close()
    for call in (embedding.lookup, embedding.apply_gradients):
        with pytest.raises(RuntimeError, match=f"store '{storage.directory}' is closed$"):
            call(KEYS, FLOATS.copy())
    with pytest.raises(RuntimeError, match=f"store '{storage.directory}' is closed$"):
        make_embedding(storage)


# ---- Threads ----


@pytest.mark.parametrize("method", ["lookup", "apply_gradients"])
def test_other_python_threads_run_during_a_call(embedding, method):
    """With a switch interval this long a thread gets the GIL only when the other lets go of it.

    Each call of the engine is a chance for the worker, which takes one of the first in practice. Were the
    GIL kept, none would do.
    """
    keys = np.arange(5000, dtype=np.uint64)
    floats = np.zeros(keys.size * DIM, np.float32)
    go, ran = threading.Event(), []

    def work():
        go.wait()
        ran.append(True)

    worker = threading.Thread(target=work)
    worker.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        go.set()
        calls = 0
        while not ran and calls < 2000:
            getattr(embedding, method)(keys, floats)
            calls += 1
    finally:
        sys.setswitchinterval(interval)
    worker_ran_during_calls = bool(ran)
    worker.join()
    assert worker_ran_during_calls


def test_concurrent_applies_of_sgd_sum_up(storage, rng):
    embedding = make_embedding(storage)  # gamma 1: integers stay integers, so that sums are exact
    num_threads, steps, num_keys = 4, 30, 500
    batches = [
        [
            (
                rng.integers(0, num_keys, 700).astype(np.uint64),
                rng.integers(-8, 9, 700 * DIM).astype(np.float32),
            )
            for _ in range(steps)
        ]
        for _ in range(num_threads)
    ]
    failures = []

    def train(mine):
        try:
            for keys, gradients in mine:
                embedding.apply_gradients(keys, gradients)
                lookup(embedding, keys)
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=train, args=(mine,)) for mine in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []

    expected = np.zeros((num_keys, DIM), np.float32)
    for keys, gradients in itertools.chain(*batches):
        np.subtract.at(expected, keys.astype(np.int64), gradients.reshape(-1, DIM))
    np.testing.assert_array_equal(lookup(embedding, np.arange(num_keys, dtype=np.uint64)), expected)
    assert storage.stats()["groups"][0]["step"] == num_threads * steps
