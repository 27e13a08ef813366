# SPDX-License-Identifier: Apache-2.0
"""`damo-tf` checkpoint, restore, expire, convert and compact."""

import os
import shutil

import numpy as np
import pytest
from commands import LAST_KEY, add_rows, content, failure, open_elsewhere, opened, run, run_json
from raw_store import raw_store, row_key, with_update_time

from damo_tf._aside import directory_aside

# ---- checkpoint, restore ----


def test_checkpoint_and_restore_bring_back_a_store_that_is_lost(path, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_json("checkpoint", path, first)["rows"] == 7
    run("delete", path, 0, stdin=b"1\n2")
    with opened(path) as storage:
        add_rows(storage, 7, [5])
    assert run_json("checkpoint", path, second, "--since", first)["since"] == str(first)
    shutil.rmtree(path)

    assert run_json("restore", path, second)["rows"] == 6
    with opened(path) as storage:
        assert storage.row(0, 1) is None and storage.row(7, 5) is not None
        assert storage.stats()["groups"][7]["step"] == 2
    assert run_json("restore", path, first)["rows"] == 7
    assert run_json("restore", path, first, second)["rows"] == 6
    assert run_json("verify", path)["ok"]
    assert run_json("verify", first)["rows"] == 7  # a full checkpoint is a store, too


def test_restore_from_what_is_no_checkpoint_makes_no_store(path, tmp_path):
    message = failure("restore", tmp_path / "new", path)

    assert message == f"damo-tf: restore from '{path}': '{path}' is no checkpoint"
    assert not (tmp_path / "new").exists()


def test_restore_from_a_damaged_description_makes_no_store(path, tmp_path):
    run("checkpoint", path, tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "DAMO_CHECKPOINT").write_text('{"seed": "three"')

    assert "' is damaged" in failure("restore", tmp_path / "new", tmp_path / "checkpoint")
    assert not (tmp_path / "new").exists()


def test_restore_that_fails_makes_no_store(path, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    run("checkpoint", path, checkpoint)
    table = max(checkpoint.glob("*.sst"), key=lambda file: file.stat().st_size)
    data = bytearray(table.read_bytes())
    data[60] ^= 1
    table.unlink()  # a link to the store's own
    table.write_bytes(data)
    before = sorted(entry.name for entry in tmp_path.iterdir())

    assert "checksum" in failure("restore", tmp_path / "new", checkpoint)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before


def test_restore_takes_over_what_one_that_died_has_left(path, tmp_path):
    run("checkpoint", path, tmp_path / "checkpoint")
    with opened(tmp_path / "new.unfinished", seed=77) as storage:  # of another checkpoint
        storage.add_group(0, 5, {"name": "zeros"}, {"name": "sgd"})
        add_rows(storage, 0, [1])

    assert run_json("restore", tmp_path / "new", tmp_path / "checkpoint")["rows"] == 7
    assert not (tmp_path / "new.unfinished").exists()
    with opened(tmp_path / "new") as storage, opened(path) as original:
        assert storage.options["seed"] == 3
        np.testing.assert_array_equal(storage.row(0, 3)["weights"], original.row(0, 3)["weights"])


def test_restore_of_what_another_restores_is_refused(path, tmp_path):
    run("checkpoint", path, tmp_path / "checkpoint")
    with directory_aside(str(tmp_path / "new")) as unfinished:
        assert "it is being written at this moment" in failure(
            "restore", tmp_path / "new", tmp_path / "checkpoint"
        )
        assert os.path.isdir(unfinished)


def test_restore_into_an_empty_directory_makes_a_store(path, tmp_path):
    run("checkpoint", path, tmp_path / "checkpoint")
    (tmp_path / "new").mkdir()

    assert run_json("restore", tmp_path / "new", tmp_path / "checkpoint")["rows"] == 7
    assert run_json("verify", tmp_path / "new")["ok"]


def test_restore_into_a_directory_of_other_things_leaves_them_alone(path, tmp_path):
    run("checkpoint", path, tmp_path / "checkpoint")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "letter").write_text("dear")

    assert str(tmp_path / "new") in failure("restore", tmp_path / "new", tmp_path / "checkpoint")
    assert content(tmp_path / "new").keys() == {"letter"}


# ---- expire, convert, compact ----


def test_expire_removes_rows_that_are_past_their_time_to_live(path):
    with raw_store(path, write=True) as raw:
        for key in (1, 2):
            raw.rows[row_key(0, key)] = with_update_time(raw.rows[row_key(0, key)], 10)

    assert run_json("expire", path)["removed"] == 0
    found = run_json("expire", path, "--ttl-seconds", 86_400)

    assert found == {"directory": str(path), "groups_with_ttl": [0, 7], "removed": 2, "rows": 5}
    assert run_json("verify", path)["ok"]


def test_convert_to_another_optimizer_and_a_smaller_dim(path, tmp_path):
    target = tmp_path / "target"
    with opened(path) as storage:
        before = {key: storage.row(0, key) for key in (1, 3, LAST_KEY)}

    found = run_json("convert", path, target, 0, "--dim", 1, "--optimizer", '{"name": "adam", "gamma": 0.25}')

    assert found["rows"] == 7
    assert run_json("verify", target)["ok"]
    with opened(path) as old, opened(target) as new:
        config = new.group_config(0)
        assert (config["dim"], config["optimizer"]["name"], config["optimizer"]["gamma"]) == (1, "adam", 0.25)
        assert new.group_config(7) == old.group_config(7)
        assert new.options["seed"] == 3
        assert [new.stats()["groups"][g]["step"] for g in (0, 7)] == [3, 1]
        for key, row in before.items():
            np.testing.assert_array_equal(old.row(0, key)["slots"]["sum"], row["slots"]["sum"])
            converted = new.row(0, key)
            np.testing.assert_array_equal(converted["weights"], row["weights"][:1])
            assert (converted["update_num"], converted["update_time"]) == (1, row["update_time"])
            assert {name: slot.tolist() for name, slot in converted["slots"].items()} == {"m": [0], "v": [0]}
        np.testing.assert_array_equal(new.row(7, 1)["weights"], old.row(7, 1)["weights"])
        add_rows(new, 0, [1])  # it goes on training


def test_convert_fills_wider_rows_up_with_their_initial_values(tmp_path):
    path, target = tmp_path / "store", tmp_path / "target"
    initializer = {"name": "random_uniform", "min": -1.0, "max": 1.0}
    with opened(path, seed=9) as storage:
        storage.add_group(2, 3, initializer, {"name": "sgd"})
        add_rows(storage, 2, [5, 6])

    run("convert", path, target, 2, "--dim", 5)

    with opened(path) as old, opened(target) as new, opened(tmp_path / "fresh", seed=9) as fresh:
        fresh.add_group(2, 5, initializer, {"name": "sgd"})
        initial = np.empty(2 * 5, np.float32)
        fresh.lookup(2, np.array([5, 6], np.uint64), initial)
        for i, key in enumerate((5, 6)):
            weights = new.row(2, key)["weights"]
            np.testing.assert_array_equal(weights[:3], old.row(2, key)["weights"])
            np.testing.assert_array_equal(weights[3:], initial.reshape(2, 5)[i, 3:])


def test_convert_of_a_checkpoint_works_beside_a_trainer(path, tmp_path):
    run("checkpoint", path, tmp_path / "checkpoint")
    with open_elsewhere(path):
        found = run_json("convert", tmp_path / "checkpoint", tmp_path / "target", 0, "--dim", 1)

    assert found["rows"] == 7
    assert run_json("verify", tmp_path / "target")["ok"]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ([5, "--dim", 3], "no group 5"),
        ([0, "--optimizer", "nothing"], "'nothing'"),
        ([0, "--optimizer", '{"name": "sgd", "beta": 1}'], "beta"),
    ],
)
def test_convert_that_cannot_be_leaves_no_target(path, tmp_path, rest, message):
    assert message in failure("convert", path, tmp_path / "target", *rest)
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_convert_to_what_is_there_is_refused(path, tmp_path):
    (tmp_path / "target").mkdir()

    assert "there is something already" in failure("convert", path, tmp_path / "target", 0, "--dim", 3)


def test_compact_gives_the_space_of_deleted_rows_back(tmp_path):
    path = tmp_path / "store"
    with opened(path) as storage:
        storage.add_group(0, 64, {"name": "zeros"}, {"name": "sgd"})
        add_rows(storage, 0, range(5000))
    run("delete", path, 0, stdin="\n".join(map(str, range(4900))).encode())

    found = run_json("compact", path)

    assert found["disk_bytes_after"] < found["disk_bytes_before"] / 4
    assert run_json("verify", path)["rows"] == 100
