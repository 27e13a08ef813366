# SPDX-License-Identifier: Apache-2.0
"""Rows to and from NumPy, Parquet and Keras."""

import os
import re
import stat
import sys

import damo
import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stored_rows import rows_of

import damo_tf
from damo_tf import _parts
from damo_tf._aside import file_aside


@pytest.fixture
def small_parts(monkeypatch):
    """Few rows at a time, so that some tests have many parts."""
    monkeypatch.setattr(_parts, "PART_BYTES", 8_000)


def fill(store, rng, group: int, dim: int, n: int, optimizer: str = "adam") -> np.ndarray:
    """Gives a new group rows of random keys, half of them updated twice; returns the keys."""
    store.add_group(group, dim, optimizer=optimizer)
    keys = rng.integers(2**64, size=n, dtype=np.uint64)
    for some in (keys, keys[::2]):
        store.apply_gradients(group, some, rng.standard_normal((len(some), dim)))
    return keys


# ---- NumPy ----


def test_to_numpy_has_all_rows_in_order_of_keys(store, rng, small_parts):
    keys = fill(store, rng, 3, 5, 1234)
    got, weights = store.to_numpy(3)
    assert got.dtype == np.uint64 and weights.dtype == np.float32
    np.testing.assert_array_equal(got, np.sort(keys))
    np.testing.assert_array_equal(weights, store.lookup(3, got))
    assert len(store.to_numpy(3, min_count=2)[0]) == 617
    assert len(store.to_numpy(3, expire_days=1)[0]) == 1234


def test_to_numpy_of_an_empty_group_has_shapes(store):
    store.add_group(3, 5)
    keys, weights = store.to_numpy(3)
    assert keys.shape == (0,) and weights.shape == (0, 5)


def test_from_numpy_brings_rows_in_any_order_and_merges_or_replaces(store, rng, small_parts):
    store.add_group(3, 2, optimizer="adagrad")
    keys = rng.permutation(np.arange(1000))
    weights = rng.standard_normal((1000, 2))
    assert store.from_numpy(3, keys, weights) == 1000
    np.testing.assert_array_equal(store.lookup(3, keys), weights.astype(np.float32))
    assert store.from_numpy(3, [-1, 0], [[1, 2], [3, 4]]) == 2
    assert store.size(3) == 1001
    np.testing.assert_array_equal(store.lookup(3, [2**64 - 1, 0]), [[1, 2], [3, 4]])
    row = store.row(3, 0)
    assert row.update_num == 1 and row.slots["sum"].tolist() == [0.0, 0.0]
    assert store.from_numpy(3, [5], [[1, 2]], mode="replace") == 1
    assert store.to_numpy(3)[0].tolist() == [5]
    assert store.from_numpy(3, [], np.empty((0, 2)), mode="replace") == 0
    assert store.size(3) == 0


@pytest.mark.parametrize(
    ("keys", "weights", "error", "text"),
    [
        ([1, 2], [[1.0, 2.0]], ValueError, "`weights` must have shape (len(keys), dim) = (2, 2)"),
        ([[1]], [[1.0, 2.0]], ValueError, "`keys` must be one-dimensional. Received shape: (1, 1)"),
        ([0.5], [[1.0, 2.0]], TypeError, "`keys` must be an integer"),
        ([1], [["a", "b"]], TypeError, "`weights` must be numbers"),
        ([1], [[1.0, np.nan]], ValueError, "weights must be finite. Received, of key 1: nan"),
        ([1], [[1.0, 1e300]], ValueError, "weights must be finite. Received, of key 1: inf"),
        ([1, -1, 1], np.ones((3, 2)), ValueError, "keys must be distinct. Received twice, in group 3: 1"),
    ],
)
def test_from_numpy_refuses_what_no_rows_can_be_and_changes_nothing(store, keys, weights, error, text):
    store.add_group(3, 2)
    store.apply_gradients(3, [9], [[1.0, 1.0]])
    before = rows_of(store, 3, [1, 9])
    with pytest.raises(error, match=re.escape(text)):
        store.from_numpy(3, keys, weights, mode="replace")
    assert rows_of(store, 3, [1, 9]) == before
    with pytest.raises(KeyError, match="has no group 4"):
        store.from_numpy(4, [1], [[1.0]])


def test_training_goes_on_from_imported_rows(store):
    store.add_group(3, 1, initializer="zeros", optimizer={"name": "sgd", "gamma": 1.0})
    store.apply_gradients(3, [1, 2], [[1.0], [1.0]])
    store.from_numpy(3, [2], [[10.0]])
    store.apply_gradients(3, [1, 2], [[1.0], [1.0]])
    assert store.lookup(3, [1, 2]).tolist() == [[-2.0], [9.0]]
    assert store.row(3, 2).update_num == 2
    assert store.stats()["groups"][3]["step"] == 2


@pytest.mark.parametrize(("dim", "optimizer"), [(1, "sgd"), (1024, "sgd"), (1024, "adam"), (65536, "adam")])
def test_parts_have_no_more_bytes_however_wide_rows_are(store, dim, optimizer):
    store.add_group(3, dim, optimizer=optimizer)
    num_slots = 2 if optimizer == "adam" else 0
    row_bytes = 8 + 8 + 8 + 4 * dim * (1 + num_slots)

    rows = _parts.rows_per_part(store.storage, 3)
    assert rows * row_bytes <= 8 << 20 < (rows + 1) * row_bytes


def test_wide_rows_go_to_parquet_in_groups_of_few(store, tmp_path):
    store.add_group(3, 1024, optimizer="adam", initializer="zeros")
    store.apply_gradients(3, np.arange(1500), np.ones((1500, 1024)))
    path = tmp_path / "rows.parquet"
    assert store.to_parquet(path, 3, slots=True) == 1500
    file = pq.ParquetFile(path)
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    assert sum(sizes) == 1500 and max(sizes) <= (8 << 20) // (24 + 3 * 4096)


# ---- Keras ----


def test_from_keras_brings_the_matrix_of_an_embedding(store):
    layer = keras.layers.Embedding(4, 3)
    layer.build()
    store.add_group(0, 3)
    assert store.from_keras(layer, [10, 20, 30, -1]) == 4
    matrix = keras.ops.convert_to_numpy(layer.embeddings)
    np.testing.assert_array_equal(store.lookup(0, [10, 20, 30, 2**64 - 1]), matrix)

    ours = damo_tf.Embedding(3, store=store)
    np.testing.assert_array_equal(ours(np.array([[20, 10]])), layer(np.array([[1, 0]])))


def test_from_keras_names_what_is_wrong(store):
    store.add_group(0, 3)
    layer = keras.layers.Embedding(4, 2)
    with pytest.raises(ValueError, match="`embedding_layer` must be built"):
        store.from_keras(layer, range(4))
    layer.build()
    with pytest.raises(ValueError, match="must have output_dim 3, the dim of group 0"):
        store.from_keras(layer, range(4))
    with pytest.raises(ValueError, match=re.escape("one for each row of the layer, shape (4,)")):
        store.from_keras(layer, range(3))
    with pytest.raises(TypeError, match=re.escape("must be a keras.layers.Embedding. Received: 'layer'")):
        store.from_keras("layer", range(4))


# ---- Parquet ----


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_parquet_with_slots_moves_rows_with_all_they_have(store, tmp_path, rng, small_parts, optimizer):
    keys = fill(store, rng, 3, 5, 1234, optimizer)
    path = tmp_path / "rows.parquet"
    assert store.to_parquet(path, 3, slots=True) == 1234
    with damo_tf.Store(tmp_path / "other") as other:
        other.add_group(3, 5, optimizer=optimizer)
        assert other.from_parquet(path, 3, slots=True) == 1234
        assert rows_of(other, 3, keys) == rows_of(store, 3, keys)


def test_parquet_has_the_documented_columns(store, tmp_path, rng):
    fill(store, rng, 3, 5, 10)
    assert store.to_parquet(tmp_path / "rows.parquet", 3, slots=True) == 10
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table.schema.names == ["key", "update_time", "update_num", "weights", "slot_m", "slot_v"]
    assert table.schema.field("key").type == pa.uint64()
    assert table.schema.field("update_time").type == pa.timestamp("ms", "UTC")
    assert table.schema.field("update_num").type == pa.int64()
    for name in ("weights", "slot_m", "slot_v"):
        kind = table.schema.field(name).type
        assert (kind.value_type, kind.list_size) == (pa.float32(), 5)
    for values in table.to_pylist():
        row = store.row(3, values["key"])
        assert values["update_num"] == row.update_num
        assert round(values["update_time"].timestamp() * 1000) == row.update_time
        assert values["weights"] == row.weights.tolist()
        assert values["slot_v"] == row.slots["v"].tolist()
    assert store.to_parquet(tmp_path / "rows.parquet", 3, min_count=2) == 5
    assert pq.read_schema(tmp_path / "rows.parquet").names == ["key", "update_time", "update_num", "weights"]
    assert [p.name for p in tmp_path.iterdir() if p.name != "store"] == ["rows.parquet"]


def test_parquet_of_others_is_taken_in_any_order_with_lists_and_doubles(store, tmp_path, rng, small_parts):
    store.add_group(3, 2)
    keys = rng.permutation(np.arange(-500, 500))
    weights = rng.standard_normal((1000, 2))
    table = pa.table({"weights": weights.tolist(), "other": keys, "key": keys})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert store.from_parquet(tmp_path / "rows.parquet", 3) == 1000
    np.testing.assert_array_equal(store.lookup(3, keys), weights.astype(np.float32))
    assert store.row(3, 7).update_num == 1


PAIR = pa.list_(pa.float32(), 2)
BAD_TABLES = {
    "no key": ({"weights": pa.array([[1, 2]], PAIR)}, "without ['key']"),
    "key of another type": (
        {"key": ["a"], "weights": pa.array([[1, 2]], PAIR)},
        "column `key` must be of integers",
    ),
    "null key": ({"key": pa.array([None], pa.uint64()), "weights": pa.array([[1, 2]], PAIR)}, "1 nulls"),
    "no lists": ({"key": [1], "weights": [1.0]}, "column `weights` must be of lists of floats"),
    "another dim": (
        {"key": [1], "weights": [[1.0, 2.0, 3.0]]},
        "must have 2 floats each, the dim of the group",
    ),
    "ragged": ({"key": [1, 2], "weights": [[1.0, 2.0], [1.0]]}, "{'min': 1, 'max': 2}"),
    "null weight": ({"key": [1], "weights": pa.array([[1, None]], PAIR)}, "1 nulls in them"),
    "null weights": ({"key": [1], "weights": pa.array([None], PAIR)}, "1 nulls"),
    "not finite": ({"key": [1], "weights": pa.array([[1, np.inf]], PAIR)}, "weights must be finite"),
    "key twice": ({"key": [1, 1], "weights": pa.array([[1, 2], [3, 4]], PAIR)}, "keys must be distinct"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_parquet_that_cannot_be_rows_is_refused_and_changes_nothing(store, tmp_path, case):
    columns, text = BAD_TABLES[case]
    store.add_group(3, 2)
    store.apply_gradients(3, [9], [[1.0, 1.0]])
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(ValueError, match=re.escape(text)):
        store.from_parquet(path, 3, mode="replace")
    assert store.to_numpy(3)[0].tolist() == [9]


def test_what_is_no_parquet_file_is_refused(store, tmp_path):
    store.add_group(3, 2)
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 or not")
    with pytest.raises(ValueError, match=re.escape(f"must be of a Parquet file. Received: '{path}'")):
        store.from_parquet(path, 3)
    with pytest.raises(FileNotFoundError):
        store.from_parquet(tmp_path / "absent", 3)
    pq.write_table(pa.table({"key": [1], "weights": pa.array([[1, 2]], PAIR)}), path)
    with pytest.raises(
        ValueError, match=re.escape("without ['slot_m', 'slot_v', 'update_num', 'update_time']")
    ):
        store.from_parquet(path, 3, slots=True)


def test_a_parquet_file_that_fails_leaves_the_one_before(store, tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"of yesterday")
    store.add_group(3, 2)
    store.apply_gradients(3, [9], [[1.0, 1.0]])
    store.close()
    with pytest.raises(RuntimeError, match="is closed"):
        store.to_parquet(path, 3)
    assert path.read_bytes() == b"of yesterday"
    assert not path.with_suffix(".parquet.partial").exists()


def test_a_parquet_file_that_is_being_written_is_not_written_by_another(store, tmp_path):
    path = tmp_path / "rows.parquet"
    store.add_group(3, 2)
    store.apply_gradients(3, [9], [[1.0, 1.0]])
    with file_aside(str(path)) as partial:
        text = re.escape(f"make '{path}': it is being written at this moment (see '{partial}')")
        with pytest.raises(RuntimeError, match=text):
            store.to_parquet(path, 3)
    assert path.read_bytes() == b""
    assert store.to_parquet(path, 3) == 1


def test_a_parquet_file_that_died_half_written_is_taken_over(store, tmp_path):
    store.add_group(3, 2)
    store.apply_gradients(3, [9], [[1.0, 1.0]])
    (tmp_path / "rows.parquet.partial").write_bytes(b"x" * 100_000)
    assert store.to_parquet(tmp_path / "rows.parquet", 3) == 1
    assert pq.read_table(tmp_path / "rows.parquet")["key"].to_pylist() == [9]
    assert not (tmp_path / "rows.parquet.partial").exists()


def test_a_parquet_file_takes_no_directorys_place(store, tmp_path):
    store.add_group(3, 2)
    (tmp_path / "rows.parquet").mkdir()
    with pytest.raises(FileExistsError, match="it exists and is not a regular file"):
        store.to_parquet(tmp_path / "rows.parquet", 3)


def test_the_name_of_a_parquet_file_survives_loss_of_power(store, tmp_path, monkeypatch):
    store.add_group(3, 2)
    done = []
    sync, replace = os.fsync, os.replace

    def note_sync(descriptor):
        done.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def note_replace(*names):
        done.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    store.to_parquet(tmp_path / "rows.parquet", 3)
    assert done == ["file", "rename", "directory"]


def test_a_parquet_file_inside_the_store_is_refused_and_the_store_stays_whole(store, tmp_path, rng):
    fill(store, rng, 3, 5, 10)
    current = (tmp_path / "store" / "CURRENT").read_bytes()
    for name in ("CURRENT", "rows.parquet"):
        text = re.escape(f"/{name}' must lie outside the store's own directory")
        with pytest.raises(ValueError, match=text):
            store.to_parquet(tmp_path / "store" / name, 3)
        assert not (tmp_path / "store" / f"{name}.partial").exists()
    assert (tmp_path / "store" / "CURRENT").read_bytes() == current


def test_without_pyarrow_the_extra_is_named(store, tmp_path, monkeypatch):
    store.add_group(3, 2)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=re.escape("`pip install damo_tf[parquet]`")):
        store.to_parquet(tmp_path / "rows.parquet", 3)
    with pytest.raises(ImportError, match=re.escape("`pip install damo_tf[parquet]`")):
        store.from_parquet(tmp_path / "rows.parquet", 3)


# ---- the engine's part ----


def test_what_a_visitor_raises_comes_out_of_read_rows(store):
    store.add_group(3, 2)
    store.apply_gradients(3, range(10), np.ones((10, 2)))
    parts = []

    def visit(keys, *_others):
        parts.append(keys.tolist())
        if len(parts) == 2:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        store.storage.read_rows(3, visit, rows_per_part=4)
    assert parts == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(ValueError, match="`rows_per_part` must be >= 1"):
        store.storage.read_rows(3, visit, rows_per_part=0)


def test_an_import_that_failed_or_is_done_is_of_no_further_use(store):
    store.add_group(3, 2)
    rows = damo.PyRowImport(store.storage, 3)
    rows.add(np.array([1], np.uint64), np.ones(2, np.float32))
    with pytest.raises(
        TypeError, match="`update_nums` must be a one-dimensional contiguous NumPy array of dtype"
    ):
        rows.add(np.array([2], np.uint64), np.ones(2, np.float32), slots=np.ones(4, np.float32))
    assert rows.commit() == 1
    with pytest.raises(RuntimeError, match="has failed or is committed; begin another"):
        rows.commit()
    rows = damo.PyRowImport(store.storage, 3)
    with pytest.raises(ValueError, match="`weights` must hold 2 numbers"):
        rows.add(np.array([1], np.uint64), np.ones(1, np.float32))
    with pytest.raises(RuntimeError, match="has failed or is committed; begin another"):
        rows.commit(mode="merge")
    with pytest.raises(ValueError, match="`mode` must be 'merge' or 'replace'"):
        rows.commit(mode="add")
