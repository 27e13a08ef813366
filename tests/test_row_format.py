# SPDX-License-Identifier: Apache-2.0
"""docs/row_format.md, both ways: what the engine writes, read by rocksdict; and what rocksdict wrote.

And damage: bytes that cannot be what was written are data loss, never a row made anew (contract C7).
"""

import json
import re
import struct
from pathlib import Path

import numpy as np
import oracles
import pytest
from oracles import OracleTable
from raw_store import raw_store, row_key, row_value, with_update_time
from stored_rows import assert_rows_equal

import damo_tf

SGD = {"name": "sgd", "gamma": 1.0}
TIME = 1767225600000  # 2026-01-01 00:00:00 UTC


def pack_state(step: int, num_rows: int) -> bytes:
    return struct.pack("<qq", step, num_rows)


# ---- What the engine writes ----


def test_a_row_of_golden_bytes(tmp_path):
    """Never change: stores out there have rows like this one."""
    key = 0x0123456789ABCDEF
    with damo_tf.Store(tmp_path / "store") as store:
        # The first update moves the weights from 0 by -gamma * g / (sqrt(g * g) + epsilon): to -2 and 0.
        optimizer = {"name": "adagrad", "gamma": 2.0, "epsilon": 1e-30}
        store.add_group(7, 2, initializer="zeros", optimizer=optimizer)
        store.apply_gradients(7, [key], [[0.5, 0.0]])
        store.apply_gradients(7, [key], [[0.0, 0.0]])
        store.apply_gradients(7, [key], [[0.0, 0.0]])
    with raw_store(tmp_path / "store") as raw:
        (entry,) = raw.rows.items()
    assert entry[0].hex(" ") == "07 01 23 45 67 89 ab cd ef"
    assert with_update_time(entry[1], TIME).hex(" ") == (
        "07 00 00 00 00 00 00 00 "  # group, reserved
        "ef cd ab 89 67 45 23 01 "  # key
        "00 a8 da 76 9b 01 00 00 "  # update_time
        "03 00 00 00 00 00 00 00 "  # update_num
        "00 00 00 c0 00 00 00 00 "  # weights -2, 0
        "00 00 80 3e 00 00 00 00"  # sum 0.25, 0
    )


SLOTS = {
    "sgd": [],
    "ftrl": ["z", "n"],
    "adagrad": ["sum"],
    "adam": ["m", "v"],
    "adamw": ["m", "v"],
    "lion": ["m"],
}


@pytest.mark.parametrize("optimizer", SLOTS)
def test_rows_hold_header_weights_and_slots_in_the_documented_order(tmp_path, rng, optimizer):
    dim, group, keys = 3, 200, [0, 1, 2**63, 2**64 - 1]
    oracle = OracleTable(dim, optimizer=optimizer, group=group)
    with damo_tf.Store(tmp_path / "store") as store:
        store.add_group(group, dim, optimizer=optimizer)
        for _ in range(5):
            gradients = rng.standard_normal((4, dim), np.float32)
            store.apply_gradients(group, keys, gradients)
            oracle.apply_gradients(keys, gradients)
        times = {key: store.row(group, key).update_time for key in keys}
    with raw_store(tmp_path / "store") as raw:
        stored = dict(raw.rows.items())
    assert stored == {
        row_key(group, key): row_value(
            group, key, times[key], 5, row.weights, *(row.slots[name] for name in SLOTS[optimizer])
        )
        for key, row in oracle.rows.items()
    }
    assert list(oracles.OPTIMIZERS[optimizer].slot_names) == SLOTS[optimizer]


def test_byte_order_of_keys_is_group_then_number(tmp_path):
    with damo_tf.Store(tmp_path / "store") as store:
        for group in (255, 0, 7):
            store.add_group(group, 1, optimizer=SGD)
            store.apply_gradients(group, [2**63, 256, 1, 2**64 - 1], np.ones((4, 1)))
    with raw_store(tmp_path / "store") as raw:
        keys = [struct.unpack(">BQ", key) for key, _ in raw.rows.items()]
    assert keys == [(group, key) for group in (0, 7, 255) for key in (1, 256, 2**63, 2**64 - 1)]


def test_rows_are_written_by_updates_only(tmp_path):
    with damo_tf.Store(tmp_path / "store") as store:
        store.add_group(0, 1, optimizer=SGD)
        store.lookup(0, [1, 2, 3])
        store.apply_gradients(0, [1, 2, 3], [[1], [np.nan], [1]], padding_key=3)
    with raw_store(tmp_path / "store") as raw:
        assert [key for key, _ in raw.rows.items()] == [row_key(0, 1)]


def test_the_manifest_holds_format_seed_configs_and_states(tmp_path):
    with damo_tf.Store(tmp_path / "store", seed=2**64 - 2) as store:
        store.add_group(
            3, 8, initializer={"name": "random_uniform", "min": -0.1, "max": 0.1}, optimizer="adam"
        )
        store.add_group(255, 1, initializer="zeros", optimizer="sgd")
        store.apply_gradients(3, [1, 2], np.ones((2, 8)))
        store.apply_gradients(3, [2, 3], np.ones((2, 8)))
    with raw_store(tmp_path / "store") as raw:
        manifest = dict(raw.manifest.items())
    assert manifest == {
        b"format": bytes.fromhex("01000000"),
        b"seed": bytes.fromhex("feffffffffffffff"),
        b"config/003": (
            b'{"dim":8,"initializer":{"max":0.1,"min":-0.1,"name":"random_uniform"},'
            b'"optimizer":{"beta1":0.9,"beta2":0.999,"epsilon":1e-08,"gamma":0.001,"lambda":0.0,'
            b'"name":"adam"}}'
        ),
        b"config/255": (
            b'{"dim":1,"initializer":{"name":"zeros"},"optimizer":{"gamma":0.001,"lambda":0.0,"name":"sgd"}}'
        ),
        b"state/003": pack_state(2, 3),
        b"state/255": pack_state(0, 0),
        b"redo": bytes.fromhex("0200000000000000"),  # records 0 and 1 of the redo log are in the rows
    }


def test_the_manifest_holds_time_to_live_released_groups_and_the_time_of_events(tmp_path):
    path = tmp_path / "store"
    with damo_tf.Store(path, clock="event", ttl_seconds=60) as store:
        store.add_group(1, 1, initializer="zeros", optimizer="sgd", ttl_seconds=30)
        store.add_group(2, 1, initializer="zeros", optimizer="sgd", ttl_seconds="never")
        store.add_group(3, 1, initializer="zeros", optimizer="sgd")
        store.apply_gradients(1, [1], [[1]])
    with raw_store(path) as raw:
        manifest = dict(raw.manifest.items())
    begin = b'{"dim":1,"initializer":{"name":"zeros"},"optimizer":{"gamma":0.001,"lambda":0.0,"name":"sgd"}'
    assert manifest[b"config/001"] == begin + b',"ttl_seconds":30}'
    assert manifest[b"config/002"] == begin + b',"ttl_seconds":0}'
    assert manifest[b"config/003"] == begin + b"}"
    assert manifest[b"event_time"] == bytes(8)
    assert not any(name.startswith(b"released/") for name in manifest)  # nothing can have expired yet

    with damo_tf.Store(path) as store:
        store.add_group(1, 1, initializer="zeros", optimizer="sgd", ttl_seconds=30)
        store.advance_clock(0x0102030405)
    with raw_store(path) as raw:
        manifest = dict(raw.manifest.items())
    assert manifest[b"event_time"] == bytes.fromhex("0504030201000000")
    assert {n: v for n, v in manifest.items() if n.startswith(b"released/")} == {b"released/001": b"\1"}


def test_the_manifest_keeps_a_schedule(tmp_path):
    schedule = {"name": "cosine_decay", "decay_steps": 5}
    with damo_tf.Store(tmp_path / "store") as store:
        store.storage.add_group(0, 1, {"name": "zeros"}, SGD, schedule)
    with raw_store(tmp_path / "store") as raw:
        config = json.loads(raw.manifest[b"config/000"])
    assert config["schedule"] == {"name": "cosine_decay", "decay_steps": 5.0, "alpha": 0.0}
    with damo_tf.Store(tmp_path / "store") as store:
        store.storage.add_group(0, 1, {"name": "zeros"}, SGD, schedule)
        assert store.stats()["groups"][0]["schedule"] == config["schedule"]


# ---- What the engine reads ----


@pytest.fixture
def foreign_store(tmp_path: Path) -> Path:
    """A store made by rocksdict alone: group 9, dim 2, adagrad, two rows, seed 11."""
    path = tmp_path / "foreign"
    config = {"dim": 2, "optimizer": {"name": "adagrad"}, "initializer": {"name": "random_normal"}}
    with raw_store(path, create=True) as raw:
        raw.manifest[b"format"] = struct.pack("<I", 1)
        raw.manifest[b"seed"] = struct.pack("<Q", 11)
        raw.manifest[b"config/009"] = json.dumps(config).encode()
        raw.manifest[b"state/009"] = pack_state(6, 2)
        raw.rows[row_key(9, 5)] = row_value(9, 5, TIME, 3, [1, -0.5], [0.25, 0])
        raw.rows[row_key(9, 2**64 - 1)] = row_value(9, 2**64 - 1, TIME, 6, [7, 8], [9, 10])
    return path


def worked_example() -> list[bytes]:
    """The page's two hex dumps, its key and its value; words beside the bytes are left out."""
    page = (Path(__file__).parent.parent / "docs" / "row_format.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^### Worked example$.*?^```$(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    dumps = block.strip().split("\n\n")
    return [bytes.fromhex("".join(re.findall(r"(?<![.\w])[0-9a-f]{2}(?![.\w])", dump))) for dump in dumps]


def test_the_pages_worked_example_reads_as_the_page_says(tmp_path):
    key, value = worked_example()
    config = {"dim": 2, "optimizer": {"name": "adagrad"}, "initializer": {"name": "zeros"}}
    with raw_store(tmp_path / "store", create=True) as raw:
        raw.manifest[b"format"] = struct.pack("<I", 1)
        raw.manifest[b"seed"] = struct.pack("<Q", 0)
        raw.manifest[b"config/007"] = json.dumps(config).encode()
        raw.manifest[b"state/007"] = pack_state(3, 1)
        raw.manifest[b"state/007"] = pack_state(3, 1)
        raw.rows[key] = value
    with damo_tf.Store(tmp_path / "store") as store:
        row = store.row(7, 0x0123456789ABCDEF)
    assert (row.update_num, row.update_time) == (3, TIME)
    np.testing.assert_array_equal(row.weights, [1, -0.5])
    np.testing.assert_array_equal(row.slots["sum"], [0.25, 0])


def test_a_store_written_by_the_page_is_read_and_trained(foreign_store):
    with damo_tf.Store.attach(foreign_store) as store:
        row = store.row(9, 2**64 - 1)
        assert (row.group, row.key, row.update_time, row.update_num) == (9, 2**64 - 1, TIME, 6)
        np.testing.assert_array_equal(row.weights, [7, 8])
        np.testing.assert_array_equal(row.slots["sum"], [9, 10])

        oracle = OracleTable(2, optimizer="adagrad", initializer="random_normal", seed=11, group=9)
        oracle.rows[5] = oracles.Row(np.float32([1, -0.5]), {"sum": np.float32([0.25, 0])}, 3)
        oracle.rows[2**64 - 1] = oracles.Row(np.float32([7, 8]), {"sum": np.float32([9, 10])}, 6)
        oracle.global_step = 6
        assert_rows_equal(store, oracle)
        for keys in ([5, 6, -1], [6]):
            gradients = np.arange(len(keys) * 2, dtype=np.float32).reshape(-1, 2)
            store.apply_gradients(9, keys, gradients)
            oracle.apply_gradients(keys, gradients)
        assert_rows_equal(store, oracle)


@pytest.mark.parametrize("name", ["format", "seed", "state/009"])
def test_a_manifest_with_a_part_missing_is_data_loss(foreign_store, name):
    with raw_store(foreign_store, write=True) as raw:
        del raw.manifest[name.encode()]

    with pytest.raises(RuntimeError, match=f"^data loss: open store .* manifest entry '{name}' is missing$"):
        damo_tf.Store.attach(foreign_store)


def test_a_newer_format_is_refused_and_left_alone(foreign_store):
    with raw_store(foreign_store, write=True) as raw:
        raw.manifest[b"format"] = struct.pack("<I", 2)
    for open_store in (damo_tf.Store.attach, lambda path: damo_tf.Store(path, read_only=True)):
        with pytest.raises(ValueError) as caught:
            open_store(foreign_store)
        assert str(caught.value) == (
            f"open store '{foreign_store}': has format version 2, this release reads version 1"
        )
    with raw_store(foreign_store) as raw:
        assert raw.manifest[b"format"] == struct.pack("<I", 2)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (b"format", b"\1\0", "manifest entry 'format' has 2 bytes, expected 4"),
        (b"seed", b"\1", "manifest entry 'seed' has 1 bytes, expected 8"),
        (b"seed", None, "manifest entry 'seed' is missing"),
        (b"event_time", b"\1", "manifest entry 'event_time' has 1 bytes, expected 8"),
        (b"event_time", b"\xff" * 8, "manifest entry 'event_time' is -1, expected >= 0"),
        (b"state/009", b"\1" * 8, "manifest entry 'state/009' has 8 bytes, expected 16"),
        (b"config/009", b"{", "manifest entry 'config/009': group config is not a JSON object: {"),
        (b"config/009", b'{"dim":2}', "manifest entry 'config/009': group config has no member 'optimizer'"),
    ],
)
def test_a_damaged_manifest_is_data_loss(foreign_store, name, value, message):
    with raw_store(foreign_store, write=True) as raw:
        if value is None:
            del raw.manifest[name]
        else:
            raw.manifest[name] = value
    with pytest.raises(RuntimeError) as caught:
        damo_tf.Store.attach(foreign_store)
    assert str(caught.value) == f"data loss: open store '{foreign_store}': {message}"


# ---- Damage ----

GOOD = row_value(9, 5, TIME, 3, [1, -0.5], [0.25, 0])
DAMAGE = {
    "cut short": (GOOD[:-1], "row of key 5 has 47 bytes, expected 48"),
    "empty": (b"", "row of key 5 has 0 bytes, expected 48"),
    "too long": (GOOD + b"\0", "row of key 5 has 49 bytes, expected 48"),
    "header only": (GOOD[:32], "row of key 5 has 32 bytes, expected 48"),
    "another group": (
        row_value(8, 5, TIME, 3, [1, -0.5], [0.25, 0]),
        "row of key 5 says group 8, expected 9",
    ),
    "another key": (row_value(9, 6, TIME, 3, [1, -0.5], [0.25, 0]), "row of key 5 says key 6"),
    "reserved": (
        row_value(9, 5, TIME, 3, [1, -0.5], [0.25, 0], reserved=1),
        "row of key 5 has reserved field 1, expected 0",
    ),
    "no update": (
        row_value(9, 5, TIME, 0, [1, -0.5], [0.25, 0]),
        "row of key 5 has update_num 0, expected in [1, 2^62)",
    ),
    "absurd count": (
        row_value(9, 5, TIME, 2**62, [1, -0.5], [0.25, 0]),
        "row of key 5 has update_num 4611686018427387904, expected in [1, 2^62)",
    ),
    "negative count": (
        row_value(9, 5, TIME, -1, [1, -0.5], [0.25, 0]),
        "row of key 5 has update_num -1, expected in [1, 2^62)",
    ),
}


@pytest.mark.parametrize(("value", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_row_is_data_loss_and_is_never_made_anew(foreign_store, value, message):
    with raw_store(foreign_store, write=True) as raw:
        raw.rows[row_key(9, 5)] = value
    with damo_tf.Store.attach(foreign_store) as store:
        ones = np.ones((3, 2))
        for action, call in {
            "lookup in": lambda: store.lookup(9, [4, 5, 6]),
            "apply gradients to": lambda: store.apply_gradients(9, [4, 5, 6], ones),
            "read a row of": lambda: store.row(9, 5),
        }.items():
            with pytest.raises(RuntimeError) as caught:
                call()
            assert str(caught.value) == f"data loss: {action} group 9 of store '{foreign_store}': {message}"
        # The step that failed changed nothing; the rest of the store can be read and trained.
        assert store.row(9, 4) is None
        assert store.stats()["groups"][9]["step"] == 6
        store.apply_gradients(9, [4, -1], ones[:2])
        assert store.row(9, -1).update_num == 7
        assert store.size() == 3
    with raw_store(foreign_store) as raw:
        assert raw.rows[row_key(9, 5)] == value


def test_a_damaged_row_is_data_loss_to_a_count_with_time_to_live(foreign_store):
    with raw_store(foreign_store, write=True) as raw:
        raw.rows[row_key(9, 5)] = GOOD[:-1]
    with damo_tf.Store(foreign_store, seed=None, ttl_seconds=2**40) as store:
        message = "^data loss: count the rows of group 9 .*: row of key 5 has 47 bytes, expected 48$"
        with pytest.raises(RuntimeError, match=message):
            store.size()


def test_a_flipped_bit_on_disk_is_data_loss_with_path_group_and_number_of_keys(tmp_path):
    keys = np.arange(1000)
    with damo_tf.Store(tmp_path / "store") as store:
        store.add_group(4, 8, optimizer="sgd")
        store.apply_gradients(4, keys, np.ones((1000, 8)))
    rows_file = max((tmp_path / "store").glob("*.sst"), key=lambda path: path.stat().st_size)
    damaged = bytearray(rows_file.read_bytes())
    damaged[100] ^= 1
    rows_file.write_bytes(damaged)
    with damo_tf.Store(tmp_path / "store") as store:
        for call in (
            lambda: store.lookup(4, keys[:250]),
            lambda: store.apply_gradients(4, keys[:250], np.ones((250, 8))),
        ):
            with pytest.raises(RuntimeError) as caught:
                call()
            text = str(caught.value)
            assert text.startswith("data loss: ")
            assert f"read store '{store.directory}': group 4, 250 keys: Corruption: " in text
        # Another block of the same file is whole.
        np.testing.assert_array_equal(store.lookup(4, [999]).shape, (1, 8))
        assert store.row(4, 999).update_num == 1
        assert store.stats()["groups"][4]["step"] == 1
