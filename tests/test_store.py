# SPDX-License-Identifier: Apache-2.0
"""damo_tf.Store: opening and sharing, groups, read-only, what is not a store."""

import gc
import os
from collections.abc import Callable

import damo
import numpy as np
import pytest
from oracles import OracleTable, initial_weights
from rocksdict import Options, Rdict
from small_groups import DIM, ONES, SGD, add_sgd, content, message_of
from stored_rows import assert_rows_equal, rows_of, step_of

import damo_tf

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
        "'default', expected 'default', 'manifest'; or its file MANIFEST is cut short"
    )
    assert content(tmp_path) == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_whose_list_of_files_is_cut_short_is_refused_and_left_alone(tmp_path, read_only):
    damo_tf.Store(tmp_path).close()
    (manifest,) = tmp_path.glob("MANIFEST-*")
    os.truncate(manifest, 50)
    before = content(tmp_path)
    text = message_of(ValueError, lambda: damo_tf.Store(tmp_path, read_only=read_only))
    assert text.endswith("or its file MANIFEST is cut short")
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
