# SPDX-License-Identifier: Apache-2.0
"""damo_tf.Store: opening and sharing, groups, keys, rows, time to live, refusals."""

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

import damo
import numpy as np
import pytest
from oracles import OracleTable, initial_weights
from raw_store import raw_store, row_key, with_update_time
from rocksdict import Options, Rdict
from stored_rows import assert_rows_equal, memory_of, rows_of, step_of

import damo_tf

DIM = 2
SGD = {"name": "sgd", "gamma": 1.0}
ONES = np.ones((1, DIM), np.float32)


def add_sgd(store: damo_tf.Store, group: int = 0, dim: int = DIM) -> None:
    """A group whose rows begin at 0 and move by minus the gradient."""
    store.add_group(group, dim, initializer="zeros", optimizer=SGD)


@pytest.fixture
def sgd_store(store):
    add_sgd(store)
    return store


def message_of(exception: type[BaseException], call: Callable[[], object]) -> str:
    """The text with which `call` raises `exception`."""
    with pytest.raises(exception) as caught:
        call()
    return str(caught.value.args[0])


def content(directory: Path) -> dict[str, bytes | None]:
    """All that lies in a directory, by relative path; None for a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


# ---- Opening and closing ----


def test_opening_creates_the_directory_and_its_parents(tmp_path):
    path = tmp_path / "a" / "b" / "c"
    with damo_tf.Store(path) as store:
        assert store.directory == str(path)
        assert not store.closed
        assert repr(store) == f"Store({str(path)!r})"
    assert store.closed
    assert repr(store) == f"Store({str(path)!r}, closed)"
    assert path.is_dir()


def test_options_are_those_asked_for_and_defaults(tmp_path):
    with damo_tf.Store(tmp_path / "defaults") as store:
        assert store.options == {
            "ttl_seconds": None,
            "memory_budget": 1 << 30,
            "durability": "wal",
            "read_only": False,
            "seed": 0,
            "clock": "system",
        }
    asked = {
        "ttl_seconds": 60,
        "memory_budget": 4 << 20,
        "durability": "sync",
        "seed": 2**64 - 1,
        "clock": "event",
    }
    with damo_tf.Store(tmp_path / "asked", **asked) as store:
        assert store.options == {**asked, "read_only": False}


def test_closing_again_does_nothing_and_calls_afterwards_say_closed(sgd_store):
    sgd_store.close()
    sgd_store.close()
    calls: dict[str, Callable[[], object]] = {
        f"lookup in group 0 of store '{sgd_store.directory}': ": lambda: sgd_store.lookup(0, [1]),
        f"read a row of group 0 of store '{sgd_store.directory}': ": lambda: sgd_store.row(0, 1),
        f"count the rows of group 0 of store '{sgd_store.directory}': ": lambda: sgd_store.size(0),
        f"apply gradients to group 0 of store '{sgd_store.directory}': ": lambda: sgd_store.apply_gradients(
            0, [1], ONES
        ),
        f"add group 0 to store '{sgd_store.directory}': ": lambda: add_sgd(sgd_store),
        f"add group 1 to store '{sgd_store.directory}': ": lambda: add_sgd(sgd_store, 1),
    }
    for context, call in calls.items():
        assert message_of(RuntimeError, call) == (
            f"failed precondition: {context}store '{sgd_store.directory}' is closed"
        )
    for call in (sgd_store.size, sgd_store.stats, sgd_store.flush):
        assert message_of(RuntimeError, call) == (
            f"failed precondition: store '{sgd_store.directory}' is closed"
        )


def test_a_store_nobody_refers_to_is_closed(tmp_path):
    store = damo_tf.Store(tmp_path / "store", memory_budget=4 << 20)
    add_sgd(store)
    storage = store.storage
    del store
    gc.collect()
    message_of(ValueError, lambda: damo_tf.Store(tmp_path / "store", memory_budget=8 << 20))
    del storage  # the low-level object was the last to refer to it
    gc.collect()
    with damo_tf.Store(tmp_path / "store", memory_budget=8 << 20) as store:
        assert store.options["memory_budget"] == 8 << 20


def test_rows_steps_and_settings_survive_closing(tmp_path, rng):
    oracle = OracleTable(3, optimizer="adam", seed=7, group=9)
    for _ in range(4):
        with damo_tf.Store(tmp_path / "store", seed=7) as store:
            store.add_group(9, 3)
            assert step_of(store, 9) == oracle.global_step
            keys, gradients = rng.integers(0, 20, 15), rng.standard_normal((15, 3), np.float32)
            store.apply_gradients(9, keys, gradients)
            oracle.apply_gradients(keys, gradients)
            assert_rows_equal(store, oracle)
    with damo_tf.Store.attach(tmp_path / "store") as store:
        assert_rows_equal(store, oracle)  # a group of earlier times is there without being added


# ---- Sharing ----


def test_stores_and_storages_of_one_directory_are_one_store(tmp_path):
    first = damo_tf.Store(tmp_path / "store")
    second = damo_tf.Store(tmp_path / "store")
    low_level = damo.PyStorage(tmp_path / "store")
    add_sgd(first)
    first.apply_gradients(0, [1], ONES)
    weights = np.empty(DIM, np.float32)
    low_level.lookup(0, np.array([1], np.uint64), weights)
    np.testing.assert_array_equal(weights, [-1, -1])
    np.testing.assert_array_equal(second.lookup(0, 1), [-1, -1])
    second.close()
    assert first.closed
    assert low_level.closed


def test_a_store_that_was_closed_stays_closed_when_its_directory_is_opened_anew(tmp_path):
    old = damo_tf.Store(tmp_path / "store")
    add_sgd(old)
    old.close()
    with damo_tf.Store(tmp_path / "store", memory_budget=4 << 20) as new:
        assert old.closed
        old.close()
        assert not new.closed
        assert new.size() == 0


def test_every_path_to_a_directory_is_one_store(tmp_path, monkeypatch):
    store = damo_tf.Store(tmp_path / "real")
    add_sgd(store)
    store.apply_gradients(0, [1], ONES)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "parent").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for path in (
        "real",
        "./real/",
        "link",
        tmp_path / "link",
        tmp_path / "parent" / "link",
        f"{tmp_path}//real/../real/.",
    ):
        same = damo_tf.Store(path)
        assert same.directory == str(tmp_path / "real")
        assert same.size() == 1
    store.close()


def test_a_relative_path_means_the_directory_of_the_time_of_opening(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with damo_tf.Store("store") as store:
        monkeypatch.chdir("/")
        add_sgd(store)
        assert store.directory == str(tmp_path / "store")


@pytest.mark.parametrize(
    ("setting", "has", "asked", "message"),
    [
        ("ttl_seconds", 60, 61, "ttl_seconds=60, asked for ttl_seconds=61"),
        ("ttl_seconds", None, 60, "ttl_seconds=none, asked for ttl_seconds=60"),
        ("memory_budget", 4 << 20, 5 << 20, "memory_budget=4194304, asked for memory_budget=5242880"),
        ("durability", "wal", "sync", "durability=wal, asked for durability=sync"),
        ("read_only", False, True, "read_only=false, asked for read_only=true"),
        ("seed", 3, 4, "seed=3, asked for seed=4"),
        ("clock", "event", "system", "clock=event, asked for clock=system"),
    ],
)
def test_an_open_store_is_not_shared_with_other_settings(tmp_path, setting, has, asked, message):
    with damo_tf.Store(tmp_path / "store", **{setting: has}):
        text = message_of(ValueError, lambda: damo_tf.Store(tmp_path / "store", **{setting: asked}))
    assert text == (
        f"open store '{tmp_path / 'store'}': it is already open in this process with {message}; "
        "use the open store, or close it first"
    )


def test_attach_takes_an_open_store_as_it_is(tmp_path):
    settings = {
        "ttl_seconds": 60,
        "memory_budget": 4 << 20,
        "durability": "checkpoint",
        "seed": 5,
        "clock": "event",
    }
    with damo_tf.Store(tmp_path / "store", **settings) as store:
        assert damo_tf.Store.attach(tmp_path / "store").options == {**settings, "read_only": False}
    assert store.closed


def test_attach_keeps_the_seed_of_a_store_that_stands_and_gives_a_new_one_the_defaults(tmp_path):
    with damo_tf.Store(tmp_path / "old", seed=5):
        pass
    with damo_tf.Store.attach(tmp_path / "old") as store:
        assert store.options["seed"] == 5
    with damo_tf.Store.attach(tmp_path / "new") as store, damo_tf.Store(tmp_path / "defaults") as expected:
        assert store.options == expected.options


# ---- Groups ----


def test_adding_a_group_again_with_equal_settings_does_nothing(store):
    store.add_group(1, 4, optimizer="adam", initializer="random_uniform")
    store.apply_gradients(1, [5], np.ones((1, 4)))
    before = rows_of(store, 1, [5])
    store.add_group(1, 4, optimizer={"name": "adam", "gamma": 1e-3}, initializer={"name": "random_uniform"})
    store.add_group(1, 4)
    assert rows_of(store, 1, [5]) == before
    assert step_of(store, 1) == 1


@pytest.mark.parametrize(
    ("dim", "settings", "message"),
    [
        (8, {}, "has dim 4, asked for 8"),
        (4, {"optimizer": "sgd"}, "has optimizer 'adam', asked for 'sgd'"),
        (
            4,
            {"initializer": {"name": "random_uniform", "min": -0.5}},
            'has initializer {"max":1.0,"min":-1.0,"name":"random_uniform"}, '
            'asked for {"max":1.0,"min":-0.5,"name":"random_uniform"}',
        ),
        (
            4,
            {"optimizer": {"name": "adam", "gamma": 0.5}},
            'has optimizer {"beta1":0.9,"beta2":0.999,"epsilon":1e-08,"gamma":0.001,"lambda":0.0,'
            '"name":"adam"}, asked for {"beta1":0.9,"beta2":0.999,"epsilon":1e-08,"gamma":0.5,'
            '"lambda":0.0,"name":"adam"}',
        ),
    ],
)
def test_adding_a_group_again_with_other_settings_is_refused(store, dim, settings, message):
    store.add_group(1, 4)
    text = message_of(ValueError, lambda: store.add_group(1, dim, **settings))
    assert text == f"add group 1 to store '{store.directory}': {message}"


def test_settings_other_than_dim_and_kind_of_optimizer_may_change_when_reopening(tmp_path):
    with damo_tf.Store(tmp_path / "store") as store:
        store.add_group(0, 1, initializer="zeros", optimizer={"name": "sgd", "gamma": 1.0})
        store.apply_gradients(0, [1], [[1.0]])
    with damo_tf.Store(tmp_path / "store") as store:
        store.add_group(0, 1, initializer="ones", optimizer={"name": "sgd", "gamma": 0.5})
        np.testing.assert_array_equal(store.lookup(0, [1, 2]), [[-1], [1]])
        store.apply_gradients(0, [1, 2], [[1.0], [1.0]])
        np.testing.assert_array_equal(store.lookup(0, [1, 2]), [[-1.5], [0.5]])
    with damo_tf.Store(tmp_path / "store") as store:  # the new settings are kept
        group = store.stats()["groups"][0]
        assert group["optimizer"] == {"name": "sgd", "gamma": 0.5, "lambda": 0.0}
        assert group["initializer"] == {"name": "ones"}


@pytest.mark.parametrize(
    ("dim", "optimizer", "message"),
    [
        (3, "sgd", "has dim 2, asked for 3"),
        (2, "adam", "has optimizer 'sgd', asked for 'adam'"),
    ],
)
def test_another_dim_or_kind_of_optimizer_is_refused_when_reopening(tmp_path, dim, optimizer, message):
    with damo_tf.Store(tmp_path / "store") as store:
        store.add_group(6, 2, optimizer="sgd")
        store.apply_gradients(6, [1], ONES)
    with damo_tf.Store(tmp_path / "store") as store:
        before = rows_of(store, 6, [1])
        text = message_of(ValueError, lambda: store.add_group(6, dim, optimizer=optimizer))
        assert text == f"add group 6 to store '{store.directory}': {message}"
        store.add_group(6, 2, optimizer="sgd")
        assert rows_of(store, 6, [1]) == before


def test_another_seed_is_refused_when_reopening(tmp_path):
    with damo_tf.Store(tmp_path / "store", seed=3):
        pass
    text = message_of(ValueError, lambda: damo_tf.Store(tmp_path / "store"))
    assert text == f"open store '{tmp_path / 'store'}': has seed 3, asked for 0"
    with damo_tf.Store(tmp_path / "store", seed=None) as store:
        assert store.options["seed"] == 3


def test_groups_are_isolated(store):
    dims = {0: 1, 1: 3, 254: 2, 255: 5}
    for group, dim in dims.items():
        store.add_group(group, dim, initializer="zeros", optimizer=SGD)
    for group, dim in dims.items():
        store.apply_gradients(group, [7, 2**64 - 1, 0], np.full((3, dim), group + 1))
    for group, dim in dims.items():
        np.testing.assert_array_equal(store.lookup(group, [0, 7, -1]), np.full((3, dim), -group - 1))
        assert store.size(group) == 3
        assert store.row(group, 7).group == group
    assert store.size() == 12
    assert list(store.stats()["groups"]) == [0, 1, 254, 255]


def test_the_initial_row_differs_by_group_and_seed(tmp_path):
    seen = set()
    for seed in (0, 1, 2**64 - 1):
        with damo_tf.Store(tmp_path / str(seed), seed=seed) as store:
            for group in (0, 255):
                store.add_group(group, 4)
                weights = store.lookup(group, [11])
                expected = initial_weights("random_uniform", [11], 4, seed=seed, group=group)
                np.testing.assert_array_equal(weights, expected)
                seen.add(weights.tobytes())
    assert len(seen) == 6


def test_a_group_that_does_not_exist_is_a_key_error_that_lists_those_that_do(store):
    path = store.directory
    assert message_of(KeyError, lambda: store.size(3)) == f"store '{path}' has no group 3; it has: none"
    add_sgd(store)
    add_sgd(store, 255)
    text = f"store '{path}' has no group 3; it has: 0, 255"
    for call in (
        lambda: store.lookup(3, [1]),
        lambda: store.apply_gradients(3, [1], ONES),
        lambda: store.row(3, 1),
        lambda: store.size(3),
    ):
        assert message_of(KeyError, call) == text


# ---- Keys and arrays ----


def test_the_whole_range_of_keys_is_ordinary(sgd_store):
    keys = [0, 1, 2**63 - 1, 2**63, 2**64 - 1]
    sgd_store.apply_gradients(0, keys, np.repeat([[1], [2], [3], [4], [5]], DIM, axis=1))
    np.testing.assert_array_equal(sgd_store.lookup(0, keys)[:, 0], [-1, -2, -3, -4, -5])
    assert [sgd_store.row(0, key).key for key in keys] == keys
    assert sgd_store.size() == 5


def test_negative_keys_stand_for_their_bits(sgd_store):
    sgd_store.apply_gradients(0, np.array([-1, -(2**63)]), [[1.0] * DIM, [2.0] * DIM])
    np.testing.assert_array_equal(sgd_store.lookup(0, [2**64 - 1, 2**63])[:, 0], [-1, -2])
    np.testing.assert_array_equal(sgd_store.lookup(0, [-1, 2**63])[:, 0], [-1, -2])
    assert sgd_store.row(0, -1).key == 2**64 - 1
    assert sgd_store.row(0, -(2**63)).key == 2**63


@pytest.mark.parametrize(
    "keys",
    [
        5,
        [5, 6, 5],
        [[5, 6], [7, 8]],
        (5, 6),
        range(3),
        [],
        [[], []],
        np.array([[5], [6]], np.int32),
        np.array([5, 250], np.uint8),
        np.array([5, 6], ">i8"),
        np.arange(10)[::3],
        np.arange(6).reshape(2, 3).T,
        np.uint64(2**64 - 1),
    ],
    ids=repr,
)
def test_keys_may_be_integers_of_any_type_shape_and_layout(sgd_store, keys):
    shape = np.shape(keys)
    gradients = np.arange(np.prod(shape, dtype=int) * DIM, dtype=float).reshape(*shape, DIM)
    oracle = OracleTable(DIM, optimizer=SGD, initializer="zeros")
    sgd_store.apply_gradients(0, keys, gradients)
    oracle.apply_gradients(np.array(keys, np.int64 if shape and not np.size(keys) else None), gradients)
    weights = sgd_store.lookup(0, keys)
    assert weights.shape == (*shape, DIM)
    assert weights.dtype == np.float32
    assert_rows_equal(sgd_store, oracle)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_gradients_may_be_numbers_of_any_type(sgd_store, dtype):
    sgd_store.apply_gradients(0, [1], np.full((1, DIM), 3, dtype))
    np.testing.assert_array_equal(sgd_store.lookup(0, [1]), [[-3] * DIM])


def test_gradients_of_equal_keys_are_summed_and_the_row_steps_once(store):
    store.add_group(0, DIM, optimizer="adam")
    oracle = OracleTable(DIM, optimizer="adam")
    gradients = np.arange(8, dtype=np.float32).reshape(4, DIM)
    store.apply_gradients(0, [3, 5, 3, 3], gradients)
    oracle.apply_gradients([3, 5, 3, 3], gradients)
    assert store.row(0, 3).update_num == 1
    assert_rows_equal(store, oracle)


# ---- Reading ----


def test_row_gives_every_field(store):
    store.add_group(4, 3, optimizer="adam", initializer="ones")
    started = time.time_ns() // 1_000_000
    store.apply_gradients(4, [2**63 + 1], [[1, 2, 3]])
    store.apply_gradients(4, [2**63 + 1], [[1, 2, 3]])
    row = store.row(4, 2**63 + 1)
    assert isinstance(row, damo_tf.Row)
    assert (row.group, row.key, row.update_num) == (4, 2**63 + 1, 2)
    assert started <= row.update_time <= time.time_ns() // 1_000_000
    oracle = OracleTable(3, optimizer="adam", initializer="ones", group=4)
    for _ in range(2):
        oracle.apply_gradients([2**63 + 1], [[1, 2, 3]])
    assert_rows_equal(store, oracle)
    assert row.weights.dtype == row.slots["m"].dtype == np.float32
    assert store.row(4, 1) is None


def test_reads_change_nothing(store, tmp_path):
    store.add_group(0, 3)
    store.apply_gradients(0, [1], np.ones((1, 3)))
    before = rows_of(store, 0, [1, 2])
    for _ in range(3):
        store.lookup(0, [1, 2, 3])
        store.row(0, 1)
        store.row(0, 2)
    assert rows_of(store, 0, [1, 2]) == before
    assert store.size() == 1
    assert step_of(store) == 1


def test_a_lookup_returns_what_the_first_update_starts_from(store):
    store.add_group(0, DIM, optimizer=SGD, initializer="random_normal")
    initial = store.lookup(0, [8])
    store.apply_gradients(0, [8], ONES)
    np.testing.assert_array_equal(store.lookup(0, [8]), initial - ONES)


def test_missing_rows_read_as_zeros_if_asked(store):
    store.add_group(0, DIM, optimizer=SGD, initializer="ones")
    store.apply_gradients(0, [1], ONES / 2)
    np.testing.assert_array_equal(store.lookup(0, [1, 2], missing="zeros"), [[0.5] * DIM, [0] * DIM])
    np.testing.assert_array_equal(store.lookup(0, [1, 2]), [[0.5] * DIM, [1] * DIM])


@pytest.mark.parametrize("padding_key", [0, 2**64 - 1, -1])
def test_a_padding_key_reads_as_zeros_and_is_not_trained(store, padding_key):
    store.add_group(0, DIM, optimizer=SGD, initializer="ones")
    keys = [padding_key, 5, padding_key]
    store.apply_gradients(0, keys, np.ones((3, DIM)), padding_key=padding_key)
    assert store.size() == 1
    assert store.row(0, padding_key) is None
    assert store.stats()["groups"][0]["updated"] == 1
    padded = store.lookup(0, keys, padding_key=padding_key)
    np.testing.assert_array_equal(padded, [[0] * DIM, [0] * DIM, [0] * DIM])
    assert store.stats()["groups"][0]["lookups"] == 1
    np.testing.assert_array_equal(store.lookup(0, keys), [[1] * DIM, [0] * DIM, [1] * DIM])


def test_without_a_padding_key_every_key_is_trained(sgd_store):
    sgd_store.apply_gradients(0, [0, -1], np.ones((2, DIM)))
    assert sgd_store.size() == 2


def test_size_and_stats_count_exactly(store):
    store.add_group(0, 4, optimizer="adam")
    store.add_group(7, 1, optimizer="sgd")
    store.apply_gradients(0, [1, 2, 2, 3], np.ones((4, 4)))
    store.apply_gradients(0, [3, 4], [[1, 1, 1, 1], [np.nan, 1, 1, 1]])
    store.apply_gradients(0, [], np.ones((0, 4)))
    store.apply_gradients(7, [[1], [1]], np.ones((2, 1, 1)))
    store.lookup(0, [1, 1, 5, 6])
    stats = store.stats()
    assert stats["groups"] == {
        0: {
            "dim": 4,
            "optimizer": {
                "name": "adam",
                "gamma": 1e-3,
                "beta1": 0.9,
                "beta2": 0.999,
                "lambda": 0.0,
                "epsilon": 1e-8,
            },
            "initializer": {"name": "random_uniform", "min": -1.0, "max": 1.0},
            "schedule": None,
            "ttl_seconds": None,
            "min_count": 0,
            "filter_capacity": None,
            "filter_fpr": None,
            "rows": 3,
            "bytes": 3 * (9 + 32 + 3 * 4 * 4),  # key, header, weights and two slots
            "step": 3,
            "lookups": 4,
            "missing": 2,
            "updated": 4,
            "inserted": 3,
            "skipped": 1,
            "blocked": 0,
            "expired": 0,
            "cache_hits": 2,
            "cache_misses": 2,
            "cache_rows": 3,
            "dirty": 3,
            "evicted": 0,
            "filter_bytes": 0,
            "filter_fill": 0.0,
        },
        7: {
            "dim": 1,
            "optimizer": {"name": "sgd", "gamma": 1e-3, "lambda": 0.0},
            "initializer": {"name": "random_uniform", "min": -1.0, "max": 1.0},
            "schedule": None,
            "ttl_seconds": None,
            "min_count": 0,
            "filter_capacity": None,
            "filter_fpr": None,
            "rows": 1,
            "bytes": 9 + 32 + 4,
            "step": 1,
            "lookups": 0,
            "missing": 0,
            "updated": 1,
            "inserted": 1,
            "skipped": 0,
            "blocked": 0,
            "expired": 0,
            "cache_hits": 0,
            "cache_misses": 0,
            "cache_rows": 1,
            "dirty": 1,
            "evicted": 0,
            "filter_bytes": 0,
            "filter_fill": 0.0,
        },
    }
    assert stats["directory"] == store.directory
    assert stats["disk_bytes"] > 0
    assert stats.keys() == {
        "directory",
        "disk_bytes",
        "block_cache_hits",
        "block_cache_misses",
        "block_cache_bytes",
        "cache_bytes",
        "redo_bytes",
        "flushes",
        "now",
        "groups",
    }
    assert (store.size(0), store.size(7), store.size()) == (3, 1, 4)


def test_stats_tell_what_waits_for_a_flush_and_what_flushes_did(sgd_store):
    assert sgd_store.stats()["groups"][0]["dirty"] == 0
    sgd_store.apply_gradients(0, range(1000), np.ones((1000, DIM)))
    before = sgd_store.stats()
    assert before["groups"][0]["dirty"] == 1000
    assert before["redo_bytes"] > 1000 * DIM * 4  # the gradients, at least
    assert before["cache_bytes"] >= 1000 * (32 + DIM * 4)
    sgd_store.flush()
    after = sgd_store.stats()
    assert after["flushes"] == before["flushes"] + 1
    assert after["redo_bytes"] < before["redo_bytes"]
    group = after["groups"][0]
    assert (group["dirty"], group["cache_rows"], group["evicted"]) == (0, 1000, 0)  # flushed rows stay
    assert after["disk_bytes"] > 1000 * (9 + 32 + DIM * 4)


def test_lookups_and_missing_keys_are_counted_with_repetitions(sgd_store):
    sgd_store.apply_gradients(0, [1], ONES)
    sgd_store.lookup(0, [1, 1, 2, 2, 2])
    group = sgd_store.stats()["groups"][0]
    counts = {name: group[name] for name in ("lookups", "missing", "cache_hits", "cache_misses")}
    assert counts == {"lookups": 5, "missing": 3, "cache_hits": 2, "cache_misses": 3}


def test_reads_leave_what_is_in_memory_alone(tmp_path):
    keys = np.arange(40_000)
    with damo_tf.Store(tmp_path / "store", memory_budget=4 << 20) as store:
        store.add_group(0, 16, optimizer="adam")
        for first in range(0, keys.size, 2000):
            store.apply_gradients(0, keys[first : first + 2000], np.ones((2000, 16)))
        store.flush()
        before = memory_of(store)
        assert 0 < before[0] < keys.size / 2  # most rows are on the disk only
        assert before[2] > 0
        expected = store.lookup(0, keys)
        np.testing.assert_array_equal(store.lookup(0, keys[::-1]), expected[::-1])
        for key in range(0, keys.size, 997):
            np.testing.assert_array_equal(store.row(0, key).weights, expected[key])
        store.lookup(0, keys + keys.size)  # have no rows
        assert store.size() == keys.size
        assert memory_of(store) == before


def test_counts_since_opening_start_afresh_and_rows_and_steps_do_not(tmp_path):
    for opening in (1, 2):
        with damo_tf.Store(tmp_path / "store") as store:
            add_sgd(store)
            store.apply_gradients(0, [opening, 100], np.ones((2, DIM)))
            group = store.stats()["groups"][0]
            assert (group["rows"], group["step"]) == (opening + 1, opening)
            assert (group["updated"], group["inserted"]) == (2, 2 if opening == 1 else 1)


# ---- Gradients that are not finite (contract C9) ----


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_a_row_whose_gradient_is_not_finite_keeps_its_value(store, bad):
    store.add_group(0, DIM, optimizer="adam")
    store.apply_gradients(0, [1], ONES)
    before = rows_of(store, 0, [1])
    store.apply_gradients(0, [1, 2, 3], [[1, 1], [1, 1], [1, bad]])
    store.apply_gradients(0, [1, 1], [[1, bad], [1, 1]])  # the sum is what counts
    row = store.row(0, 1)
    assert row.update_num == 2
    assert store.row(0, 2).update_num == 1
    assert store.row(0, 3) is None
    store.apply_gradients(0, [1], [[bad, 0]])
    assert rows_of(store, 0, [1]) != before
    assert store.row(0, 1).update_num == 2
    assert store.stats()["groups"][0]["skipped"] == 3
    assert step_of(store) == 4


def test_a_sum_that_overflows_is_skipped_and_infinities_that_cancel_are_too(sgd_store):
    big = np.float32(3e38)
    sgd_store.apply_gradients(0, [1, 1, 2, 2], [[big, 0], [big, 0], [np.inf, 0], [-np.inf, 0]])
    assert sgd_store.size() == 0
    assert sgd_store.stats()["groups"][0]["skipped"] == 2


# ---- Time to live (contract C10, at reading) ----

TTL_SECONDS = 60


@pytest.fixture
def aged_store(tmp_path):
    """The path of a closed store of dim 2, adam: keys 1 and 2 were updated long ago, 3 will be.

    The future does not come during a test, however slow the machine.
    """
    path = tmp_path / "aged"
    with damo_tf.Store(path) as store:
        store.add_group(0, DIM, optimizer="adam")
        store.apply_gradients(0, [1, 2, 3], np.ones((3, DIM)))
    now = time.time_ns() // 1_000_000
    ages = {1: 10 * TTL_SECONDS, 2: TTL_SECONDS + 1, 3: -3600}
    with raw_store(path, write=True) as raw:
        for key, age_seconds in ages.items():
            value = raw.rows[row_key(0, key)]
            raw.rows[row_key(0, key)] = with_update_time(value, now - 1000 * age_seconds)
    return path


def test_expired_rows_read_as_missing(aged_store):
    with damo_tf.Store(aged_store, ttl_seconds=TTL_SECONDS) as store:
        initial = initial_weights("random_uniform", [1, 2, 3], DIM)
        weights = store.lookup(0, [1, 2, 3])
        np.testing.assert_array_equal(weights[:2], initial[:2])
        assert not np.array_equal(weights[2], initial[2])
        np.testing.assert_array_equal(store.lookup(0, [1, 2], missing="zeros"), np.zeros((2, DIM)))
        assert store.row(0, 1) is None
        assert store.row(0, 3).update_num == 1
        assert store.size() == store.size(0) == 1
        stats = store.stats()["groups"][0]
        assert (stats["rows"], stats["missing"]) == (1, 4)
        assert stats["expired"] == 5  # found by two lookups of both and one row()


def test_expired_rows_start_afresh(aged_store):
    with damo_tf.Store(aged_store, ttl_seconds=TTL_SECONDS) as store:
        store.apply_gradients(0, [1, 3], np.ones((2, DIM)))
        oracle = OracleTable(DIM, optimizer="adam")
        oracle.apply_gradients([1], ONES)
        row = store.row(0, 1)
        assert row.update_num == 1
        np.testing.assert_array_equal(row.weights, oracle.rows[1].weights)
        np.testing.assert_array_equal(row.slots["m"], oracle.rows[1].slots["m"])
        assert store.row(0, 3).update_num == 2
        assert store.size() == 2


def test_without_a_time_to_live_rows_of_any_age_read(aged_store):
    with damo_tf.Store(aged_store) as store:
        assert [store.row(0, key).update_num for key in (1, 2, 3)] == [1, 1, 1]
        assert store.size() == 3
    with damo_tf.Store(aged_store, ttl_seconds=2 * TTL_SECONDS) as store:
        assert store.size() == 2


def test_lookups_do_not_refresh_the_time_to_live(aged_store):
    with damo_tf.Store(aged_store) as store:
        times = [store.row(0, key).update_time for key in (1, 2, 3)]
        store.lookup(0, [1, 2, 3])
        assert [store.row(0, key).update_time for key in (1, 2, 3)] == times


def test_an_update_refreshes_the_time_to_live(aged_store):
    with damo_tf.Store(aged_store) as store:
        store.apply_gradients(0, [2], ONES)
    with damo_tf.Store(aged_store, ttl_seconds=TTL_SECONDS * 10) as store:
        assert store.row(0, 1) is None
        assert store.row(0, 2).update_num == 2


@pytest.mark.parametrize("of_store", [None, 10 * TTL_SECONDS - 60, 10**9])
def test_a_group_has_a_time_to_live_of_its_own(aged_store, of_store):
    with damo_tf.Store(aged_store, ttl_seconds=of_store) as store:
        store.add_group(0, DIM, optimizer="adam", ttl_seconds=TTL_SECONDS)
        assert store.stats()["groups"][0]["ttl_seconds"] == TTL_SECONDS
        assert store.size() == 1
        assert store.row(0, 2) is None
    with damo_tf.Store(aged_store, ttl_seconds=of_store) as store:
        assert store.size() == 1  # kept with the store
        store.add_group(0, DIM, optimizer="adam", ttl_seconds="never")
        assert store.stats()["groups"][0]["ttl_seconds"] == "never"
        assert store.size() == 3


def test_a_lowered_time_to_live_applies_to_rows_that_stand(aged_store):
    for ttl_seconds, size in ((20 * TTL_SECONDS, 3), (5 * TTL_SECONDS, 2), (TTL_SECONDS, 1)):
        with damo_tf.Store(aged_store) as store:
            store.add_group(0, DIM, optimizer="adam", ttl_seconds=ttl_seconds)
            assert store.size() == size


def test_a_time_to_live_of_a_group_that_disagrees_is_refused_with_both_values(aged_store):
    with damo_tf.Store(aged_store) as store:
        store.add_group(0, DIM, optimizer="adam", ttl_seconds=60)
        text = message_of(ValueError, lambda: store.add_group(0, DIM, optimizer="adam", ttl_seconds="never"))
        assert "has ttl_seconds 60, asked for never" in text


@pytest.mark.parametrize(
    ("ttl_seconds", "exception", "message"),
    [
        (
            0,
            ValueError,
            "`ttl_seconds` must be an integer in [1, 9223372036854775808). Received: ttl_seconds=0",
        ),
        (1.5, TypeError, "ttl_seconds=1.5 of <class 'float'>"),
        (
            "ever",
            ValueError,
            "`ttl_seconds` must be an integer > 0, 'never' or None. Received: ttl_seconds='ever'",
        ),
        (
            2**62,
            ValueError,
            "ttl_seconds must be > 0 and <= 9223372036854775. Received: ttl_seconds=46116860",
        ),
    ],
)
def test_a_bad_time_to_live_of_a_group_is_refused(store, ttl_seconds, exception, message):
    assert message in message_of(exception, lambda: store.add_group(0, DIM, ttl_seconds=ttl_seconds))


# ---- Removing expired rows ----


@pytest.fixture
def event_store(tmp_path):
    """A store whose time is told; its rows live for 60 seconds."""
    with damo_tf.Store(tmp_path / "events", ttl_seconds=60, clock="event") as store:
        add_sgd(store)
        yield store


def test_expire_removes_expired_rows(event_store):
    store = event_store
    store.advance_clock(1_000)
    store.apply_gradients(0, [1, 2, 3], np.ones((3, DIM)))
    store.flush()
    store.advance_clock(50_000)
    store.apply_gradients(0, [3], ONES)
    assert store.expire() == 0
    store.advance_clock(61_000)
    assert store.expire() == 2
    assert store.expire() == 0
    assert store.size() == store.size(0) == 1
    assert store.row(0, 1) is None
    assert store.row(0, 3).update_num == 2
    store.close()
    with raw_store(Path(store.directory)) as raw:
        assert list(raw.rows.keys()) == [row_key(0, 3)]


def test_expire_tells_how_far_it_is(event_store):
    store = event_store
    store.apply_gradients(0, np.arange(20_000), np.ones((20_000, DIM)))
    store.advance_clock(60_000)
    calls = []
    assert store.expire(progress=lambda scanned, removed: calls.append((scanned, removed))) == 20_000
    assert calls == sorted(calls)
    assert len(calls) > 1
    assert calls[-1] == (20_000, 20_000)


def test_an_exception_in_the_progress_callback_ends_expire(event_store):
    store = event_store
    store.apply_gradients(0, np.arange(20_000), np.ones((20_000, DIM)))
    store.advance_clock(60_000)

    class StopError(Exception):
        pass

    seen = []

    def stop(scanned, removed):
        seen.append(removed)
        raise StopError("enough")

    with pytest.raises(StopError, match=r"^enough$"):
        store.expire(stop)
    assert store.expire() == 20_000 - seen[0]
    store.apply_gradients(0, [1], ONES)
    assert store.size() == 1


def test_expire_leaves_groups_without_a_time_to_live_alone(aged_store):
    with damo_tf.Store(aged_store) as store:
        assert store.expire() == 0
        assert store.size() == 3
    with damo_tf.Store(aged_store, ttl_seconds=TTL_SECONDS) as store:
        assert store.expire() == 2
    with damo_tf.Store(aged_store) as store:
        assert store.size() == 1


def test_progress_must_be_callable(store):
    assert message_of(TypeError, lambda: store.expire(progress=3)) == (
        "`progress` must be callable or None. Received: progress=3"
    )


# ---- The clock of events ----


def test_events_date_rows_and_let_them_expire(event_store):
    store = event_store
    assert store.stats()["now"] == 0
    store.advance_clock(5_000)
    store.apply_gradients(0, [1], ONES)
    assert store.row(0, 1).update_time == 5_000
    store.advance_clock(64_999)
    store.advance_clock(3_000)  # late: changes nothing
    assert store.stats()["now"] == 64_999
    assert store.size() == 1
    store.advance_clock(65_000)
    assert store.size() == 0
    np.testing.assert_array_equal(store.lookup(0, [1]), np.zeros((1, DIM)))


def test_the_clock_is_the_stores_own_when_reopening(tmp_path):
    with damo_tf.Store(tmp_path / "store", clock="event") as store:
        store.advance_clock(7_000)
    with damo_tf.Store(tmp_path / "store") as store:
        assert store.options["clock"] == "event"
        assert store.stats()["now"] == 7_000
    text = message_of(ValueError, lambda: damo_tf.Store(tmp_path / "store", clock="system"))
    assert text == (f"open store '{tmp_path / 'store'}': has clock 'event', asked for 'system'")


def test_the_systems_clock_is_not_told_the_time(store):
    assert "the clock of the store is 'system'" in message_of(RuntimeError, lambda: store.advance_clock(1))


@pytest.mark.parametrize("milliseconds", [-1, 253402300800000, 1.5])
def test_a_time_that_cannot_be_is_refused(event_store, milliseconds):
    exception = TypeError if isinstance(milliseconds, float) else ValueError
    assert f"Received: milliseconds={milliseconds}" in message_of(
        exception, lambda: event_store.advance_clock(milliseconds)
    )


# ---- Read-only ----


@pytest.fixture
def trained(tmp_path):
    """The path of a closed store with three rows in group 0."""
    path = tmp_path / "trained"
    with damo_tf.Store(path, seed=4) as store:
        add_sgd(store)
        store.apply_gradients(0, [1, 2, 3], np.arange(6).reshape(3, DIM))
    return path


def test_a_read_only_store_reads_refuses_to_write_and_leaves_the_disk_alone(trained):
    before = content(trained)
    with damo_tf.Store(trained, read_only=True, seed=4) as store:
        np.testing.assert_array_equal(store.lookup(0, [1, 3]), [[0, -1], [-4, -5]])
        np.testing.assert_array_equal(store.lookup(0, [9]), [[0, 0]])
        assert store.size() == 3
        assert store.row(0, 2).update_num == 1
        assert step_of(store) == 1
        add_sgd(store)
        refusal = f"store '{trained}' was opened read-only"
        for context, call in {
            f"apply gradients to group 0 of store '{trained}': ": (
                lambda: store.apply_gradients(0, [1], ONES)
            ),
            f"add group 1 to store '{trained}': ": lambda: add_sgd(store, 1),
            "": store.flush,
        }.items():
            assert message_of(RuntimeError, call) == f"failed precondition: {context}{refusal}"
        assert step_of(store) == 1
    assert content(trained) == before


def test_a_read_only_store_reads_under_other_settings_and_keeps_none(trained):
    before = content(trained)
    with damo_tf.Store(trained, read_only=True, seed=None) as store:
        store.add_group(0, DIM, optimizer="sgd", initializer="ones")
        np.testing.assert_array_equal(store.lookup(0, [1, 9]), [[0, -1], [1, 1]])
    assert content(trained) == before


def test_opening_an_absent_store_read_only_creates_nothing(tmp_path):
    text = message_of(FileNotFoundError, lambda: damo_tf.Store(tmp_path / "absent", read_only=True))
    assert text == f"open store '{tmp_path / 'absent'}': there is no such directory"
    (tmp_path / "empty").mkdir()
    text = message_of(FileNotFoundError, lambda: damo_tf.Store(tmp_path / "empty", read_only=True))
    assert text == f"open store '{tmp_path / 'empty'}': the directory holds no store"
    assert content(tmp_path) == {"empty": None}


# ---- What is not a store ----


@pytest.mark.parametrize("read_only", [False, True])
def test_a_directory_with_other_content_is_refused_and_left_alone(tmp_path, read_only):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    text = message_of(ValueError, lambda: damo_tf.Store(tmp_path, read_only=read_only))
    assert text == f"open store '{tmp_path}': the directory is not empty and holds no store"
    assert content(tmp_path) == {"photo.jpg": b"\xff\xd8"}


@pytest.mark.parametrize("read_only", [False, True])
def test_a_rocksdb_database_of_someone_else_is_refused_and_left_alone(tmp_path, read_only):
    database = Rdict(str(tmp_path), Options(raw_mode=True))
    database[b"key"] = b"value"
    database.close()
    before = content(tmp_path)
    text = message_of(ValueError, lambda: damo_tf.Store(tmp_path, read_only=read_only))
    assert text == (
        f"open store '{tmp_path}': is a RocksDB database but not a damo store: its column families are "
        "'default', expected 'default', 'manifest'"
    )
    assert content(tmp_path) == before


def test_a_file_is_refused_and_left_alone(tmp_path):
    (tmp_path / "file").write_text("text")
    text = message_of(ValueError, lambda: damo_tf.Store(tmp_path / "file"))
    assert text == f"open store '{tmp_path / 'file'}': is a file, not a directory"
    message_of(OSError, lambda: damo_tf.Store(tmp_path / "file" / "below"))
    assert content(tmp_path) == {"file": b"text"}


def test_a_path_where_nothing_can_be_created_is_an_os_error():
    text = message_of(OSError, lambda: damo_tf.Store("/proc/none/store"))
    assert text == (
        "I/O error: open store '/proc/none/store': create directory '/proc/none': No such file or directory"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_an_os_error(tmp_path):
    tmp_path.chmod(0o500)
    text = message_of(OSError, lambda: damo_tf.Store(tmp_path / "store"))
    assert text == (
        f"I/O error: open store '{tmp_path / 'store'}': create directory '{tmp_path / 'store'}': "
        "Permission denied"
    )


# ---- Arguments ----

KEY_RULE = "must be an integer in [-9223372036854775808, 18446744073709551616)"


@pytest.mark.parametrize(
    ("settings", "exception", "message"),
    [
        ({"ttl_seconds": 0}, ValueError, "`ttl_seconds` must be an integer in [1, 9223372036854775808)"),
        ({"ttl_seconds": 1.5}, TypeError, "ttl_seconds=1.5 of <class 'float'>"),
        ({"ttl_seconds": True}, TypeError, "ttl_seconds=True of <class 'bool'>"),
        ({"ttl_seconds": 2**63}, ValueError, "Received: ttl_seconds=9223372036854775808"),
        (
            {"ttl_seconds": 2**62},
            ValueError,
            "ttl_seconds must be > 0 and <= 9223372036854775. Received: ttl_seconds=4611686018427387904",
        ),
        ({"memory_budget": 2**63}, ValueError, "Received: memory_budget=9223372036854775808"),
        (
            {"memory_budget": (4 << 20) - 1},
            ValueError,
            "memory_budget must be >= 4194304 bytes. Received: memory_budget=4194303",
        ),
        ({"memory_budget": None}, TypeError, "memory_budget=None of <class 'NoneType'>"),
        ({"durability": "none"}, ValueError, "unknown durability 'none'; known: 'wal', 'sync', 'checkpoint'"),
        ({"durability": 1}, TypeError, "`durability` must be a str. Received: durability=1"),
        ({"read_only": 1}, TypeError, "`read_only` must be a bool. Received: read_only=1"),
        ({"clock": "wall"}, ValueError, "unknown clock 'wall'; known: 'system', 'event'"),
        ({"clock": 1}, TypeError, "`clock` must be a str. Received: clock=1"),
        (
            {"seed": -1},
            ValueError,
            "`seed` must be an integer in [0, 18446744073709551616). Received: seed=-1",
        ),
        ({"seed": 2**64}, ValueError, "Received: seed=18446744073709551616"),
        ({"seed": "x"}, TypeError, "seed='x' of <class 'str'>"),
    ],
)
def test_a_bad_setting_is_named_and_creates_nothing(tmp_path, settings, exception, message):
    assert message in message_of(exception, lambda: damo_tf.Store(tmp_path / "store", **settings))
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("directory", "exception", "message"),
    [
        ("", ValueError, "`directory` must be a path. Received: directory=''"),
        ("a\0b", ValueError, "`directory` must be a path without zero bytes. Received: directory='a\\x00b'"),
        (None, TypeError, "`directory` must be a path. Received: directory=None of <class 'NoneType'>"),
        (b"x", TypeError, "`directory` must be a path. Received: directory=b'x' of <class 'bytes'>"),
        (3, TypeError, "`directory` must be a path. Received: directory=3 of <class 'int'>"),
    ],
)
@pytest.mark.parametrize("opener", [damo_tf.Store, damo_tf.Store.attach])
def test_a_bad_directory_is_named(tmp_path, monkeypatch, opener, directory, exception, message):
    monkeypatch.chdir(tmp_path)
    assert message_of(exception, lambda: opener(directory)) == message
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "exception", "message"),
    [
        ({"group": -1}, ValueError, "`group` must be an integer in [0, 256). Received: group=-1"),
        ({"group": 256}, ValueError, "`group` must be an integer in [0, 256). Received: group=256"),
        ({"group": 1.0}, TypeError, "Received: group=1.0 of <class 'float'>"),
        ({"group": True}, TypeError, "Received: group=True of <class 'bool'>"),
        ({"dim": 0}, ValueError, "`dim` must be an integer in [1, 65537). Received: dim=0"),
        ({"dim": 65537}, ValueError, "`dim` must be an integer in [1, 65537). Received: dim=65537"),
        ({"dim": 2**64}, ValueError, "Received: dim=18446744073709551616"),
        ({"dim": "4"}, TypeError, "Received: dim='4' of <class 'str'>"),
        ({"optimizer": "sdg"}, ValueError, "unknown optimizer 'sdg'; known: 'adagrad', 'adam', 'adamw'"),
        ({"optimizer": None}, TypeError, "Received: optimizer=None of <class 'NoneType'>"),
        (
            {"optimizer": {"name": "adam", "beta1": 1}},
            ValueError,
            "optimizer 'adam': parameter 'beta1' must be in [0, 1). Received: beta1=1",
        ),
        ({"initializer": "normal"}, ValueError, "unknown initializer 'normal'; known: 'ones', 'random_norm"),
        ({"initializer": 3}, TypeError, "Received: initializer=3 of <class 'int'>"),
    ],
)
def test_add_group_names_a_bad_argument_and_adds_nothing(store, arguments, exception, message):
    assert message in message_of(exception, lambda: store.add_group(**{"group": 0, "dim": 4, **arguments}))
    assert store.stats()["groups"] == {}


@pytest.mark.parametrize(
    ("keys", "exception", "message"),
    [
        (None, TypeError, f"`keys` {KEY_RULE}. Received: keys=None of <class 'NoneType'>"),
        ("ab", TypeError, "`keys` must be integers. Received dtype: <U2"),
        ([1.0], TypeError, f"`keys` {KEY_RULE}. Received: keys=1.0 of <class 'float'>"),
        (np.array([1.0]), TypeError, "`keys` must be integers. Received dtype: float64"),
        ([True], TypeError, "`keys` must be integers. Received dtype: bool"),
        ([2**64], ValueError, f"`keys` {KEY_RULE}. Received: keys=18446744073709551616"),
        ([-(2**63) - 1], ValueError, f"`keys` {KEY_RULE}. Received: keys=-9223372036854775809"),
    ],
)
def test_bad_keys_are_named_and_change_nothing(sgd_store, keys, exception, message):
    assert message_of(exception, lambda: sgd_store.lookup(0, keys)) == message
    assert message_of(exception, lambda: sgd_store.apply_gradients(0, keys, ONES)) == message
    assert step_of(sgd_store) == 0


@pytest.mark.parametrize(
    ("gradients", "exception", "message"),
    [
        (np.ones((2, 3)), ValueError, "keys.shape + (dim,) = (2, 2). Received shape: (2, 3)"),
        (np.ones(4), ValueError, "keys.shape + (dim,) = (2, 2). Received shape: (4,)"),
        (1.0, ValueError, "keys.shape + (dim,) = (2, 2). Received shape: ()"),
        ("no", TypeError, "`gradients` must be numbers. Received dtype: <U2"),
        (None, TypeError, "`gradients` must be numbers. Received dtype: object"),
        (np.ones((2, 2), complex), TypeError, "`gradients` must be numbers. Received dtype: complex128"),
        (np.ones((2, 2), bool), TypeError, "`gradients` must be numbers. Received dtype: bool"),
    ],
)
def test_bad_gradients_are_named_and_change_nothing(sgd_store, gradients, exception, message):
    assert message in message_of(exception, lambda: sgd_store.apply_gradients(0, [1, 2], gradients))
    assert step_of(sgd_store) == 0


@pytest.mark.parametrize(
    ("value", "exception", "received"),
    [
        (2**64, ValueError, "=18446744073709551616"),
        (-(2**63) - 1, ValueError, "=-9223372036854775809"),
        (1.0, TypeError, "=1.0 of <class 'float'>"),
        (True, TypeError, "=True of <class 'bool'>"),
        ("1", TypeError, "='1' of <class 'str'>"),
    ],
)
def test_a_bad_key_or_padding_key_is_named(sgd_store, value, exception, received):
    assert message_of(exception, lambda: sgd_store.row(0, value)) == (
        f"`key` {KEY_RULE}. Received: key{received}"
    )
    for call in (
        lambda: sgd_store.lookup(0, [1], padding_key=value),
        lambda: sgd_store.apply_gradients(0, [1], ONES, padding_key=value),
    ):
        assert message_of(exception, call) == f"`padding_key` {KEY_RULE}. Received: padding_key{received}"
    assert step_of(sgd_store) == 0


@pytest.mark.parametrize("missing", ["zero", None, 0, ["initial"], np.array(["initial", "zeros"])], ids=repr)
def test_another_missing_is_refused(sgd_store, missing):
    text = message_of(ValueError, lambda: sgd_store.lookup(0, [1], missing=missing))
    assert text == f"`missing` must be 'initial' or 'zeros'. Received: missing={missing!r}"


@pytest.mark.parametrize("group", [-1, 256, "0", 0.0, None, False])
def test_a_bad_group_is_named_everywhere(sgd_store, group):
    calls = [
        lambda: sgd_store.lookup(group, [1]),
        lambda: sgd_store.apply_gradients(group, [1], ONES),
        lambda: sgd_store.row(group, 1),
    ]
    if group is not None:  # for size() that is every group
        calls.append(lambda: sgd_store.size(group))
    exception = ValueError if isinstance(group, int) and not isinstance(group, bool) else TypeError
    for call in calls:
        text = message_of(exception, call)
        assert text.startswith("`group` must be an integer in [0, 256). Received: group=")
        assert repr(group) in text
