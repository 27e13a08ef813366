# SPDX-License-Identifier: Apache-2.0
"""`damo-tf` dump, load and delete."""

import numpy as np
import pytest
from commands import LAST_KEY, add_rows, failure, opened, run, run_json


def test_dump_and_load_carry_weights_to_another_store(path, tmp_path):
    file = tmp_path / "rows.dump"
    other = tmp_path / "other"
    with opened(other) as storage:
        storage.add_group(0, 2, {"name": "zeros"}, {"name": "sgd"})
        add_rows(storage, 0, [77])

    assert run_json("dump", path, file, "--group", 0, "--min-count", 2)["rows"] == 2
    assert run_json("load", other, file)["rows"] == 2
    with opened(other) as storage, opened(path) as original:
        assert storage.size() == 3
        np.testing.assert_array_equal(storage.row(0, 3)["weights"], original.row(0, 3)["weights"])
    assert run_json("load", other, file, "--mode", "replace")["mode"] == "replace"
    with opened(other) as storage:
        assert storage.size() == 2


def test_load_of_a_damaged_file_changes_nothing(path, tmp_path):
    file = tmp_path / "rows.dump"
    run("dump", path, file)
    file.write_bytes(file.read_bytes()[:-1])

    assert "rows.dump" in failure("load", path, file)
    with opened(path) as storage:
        assert storage.size() == 7


def test_delete_takes_keys_from_a_text_file(path, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text(f"# user 17\n1\n0x2  # the same user\n\n{hex(LAST_KEY)}\n99\n1\n")

    assert run_json("delete", path, 0, keys) == {
        "directory": str(path),
        "group": 0,
        "keys": 5,
        "deleted": 3,
    }
    with opened(path) as storage:
        assert storage.row(0, 1) is None and storage.row(0, 3) is not None
        assert storage.size(0) == 3 and storage.size(7) == 1


def test_delete_takes_keys_from_a_text_file_of_windows(path, tmp_path):
    (tmp_path / "keys.txt").write_bytes("1\r\n2\r\n".encode("utf-8-sig"))

    assert run_json("delete", path, 0, tmp_path / "keys.txt")["deleted"] == 2


@pytest.mark.parametrize("dtype", ["<u8", "<i8", ">u8"])
def test_delete_takes_keys_from_a_numpy_file(path, tmp_path, dtype):
    np.save(tmp_path / "keys.npy", np.array([1, 2], dtype))

    assert run_json("delete", path, 0, tmp_path / "keys.npy")["deleted"] == 2


def test_delete_takes_keys_from_stdin(path):
    assert run_json("delete", path, 0, stdin=b"-1\n4")["deleted"] == 2
    assert run_json("delete", path, 0, "-", stdin=b"")["keys"] == 0


def test_delete_with_one_bad_line_deletes_nothing_and_names_it(path, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("1\n2\nthree\n")

    assert f"{keys}, line 3: a key must be" in failure("delete", path, 0, keys)
    with opened(path) as storage:
        assert storage.size() == 7


@pytest.mark.parametrize(
    "array", [np.zeros((1, 1), np.int64), np.zeros(1, np.float64), np.zeros(1, np.int32)]
)
def test_delete_refuses_arrays_that_are_no_keys(path, tmp_path, array):
    np.save(tmp_path / "keys.npy", array)

    assert "one-dimensional array of int64 or uint64" in failure("delete", path, 0, tmp_path / "keys.npy")


@pytest.mark.parametrize("data", [b"\x93NUMPY\x01", b"\x93NUMPY\x01\x00\x05\x00abcde", b"\x93NUMPY\x09\x00"])
def test_delete_names_a_numpy_file_that_is_damaged(path, tmp_path, data):
    (tmp_path / "bad.npy").write_bytes(data)

    message = failure("delete", path, 0, tmp_path / "bad.npy")
    assert f"{tmp_path / 'bad.npy'} must be a .npy file of 64-bit integers. Received: " in message


def test_delete_names_a_numpy_file_that_is_cut_short(path, tmp_path):
    np.save(tmp_path / "keys.npy", np.arange(100))
    data = (tmp_path / "keys.npy").read_bytes()
    (tmp_path / "keys.npy").write_bytes(data[:-1])

    assert f"{tmp_path / 'keys.npy'} must be a .npy file" in failure("delete", path, 0, tmp_path / "keys.npy")
    assert run_json("info", path)["rows"] == 7


def test_delete_from_a_group_that_is_not_there_is_a_failure(path):
    assert "no group 5" in failure("delete", path, 5, stdin=b"")
