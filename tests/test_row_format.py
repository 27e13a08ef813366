# SPDX-License-Identifier: Apache-2.0
"""The bytes on disk, as docs/row_format.md has them, read and written by rocksdict alone."""

import contextlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import damo
import numpy as np
import oracles
import pytest
from rocksdict import AccessType, BlockBasedOptions, Options, Rdict

HEADER = struct.Struct("<iIqqq")
LAST = 2**64 - 1

SLOTS = {
    "sgd": [],
    "ftrl": ["z", "n"],
    "adagrad": ["sum"],
    "adam": ["m", "v"],
    "adamw": ["m", "v"],
    "lion": ["m"],
}


def raw() -> Options:
    """Options of a client that maps bytes to bytes, in files that RocksDB 7 reads too."""
    tables = BlockBasedOptions()
    tables.set_format_version(5)
    options = Options(raw_mode=True)
    options.set_block_based_table_factory(tables)
    return options


@contextlib.contextmanager
def database(path: Path, *, write: bool = False) -> Iterator[tuple[Rdict, Rdict]]:
    """The column families of rows and manifest, bytes to bytes."""
    access = AccessType.read_write() if write else AccessType.read_only()
    families = {"default": raw(), "manifest": raw()}
    rows = Rdict(str(path), raw(), column_families=families, access_type=access)
    try:
        yield rows, rows.get_column_family("manifest")
    finally:
        rows.close()


def row_key(group: int, key: int) -> bytes:
    return struct.pack(">BQ", group, key)


def row_value(group: int, key: int, *, update_num: int, floats: list[float], time: int = 1) -> bytes:
    bits = key - 2**64 if key >= 2**63 else key
    return HEADER.pack(group, 0, bits, time, update_num) + np.array(floats, "<f4").tobytes()


def write_rows(path: Path, optimizer: str, group: int = 7) -> None:
    """A closed store with rows of keys 1 and LAST, dim 2, updated twice and once."""
    storage = damo.PyStorage(path, seed=5)
    storage.add_group(group, 2, {"name": "ones"}, {"name": optimizer})
    storage.apply_gradients(group, np.array([1, LAST], np.uint64), np.array([1, 2, 3, 4], np.float32))
    storage.apply_gradients(group, np.array([1], np.uint64), np.array([5, 6], np.float32))
    storage.close()


def read(path: Path, keys: list[int], group: int = 7) -> np.ndarray:
    with damo.PyStorage(path) as storage:
        weights = np.full(2 * len(keys), np.nan, np.float32)
        storage.lookup(group, np.array(keys, np.uint64), weights)
        return weights.reshape(-1, 2)


@pytest.mark.parametrize("optimizer", SLOTS)
def test_rows_are_the_documented_bytes(tmp_path, optimizer):
    write_rows(tmp_path / "store", optimizer)
    table = oracles.OracleTable(2, optimizer=optimizer, initializer="ones", group=7, seed=5)
    table.apply_gradients([1, LAST], np.array([[1, 2], [3, 4]], np.float32))
    table.apply_gradients([1], np.array([[5, 6]], np.float32))

    with database(tmp_path / "store") as (rows, _):
        stored = dict(rows.items())

    assert list(stored) == [row_key(7, 1), row_key(7, LAST)]
    for key, num_updates in ((1, 2), (LAST, 1)):
        value = stored[row_key(7, key)]
        group, reserved, key_bits, update_time, update_num = HEADER.unpack_from(value)
        assert (group, reserved, key_bits % 2**64, update_num) == (7, 0, key, num_updates)
        assert 1_700_000_000_000 < update_time < 4_000_000_000_000  # milliseconds, some year from 2023 on
        row = table.rows[key]
        assert list(row.slots) == SLOTS[optimizer]
        floats = np.concatenate([row.weights, *row.slots.values()])
        assert value[HEADER.size :] == floats.astype("<f4").tobytes()


def test_manifest_is_the_documented_bytes(tmp_path):
    write_rows(tmp_path / "store", "adagrad")

    with database(tmp_path / "store") as (_, manifest):
        entries = dict(manifest.items())

    config = json.loads(entries.pop(b"config/007"))
    assert config == {
        "dim": 2,
        "initializer": {"name": "ones"},
        "optimizer": {"epsilon": 1e-10, "eta": 0.0, "gamma": 0.01, "lambda": 0.0, "name": "adagrad"},
    }
    assert entries == {
        b"format": bytes([1, 0, 0, 0]),
        b"seed": bytes([5, 0, 0, 0, 0, 0, 0, 0]),
        b"state/007": struct.pack("<qq", 2, 2),  # two steps, two rows
    }


def test_rows_written_by_another_client_are_read(tmp_path):
    write_rows(tmp_path / "store", "adagrad")
    with database(tmp_path / "store", write=True) as (rows, manifest):
        rows[row_key(7, 0)] = row_value(7, 0, update_num=9, floats=[0.5, -0.5, 1.0, 2.0])
        manifest[b"config/200"] = b'{"dim":1,"initializer":{"name":"zeros"},"optimizer":{"name":"sgd"}}'
        manifest[b"state/200"] = struct.pack("<qq", 41, 1)
        rows[row_key(200, 3)] = row_value(200, 3, update_num=1, floats=[4.0])

    with damo.PyStorage(tmp_path / "store") as storage:
        row = storage.row(7, 0)
        assert row["update_num"] == 9
        assert row["weights"].tolist() == [0.5, -0.5]
        assert row["slots"]["sum"].tolist() == [1.0, 2.0]
        assert storage.row(200, 3)["weights"].tolist() == [4.0]
        assert storage.stats()["groups"][200]["step"] == 41


DAMAGES = {
    "row of key 1 has 7 bytes, expected 48": b"garbage",
    "row of key 1 has 44 bytes, expected 48": row_value(7, 1, update_num=1, floats=[1, 2, 3]),
    "row of key 1 says group 8, expected 7": row_value(8, 1, update_num=1, floats=[1, 2, 3, 4]),
    "row of key 1 says key 2": row_value(7, 2, update_num=1, floats=[1, 2, 3, 4]),
    "row of key 1 has update_num 0, expected >= 1": row_value(7, 1, update_num=0, floats=[1, 2, 3, 4]),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_damaged_row_is_data_loss_and_never_made_anew(tmp_path, message):
    write_rows(tmp_path / "store", "adagrad")
    with database(tmp_path / "store", write=True) as (rows, _):
        rows[row_key(7, 1)] = DAMAGES[message]
    undamaged = read(tmp_path / "store", [LAST])

    with damo.PyStorage(tmp_path / "store") as storage:
        keys, floats = np.array([LAST, 1], np.uint64), np.ones(4, np.float32)
        for call in (
            lambda: storage.lookup(7, keys, floats),
            lambda: storage.apply_gradients(7, keys, floats),
            lambda: storage.row(7, 1),
        ):
            with pytest.raises(RuntimeError, match=f"^data loss: .* group 7 of store '.*': {message}"):
                call()

    np.testing.assert_array_equal(read(tmp_path / "store", [LAST]), undamaged)
    with database(tmp_path / "store") as (rows, _):
        assert rows[row_key(7, 1)] == DAMAGES[message]


def test_flipped_byte_in_a_table_file_is_data_loss(tmp_path):
    storage = damo.PyStorage(tmp_path / "store")
    storage.add_group(7, 2, {"name": "ones"}, {"name": "sgd"})
    keys = np.arange(2000, dtype=np.uint64)
    storage.apply_gradients(7, keys, np.ones(4000, np.float32))
    storage.close()
    largest = max((tmp_path / "store").glob("*.sst"), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[100] ^= 1  # within the first block of rows
    largest.write_bytes(content)

    with damo.PyStorage(tmp_path / "store") as storage:
        weights = np.empty(4000, np.float32)
        with pytest.raises(RuntimeError, match=r"^data loss: lookup in group 7 .* \d+ keys: Corruption"):
            storage.lookup(7, keys, weights)
        with pytest.raises(RuntimeError, match=r"^data loss: apply gradients to group 7 of "):
            storage.apply_gradients(7, keys, np.ones(4000, np.float32))
        assert storage.stats()["groups"][7]["step"] == 1


def test_worked_example_of_the_documentation_is_read(tmp_path):
    value = bytes.fromhex(
        "07000000 00000000 efcdab8967452301 00a8da769b010000 0300000000000000"
        "0000803f 000000bf 0000803e 00000000"
    )
    write_rows(tmp_path / "store", "adagrad")
    with database(tmp_path / "store", write=True) as (rows, _):
        rows[bytes.fromhex("070123456789abcdef")] = value

    with damo.PyStorage(tmp_path / "store") as storage:
        row = storage.row(7, 0x0123456789ABCDEF)

    assert row["update_time"] == 1767225600000
    assert row["update_num"] == 3
    assert row["weights"].tolist() == [1.0, -0.5]
    assert row["slots"]["sum"].tolist() == [0.25, 0.0]
