# SPDX-License-Identifier: Apache-2.0
"""The classes of the module `damo`, as their users call them, and which rows are then in memory."""

import damo
import numpy as np
import oracles
import pytest
from damo_tables import DIM, SGD, ZEROS, keys_of, lookup, make_embedding
from stored_rows import bits

# ---- The classes, as their users call them ----


def test_the_design_pages_example_runs(tmp_path):
    storage = damo.PyStorage(str(tmp_path), 3600)
    p = damo.Parameters()
    p.insert("name", "adam")
    p.insert("gamma", 0.001)
    optimizer = damo.PyOptimizer(p)
    initializer = damo.PyInitializer({"name": "random_uniform", "min": -0.1, "max": 0.1})
    embedding = damo.PyEmbedding(storage, optimizer, initializer, 2, 7)
    keys, weights = keys_of(1, 2), np.empty(4, np.float32)
    assert embedding.lookup(keys, weights) is None
    assert embedding.apply_gradients(keys, np.ones(4, np.float32)) is None

    oracle = oracles.OracleTable(
        2,
        optimizer={"name": "adam", "gamma": 0.001},
        initializer={"name": "random_uniform", "min": -0.1, "max": 0.1},
        group=7,
    )
    np.testing.assert_array_equal(weights.reshape(2, 2), oracle.lookup(keys))
    oracle.apply_gradients(keys, np.ones((2, 2), np.float32))
    np.testing.assert_array_equal(lookup(embedding, keys), oracle.lookup(keys))
    assert storage.options["ttl_seconds"] == 3600
    storage.close()


def test_a_group_has_a_time_to_live_of_its_own(tmp_path):
    storage = damo.PyStorage(tmp_path / "store", 1000, clock="event")
    sgd, zeros = damo.PyOptimizer(SGD), damo.PyInitializer(ZEROS)
    tables = [
        damo.PyEmbedding(storage, sgd, zeros, DIM, group, ttl_seconds=ttl_seconds)
        for group, ttl_seconds in enumerate([None, 60, "never"])
    ]
    for table in tables:
        table.apply_gradients(keys_of(1), np.ones(DIM, np.float32))
    assert [storage.group_config(group)["ttl_seconds"] for group in range(3)] == [None, 60, "never"]
    storage.advance_clock(60_000)
    assert [storage.size(group) for group in range(3)] == [1, 0, 1]
    assert storage.expire() == 1
    for bad in (0, -1, "ever"):
        with pytest.raises(ValueError, match="ttl_seconds"):
            damo.PyEmbedding(storage, sgd, zeros, DIM, 3, ttl_seconds=bad)
    storage.close()


def test_group_is_0_unless_given_and_arguments_have_names(storage):
    embedding = damo.PyEmbedding(
        storage=storage,
        optimizer=damo.PyOptimizer(parameters=SGD, schedule=None),
        initializer=damo.PyInitializer(parameters=ZEROS),
        dimension=DIM,
    )
    assert (embedding.group, embedding.dimension) == (0, DIM)
    weights = np.ones(DIM, np.float32)
    embedding.lookup(keys=keys_of(1), weights=weights)
    embedding.apply_gradients(keys=keys_of(1), gradients=weights + 1)
    np.testing.assert_array_equal(lookup(embedding, keys_of(1)), [[-1] * DIM])


def test_empty_arrays_are_legal_and_count_as_a_step(storage, embedding):
    nothing = np.empty(0, np.float32)
    embedding.lookup(keys_of(), nothing)
    embedding.apply_gradients(keys_of(), nothing)
    assert storage.stats()["groups"][0]["step"] == 1
    assert storage.size() == 0


def test_the_whole_range_of_keys_is_ordinary(embedding, storage):
    keys = keys_of(2**64 - 1, 0, 2**63, 1)
    embedding.apply_gradients(keys, np.repeat(np.float32([1, 2, 3, 4]), DIM))
    np.testing.assert_array_equal(lookup(embedding, keys)[:, 0], [-1, -2, -3, -4])
    assert [storage.row(0, key)["key"] for key in keys.tolist()] == keys.tolist()


def test_a_row_is_given_with_its_slots_by_name(storage):
    make_embedding(storage, {"name": "adam"}, group=4).apply_gradients(keys_of(9), np.ones(DIM, np.float32))
    row = storage.row(4, 9)
    assert list(row) == ["group", "key", "update_time", "update_num", "weights", "slots"]
    assert (row["group"], row["key"], row["update_num"]) == (4, 9, 1)
    assert list(row["slots"]) == damo.PyOptimizer({"name": "adam"}).slot_names == ["m", "v"]
    np.testing.assert_array_equal(row["slots"]["m"], np.full(DIM, np.float32(1 - 0.9)))
    assert storage.row(4, 8) is None


def test_lookup_on_the_storage_takes_padding_and_missing(storage, embedding):
    embedding.apply_gradients(keys_of(5), np.ones(DIM, np.float32))
    storage.add_group(1, DIM, {"name": "ones"}, SGD)
    weights = np.empty(2 * DIM, np.float32)
    storage.lookup(1, keys_of(5, 6), weights)
    np.testing.assert_array_equal(weights, np.ones(2 * DIM))
    storage.lookup(1, keys_of(5, 6), weights, padding_key=5)
    np.testing.assert_array_equal(weights, [0] * DIM + [1] * DIM)
    storage.lookup(1, keys_of(5, 6), weights, missing="zeros")
    np.testing.assert_array_equal(weights, np.zeros(2 * DIM))
    storage.apply_gradients(1, keys_of(5, 6), np.ones(2 * DIM, np.float32), padding_key=6)
    assert storage.size(1) == 1
    with pytest.raises(ValueError, match=r"`missing` must be 'initial' or 'zeros'. Received: missing='no'"):
        storage.lookup(1, keys_of(5, 6), weights, missing="no")


def test_paths_of_any_kind_open_one_store(tmp_path, storage):
    for path in (str(tmp_path / "store"), tmp_path / "store", tmp_path / "store" / ".." / "store"):
        assert damo.PyStorage(path).directory == str(tmp_path / "store")


def test_close_all_closes_every_store(tmp_path):
    stores = [damo.PyStorage(tmp_path / name) for name in "ab"]
    damo.close_all()
    assert [store.closed for store in stores] == [True, True]
    damo.close_all()


PROGRESSING = {
    "dump": lambda storage, path, progress: storage.dump(path, progress=progress),
    "expire": lambda storage, path, progress: storage.expire(progress),
    "checkpoint": lambda storage, path, progress: storage.checkpoint(path, progress=progress),
    "verify": lambda storage, path, progress: storage.verify(progress),
    "compact": lambda storage, path, progress: storage.compact(progress),
    "convert": lambda storage, path, progress: storage.convert(path, 0, dim=1, progress=progress),
}


@pytest.mark.parametrize("name", PROGRESSING)
def test_progress_that_cannot_be_called_is_refused_before_anything_is_done(
    storage, embedding, tmp_path, name
):
    embedding.apply_gradients(keys_of(1), np.ones(DIM, np.float32))

    with pytest.raises(TypeError, match=r"`progress` must be callable or None. Received: progress='5'"):
        PROGRESSING[name](storage, tmp_path / "made", "5")
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


# ---- Rows in memory ----


def cache_figures(storage, group=0):
    figures = storage.stats()["groups"][group]
    return {name: figures[name] for name in ("cache_hits", "cache_misses", "cache_rows", "dirty", "evicted")}


@pytest.fixture
def reopened(tmp_path):
    """A store with rows 1 to 3 in group 0, opened anew: no row is in memory."""
    with damo.PyStorage(tmp_path / "reopened") as opened:
        make_embedding(opened).apply_gradients(keys_of(1, 2, 3), np.ones(3 * DIM, np.float32))
    with damo.PyStorage(tmp_path / "reopened") as opened:
        yield opened


def test_a_lookup_finds_the_rows_that_were_prefetched(reopened):
    embedding = make_embedding(reopened)
    assert embedding.prefetch(keys_of(1, 2, 2, 9)) is None
    assert cache_figures(reopened) == {
        "cache_hits": 0,
        "cache_misses": 0,
        "cache_rows": 3,
        "dirty": 0,
        "evicted": 0,
    }
    np.testing.assert_array_equal(lookup(embedding, keys_of(1, 2, 9, 3, 3))[:, 0], [-1, -1, 0, -1, -1])
    assert cache_figures(reopened) == {
        "cache_hits": 3,
        "cache_misses": 2,
        "cache_rows": 4,
        "dirty": 0,
        "evicted": 0,
    }
    embedding.prefetch(keys_of())
    assert reopened.size() == 3


def test_lookups_of_a_storage_leave_no_row_in_memory_and_those_of_an_embedding_do(reopened):
    weights = np.empty(2 * DIM, np.float32)
    reopened.lookup(0, keys_of(1, 9), weights)
    assert cache_figures(reopened) == {
        "cache_hits": 0,
        "cache_misses": 2,
        "cache_rows": 0,
        "dirty": 0,
        "evicted": 0,
    }
    embedding = make_embedding(reopened)
    lookup(embedding, keys_of(1, 9))
    assert cache_figures(reopened)["cache_rows"] == 2
    embedding.apply_gradients(keys_of(1), np.ones(DIM, np.float32))
    assert cache_figures(reopened)["dirty"] == 1
    reopened.flush()
    assert cache_figures(reopened)["dirty"] == 0


def test_without_a_row_cache_no_row_is_in_memory_and_the_values_are_the_same(tmp_path):
    rows = []
    for row_cache in (True, False):
        with damo.PyStorage(tmp_path / str(row_cache), row_cache=row_cache) as storage:
            embedding = make_embedding(storage)
            embedding.prefetch(keys_of(1))
            embedding.apply_gradients(keys_of(1, 2), np.ones(2 * DIM, np.float32))
            assert cache_figures(storage)["cache_rows"] == (2 if row_cache else 0)
            rows.append(lookup(embedding, keys_of(1, 2, 3)))
    np.testing.assert_array_equal(bits(rows[0]), bits(rows[1]))


def test_a_store_is_not_shared_by_those_with_and_without_a_row_cache(tmp_path):
    with damo.PyStorage(tmp_path, row_cache=False):
        damo.PyStorage(tmp_path)  # asks for neither
        with pytest.raises(ValueError, match="with row_cache=false, asked for row_cache=true"):
            damo.PyStorage(tmp_path, row_cache=True)
