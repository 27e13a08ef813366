# SPDX-License-Identifier: Apache-2.0
"""What Keras's and TensorFlow's own ways of saving hold of a model whose rows are in a store."""

import json
import os
import shutil
import warnings
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from stored_rows import rows_of, step_of

import damo_tf

IDS = np.array([[1, 2], [3, 4], [1, 5]])


def make_model(store, **settings) -> keras.Model:
    """A model with two groups of one store."""
    ids = keras.Input((2,), dtype="int64")
    rows = [damo_tf.Embedding(4, store=store, group=group, **settings)(ids) for group in (0, 1)]
    score = keras.layers.Dense(1)(keras.layers.Flatten()(keras.layers.Concatenate()(rows)))
    model = keras.Model(ids, score)
    model.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)
    return model


def train(model: keras.Model, num_batches: int = 1, **arguments) -> None:
    batches = tf.data.Dataset.from_tensors((IDS, np.ones((3, 1)))).repeat(num_batches)
    model.fit(batches, verbose=0, **arguments)


def predict(model: keras.Model) -> np.ndarray:
    return model.predict(IDS, verbose=0)


def all_rows(store: damo_tf.Store) -> list[dict]:
    return [rows_of(store, group, range(1, 6)) for group in (0, 1)]


def store_of(model: keras.Model) -> damo_tf.Store:
    return model.layers[1].store


# ---- .keras files, where the store is ----


@pytest.fixture
def moved(tmp_path, monkeypatch) -> tuple:
    """A model file, what it predicts, and where its store is by now."""
    monkeypatch.delenv("DAMO_STORE", raising=False)
    with damo_tf.Store(tmp_path / "store") as store:
        model = make_model(store)
        train(model)
        model.save(tmp_path / "model.keras")
        expected = predict(model)
    shutil.move(tmp_path / "store", tmp_path / "moved")
    return tmp_path / "model.keras", expected, tmp_path / "moved"


def assert_loads(load, expected, directory) -> None:
    model = load()
    with store_of(model) as store:
        assert store.directory == str(directory)
        np.testing.assert_array_equal(predict(model), expected)
        train(model)
        assert step_of(store) == 2


def test_the_environment_names_the_store(moved, monkeypatch):
    file, expected, directory = moved
    monkeypatch.setenv("DAMO_STORE", str(directory))
    assert_loads(lambda: keras.saving.load_model(file), expected, directory)


def test_an_argument_names_the_store(moved):
    file, expected, directory = moved
    assert_loads(lambda: damo_tf.load_model(file, store=directory), expected, directory)


@pytest.mark.parametrize("as_dict", [False, True])
def test_an_argument_is_the_store(moved, as_dict):
    file, expected, directory = moved
    with damo_tf.Store(directory, read_only=True) as store:
        argument = {str(directory.parent / "store"): store} if as_dict else store
        model = damo_tf.load_model(file, store=argument)
        assert store_of(model) is store
        np.testing.assert_array_equal(predict(model), expected)


def test_the_environment_comes_before_the_argument_and_that_before_the_file(moved, monkeypatch, tmp_path):
    file, expected, directory = moved
    shutil.copytree(directory, tmp_path / "store")
    assert_loads(lambda: damo_tf.load_model(file), expected, tmp_path / "store")
    shutil.copytree(directory, tmp_path / "copy")
    assert_loads(lambda: damo_tf.load_model(file, store=directory), expected, directory)
    monkeypatch.setenv("DAMO_STORE", str(tmp_path / "copy"))
    assert_loads(lambda: damo_tf.load_model(file, store=directory), expected, tmp_path / "copy")


def test_a_loaded_model_is_saved_with_its_new_store(moved):
    file, expected, directory = moved
    model = damo_tf.load_model(file, store=directory)
    model.save(file)
    store_of(model).close()
    assert_loads(lambda: keras.saving.load_model(file), expected, directory)


def test_without_a_store_nothing_is_loaded_and_nothing_made(moved, tmp_path):
    file, _, _ = moved
    for load in (
        lambda: keras.saving.load_model(file),
        lambda: damo_tf.load_model(file),
        lambda: damo_tf.load_model(file, store=tmp_path / "none"),
    ):
        with pytest.raises(FileNotFoundError, match="there is no such directory"):
            load()
    assert not (tmp_path / "none").exists()


def test_stores_of_a_model_on_several_are_named_one_by_one(tmp_path, monkeypatch):
    ids = keras.Input((2,), dtype="int64")
    stores = {name: damo_tf.Store(tmp_path / name) for name in "ab"}
    rows = [damo_tf.Embedding(4, store=store)(ids) for store in stores.values()]
    model = keras.Model(ids, rows)
    model.save(tmp_path / "model.keras")
    names = {name: store.directory for name, store in stores.items()}

    other = damo_tf.Store(tmp_path / "other")
    loaded = damo_tf.load_model(tmp_path / "model.keras", store={names["a"]: other})
    assert [layer.store.directory for layer in loaded.layers[1:]] == [other.directory, names["b"]]
    with pytest.raises(ValueError, match=r"the model is on several stores, \['.*/a', '.*/b'\]"):
        damo_tf.load_model(tmp_path / "model.keras", store=other)
    with pytest.raises(ValueError, match=r"`store` names \['/x'\]; the model is on \['.*/a', '.*/b'\]"):
        damo_tf.load_model(tmp_path / "model.keras", store={"/x": other})
    with pytest.raises(TypeError, match="`store` must be a path"):
        damo_tf.load_model(tmp_path / "model.keras", store=7)
    monkeypatch.setenv("DAMO_STORE", other.directory)
    with pytest.raises(ValueError, match="the model is on several stores"):
        damo_tf.load_model(tmp_path / "model.keras")


# ---- .keras files with the rows inside ----


@pytest.fixture
def with_rows(tmp_path, monkeypatch) -> tuple:
    """A model file with the rows of a store of another seed, what it predicts, and its rows; no store."""
    monkeypatch.delenv("DAMO_STORE", raising=False)
    with damo_tf.Store(tmp_path / "store", seed=7, clock="event") as store:
        store.add_group(9, 2)  # not of the model
        store.apply_gradients(9, [1], [[1.0, 2.0]])
        model = make_model(store, save_rows=True)
        train(model, 3)
        model.save(tmp_path / "model.keras")
        expected, rows = predict(model), all_rows(store)
    shutil.rmtree(tmp_path / "store")
    return tmp_path / "model.keras", expected, rows


@pytest.mark.parametrize("where", ["file", "argument", "environment"])
def test_rows_inside_come_into_a_new_store(with_rows, tmp_path, monkeypatch, where):
    file, expected, rows = with_rows
    if where == "environment":
        monkeypatch.setenv("DAMO_STORE", str(tmp_path / "new"))
    model = damo_tf.load_model(file, store=tmp_path / "new" if where == "argument" else None)
    with store_of(model) as store:
        assert store.directory == str(tmp_path / ("store" if where == "file" else "new"))
        assert (store.options["seed"], store.options["clock"], store.size(9)) == (7, "event", 1)
        np.testing.assert_array_equal(predict(model), expected)
        assert all_rows(store) == rows
        train(model)
        assert step_of(store) == 4


def test_a_store_that_has_the_rows_is_taken_as_it_is(with_rows):
    file, expected, _ = with_rows
    store_of(keras.saving.load_model(file)).close()
    model = keras.saving.load_model(file)
    with store_of(model):
        np.testing.assert_array_equal(predict(model), expected)


def test_a_store_with_other_rows_is_not_touched(with_rows, tmp_path):
    file, expected, _ = with_rows
    with damo_tf.Store(tmp_path / "store", seed=7, clock="event") as store:
        train(make_model(store))
        rows = all_rows(store)
        with pytest.raises(ValueError, match=r"has 5 rows after 1 steps, in the file 5 after 3"):
            keras.saving.load_model(file)
        assert all_rows(store) == rows
    model = damo_tf.load_model(file, store=tmp_path / "new")
    with store_of(model):
        np.testing.assert_array_equal(predict(model), expected)


def test_rows_of_a_store_are_in_the_file_once(with_rows):
    names = zipfile.ZipFile(with_rows[0]).namelist()
    assert len([name for name in names if name.endswith("/rows/DAMO_CHECKPOINT")]) == 1


def test_a_directory_instead_of_a_file_has_the_rows_too(store, tmp_path):
    model = make_model(store, save_rows=True)
    train(model)
    model.save(tmp_path / "model", zipped=False)
    loaded = damo_tf.load_model(tmp_path / "model", store=tmp_path / "new")
    with store_of(loaded) as new:
        assert step_of(new) == 1
        np.testing.assert_array_equal(predict(loaded), predict(model))


def test_save_rows_is_an_attribute_too(store, tmp_path):
    model = make_model(store)
    for layer in model.layers[1:3]:
        layer.save_rows = True
    train(model)
    model.save(tmp_path / "model.keras")
    with store_of(damo_tf.load_model(tmp_path / "model.keras", store=tmp_path / "new")) as new:
        assert all_rows(new) == all_rows(store)
    with pytest.raises(TypeError, match="`save_rows` must be a bool"):
        damo_tf.Embedding(4, store=store, save_rows=1)


def test_a_file_that_has_lost_its_rows_is_no_empty_store(with_rows, tmp_path):
    file, _, _ = with_rows
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(tmp_path / "robbed.keras", "w") as robbed:
        for name in whole.namelist():
            if not name.startswith("assets/"):
                robbed.writestr(name, whole.read(name))
    model = keras.saving.load_model(tmp_path / "robbed.keras")
    with pytest.raises(FileNotFoundError, match="there is no such directory"):
        predict(model)
    assert not (tmp_path / "store").exists()


# ---- Weights, and what they do not hold ----


def messages(record) -> list[str]:
    return [str(warning.message) for warning in record if "damo_tf" in str(warning.message)]


def test_saving_weights_warns_once_that_rows_are_not_there(store, tmp_path):
    model = make_model(store)
    train(model)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        for _ in range(2):
            model.save_weights(tmp_path / "model.weights.h5")
            model.save(tmp_path / "model.keras")
    assert len(messages(record)) == 2  # groups
    assert f"stay in store '{store.directory}'" in messages(record)[0]


def test_nothing_is_said_where_rows_are_saved(store, tmp_path):
    model = make_model(store, save_rows=True)
    checkpoint = damo_tf.callbacks.StoreCheckpoint(tmp_path / "all")
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        train(model, callbacks=[checkpoint])
        checkpoint.restore_latest(model)
        model.save(tmp_path / "model.keras")
    assert messages(record) == []


def test_weights_come_back_and_it_is_said_when_rows_have_gone_on(store, tmp_path):
    model = make_model(store)
    train(model)
    model.save_weights(tmp_path / "model.weights.h5")
    kernel = model.layers[-1].kernel.numpy()
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        model.load_weights(tmp_path / "model.weights.h5")
        assert messages(record) == []
        train(model)
        for _ in range(2):
            model.load_weights(tmp_path / "model.weights.h5")
    assert len(messages(record)) == 2  # groups
    assert "were saved after 1 steps of group 0" in messages(record)[0]
    assert "whose rows have taken 2" in messages(record)[0]
    np.testing.assert_array_equal(model.layers[-1].kernel, kernel)
    assert step_of(store) == 2


def test_weights_of_an_earlier_release_are_loaded(store, tmp_path):
    import h5py

    model = make_model(store)
    model.save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5", "r+") as file:
        for name in ("embedding", "embedding_1"):
            del file[f"layers/{name}/vars/step"]
    model.load_weights(tmp_path / "model.weights.h5")


def test_model_checkpoint_keeps_the_dense_part(store, tmp_path):
    model = make_model(store)
    path = tmp_path / "best.weights.h5"
    callback = keras.callbacks.ModelCheckpoint(path, save_weights_only=True, monitor="loss")
    with pytest.warns(UserWarning, match="stay in store"):
        train(model, callbacks=[callback])
    kernel = model.layers[-1].kernel.numpy()
    train(model)
    with pytest.warns(UserWarning, match="whose rows have taken 2"):
        model.load_weights(path)
    np.testing.assert_array_equal(model.layers[-1].kernel, kernel)


class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == 6:
            raise KeyboardInterrupt


def test_backup_and_restore_repeats_the_batches_of_an_epoch_and_says_so(store, tmp_path):
    """4 batches an epoch, stopped after 6: the epoch is repeated, and rows take 3 * 4 + 2 steps."""
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    model = make_model(store)
    with pytest.warns(UserWarning, match="stay in store"), pytest.raises(KeyboardInterrupt):
        train(model, 4, epochs=3, callbacks=[backup, Stop()])
    model = make_model(store)
    with pytest.warns(UserWarning, match="saved after 4 steps of group 0 .* whose rows have taken 6"):
        train(model, 4, epochs=3, callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "backup")])
    assert model.optimizer.iterations == 12
    assert step_of(store) == 14


# ---- tf.train.Checkpoint ----


def test_a_tensorflow_checkpoint_brings_rows_and_variables_back_together(store, tmp_path):
    model = make_model(store)
    rows = damo_tf.TrackableStore(store, tmp_path / "rows")
    checkpoint = tf.train.Checkpoint(model=model, rows=rows)
    manager = tf.train.CheckpointManager(checkpoint, tmp_path / "dense", max_to_keep=3)
    train(model, 2)
    path = manager.save()
    expected, then = predict(model), all_rows(store)
    train(model, 2)
    assert all_rows(store) != then

    checkpoint.restore(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(predict(model), expected)
    assert all_rows(store) == then
    train(model, 2)
    uninterrupted = all_rows(store), predict(model).tobytes()
    checkpoint.restore(manager.latest_checkpoint)
    train(model, 2)
    for key, row in uninterrupted[0][0].items():
        assert row[1:] == all_rows(store)[0][key][1:]
    assert predict(model).tobytes() == uninterrupted[1]


def test_a_tensorflow_checkpoint_brings_learning_rates_of_rows_back_that_it_is_given(store, tmp_path):
    model = make_model(store)
    rate = model.layers[1].learning_rate_variable()
    rows = damo_tf.TrackableStore(store, tmp_path / "rows")
    checkpoint = tf.train.Checkpoint(model=model, rows=rows, row_rate=rate)
    rate.assign(0.25)
    path = checkpoint.save(tmp_path / "ckpt")
    rate.assign(0.125)
    checkpoint.restore(path).assert_existing_objects_matched()
    assert model.layers[1].learning_rate.numpy() == 0.25


def test_checkpoints_of_rows_are_kept_as_long_as_a_manager_keeps_those_that_name_them(store, tmp_path):
    model = make_model(store)
    rows = damo_tf.TrackableStore(store, tmp_path / "rows")
    checkpoint = tf.train.Checkpoint(model=model, rows=rows, other=Other())
    manager = tf.train.CheckpointManager(checkpoint, tmp_path / "dense", max_to_keep=2)
    rows.keep_with(manager)

    def kept() -> list[str]:
        return sorted(path.name for path in rows.directory.iterdir())

    for _ in range(3):
        train(model)
        manager.save()
    assert kept() == ["ckpt-1", "ckpt-2", "ckpt-3"]
    store.checkpoint(rows.directory / "ckpt-4")  # as if the process had died before TensorFlow's was whole
    manager.save()
    assert kept() == ["ckpt-2", "ckpt-3", "ckpt-5"]
    for path in manager.checkpoints:
        checkpoint.restore(path)
    assert step_of(store) == 3


class Other(tf.train.experimental.PythonState):
    def serialize(self):
        return "not JSON"

    def deserialize(self, string_value):
        assert string_value == b"not JSON"


def test_checkpoints_of_rows_may_be_moved_with_those_that_name_them(store, tmp_path):
    model = make_model(store)
    (tmp_path / "here").mkdir()
    rows = damo_tf.TrackableStore(store, tmp_path / "here/rows")
    train(model)
    then = all_rows(store)
    path = tf.train.Checkpoint(rows=rows).save(tmp_path / "here/ckpt")
    train(model)
    (tmp_path / "here").rename(tmp_path / "there")
    rows = damo_tf.TrackableStore(store, tmp_path / "there/rows")
    tf.train.Checkpoint(rows=rows).restore(path.replace("here", "there"))
    assert all_rows(store) == then


def test_trackable_store_refuses_by_name_rule_and_value(store, tmp_path):
    with pytest.raises(TypeError, match=r"`store` must be a damo_tf\.Store"):
        damo_tf.TrackableStore(str(tmp_path), tmp_path / "rows")
    rows = damo_tf.TrackableStore(store, tmp_path / "rows")
    with pytest.raises(TypeError, match=r"`manager` must be a tf\.train\.CheckpointManager"):
        rows.keep_with("manager")
    assert json.loads(rows.serialize()) == {"format": 1, "checkpoint": 1}
    with pytest.raises(ValueError, match="the rows in the checkpoint have format 2, expected 1"):
        rows.deserialize('{"format": 2}')
    os.rename(tmp_path / "rows/ckpt-1", tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="rows/ckpt-1"):
        rows.deserialize(b'{"format": 1, "checkpoint": 1}')
