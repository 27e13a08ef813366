# SPDX-License-Identifier: Apache-2.0
"""Rows of a damo_tf.Store: keys, gradients, reading, figures."""

import time

import numpy as np
import pytest
from oracles import OracleTable
from small_groups import DIM, ONES, SGD, add_sgd
from stored_rows import assert_rows_equal, memory_of, rows_of, step_of

import damo_tf

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
    for group in stats["groups"].values():
        seconds = [group.pop("lookup_seconds"), group.pop("apply_seconds")]
        assert (seconds[0] > 0) == (group["lookup_calls"] > 0)
        assert seconds[1] > 0
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
            "rows_exact": True,
            "row_bytes": 9 + 32 + 3 * 4 * 4,
            "bytes": 3 * (9 + 32 + 3 * 4 * 4),  # key, header, weights and two slots
            "step": 3,
            "lookup_calls": 1,
            "apply_calls": 3,
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
            "rows_exact": True,
            "row_bytes": 9 + 32 + 4,
            "bytes": 9 + 32 + 4,
            "step": 1,
            "lookup_calls": 0,
            "apply_calls": 1,
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
