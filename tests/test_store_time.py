# SPDX-License-Identifier: Apache-2.0
"""Time in a damo_tf.Store: time to live, removal of expired rows, the clock of events."""

import time
from pathlib import Path

import numpy as np
import pytest
from oracles import OracleTable, initial_weights
from raw_store import raw_store, row_key, with_update_time
from small_groups import DIM, ONES, add_sgd, message_of

import damo_tf

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
        assert (stats["rows"], stats["rows_exact"], stats["missing"]) == (3, False, 4)
        counted = store.stats(count_rows=True)["groups"][0]
        assert (counted["rows"], counted["rows_exact"]) == (1, True)
        assert counted["bytes"] == counted["row_bytes"] == stats["bytes"] // 3
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
    store.apply_gradients(0, np.arange(40_000), np.ones((40_000, DIM)))
    store.advance_clock(60_000)
    calls = []
    assert store.expire(progress=lambda scanned, removed: calls.append((scanned, removed))) == 40_000
    assert calls == sorted(calls)
    assert len(calls) > 1
    assert calls[-1] == (40_000, 40_000)


def test_an_exception_in_the_progress_callback_ends_expire(event_store):
    store = event_store
    store.apply_gradients(0, np.arange(80_000), np.ones((80_000, DIM)))  # more than one part
    store.advance_clock(60_000)

    class StopError(Exception):
        pass

    seen = []

    def stop(scanned, removed):
        seen.append(removed)
        raise StopError("enough")

    with pytest.raises(StopError, match=r"^enough$"):
        store.expire(stop)
    assert 0 < seen[0] < 80_000
    assert store.expire() == 80_000 - seen[0]
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
