# SPDX-License-Identifier: Apache-2.0
"""Dumps: docs/dump_format.md both ways, read with NumPy alone, and loaded."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import damo
import numpy as np
import pytest

import damo_tf

HEADER_BYTES = 3072


def dump_bytes(*records: tuple[int, int, list[float]]) -> bytes:
    """A file as docs/dump_format.md describes it; each record is group, key, weights."""
    dims, counts = [0] * 256, [0] * 256
    for group, _, weights in records:
        dims[group] = len(weights)
        counts[group] += 1
    rows = [
        struct.pack("<Qi", key, group) + np.asarray(weights, "<f4").tobytes()
        for group, key, weights in records
    ]
    return struct.pack("<256i256Q", *dims, *counts) + b"".join(rows)


EXAMPLE = dump_bytes((7, 5, [1.0, -0.5]), (7, 2**64 - 1, [0.25, 0.0]))


@pytest.fixture
def trained(store):
    """Group 7, dim 2, has the rows 5 and 2**64 - 1 of the page's example; group 0, dim 1, has none."""
    store.add_group(0, 1)
    store.add_group(7, 2, initializer="zeros", optimizer={"name": "sgd", "gamma": 1.0})
    store.apply_gradients(7, [5, 2**64 - 1], [[-1.0, 0.5], [-0.25, 0.0]])
    return store


def kill_after(num_lines: int, program: str, *arguments: object) -> list[str]:
    """Kills a process when it has printed so many lines; returns them."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            return [process.stdout.readline().strip() for _ in range(num_lines)]
        finally:
            process.kill()


# ---- the format ----


def test_a_dump_of_golden_bytes(trained, tmp_path):
    """Never change: what serves dumps out there reads these."""
    assert trained.dump(tmp_path / "rows.dump", group=7) == 2
    assert (tmp_path / "rows.dump").read_bytes() == EXAMPLE


def test_the_worked_example_of_the_page_is_the_golden_file():
    page = (Path(__file__).parents[1] / "docs" / "dump_format.md").read_text(encoding="utf-8")
    lines = re.findall(r"^  ([0-9a-f]{4})  ((?:[0-9a-f]{2} +)+)", page, re.M)
    assert len(lines) == 9
    shown = bytearray(len(EXAMPLE))
    for offset, digits in lines:
        part = bytes.fromhex(digits)
        shown[int(offset, 16) : int(offset, 16) + len(part)] = part
    assert bytes(shown) == EXAMPLE


def test_a_dump_replaces_the_one_before_and_leaves_those_who_have_it_mapped_alone(trained, tmp_path):
    path = tmp_path / "rows.dump"
    trained.dump(path)
    before = damo_tf.read_dump(path)
    trained.apply_gradients(7, [1], [[1.0, 1.0]])
    assert trained.dump(path) == 3
    assert before[7].keys.tolist() == [5, 2**64 - 1]
    assert damo_tf.read_dump(path)[7].keys.tolist() == [1, 5, 2**64 - 1]
    assert [p.name for p in tmp_path.iterdir() if p.name != "store"] == ["rows.dump"]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"group": 256}, ValueError, "`group` must be an integer in [0, 256). Received: group=256"),
        ({"group": 9}, KeyError, "has no group 9; it has: 0, 7"),
        ({"min_count": -1}, ValueError, "`min_count` must be an integer in [0,"),
        ({"min_count": 1.0}, TypeError, "`min_count` must be an integer"),
        (
            {"expire_days": -1},
            ValueError,
            "`expire_days` must be a finite number >= 0. Received: expire_days=-1",
        ),
        ({"expire_days": float("nan")}, ValueError, "`expire_days` must be a finite number >= 0"),
        ({"expire_days": "1"}, TypeError, "`expire_days` must be a number >= 0. Received: expire_days='1'"),
    ],
)
def test_bad_arguments_of_dump_are_named(trained, tmp_path, arguments, error, text):
    with pytest.raises(error, match=re.escape(text)):
        trained.dump(tmp_path / "rows.dump", **arguments)
    assert not (tmp_path / "rows.dump").exists()


def test_a_dump_inside_the_store_is_refused(trained, tmp_path):
    path = os.path.join(trained.directory, "CURRENT")
    with pytest.raises(ValueError, match=re.escape(f"'{path}' must lie outside the store's own directory")):
        trained.dump(path)
    assert not os.path.exists(path + ".partial")


def test_a_dump_to_a_place_that_cannot_be_written_is_an_os_error(trained, tmp_path):
    with pytest.raises(OSError, match="No such file or directory"):
        trained.dump(tmp_path / "absent" / "rows.dump")
    with pytest.raises(TypeError, match="`path` must be a path"):
        trained.dump(7)
    with pytest.raises(ValueError, match=r"`path` must be a path\. Received: path=''"):
        trained.dump("")


FULL_DISK = """
import resource, signal, sys
import damo

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with damo.PyStorage(sys.argv[1], read_only=True) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    try:
        store.dump(sys.argv[2])
    except OSError as error:
        print(error)
"""


def test_a_dump_that_finds_no_room_leaves_the_one_before(trained, tmp_path, run_python):
    path = tmp_path / "rows.dump"
    trained.dump(path)
    before = path.read_bytes()
    trained.apply_gradients(7, range(1000), np.ones((1000, 2)))
    trained.flush()
    assert "write file" in run_python(FULL_DISK, trained.directory, path)
    assert path.read_bytes() == before
    assert not (tmp_path / "rows.dump.partial").exists()


# ---- read_dump ----


def test_read_dump_gives_keys_and_weights_of_each_group(trained, tmp_path):
    trained.dump(tmp_path / "rows.dump")
    for verify in (True, False):
        groups = damo_tf.read_dump(tmp_path / "rows.dump", verify=verify)
        assert list(groups) == [0, 7]
        assert groups[0].keys.shape == (0,) and groups[0].weights.shape == (0, 1)
        assert groups[7].keys.dtype == np.uint64 and groups[7].weights.dtype == np.float32
        assert groups[7].keys.tolist() == [5, 2**64 - 1]
        np.testing.assert_array_equal(groups[7].weights, [[1.0, -0.5], [0.25, 0.0]])
        assert not groups[7].weights.flags.writeable


@pytest.mark.parametrize("dim", [1, 2, 3, 16])
def test_read_dump_has_what_the_store_looks_up(store, tmp_path, rng, dim):
    for group in (3, 255):
        store.add_group(group, dim)
        keys = rng.integers(2**64, size=1000, dtype=np.uint64)
        store.apply_gradients(group, keys, rng.standard_normal((1000, dim)))
    assert store.dump(tmp_path / "rows.dump") == 2000
    groups = damo_tf.read_dump(tmp_path / "rows.dump")
    for group, rows in groups.items():
        assert (np.diff(rows.keys) > 0).all() and len(rows.keys) == 1000
        np.testing.assert_array_equal(rows.weights, store.lookup(group, rows.keys))


@pytest.mark.parametrize("step", ["fromfile", "memmap"])
def test_read_dump_of_a_file_that_is_replaced_meanwhile_is_of_one_file(tmp_path, monkeypatch, step):
    path, newer = tmp_path / "rows.dump", tmp_path / "newer.dump"
    path.write_bytes(dump_bytes((3, 5, [1.0]), (7, 5, [1.0])))
    newer.write_bytes(dump_bytes((3, 5, [2.0]), (7, 5, [2.0])))
    read = getattr(np, step)

    def read_and_replace(*arguments, **options):
        part = read(*arguments, **options)
        if newer.exists():
            newer.rename(path)
        return part

    monkeypatch.setattr(np, step, read_and_replace)
    groups = damo_tf.read_dump(path)
    assert not newer.exists()
    assert [rows.weights.tolist() for rows in groups.values()] == [[[1.0]], [[1.0]]]


def changed(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


BROKEN = {
    "empty": (b"", "a header has 3072"),
    "short header": (EXAMPLE[:3071], "of 3071 bytes, a header has 3072"),
    "truncated": (EXAMPLE[:-1], "of 3111 bytes, by its header 3112"),
    "longer": (EXAMPLE + b"\0", "of 3113 bytes, by its header 3112"),
    "foreign": (b"\x7f" * 4000, "which has group 0 with dim 2139062143"),
    "negative dim": (changed(EXAMPLE, 0, b"\xff" * 4), "group 0 with dim -1"),
    "rows without dim": (changed(EXAMPLE, 1024, b"\1"), "group 0 with dim 0 and 1 rows"),
    "huge count": (changed(EXAMPLE, 0x438, b"\xff" * 8), "by its header"),
}
MISPLACED = {
    "of another group": (changed(EXAMPLE, HEADER_BYTES + 8, b"\x08"), "group 7 from offset 3072 on"),
    "out of order": (
        dump_bytes((7, 5, [1.0, 1.0]), (7, 4, [1.0, 1.0])),
        "must be of a dump whose records are in order of group and key",
    ),
}


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("case", BROKEN | MISPLACED)
def test_read_dump_refuses_what_is_no_whole_dump(tmp_path, case, verify):
    data, text = (BROKEN | MISPLACED)[case]
    path = tmp_path / "rows.dump"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        damo_tf.read_dump(path, verify=verify)
    assert str(path) in str(caught.value)


def test_read_dump_finds_a_misplaced_record_in_the_middle_of_a_large_file(tmp_path):
    n = 600_000  # of 16 bytes: checked in two parts
    rows = np.zeros(n, [("key", "<u8"), ("group", "<i4"), ("weight", "<f4")])
    rows["key"] = np.arange(n)
    header = struct.pack("<256i256Q", 1, *[0] * 255, n, *[0] * 255)
    path = tmp_path / "rows.dump"
    for bad in (1, 524_287, 524_288, n - 2):
        broken = rows.copy()
        broken["key"][bad] += 1
        path.write_bytes(header + broken.tobytes())
        with pytest.raises(ValueError, match="in order of group and key"):
            damo_tf.read_dump(path)
    path.write_bytes(header + rows.tobytes())
    assert len(damo_tf.read_dump(path)[0].keys) == n


def test_read_dump_of_an_absent_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        damo_tf.read_dump(tmp_path / "absent")


@pytest.mark.parametrize("path", [5, None, b"rows.dump"])
def test_read_dump_of_what_is_no_path_is_a_type_error(path):
    with pytest.raises(TypeError, match=rf"`path` must be a path. Received: path={path!r} of <class"):
        damo_tf.read_dump(path)


WITHOUT_TENSORFLOW = """
import sys
for name in ("tensorflow", "keras", "damo"):
    sys.modules[name] = None
import damo_tf
print({group: rows.keys.tolist() for group, rows in damo_tf.read_dump(sys.argv[1]).items()})
sys.modules.pop("damo")
try:
    damo_tf.Store
except ImportError as error:
    print(error)
print(hasattr(damo_tf, "Stoer"))
"""


def test_read_dump_needs_neither_engine_nor_tensorflow(tmp_path, run_python):
    (tmp_path / "rows.dump").write_bytes(EXAMPLE)
    rows, cure, other = run_python(WITHOUT_TENSORFLOW, tmp_path / "rows.dump").splitlines()
    assert rows == "{7: [5, 18446744073709551615]}"
    assert cure.startswith("damo_tf needs TensorFlow 2.21")
    assert other == "False"


# ---- load ----


def test_what_was_dumped_is_loaded_into_another_store(trained, tmp_path):
    trained.dump(tmp_path / "rows.dump")
    with damo_tf.Store(tmp_path / "other") as other:
        other.add_group(7, 2, optimizer="adam")  # group 0 has no rows in the file
        assert other.load(tmp_path / "rows.dump") == 2
        row = other.row(7, 5)
    assert row.weights.tolist() == [1.0, -0.5]
    assert row.update_num == 1 and row.update_time >= trained.row(7, 5).update_time
    assert {name: slot.tolist() for name, slot in row.slots.items()} == {"m": [0.0, 0.0], "v": [0.0, 0.0]}


def test_calls_that_go_through_rows_tell_how_far_they_have_come(store, tmp_path):
    rows = 150_000
    store.add_group(0, 1, optimizer="sgd")
    store.apply_gradients(0, np.arange(rows), np.ones((rows, 1)))
    store.checkpoint(tmp_path / "c")
    calls = {
        "dump": lambda progress: store.dump(tmp_path / "d", progress=progress),
        "load": lambda progress: store.load(tmp_path / "d", progress=progress),
        "restore": lambda progress: store.restore(tmp_path / "c", progress=progress),
        "delta": lambda progress: store.checkpoint_delta(tmp_path / "e", tmp_path / "c", progress=progress),
    }
    for name, call in calls.items():
        told: list[tuple[int, int]] = []
        call(lambda done, total, told=told: told.append((done, total)))

        done = [entry[0] for entry in told]
        assert len(told) >= 3, name
        assert done == sorted(done), name
        assert told[-1] == (rows, rows), name
        assert {total for _, total in told} == {rows}, name


def test_checkpoint_and_compact_tell_how_many_bytes_are_done(trained, tmp_path):
    storage = damo.PyStorage(trained.directory)
    trained.flush()
    for name, call in {
        "checkpoint": lambda progress: trained.checkpoint(tmp_path / "c", progress=progress),
        "compact": storage.compact,
    }.items():
        told: list[tuple[int, int]] = []
        call(lambda done, total, told=told: told.append((done, total)))

        done = [entry[0] for entry in told]
        assert done == sorted(done), name
        assert told[-1] == (told[0][1], told[0][1]), name
        assert len({total for _, total in told}) == 1, name
        if name == "checkpoint":
            files = [path for path in (tmp_path / "c").iterdir() if path.name != "DAMO_CHECKPOINT"]
            assert done[-1] == sum(path.stat().st_size for path in files)
            assert len(done) >= len(files)
        assert done[-1] > 0, name


def test_progress_that_raises_ends_the_work_of_which_nothing_is_done(store, tmp_path):
    store.add_group(0, 1, optimizer="sgd", initializer="zeros")
    store.apply_gradients(0, [1], [[1.0]])
    store.dump(tmp_path / "d")
    store.checkpoint(tmp_path / "c")
    store.apply_gradients(0, [1], [[1.0]])
    weights, dumped = store.row(0, 1).weights, (tmp_path / "d").read_bytes()

    def fail(_done: int, _total: int) -> None:
        raise ZeroDivisionError("enough")

    for call in (store.dump, store.load):
        with pytest.raises(ZeroDivisionError, match="enough"):
            call(tmp_path / "d", progress=fail)
    with pytest.raises(ZeroDivisionError, match="enough"):
        store.restore(tmp_path / "c", progress=fail)
    with pytest.raises(ZeroDivisionError, match="enough"):
        store.checkpoint(tmp_path / "e", progress=fail)
    with pytest.raises(ZeroDivisionError, match="enough"):
        store.checkpoint_delta(tmp_path / "e", tmp_path / "c", progress=fail)
    with pytest.raises(ZeroDivisionError, match="enough"):
        damo.PyStorage(store.directory).compact(fail)
    assert not list(tmp_path.glob("e*"))
    assert (tmp_path / "d").read_bytes() == dumped
    assert store.row(0, 1).weights == weights
    for call in (store.dump, store.load, store.restore, store.checkpoint):
        with pytest.raises(TypeError, match=r"`progress` must be callable or None\. Received: progress=1"):
            call(tmp_path / "c", progress=1)


def test_an_empty_path_is_refused_by_name_before_anything_is_done(store):
    store.add_group(0, 1)
    storage = damo.PyStorage(store.directory)
    for call in (storage.dump, storage.load):
        with pytest.raises(ValueError, match=r"`path` must be a path\. Received: path=''"):
            call("", progress=lambda _done, _total: pytest.fail("work had begun"))


def test_load_merges_unless_told_to_replace(trained, tmp_path):
    path = tmp_path / "rows.dump"
    path.write_bytes(dump_bytes((7, 5, [8.0, 8.0]), (7, 6, [9.0, 9.0])))
    assert trained.load(path) == 2
    assert trained.to_numpy(7)[0].tolist() == [5, 6, 2**64 - 1]
    assert trained.row(7, 5).weights.tolist() == [8.0, 8.0]
    assert trained.load(path, mode="replace") == 2
    assert trained.to_numpy(7)[0].tolist() == [5, 6]
    assert trained.size(7) == 2


@pytest.mark.parametrize("case", BROKEN)
def test_load_refuses_what_is_no_whole_dump_and_changes_nothing(trained, tmp_path, case):
    path = tmp_path / "rows.dump"
    path.write_bytes(BROKEN[case][0])
    with pytest.raises(ValueError, match=re.escape(f"load '{path}' into store '{trained.directory}'")):
        trained.load(path, mode="replace")
    assert trained.to_numpy(7)[0].tolist() == [5, 2**64 - 1]


def test_load_names_both_dims_and_groups_that_are_missing(trained, tmp_path):
    path = tmp_path / "rows.dump"
    path.write_bytes(dump_bytes((7, 5, [1.0, 2.0, 3.0])))
    with pytest.raises(ValueError, match="group 7 has dim 2 in the store, 3 in the file"):
        trained.load(path)
    path.write_bytes(dump_bytes((9, 5, [1.0])))
    with pytest.raises(KeyError, match="has no group 9; it has: 0, 7"):
        trained.load(path)
    with pytest.raises(ValueError, match=r"`mode` must be 'merge' or 'replace'\. Received: mode='add'"):
        trained.load(path, mode="add")
    with pytest.raises(
        TypeError, match=r"`mode` must be 'merge' or 'replace'\. Received: mode=5 of <class 'int'>"
    ):
        trained.load(path, mode=5)


LOADS = """
import sys
import damo

store = damo.PyStorage(sys.argv[1])
while True:
    for path in sys.argv[2:]:
        store.load(path, mode="replace")
        print(path, flush=True)
"""


def test_a_load_that_is_killed_leaves_all_of_it_or_nothing(store, tmp_path):
    n = 30_000
    store.add_group(3, 1)
    store.close()
    paths = [tmp_path / "ones.dump", tmp_path / "twos.dump"]
    for value, path in enumerate(paths, 1):
        rows = np.zeros(n, [("key", "<u8"), ("group", "<i4"), ("weight", "<f4")])
        rows["key"], rows["group"], rows["weight"] = np.arange(n) * value, 3, value
        path.write_bytes(
            struct.pack("<256i256Q", *[0] * 3, 1, *[0] * 252, *[0] * 3, n, *[0] * 252) + rows.tobytes()
        )
    for loads in range(1, 6):
        assert set(kill_after(loads, LOADS, store.directory, *paths)) <= set(map(str, paths))
        with damo_tf.Store(store.directory) as reopened:
            keys, weights = reopened.to_numpy(3)
            assert reopened.size(3) == n
        value = int(weights[0, 0])
        assert value in (1, 2)
        assert (weights == value).all() and (keys == np.arange(n) * value).all()


# ---- delete ----


def test_deleted_rows_read_as_if_there_had_never_been_any(trained):
    assert trained.delete(7, [[5, 6], [5, -2]]) == 1
    assert trained.row(7, 5) is None
    assert trained.size(7) == 1
    assert trained.delete(7, [-1]) == 1  # the bits of 2**64 - 1
    assert trained.delete(7, []) == 0
    assert trained.size() == 0
    np.testing.assert_array_equal(trained.lookup(7, [5]), [[0.0, 0.0]])
    trained.apply_gradients(7, [5], [[1.0, 1.0]])
    assert trained.row(7, 5).update_num == 1


def test_bad_arguments_of_delete_are_named(trained):
    with pytest.raises(KeyError, match="has no group 9; it has: 0, 7"):
        trained.delete(9, [5])
    with pytest.raises(TypeError, match="`keys` must be an integer"):
        trained.delete(7, [0.5])
    trained.close()
    with pytest.raises(RuntimeError, match="is closed"):
        trained.delete(7, [5])


DELETES = """
import sys
import damo
import numpy as np

store = damo.PyStorage(sys.argv[1], durability=sys.argv[2])
store.apply_gradients(7, np.arange(100, dtype=np.uint64), np.ones(200, np.float32))
print(store.delete(7, np.arange(50, dtype=np.uint64)), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("durability", ["wal", "sync", "checkpoint"])
def test_what_was_deleted_stays_so_when_the_process_is_killed(trained, durability):
    trained.close()
    assert kill_after(1, DELETES, trained.directory, durability) == ["50"]
    with damo_tf.Store(trained.directory) as store:
        assert store.to_numpy(7)[0].tolist() == [*range(50, 100), 2**64 - 1]
        assert store.size(7) == 51
