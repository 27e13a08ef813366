# SPDX-License-Identifier: Apache-2.0
"""Predictor: an exported dense part with rows of a store, a dump or checkpoints, also while those change."""

import json
import os
import queue
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import damo_tf

KEYS = np.arange(-20, 40).reshape(20, 3)  # of which some have no row


def two_tables(store: damo_tf.Store) -> keras.Model:
    """A model on two groups, whose first output is a prediction, the second what it looked up."""
    ids = keras.Input((3,), dtype="int64", name="ids")
    first = damo_tf.Embedding(4, store=store, optimizer="sgd", padding_key=0, name="first")
    second = damo_tf.Embedding(2, store=store, group=1, optimizer="sgd", missing="zeros", name="second")
    flat = [keras.layers.Flatten()(layer(ids)) for layer in (first, second)]
    vectors = keras.layers.Concatenate(name="vectors")(flat)
    return keras.Model(ids, [keras.layers.Dense(1, name="score")(vectors), vectors])


def train(model: keras.Model) -> None:
    model.compile("sgd", "mse")
    ids = np.abs(KEYS)
    model.fit(ids, [np.ones((20, 1)), np.zeros((20, 18))], verbose=0)


def check_equal(predictor: damo_tf.Predictor, model: keras.Model) -> None:
    score, vectors = model.predict(KEYS, verbose=0)
    outputs = predictor.predict({"ids": KEYS})
    np.testing.assert_array_equal(outputs["vectors"].view(np.int32), vectors.view(np.int32))
    np.testing.assert_allclose(outputs["score"], score, rtol=1e-6)  # a product may be summed in another order


@pytest.fixture
def model(store, tmp_path, keras_seed) -> keras.Model:
    """A trained model, exported to `exported`."""
    model = two_tables(store)
    train(model)
    damo_tf.export_dense(model, tmp_path / "exported")
    return model


def test_rows_of_the_export_predict_what_the_live_model_does(model, tmp_path):
    with damo_tf.Predictor(tmp_path / "exported") as predictor:
        check_equal(predictor, model)
        assert not predictor.refresh()


def test_predictions_equal_the_live_models_in_a_process_beside_the_trainer(
    model, store, tmp_path, run_with_tensorflow: Callable[..., str]
):
    store.checkpoint(tmp_path / "checkpoint")
    score, vectors = model.predict(KEYS, verbose=0)
    np.savez(tmp_path / "expected.npz", score=score, vectors=vectors, ids=KEYS)
    program = """
import numpy as np
import damo_tf

expected = np.load("expected.npz")
for rows in (None, "store", "checkpoint"):
    with damo_tf.Predictor("exported", rows) as predictor:
        outputs = predictor.predict({"ids": expected["ids"]})
    np.testing.assert_array_equal(outputs["vectors"].view(np.int32), expected["vectors"].view(np.int32))
    np.testing.assert_allclose(outputs["score"], expected["score"], rtol=1e-6)
print("equal")
"""
    assert run_with_tensorflow(program) == "equal\n"


def test_a_store_that_is_open_is_read_as_it_is_at_each_moment(model, store, tmp_path):
    with damo_tf.Predictor(tmp_path / "exported", store) as predictor:
        check_equal(predictor, model)
        store.apply_gradients(0, KEYS, np.ones((20, 3, 4)), padding_key=0)
        check_equal(predictor, model)
    assert not store.closed


def test_a_dump_that_is_replaced_is_taken_into_service_by_a_refresh(model, store, tmp_path):
    store.dump(tmp_path / "rows.dump")
    with damo_tf.Predictor(tmp_path / "exported", tmp_path / "rows.dump") as predictor:
        before = predictor.predict({"ids": KEYS})
        store.apply_gradients(0, KEYS, np.ones((20, 3, 4)), padding_key=0)
        store.dump(tmp_path / "rows.dump")
        np.testing.assert_array_equal(predictor.predict({"ids": KEYS})["vectors"], before["vectors"])
        version = predictor.version

        assert predictor.refresh()

        assert predictor.version != version
        check_equal(predictor, model)


def test_newer_checkpoints_full_or_delta_are_taken_into_service(model, store, tmp_path):
    manager = damo_tf.CheckpointManager(store, tmp_path / "checkpoints", max_to_keep=1, full_every=3)
    manager.save()
    refreshed = []
    with damo_tf.Predictor(
        tmp_path / "exported", manager.directory, scratch=tmp_path, on_refresh=refreshed.append
    ) as predictor:
        check_equal(predictor, model)
        for number in range(2, 8):
            assert not predictor.refresh()
            store.apply_gradients(0, KEYS, np.full((20, 3, 4), number), padding_key=0)
            store.delete(1, [number])
            manager.save()
            assert predictor.refresh()
            check_equal(predictor, model)
            assert f"ckpt-{number}/" in predictor.version[0]
    assert len(refreshed) == 7
    assert not list(tmp_path.glob("damo_predictor_*"))


def test_rows_of_a_checkpoint_stay_in_service_when_it_is_removed(model, store, tmp_path):
    manager = damo_tf.CheckpointManager(store, tmp_path / "checkpoints")
    manager.save()
    with damo_tf.Predictor(tmp_path / "exported", manager.directory) as predictor:
        shutil.rmtree(manager.latest_checkpoint)
        check_equal(predictor, model)
        with pytest.raises(FileNotFoundError, match="there is no checkpoint in"):
            predictor.refresh()
        check_equal(predictor, model)


def test_requests_see_one_moment_each_while_rows_are_refreshed(tmp_path):
    """All rows of version v are v: a request that mixed two would show, and so would one that failed."""
    keys = np.arange(3 * 50)

    def save(version: int) -> None:
        for group, dim in ((0, 4), (1, 2)):
            store.from_numpy(group, keys, np.full((len(keys), dim), version))
        manager.save()

    with damo_tf.Store(tmp_path / "store") as store:
        model = two_tables(store)
        damo_tf.export_dense(model, tmp_path / "exported")
        manager = damo_tf.CheckpointManager(store, tmp_path / "checkpoints", max_to_keep=1, full_every=3)
        save(1)
        seen: list[list[float]] = [[] for _ in range(4)]
        ends = threading.Event()
        failures = []
        with damo_tf.Predictor(tmp_path / "exported", manager.directory, scratch=tmp_path) as predictor:

            def ask(versions: list[float]) -> None:
                try:
                    while not ends.is_set() or versions[-1] != 9:
                        vectors = predictor.predict({"ids": keys[1:].repeat(3).reshape(-1, 3)})["vectors"]
                        assert vectors.min() == vectors.max()
                        versions.append(vectors.max())
                except BaseException as error:
                    failures.append(error)

            threads = [threading.Thread(target=ask, args=(versions,)) for versions in seen]
            for thread in threads:
                thread.start()
            for version in range(2, 10):
                save(version)
                assert predictor.refresh()
            ends.set()
            for thread in threads:
                thread.join()

    assert not failures
    for versions in seen:
        assert versions == sorted(versions) and versions[-1] == 9
    assert len({version for versions in seen for version in versions}) > 1


def test_rows_are_refreshed_automatically(model, store, tmp_path):
    manager = damo_tf.CheckpointManager(store, tmp_path / "checkpoints")
    manager.save()
    refreshed: queue.Queue[tuple[str, ...]] = queue.Queue()
    with damo_tf.Predictor(
        tmp_path / "exported", manager.directory, refresh_seconds=0.01, on_refresh=refreshed.put
    ) as predictor:
        assert "ckpt-1/" in refreshed.get(timeout=60)[0]
        store.apply_gradients(0, KEYS, np.ones((20, 3, 4)), padding_key=0)
        manager.save()
        assert "ckpt-2/" in refreshed.get(timeout=60)[0]
        check_equal(predictor, model)
        assert predictor.refresh_error is None


def test_a_refresh_that_fails_leaves_the_rows_in_service_and_warns_once(model, store, tmp_path, monkeypatch):
    manager = damo_tf.CheckpointManager(store, tmp_path / "checkpoints")
    manager.save()
    warned: queue.Queue[str] = queue.Queue()

    def warn(text: str, *_: object, **__: object) -> None:
        if "goes on with" in text:  # Keras has warnings of its own
            warned.put(text)

    monkeypatch.setattr("damo_tf.predictor.warnings.warn", warn)
    refreshed: queue.Queue[tuple[str, ...]] = queue.Queue()
    with damo_tf.Predictor(
        tmp_path / "exported", manager.directory, refresh_seconds=0.01, on_refresh=refreshed.put
    ) as predictor:
        damaged = manager.directory / "ckpt-2"
        shutil.copytree(manager.latest_checkpoint, tmp_path / "copy")
        for table in (tmp_path / "copy").glob("*.sst"):
            table.unlink()
        os.rename(tmp_path / "copy", damaged)
        assert re.search("goes on with the rows it has: .*ckpt-2", warned.get(timeout=60))
        check_equal(predictor, model)
        assert "ckpt-2" in str(predictor.refresh_error)
        attempts: queue.Queue[None] = queue.Queue()
        refresh = predictor.refresh
        monkeypatch.setattr(predictor, "refresh", lambda: (attempts.put(None), refresh())[1])
        for _ in range(3):
            attempts.get(timeout=60)
        assert list(warned.queue) == []

        os.rename(damaged, tmp_path / "gone")  # at once: half of it would be another failure
        manager.save()

        while "ckpt-2/" not in refreshed.get(timeout=60)[0]:
            pass
        check_equal(predictor, model)


def save_rows_of_another_model(directory: Path, groups: dict[int, dict[str, Any]], seed: int = 0) -> None:
    """A trainer of other groups, or another seed, checkpoints where that of `model` did."""
    with damo_tf.Store(directory.parent / "other", seed=seed) as other:
        for group, settings in groups.items():
            other.add_group(group, **settings)
        damo_tf.CheckpointManager(other, directory).save()


@pytest.mark.parametrize(
    ("groups", "seed", "text"),
    [
        (
            {0: {"dim": 8}, 1: {"dim": 2}},
            0,
            "`store` must have dim 4 in group 0, .* Received: 8 in .*ckpt-2/",
        ),
        (
            {0: {"dim": 4, "initializer": "ones"}, 1: {"dim": 2}},
            0,
            "must have initializer .* in group 0, .* Received: .*'ones'.* in .*ckpt-2/",
        ),
        ({1: {"dim": 2}}, 0, r"`store` must have group 0\. Received: \[1\] in .*ckpt-2/"),
        ({0: {"dim": 4}, 1: {"dim": 2}}, 3, "ckpt-2': has seed 3, asked for 0"),
    ],
    ids=["dim", "initializer", "group", "seed"],
)
def test_rows_of_another_model_are_not_taken_into_service(model, store, tmp_path, groups, seed, text):
    manager = damo_tf.CheckpointManager(store, tmp_path / "checkpoints")
    manager.save()
    with damo_tf.Predictor(tmp_path / "exported", manager.directory) as predictor:
        save_rows_of_another_model(manager.directory, groups, seed)

        with pytest.raises(ValueError, match=text):
            predictor.refresh()

        assert "ckpt-1/" in predictor.version[0]
        check_equal(predictor, model)


def test_an_automatic_refresh_says_why_rows_of_another_model_were_refused(
    model, store, tmp_path, monkeypatch
):
    manager = damo_tf.CheckpointManager(store, tmp_path / "checkpoints")
    manager.save()
    warned = threading.Event()
    monkeypatch.setattr(
        "damo_tf.predictor.warnings.warn", lambda text, **_: warned.set() if "must have dim" in text else None
    )
    with damo_tf.Predictor(tmp_path / "exported", manager.directory, refresh_seconds=0.01) as predictor:
        save_rows_of_another_model(manager.directory, {0: {"dim": 8}, 1: {"dim": 2}})

        assert warned.wait(60)

        assert re.search("must have dim 4 in group 0, .* in .*ckpt-2/", str(predictor.refresh_error))
        check_equal(predictor, model)


def test_rows_of_another_model_are_refused_at_once(model, store, tmp_path):
    with damo_tf.Store(tmp_path / "other") as other:
        other.add_group(0, dim=8)
        other.add_group(1, dim=2)
        other.dump(tmp_path / "other.dump")
        for rows in (other, tmp_path / "other.dump"):
            with pytest.raises(ValueError, match=r"must have dim 4 in group 0, .* Received: 8 in"):
                damo_tf.Predictor(tmp_path / "exported", rows)


def test_an_open_store_of_another_seed_is_refused(model, store, tmp_path):
    with damo_tf.Store(tmp_path / "other", seed=5) as other:
        for group in (0, 1):
            other.add_group(group, **settings_of(store, group))
        with pytest.raises(ValueError, match=r"must have seed 0 in group 0, .* Received: 5 in .*other"):
            damo_tf.Predictor(tmp_path / "exported", other)


def settings_of(store: damo_tf.Store, group: int) -> dict[str, Any]:
    """What makes a group the same in another store."""
    config = store.storage.group_config(group)
    return {name: config[name] for name in ("dim", "initializer", "optimizer")}


def test_the_directory_of_a_store_checkpoint_is_refused_by_its_name(model, tmp_path):
    checkpoint = damo_tf.callbacks.StoreCheckpoint(tmp_path / "training")
    model.fit(np.abs(KEYS), [np.ones((20, 1)), np.zeros((20, 18))], callbacks=[checkpoint], verbose=0)
    newest = checkpoint.latest_checkpoint
    for path in (checkpoint.directory, newest):
        with pytest.raises(ValueError, match=r"Received: '.*' of a StoreCheckpoint, which has them in"):
            damo_tf.Predictor(tmp_path / "exported", path)

    with damo_tf.Predictor(tmp_path / "exported", newest / "store-0") as predictor:
        assert predictor.predict({"ids": KEYS})["vectors"].shape == (20, 18)


def test_ids_that_the_model_computes_and_other_inputs_are_served(store, tmp_path, rng):
    raw, price = keras.Input((2,), dtype="int64", name="raw"), keras.Input((1,), name="price")
    layer = damo_tf.Embedding(3, store=store, initializer="truncate_normal", name="rows")
    joined = keras.layers.Concatenate(name="out")([keras.layers.Flatten()(layer(raw + 1000)), price])
    model = keras.Model([raw, price], joined)
    damo_tf.export_dense(model, tmp_path / "exported")
    inputs = {"raw": rng.integers(99, size=(5, 2)), "price": rng.standard_normal((5, 1), np.float32)}

    with damo_tf.Predictor(tmp_path / "exported") as predictor:
        outputs = predictor.predict({name: values.tolist() for name, values in inputs.items()})

    np.testing.assert_array_equal(outputs["out"], model.predict(list(inputs.values()), verbose=0))


def test_each_store_has_rows_of_its_own(store, tmp_path):
    ids = keras.Input((3,), dtype="int64", name="ids")
    with damo_tf.Store(tmp_path / "second", seed=5) as second:
        vectors = [damo_tf.Embedding(2, store=s)(ids) for s in (store, second)]
        model = keras.Model(ids, keras.layers.Concatenate(name="out")(vectors))
        damo_tf.export_dense(model, tmp_path / "exported")
        for rows in (None, [store, second], [store, None]):
            with damo_tf.Predictor(tmp_path / "exported", rows) as predictor:
                outputs = predictor.predict({"ids": KEYS})
            np.testing.assert_array_equal(outputs["out"], model.predict(KEYS, verbose=0))
        with pytest.raises(ValueError, match="`store` must be a list of 2, one for each store"):
            damo_tf.Predictor(tmp_path / "exported", store)


def test_wrong_arguments_and_inputs_are_refused_by_name_rule_and_value(model, tmp_path):
    exported = tmp_path / "exported"
    for arguments, options, kind, text in [
        ((42,), {}, TypeError, "`directory` must be a path. Received: directory=42"),
        ((tmp_path,), {}, FileNotFoundError, "must be one that export_dense wrote"),
        ((exported, "/nowhere"), {}, FileNotFoundError, "There is nothing at '/nowhere'"),
        ((exported,), {"refresh_seconds": 0}, ValueError, "`refresh_seconds` must be a finite number > 0"),
        ((exported,), {"on_refresh": 1}, TypeError, "`on_refresh` must be callable or None"),
        ((exported,), {"memory_budget": "1"}, TypeError, "`memory_budget` must be an integer"),
    ]:
        with pytest.raises(kind, match=re.escape(text)):
            damo_tf.Predictor(*arguments, **options)
    with damo_tf.Predictor(exported) as predictor:
        for inputs, kind, text in [
            ([[1]], TypeError, "`inputs` must be a dict. Received: [[1]]"),
            ({"id": [[1, 2, 3]]}, ValueError, "`inputs` must have the names ['ids']. Received: ['id']"),
            ({"ids": [[1.5, 2, 3]]}, TypeError, "`ids` must be an integer in"),
            ({"ids": np.ones((1, 3))}, TypeError, "`ids` must be integers. Received dtype: float64"),
            ({"ids": [[1, 2, 3], [4]]}, ValueError, "`ids` must be an array, or make one. Received: [[1, 2"),
            ({"ids": [[1, 2]]}, ValueError, "`ids` must have ids of shape (None, 3). Received shape: (1, 2)"),
        ]:
            with pytest.raises(kind, match=re.escape(text)):
                predictor.predict(inputs)
    for call in (lambda: predictor.predict({"ids": KEYS}), predictor.refresh):
        with pytest.raises(RuntimeError, match=re.escape(f"Predictor('{exported}') is closed")):
            call()
    predictor.close()


def change_description(directory: Path, change: Callable[[dict], None]) -> None:
    path = directory / "embeddings.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def test_a_dense_part_of_format_1_is_served(model, tmp_path):
    def as_of_format_1(description):
        description["format"] = 1
        del description["composite_inputs"]
        for embedding in description["embeddings"]:
            for member in ("row_splits", "indices", "dense_shape", "hash", "combiner", "weights", "mask"):
                del embedding[member]

    change_description(tmp_path / "exported", as_of_format_1)

    with damo_tf.Predictor(tmp_path / "exported") as predictor:
        check_equal(predictor, model)


def test_a_dense_part_of_a_later_format_is_refused(model, tmp_path):
    change_description(tmp_path / "exported", lambda description: description.update(format=3))
    with pytest.raises(ValueError, match=r"`directory` must be of format 2 or before. .* of format 3"):
        damo_tf.Predictor(tmp_path / "exported")
