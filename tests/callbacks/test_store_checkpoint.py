# SPDX-License-Identifier: Apache-2.0
"""StoreCheckpoint: dense weights, optimizer state and rows of one moment (C13, the dense part)."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from embedding_layers import OwnTrainStep
from stored_rows import rows_of

import damo_tf
from damo_tf._learning_rate import LearningRate
from damo_tf.callbacks import Position, RowLearningRate, StoreCheckpoint
from damo_tf.layers.in_model import embeddings_of

NUM_IDS = 40
EPOCHS = 3
BATCHES_PER_EPOCH = 4


class Plateau(keras.callbacks.ReduceLROnPlateau):
    """Takes every epoch for a plateau: what a callback remembers is not in checkpoints, so let it be that."""

    def __init__(self):
        super().__init__("loss", factor=0.5, patience=1, min_lr=0)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.best = -np.inf


class Training(NamedTuple):
    """A way to train: what makes the dense part's optimizer, the learning rate of rows, and callbacks."""

    optimizer: Callable[[], keras.optimizers.Optimizer] = lambda: keras.optimizers.Adam(1e-2)
    rate: Callable[[], Any] = lambda: 1e-3
    callbacks: Callable[[], list[keras.callbacks.Callback]] = list
    policy: str = "float32"
    run_eagerly: bool = True


PLAIN = Training()
#: The rows' rate is a number at first, and lower after each epoch.
FALLING_RATE = Training(callbacks=lambda: [RowLearningRate(Plateau())])
TRAININGS = {
    "plain": PLAIN,
    "scaled loss": Training(
        # Twice the scale after each step that did not overflow, so that many do.
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-2), dynamic_growth_steps=1),
        policy="mixed_float16",
    ),
    "accumulation": Training(lambda: keras.optimizers.Adam(1e-2, gradient_accumulation_steps=3)),
    "averages": Training(lambda: keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.5)),
    "falling rate": FALLING_RATE,
    "falling rate, traced": FALLING_RATE._replace(run_eagerly=False),
    "falling rate in a variable": FALLING_RATE._replace(rate=lambda: tf.Variable(1e-3)),
}


def make_model(*stores: damo_tf.Store, mixed: bool = False, training: Training = PLAIN) -> keras.Model:
    """A model with something of all that a training goes on from: random layers, moments, statistics."""
    keras.utils.set_random_seed(1)
    ids = keras.Input((2,), dtype="int64")
    policy = {"dtype": training.policy}
    vectors = [
        damo_tf.Embedding(4, store=store, optimizer=damo_tf.optimizers.Adam(training.rate()), **policy)(ids)
        for store in stores
    ]
    hidden = keras.layers.Concatenate(**policy)(
        [keras.layers.Flatten(**policy)(v) for v in (*vectors, vectors[0])]
    )
    hidden = keras.layers.Dropout(0.5, seed=3, **policy)(keras.layers.BatchNormalization(**policy)(hidden))
    outputs = keras.layers.Dense(1, dtype="bfloat16" if mixed else training.policy)(hidden)
    model = keras.Model(ids, outputs)
    model.compile(training.optimizer(), "mse", run_eagerly=training.run_eagerly)
    return model


def make_batches() -> tf.data.Dataset:
    rng = np.random.default_rng(5)
    num = 4 * BATCHES_PER_EPOCH
    ids = rng.integers(0, NUM_IDS, (num, 2))
    return tf.data.Dataset.from_tensor_slices((ids, rng.normal(size=(num, 1)))).batch(4)


def state_of(model: keras.Model, *stores: damo_tf.Store) -> list:
    """All that training has changed, without the times of updates."""
    rates = [layer.learning_rate for layer in embeddings_of(model)]
    rows = [rows_of(store, 0, range(NUM_IDS)) for store in stores]
    values = [{key: row and row[1:] for key, row in each.items()} for each in rows]
    variables = [*model.variables, *model.optimizer.variables]
    return [*values, *map(float, rates), *(variable.numpy().tobytes() for variable in variables)]


def resume(
    model: keras.Model, checkpoint: StoreCheckpoint, epochs: int = EPOCHS, training: Training = PLAIN
) -> None:
    """Goes on from the newest checkpoint, as docs/saving.md says."""
    batches, position = make_batches(), checkpoint.restore_latest(model)
    settings = {"callbacks": [*training.callbacks(), checkpoint], "verbose": 0}
    if position.batch:
        rest, end = batches.skip(position.batch), position.epoch + 1
        model.fit(rest, initial_epoch=position.epoch, epochs=end, **settings)
        position = checkpoint.position
    model.fit(batches, initial_epoch=position.epoch, epochs=epochs, **settings)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Callable[[str], list]:
    """What training all epochs without a checkpoint gives, by the name of the training."""

    @functools.cache
    def train(name: str) -> list:
        with damo_tf.Store(tmp_path_factory.mktemp("uninterrupted") / "store") as store:
            model = make_model(store, training=TRAININGS[name])
            callbacks = TRAININGS[name].callbacks()
            model.fit(make_batches(), epochs=EPOCHS, callbacks=callbacks, verbose=0)
            if name == "scaled loss":
                assert 0 < model.optimizer.iterations < EPOCHS * BATCHES_PER_EPOCH, "no step overflowed"
            return state_of(model, store)

    return train


@pytest.mark.parametrize(
    ("name", "save_freq", "position"),
    [
        ("plain", "epoch", Position(2, 0, 8)),
        ("plain", 3, Position(1, 2, 6)),
        ("plain", 4, Position(2, 0, 8)),
        ("scaled loss", 3, Position(1, 2, 6)),
        ("accumulation", 4, Position(2, 0, 8)),  # two of three batches are accumulated
        ("averages", "epoch", Position(2, 0, 8)),
        ("falling rate", 3, Position(1, 2, 6)),
        ("falling rate, traced", "epoch", Position(2, 0, 8)),
        ("falling rate in a variable", "epoch", Position(2, 0, 8)),
    ],
)
def test_training_that_goes_on_equals_the_uninterrupted_one(
    store, tmp_path, uninterrupted, name, save_freq, position
):
    training = TRAININGS[name]
    checkpoint = StoreCheckpoint(tmp_path / "all", save_freq=save_freq)
    callbacks = [*training.callbacks(), checkpoint]
    make_model(store, training=training).fit(make_batches(), epochs=2, callbacks=callbacks, verbose=0)
    assert checkpoint.position == Position(2, 0, 8)

    model = make_model(store, training=training)
    checkpoint = StoreCheckpoint(tmp_path / "all", save_freq=save_freq)
    model.fit(make_batches(), epochs=1, verbose=0)  # which is to be forgotten
    assert checkpoint.restore_latest(model) == position
    resume(model, checkpoint, training=training)
    assert state_of(model, store) == uninterrupted(name)
    assert checkpoint.position == Position(3, 0, 12)


def test_another_store_takes_up_the_rows(tmp_path, uninterrupted):
    checkpoint = StoreCheckpoint(tmp_path / "all")
    with damo_tf.Store(tmp_path / "first") as store:
        make_model(store).fit(make_batches(), epochs=1, callbacks=[checkpoint], verbose=0)
    with damo_tf.Store(tmp_path / "second") as store:
        model = make_model(store)
        resume(model, StoreCheckpoint(tmp_path / "all"))
        assert state_of(model, store) == uninterrupted("plain")


def test_all_stores_of_a_model_and_all_types_of_variables_are_restored(tmp_path):
    stores = [damo_tf.Store(tmp_path / name, seed=i) for i, name in enumerate("ab")]
    model, checkpoint = make_model(*stores, mixed=True), StoreCheckpoint(tmp_path / "all")
    nested = keras.Sequential([model])
    nested.compile(model.optimizer, "mse", run_eagerly=True)
    nested.fit(make_batches(), epochs=1, callbacks=[checkpoint], verbose=0)
    expected = state_of(nested, *stores)
    nested.fit(make_batches(), epochs=1, verbose=0)
    assert all(a != b for a, b in zip(expected[:2], state_of(nested, *stores)[:2], strict=True))

    checkpoint.restore_latest(nested)
    assert state_of(nested, *stores) == expected
    for store in stores:
        store.close()


def test_a_model_that_is_never_called_itself_is_restored(store, tmp_path):
    def make() -> keras.Model:
        model = OwnTrainStep(make_model(store))
        model.compile("adam")
        return model

    checkpoint = StoreCheckpoint(tmp_path / "all")
    model = make()
    model.fit(make_batches(), epochs=1, callbacks=[checkpoint], verbose=0)
    assert not model.built
    expected = state_of(model, store)
    model.fit(make_batches(), epochs=1, verbose=0)

    model = make()
    assert StoreCheckpoint(tmp_path / "all").restore_latest(model) == Position(1, 0, 4)
    assert state_of(model, store) == expected


def test_a_store_that_is_only_read_is_left_alone(tmp_path):
    damo_tf.Store(tmp_path / "read").close()
    with damo_tf.Store(tmp_path / "read") as store:
        store.add_group(0, 4)
    with (
        damo_tf.Store(tmp_path / "read", read_only=True) as read,
        damo_tf.Store(tmp_path / "store") as store,
    ):
        model, checkpoint = make_model(store, read), StoreCheckpoint(tmp_path / "all")
        model.layers[1].trainable = model.layers[2].trainable = False
        model.fit(make_batches(), epochs=1, callbacks=[checkpoint], verbose=0)
        assert checkpoint.restore_latest(model) == Position(1, 0, 4)
        assert [path.name for path in checkpoint.latest_checkpoint.glob("store-*")] == ["store-0"]


def names(checkpoint: StoreCheckpoint) -> list[str]:
    return sorted(path.name for path in checkpoint.directory.iterdir())


@pytest.mark.parametrize(
    ("save_freq", "keep", "expected"),
    [
        ("epoch", 2, ["ckpt-2", "ckpt-3"]),
        (5, None, ["ckpt-1", "ckpt-2"]),
        (1, 1, ["ckpt-12"]),
        (100, 3, []),
    ],
)
def test_checkpoints_are_written_as_often_as_asked_and_the_last_are_kept(
    store, tmp_path, save_freq, keep, expected
):
    checkpoint = StoreCheckpoint(tmp_path / "all", save_freq=save_freq, keep=keep)
    make_model(store).fit(make_batches(), epochs=EPOCHS, callbacks=[checkpoint], verbose=0)
    assert names(checkpoint) == expected
    assert [path.name for path in checkpoint.checkpoints] == expected
    assert checkpoint.latest_checkpoint == (tmp_path / "all" / expected[-1] if expected else None)


def test_batches_are_counted_when_several_are_trained_in_one_call(store, tmp_path):
    model = make_model(store)
    model.compile("sgd", "mse", steps_per_execution=3)
    checkpoint = StoreCheckpoint(tmp_path / "all", save_freq=2)
    model.fit(make_batches(), epochs=1, callbacks=[checkpoint], verbose=0)
    assert checkpoint.position == Position(1, 0, 4)
    assert checkpoint.restore_latest(model) == Position(0, 3, 3)


@pytest.mark.parametrize("name", ["plain", "accumulation"])
def test_batches_of_an_epoch_of_unknown_length_are_counted_likewise(store, tmp_path, name):
    model, checkpoint = make_model(store), StoreCheckpoint(tmp_path / "all", save_freq=2)
    model.compile(TRAININGS[name].optimizer(), "mse", steps_per_execution=3)
    batches = make_batches().filter(lambda *batch: True)
    model.fit(batches, epochs=2, callbacks=[checkpoint], verbose=0)
    assert checkpoint.position == Position(2, 0, 8)
    assert checkpoint.restore_latest(model) == Position(1, 3, 7)


def test_a_checkpoint_of_the_end_of_an_epoch_of_unknown_length_is_one_to_go_on_from(
    store, tmp_path, uninterrupted
):
    checkpoint = StoreCheckpoint(tmp_path / "all", save_freq=4)
    batches = make_batches().filter(lambda *batch: True)
    make_model(store).fit(batches, epochs=2, callbacks=[checkpoint], verbose=0)
    model, checkpoint = make_model(store), StoreCheckpoint(tmp_path / "all", save_freq=4)
    assert checkpoint.restore_latest(model) == Position(1, 4, 8)  # Keras did not know that it was the end
    resume(model, checkpoint)
    assert state_of(model, store) == uninterrupted("plain")
    assert checkpoint.position == Position(3, 0, 12)


def test_save_at_any_moment(store, tmp_path):
    model, checkpoint = make_model(store), StoreCheckpoint(tmp_path / "all", save_freq=100)
    with pytest.raises(RuntimeError, match="`save` needs the model of a `fit`"):
        checkpoint.save()
    model.fit(make_batches(), epochs=1, callbacks=[checkpoint], verbose=0)
    assert checkpoint.save() == tmp_path / "all/ckpt-1"
    assert checkpoint.restore_latest(model) == Position(1, 0, 4)


def test_description_is_that_of_the_format(store, tmp_path):
    checkpoint = StoreCheckpoint(tmp_path / "all")
    ids = keras.Input((1,), dtype="int64")
    rows = damo_tf.Embedding(2, store=store, name="rows")(ids)
    model = keras.Model(ids, keras.layers.Dense(1, use_bias=False, name="score")(rows))
    model.compile(keras.optimizers.SGD(name="sgd"), "mse")
    model.fit(np.zeros((2, 1), "int64"), np.zeros((2, 1, 1)), callbacks=[checkpoint], verbose=0)

    written = json.loads((checkpoint.latest_checkpoint / "DAMO_TRAINING").read_text())
    assert written == {
        "format": 1,
        "epoch": 1,
        "batch": 0,
        "step": 1,
        "stores": [{"checkpoint": "store-0", "directory": store.directory}],
        "variables": [
            {"path": "rows/anchor", "dtype": "float32", "shape": []},
            {"path": "score/kernel", "dtype": "float32", "shape": [2, 1]},
            {"path": "sgd/iteration", "dtype": "int64", "shape": []},
            {"path": "sgd/learning_rate", "dtype": "float32", "shape": []},
        ],
        "learning_rates": [None],
    }
    with np.load(checkpoint.latest_checkpoint / "variables.npz") as arrays:
        assert sorted(arrays) == ["arr_0", "arr_1", "arr_2", "arr_3"]
        np.testing.assert_array_equal(arrays["arr_1"], model.layers[2].kernel)
        assert arrays["arr_2"] == 1


# ---- What does not fit ----


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A directory with one checkpoint. Tests do not change it."""
    folder = tmp_path_factory.mktemp("saved")
    with damo_tf.Store(folder / "store") as store:
        checkpoint = StoreCheckpoint(folder / "all")
        make_model(store).fit(make_batches(), epochs=1, callbacks=[checkpoint], verbose=0)
    return folder / "all"


def assert_refused(model, directory, kind, text, *stores) -> None:
    model.optimizer.build(model.trainable_variables)
    before = state_of(model, *stores)
    with pytest.raises(kind, match=text):
        StoreCheckpoint(directory).restore_latest(model)
    assert state_of(model, *stores) == before


def test_a_model_of_another_shape_is_refused_and_nothing_changes(store, saved, tmp_path):
    model = make_model(store, mixed=True)
    text = (
        r"variable 'dense\w*/kernel' has shape \[16, 1\] and dtype float32, 'dense\w*/kernel' of the model "
    )
    assert_refused(model, saved, ValueError, text + r"has shape \[16, 1\] and dtype bfloat16", store)
    model = make_model(store)
    model.compile("sgd", "mse")
    assert_refused(model, saved, ValueError, r"has \d+ variables, the model and its optimizer have 1", store)
    with damo_tf.Store(tmp_path / "other") as other:
        assert_refused(
            make_model(store, other), saved, ValueError, "has 1 stores, the model .* have 2", store
        )


def test_a_damaged_checkpoint_is_refused_and_nothing_changes(store, saved, tmp_path):
    model = make_model(store)
    for name, text in (("variables.npz", "'variables.npz' is damaged"), ("DAMO_TRAINING", "is damaged")):
        copy = tmp_path / name / "ckpt-1"
        copy.parent.mkdir()
        subprocess.run(["cp", "-r", saved / "ckpt-1", copy], check=True)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 0xC0
        (copy / name).write_bytes(data)
        assert_refused(model, copy.parent, RuntimeError, text, store)
    (copy / "DAMO_TRAINING").write_text('{"format": 2}')
    assert_refused(model, copy.parent, ValueError, "has format 2, this release reads 1", store)


def edited(saved: Path, folder: Path, **entries: Any) -> Path:
    """A copy whose description has other entries; those that are `None` are left out."""
    subprocess.run(["cp", "-r", saved, folder], check=True)
    file = folder / "ckpt-1/DAMO_TRAINING"
    description = json.loads(file.read_text()) | entries
    file.write_text(json.dumps({name: entry for name, entry in description.items() if entry is not None}))
    return folder


def test_a_checkpoint_of_an_earlier_release_leaves_learning_rates_as_they_are(store, saved, tmp_path):
    model = make_model(store, training=TRAININGS["falling rate in a variable"])
    old = edited(saved, tmp_path / "old", learning_rates=None)
    assert StoreCheckpoint(old).restore_latest(model) == Position(1, 0, 4)
    assert model.layers[1].learning_rate.numpy() == np.float32(1e-3)


def test_learning_rates_that_do_not_fit_the_model_are_refused_and_nothing_changes(store, saved, tmp_path):
    model = make_model(store)
    two = edited(saved, tmp_path / "two", learning_rates=[0.5, None])
    text = r"has 2 learning rates of rows, the model has 1 damo_tf\.Embedding layers"
    assert_refused(model, two, ValueError, text, store)
    one = edited(saved, tmp_path / "one", learning_rates=[0.5])
    model.layers[1]._learning_rate = LearningRate(a_rate)
    with pytest.raises(
        ValueError, match=r"has learning rate 0\.5 for layer 'embedding\w*', whose own is neither"
    ):
        StoreCheckpoint(one).restore_latest(model)
    assert store.size() == 0


def a_rate() -> float:
    return 0.25


def test_what_is_no_model_is_refused(saved):
    with pytest.raises(
        TypeError, match=r"`model` must be a keras\.Model\. Received: model='model' of <class"
    ):
        StoreCheckpoint(saved).restore_latest("model")


def test_a_model_that_is_not_built_is_refused(store, saved):
    model = keras.Sequential([damo_tf.Embedding(4, store=store)])
    with pytest.raises(ValueError, match="`model` must be built before it can be restored"):
        StoreCheckpoint(saved).restore_latest(model)


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"`save_freq` must be 'epoch' or an integer >= 1\. .*='day'"):
        StoreCheckpoint(tmp_path / "all", save_freq="day")
    with pytest.raises(ValueError, match=r"`save_freq` must be an integer >= 1\. Received: save_freq=0"):
        StoreCheckpoint(tmp_path / "all", save_freq=0)
    with pytest.raises(ValueError, match=r"`keep` must be an integer >= 1\. Received: keep=0"):
        StoreCheckpoint(tmp_path / "all", keep=0)
    with pytest.raises(TypeError, match="`directory` must be a path"):
        StoreCheckpoint(None)
    assert not (tmp_path / "all").exists()


def test_a_directory_in_a_store_is_refused_before_a_batch_is_trained(store, tmp_path):
    (tmp_path / "link").symlink_to(store.directory)
    for directory in (f"{store.directory}/all", tmp_path / "link/all"):
        with pytest.raises(ValueError, match=r"must lie outside .* Received: directory='.*/all' in store '"):
            make_model(store).fit(make_batches(), callbacks=[StoreCheckpoint(directory)], verbose=0)
    assert store.size() == 0


def test_nothing_is_left_of_a_save_that_fails(store, tmp_path):
    checkpoint = StoreCheckpoint(tmp_path / "all")
    model = make_model(store)
    model.fit(make_batches(), epochs=1, callbacks=[checkpoint], verbose=0)
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        checkpoint.save()
    assert names(checkpoint) == ["ckpt-1"]


# ---- Kills ----

TIMEOUT_SECONDS = 120  # on any machine: a program that takes longer hangs

# Loading TensorFlow takes long: one process does, and forks those that are killed. A life trains from where
# the last one's checkpoints are. It kills itself in its second save, before the so-manyth new kind of thing
# that Python does to the file system ("open" of a certain file, "os.rename", ...), or, with -1, while the
# engine writes the checkpoint of the store.
LIVES = """
import hashlib, os, signal, sys, threading
import test_store_checkpoint as tests
import damo_tf

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class DyingCheckpoint(damo_tf.callbacks.StoreCheckpoint):
    def __init__(self, directory, moment):
        super().__init__(directory, save_freq=2, keep=1)
        self.moment, self.num_saves, self.stages, self.is_saving = moment, 0, [], False
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if not self.is_saving or event not in EVENTS:
            return
        name = os.path.basename(str(arguments[0]))
        kind = os.path.splitext(name)[1] if name.startswith("ckpt-") else name
        stage = event if event in ("os.remove", "os.rmdir") else event + " " + kind
        if stage in self.stages:
            return
        if len(self.stages) == self.moment:
            say("dying", stage)
            die()
        self.stages.append(stage)

    def die_in_engine(self, unfinished):
        while not list(unfinished.glob("store-0.unfinished")):
            pass
        say("dying", "engine")
        die()

    def save(self):
        self.num_saves += 1
        if self.num_saves == 2 and self.moment is not None:
            self.is_saving = True
            if self.moment == -1:
                name = f"ckpt-{1 + int(self.latest_checkpoint.name[5:])}.unfinished"
                threading.Thread(target=self.die_in_engine, args=[self.directory / name], daemon=True).start()
        super().save()
        if self.is_saving:
            say("survived", len(self.stages))
            die()

def live(store, directory, moment):
    store = damo_tf.Store(store)
    model = tests.make_model(store, training=tests.FALLING_RATE)
    checkpoint = DyingCheckpoint(directory, moment)
    tests.resume(model, checkpoint, epochs=tests.EPOCHS_OF_LIVES, training=tests.FALLING_RATE)
    say("done", hashlib.sha256(repr(tests.state_of(model, store)).encode()).hexdigest())
    store.close()

say("ready")
for line in sys.stdin:
    store, directory, moment = line.split()
    child = os.fork()
    if child == 0:
        try:
            live(store, directory, None if moment == "None" else int(moment))
            os._exit(0)
        except BaseException as error:
            say("failed", repr(error))
            os._exit(1)
    os.waitpid(child, 0)
"""
EPOCHS_OF_LIVES = 13  # enough for all stages: two or four batches are saved in each life


@contextmanager
def lives() -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", LIVES],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait(TIMEOUT_SECONDS)
        process.stdin.close()
        process.stdout.close()


def live(process: subprocess.Popen, *arguments: object) -> tuple[str, str]:
    """How a life ends, and what it says of it."""
    process.stdin.write(" ".join(map(str, arguments)) + "\n")
    process.stdin.flush()
    word, _, rest = process.stdout.readline().strip().partition(" ")
    assert word in ("dying", "survived", "done"), rest
    return word, rest


def test_training_killed_at_each_stage_of_a_save_equals_the_uninterrupted_one(tmp_path):
    with lives() as process:
        expected = live(process, tmp_path / "other", tmp_path / "unused", None)
        stages, word = [], "dying"
        while word == "dying":
            word, stage = live(process, tmp_path / "store", tmp_path / "all", len(stages) - 1)
            stages.append(stage)
        assert word == "survived", "lives came to their end before all stages"
        print(stages)
        for stage in (
            "engine",
            "os.mkdir .unfinished",
            "open variables.npz",
            "open DAMO_TRAINING",
            "os.rename .unfinished",  # which publishes
            "shutil.rmtree .deleted",
            "os.remove",
        ):
            assert stage in stages
        assert live(process, tmp_path / "store", tmp_path / "all", None) == expected
