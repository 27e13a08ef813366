# SPDX-License-Identifier: Apache-2.0
"""Checkpoints from Python: what is restored, beside layers, and in processes killed at any moment (C13)."""

import functools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from numbered_batches import DIM, make_batch, oracle_after
from stored_rows import assert_rows_equal, step_of

import damo_tf

TIMEOUT_SECONDS = 120  # on any machine: a program that takes longer hangs

PRELUDE = """
import sys
from pathlib import Path
import damo
from numbered_batches import apply, open_table

def say(*words):
    print(*words, flush=True)
"""


def train(store: damo_tf.Store, first: int, last: int) -> None:
    """Batches first .. last - 1 of group 0."""
    store.add_group(0, DIM, optimizer="adam", initializer="ones")
    for number in range(first, last):
        store.apply_gradients(0, *make_batch(number))


cached_oracle_after = functools.cache(oracle_after)


def assert_has_batches(store: damo_tf.Store, num_batches: int) -> None:
    assert_rows_equal(store, cached_oracle_after(num_batches))


def files_of(directory: Path) -> list[dict]:
    return json.loads((directory / "DAMO_CHECKPOINT").read_text())["files"]


# ---- Store ----


def test_training_resumed_from_a_checkpoint_equals_the_uninterrupted_run(store, tmp_path):
    train(store, 0, 4)
    store.checkpoint(tmp_path / "c")
    train(store, 4, 7)
    assert_has_batches(store, 7)

    store.restore(tmp_path / "c")
    assert_has_batches(store, 4)
    train(store, 4, 8)
    assert_has_batches(store, 8)
    store.close()
    with damo_tf.Store(tmp_path / "store") as reopened:
        assert_has_batches(reopened, 8)


def test_a_new_store_is_restored_from_a_chain_of_deltas(store, tmp_path):
    train(store, 0, 2)
    store.checkpoint(tmp_path / "1")
    train(store, 2, 3)
    store.checkpoint_delta(tmp_path / "2", since=tmp_path / "1")
    train(store, 3, 5)
    store.checkpoint_delta(tmp_path / "3", tmp_path / "2")

    with damo_tf.Store(tmp_path / "new") as new:
        new.restore(tmp_path / "3")
        assert_has_batches(new, 5)
        new.restore([tmp_path / "1", tmp_path / "2"])
        assert_has_batches(new, 3)


def test_a_delta_holds_changed_rows_only(store, tmp_path):
    train(store, 0, 5)
    store.checkpoint(tmp_path / "1")
    store.apply_gradients(0, [1, 2, 3], np.ones((3, DIM)))
    store.checkpoint_delta(tmp_path / "2", since=tmp_path / "1")

    base = json.loads((tmp_path / "2/DAMO_CHECKPOINT").read_text())["base"]
    assert (base["changed_rows"], base["deleted_rows"], base["path"]) == (3, 0, "../1")


def test_a_chain_may_be_moved_together(store, tmp_path):
    (tmp_path / "here").mkdir()
    train(store, 0, 2)
    store.checkpoint(tmp_path / "here/1")
    train(store, 2, 3)
    store.checkpoint_delta(tmp_path / "here/2", since=tmp_path / "here/1")
    (tmp_path / "here").rename(tmp_path / "there")

    with damo_tf.Store(tmp_path / "new") as new:
        new.restore(tmp_path / "there/2")
        assert_has_batches(new, 3)


def test_table_files_are_links_on_the_same_filesystem(store, tmp_path):
    train(store, 0, 3)
    store.checkpoint(tmp_path / "c")

    tables = [file for file in files_of(tmp_path / "c") if file["name"].endswith(".sst")]
    rows = max(tables, key=lambda file: file["bytes"])  # of the others the store may need some no more
    assert "crc32c" not in rows
    assert (tmp_path / "c" / rows["name"]).samefile(tmp_path / "store" / rows["name"])


def test_a_checkpoint_stays_as_it_is_while_the_store_is_trained_and_compacted(store, tmp_path):
    train(store, 0, 3)
    store.checkpoint(tmp_path / "c")
    for number in range(3, 30):
        train(store, number, number + 1)
        store.flush()
    store.close()
    shutil.rmtree(tmp_path / "store")

    with damo_tf.Store(tmp_path / "c", read_only=True) as checkpoint:
        assert_has_batches(checkpoint, 3)
    with damo_tf.Store(tmp_path / "store") as new:
        new.restore(tmp_path / "c")
        assert_has_batches(new, 3)


def test_a_checkpoint_cannot_be_opened_for_writing(store, tmp_path):
    store.checkpoint(tmp_path / "c")
    with pytest.raises(RuntimeError, match="it is a checkpoint: open it read-only, or restore"):
        damo_tf.Store(tmp_path / "c")


def test_what_does_not_fit_is_refused_by_name_and_value(store, tmp_path):
    train(store, 0, 1)
    store.checkpoint(tmp_path / "c")
    with pytest.raises(ValueError, match="c': there is something already"):
        store.checkpoint(tmp_path / "c")
    with pytest.raises(ValueError, match="/c' must lie outside the store's own directory"):
        store.checkpoint(tmp_path / "store/c")
    with pytest.raises(FileNotFoundError, match="it is none: there is no file"):
        store.restore(tmp_path / "nowhere")
    with pytest.raises(
        TypeError, match=r"must be a path or a list of paths\. Received: checkpoint=7 of <class 'int'>"
    ):
        store.restore(7)
    with pytest.raises(TypeError, match="`directory` must be a path"):
        store.checkpoint(None)
    with pytest.raises(TypeError, match="`since` must be a path"):
        store.checkpoint_delta(tmp_path / "d", None)
    with (
        damo_tf.Store(tmp_path / "other", seed=5) as other,
        pytest.raises(ValueError, match="the checkpoint has seed 0, the store has 5"),
    ):
        other.restore(tmp_path / "c")
    with damo_tf.Store(tmp_path / "third") as third:
        third.add_group(0, DIM + 1, optimizer="adam")
        with pytest.raises(ValueError, match=f"has dim {DIM + 1}, asked for {DIM}"):
            third.restore(tmp_path / "c")
    assert_has_batches(store, 1)


def test_a_read_only_store_is_neither_checkpointed_nor_restored(store, tmp_path):
    train(store, 0, 1)
    store.checkpoint(tmp_path / "c")
    with damo_tf.Store(tmp_path / "c", read_only=True) as reader:
        with pytest.raises(RuntimeError, match="was opened read-only"):
            reader.checkpoint(tmp_path / "d")
        with pytest.raises(RuntimeError, match="was opened read-only"):
            reader.restore(tmp_path / "c")


def test_a_truncated_checkpoint_is_refused_and_nothing_changes(store, tmp_path):
    train(store, 0, 2)
    store.checkpoint(tmp_path / "c")
    train(store, 2, 3)
    name = next(file["name"] for file in files_of(tmp_path / "c") if file["name"].endswith(".sst"))
    table = tmp_path / "c" / name
    content = table.read_bytes()
    table.unlink()  # a link: the store has the file, too
    table.write_bytes(content[:-1])

    with pytest.raises(RuntimeError, match=f"has {len(content) - 1} bytes, expected {len(content)}"):
        store.restore(tmp_path / "c")
    assert_has_batches(store, 3)


def test_layers_in_the_process_go_on_with_the_restored_rows(store, tmp_path, keras_seed):
    import keras

    ids = keras.Input((2,), dtype="int64")
    vectors = damo_tf.Embedding(4, store=store, optimizer="adam")(ids)
    model = keras.Model(ids, keras.layers.Dense(1)(keras.layers.Flatten()(vectors)))
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    rng = np.random.default_rng(0)
    x = rng.integers(0, 60, (256, 2))
    y = rng.standard_normal((256, 1), np.float32)
    everything = np.arange(60)

    def fit() -> None:
        model.fit(x, y, batch_size=32, epochs=2, shuffle=False, verbose=0)

    def state() -> list[bytes]:
        rows = [store.row(0, key) for key in everything]
        assert all(rows)
        slots = [values for row in rows for values in (row.weights, *row.slots.values())]
        counts = np.array([row.update_num for row in rows])
        dense = [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]
        return [array.tobytes() for array in (*slots, counts, *dense, model.predict(x, verbose=0))]

    fit()
    store.checkpoint(tmp_path / "c")
    dense = [(v, v.numpy()) for v in (*model.variables, *model.optimizer.variables)]
    fit()
    uninterrupted = state()
    fit()
    assert state() != uninterrupted
    store.restore(tmp_path / "c")
    for variable, value in dense:
        variable.assign(value)
    fit()
    assert state() == uninterrupted


# ---- Kills ----


@contextmanager
def running(program: str, *arguments: object) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PRELUDE + program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(TIMEOUT_SECONDS)
        process.stdin.close()
        process.stdout.close()


def run_and_kill(program: str, chance: random.Random, *arguments: object) -> None:
    """Lets a program come to where it says "ready", then kills it at a random moment."""
    with running(program, *arguments) as process:
        assert process.stdout.readline() == "ready\n"
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.random() ** 2 * 0.3)
            pytest.fail("it ended before it was killed")


CHECKPOINT_FOR_EVER = """
storage, embedding = open_table(sys.argv[1])
folder = Path(sys.argv[2])
step = storage.stats()["groups"][0]["step"]
say("ready")
while True:
    apply(embedding, step)
    step += 1
    if step % 3 == 0 or not (folder / str(step - 1)).exists():
        storage.checkpoint(folder / str(step))
    else:
        storage.checkpoint_delta(folder / str(step), folder / str(step - 1))
"""


def test_a_kill_during_a_checkpoint_leaves_whole_ones_and_the_store(tmp_path, seed):
    chance = random.Random(seed)
    (tmp_path / "all").mkdir()
    restored_after_kill: set[str] = set()
    with damo_tf.Store(tmp_path / "restored") as restored:

        def assert_is_whole(checkpoint: Path) -> None:
            restored.restore(checkpoint)
            assert_has_batches(restored, int(checkpoint.name))

        def checkpoints() -> list[Path]:
            return [path for path in (tmp_path / "all").iterdir() if path.suffix != ".unfinished"]

        num_kills = 0
        while num_kills < 8 or len(restored_after_kill) <= 8:  # a busy machine writes few before a kill
            num_kills += 1
            run_and_kill(CHECKPOINT_FOR_EVER, chance, tmp_path / "store", tmp_path / "all")
            with damo_tf.Store(tmp_path / "store") as store:
                assert_has_batches(store, step_of(store))
            for checkpoint in checkpoints():
                if checkpoint.name not in restored_after_kill:
                    assert_is_whole(checkpoint)
                    restored_after_kill.add(checkpoint.name)
        for checkpoint in checkpoints():  # those that were there when others were killed, too
            assert_is_whole(checkpoint)


RESTORE_FOR_EVER = """
storage, embedding = open_table(sys.argv[1])
step = storage.stats()["groups"][0]["step"]
if step == 0:
    for number in range(5):
        apply(embedding, number)
    storage.checkpoint(sys.argv[2])
    step = 5
say("ready")
while True:
    for number in range(step, 8):
        apply(embedding, number)
    storage.restore([sys.argv[2]])
    step = 5
"""


def test_a_kill_during_a_restore_leaves_what_was_or_what_was_restored(tmp_path, seed):
    chance = random.Random(seed)
    for _ in range(12):
        run_and_kill(RESTORE_FOR_EVER, chance, tmp_path / "store", tmp_path / "c")
        with damo_tf.Store(tmp_path / "store") as store:
            assert 5 <= step_of(store) <= 8
            assert_has_batches(store, step_of(store))


# ---- CheckpointManager ----


def names(manager: damo_tf.CheckpointManager) -> list[str]:
    return [path.name for path in manager.checkpoints]


def test_manager_keeps_the_last_ones(store, tmp_path):
    manager = damo_tf.CheckpointManager(store, tmp_path / "all", max_to_keep=2)
    assert manager.latest_checkpoint is None
    assert manager.restore_or_initialize() is None
    for step in range(1, 5):
        train(store, step - 1, step)
        assert manager.save() == manager.latest_checkpoint == tmp_path / f"all/ckpt-{step}"
    assert names(manager) == ["ckpt-3", "ckpt-4"]
    train(store, 4, 6)
    assert manager.restore_or_initialize() == tmp_path / "all/ckpt-4"
    assert_has_batches(store, 4)
    store.restore(manager.checkpoints[0])
    assert_has_batches(store, 3)


def test_manager_keeps_what_kept_deltas_build_on(store, tmp_path):
    manager = damo_tf.CheckpointManager(store, tmp_path / "all", max_to_keep=1, full_every=3)
    kept = []
    for step in range(1, 8):
        train(store, step - 1, step)
        manager.save()
        kept.append([int(name.removeprefix("ckpt-")) for name in names(manager)])
        with damo_tf.Store(tmp_path / "new") as new:
            new.restore(manager.latest_checkpoint)
            assert_has_batches(new, step)
    assert kept == [[1], [1, 2], [1, 2, 3], [4], [4, 5], [4, 5, 6], [7]]


def test_manager_begins_anew_where_a_link_is_missing(store, tmp_path):
    manager = damo_tf.CheckpointManager(store, tmp_path / "all", full_every=10)
    for step in range(1, 4):
        train(store, step - 1, step)
        manager.save()
    shutil.rmtree(manager.checkpoints[1])
    train(store, 3, 4)
    manager.save()
    with damo_tf.Store(tmp_path / "new") as new:
        new.restore(manager.latest_checkpoint)
        assert_has_batches(new, 4)


def test_manager_counts_only_what_can_be_restored(store, tmp_path):
    manager = damo_tf.CheckpointManager(store, tmp_path / "all", max_to_keep=2, full_every=10)
    for step in range(1, 4):
        train(store, step - 1, step)
        manager.save()
    shutil.rmtree(tmp_path / "all/ckpt-2")  # 3 builds on it
    train(store, 3, 4)
    manager.save()
    assert names(manager) == ["ckpt-1", "ckpt-3", "ckpt-4"]
    for number in (1, 4):
        store.restore(tmp_path / f"all/ckpt-{number}")
        assert_has_batches(store, number)
    train(store, 4, 5)
    manager.save()
    assert names(manager) == ["ckpt-4", "ckpt-5"]


def test_manager_removes_nothing_while_too_few_can_be_restored(store, tmp_path):
    manager = damo_tf.CheckpointManager(store, tmp_path / "all", max_to_keep=2, full_every=10)
    for step in range(1, 4):
        train(store, step - 1, step)
        manager.save()
    shutil.rmtree(tmp_path / "all/ckpt-1")  # which may come back from elsewhere
    manager.save()
    assert names(manager) == ["ckpt-2", "ckpt-3", "ckpt-4"]


def test_manager_removes_what_a_dead_one_left_and_nothing_else(store, tmp_path):
    folder = tmp_path / "all"
    for name in ("ckpt-3.unfinished", "ckpt-1.deleted", "mine", "ckpt-x.deleted"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").touch()
    damo_tf.CheckpointManager(store, folder)
    assert sorted(entry.name for entry in folder.iterdir()) == ["ckpt-x.deleted", "mine"]


def test_manager_leaves_what_is_no_checkpoint_alone(store, tmp_path):
    folder = tmp_path / "all"
    (folder / "ckpt-4").mkdir(parents=True)  # no description
    (folder / "ckpt-5").mkdir()
    (folder / "ckpt-5" / "DAMO_CHECKPOINT").write_text('{"groups": ')
    (folder / "ckpt-6").touch()
    (folder / "ckpt-9.deleted").touch()
    foreign = {entry.name for entry in folder.iterdir()}

    manager = damo_tf.CheckpointManager(store, folder, max_to_keep=1, full_every=2)
    assert manager.latest_checkpoint is None and manager.restore_or_initialize() is None
    kept = []
    for step in range(1, 4):
        train(store, step - 1, step)
        manager.save()
        kept.append(names(manager))
    assert kept == [["ckpt-7"], ["ckpt-7", "ckpt-8"], ["ckpt-9"]]
    assert {entry.name for entry in folder.iterdir()} == foreign | {"ckpt-9"}
    assert manager.restore_or_initialize() == folder / "ckpt-9"
    assert_has_batches(store, 3)


def test_manager_begins_anew_after_a_delta_on_a_checkpoint_of_others(store, tmp_path):
    train(store, 0, 1)
    store.checkpoint(tmp_path / "monday")
    train(store, 1, 2)
    store.checkpoint_delta(tmp_path / "all/ckpt-1", since=tmp_path / "monday")
    manager = damo_tf.CheckpointManager(store, tmp_path / "all", full_every=10)
    train(store, 2, 3)
    manager.save()
    shutil.rmtree(tmp_path / "monday")
    with damo_tf.Store(tmp_path / "new") as new:
        new.restore(manager.latest_checkpoint)
        assert_has_batches(new, 3)


def test_manager_refuses_bad_arguments(store, tmp_path):
    with pytest.raises(TypeError, match=r"`store` must be a damo_tf\.Store"):
        damo_tf.CheckpointManager(str(tmp_path), tmp_path / "all")
    with pytest.raises(ValueError, match=r"`max_to_keep` must be an integer >= 1\. Received: max_to_keep=0"):
        damo_tf.CheckpointManager(store, tmp_path / "all", max_to_keep=0)
    with pytest.raises(ValueError, match=r"`full_every` must be an integer >= 1\. Received: full_every=0"):
        damo_tf.CheckpointManager(store, tmp_path / "all", full_every=0)


# Loading TensorFlow takes long: one process does, and forks those that are killed.
SAVE_FOR_EVER = """
import os
import damo_tf
from numbered_batches import DIM, make_batch

def save_for_ever():
    store = damo_tf.Store(sys.argv[1])
    store.add_group(0, DIM, optimizer="adam", initializer="ones")
    manager = damo_tf.CheckpointManager(store, sys.argv[2], max_to_keep=2, full_every=3)
    step = store.stats()["groups"][0]["step"]
    say(os.getpid())
    while True:
        store.apply_gradients(0, *make_batch(step))
        step += 1
        manager.save()

while True:
    child = os.fork()
    if child == 0:
        save_for_ever()
    os.waitpid(child, 0)
    say("dead")
    sys.stdin.readline()
"""


def test_a_kill_of_a_manager_leaves_what_is_to_be_kept(tmp_path, seed):
    chance = random.Random(seed)
    with running(SAVE_FOR_EVER, tmp_path / "store", tmp_path / "all") as process:
        for _ in range(6):
            child = int(process.stdout.readline())
            assert not select.select([process.stdout], [], [], chance.random() * 0.5)[0], "it died by itself"
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == "dead\n"
            with damo_tf.Store(tmp_path / "store") as store:
                step = step_of(store)
                assert_has_batches(store, step)
                manager = damo_tf.CheckpointManager(store, tmp_path / "all", max_to_keep=2, full_every=3)
                assert not list((tmp_path / "all").glob("*.*"))
                for checkpoint in manager.checkpoints:
                    store.restore(checkpoint)
                    assert_has_batches(store, step_of(store))
                if manager.checkpoints:
                    assert step - 1 <= step_of(store) <= step
            process.stdin.write("next\n")
            process.stdin.flush()
