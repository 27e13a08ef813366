# SPDX-License-Identifier: Apache-2.0
"""StoreMetrics: figures of stores in Keras's logs and in TensorBoard's event files, which are read back."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from embedding_layers import OwnTrainStep
from tensorflow.core.util import event_pb2

import damo_tf
from damo_tf.callbacks import StoreMetrics

GROUP_FIGURES = {
    "rows",
    "new",
    "blocked",
    "expired",
    "skipped",
    "hit_rate",
    "dirty",
    "lookup_ms",
    "apply_ms",
}


def make_model(store, group: int = 0, **settings) -> keras.Model:
    """A model that trains its rows alone, so that a gradient that is not finite stays in its row."""
    ids = keras.Input((1,), dtype="int64")
    rows = damo_tf.Embedding(2, store=store, group=group, initializer="ones", **settings)(ids)
    model = keras.Model(ids, keras.layers.Dense(1, trainable=False)(keras.layers.Flatten()(rows)))
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def batches_of(*batches: list[int]) -> tf.data.Dataset:
    """Batches of these ids; gradients of id 13 are not finite."""
    rows = [(np.array(ids)[:, None], np.where(np.array(ids) == 13, np.nan, 1.0)) for ids in batches]
    x, y = (np.concatenate(part) for part in zip(*rows, strict=True))
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(len(batches[0]))


def events(log_dir: Path) -> dict[str, dict[int, np.ndarray]]:
    """By tag and step, what the event files of a directory hold."""
    found: dict[str, dict[int, np.ndarray]] = {}
    files = [str(file) for file in sorted(log_dir.glob("store/events.out.tfevents.*"))]
    for record in tf.data.TFRecordDataset(files):
        event = event_pb2.Event.FromString(record.numpy())
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = tf.make_ndarray(value.tensor)
    return found


def test_figures_are_those_of_the_training(store, tmp_path):
    model = make_model(store, min_count=2)
    metrics = StoreMetrics(tmp_path, histogram_rows=0)
    data = batches_of([1, 2, 1], [1, 3, 13], [13, 2, 4])  # 1 in the first; 2 and 13, which is skipped, later
    history = model.fit(data, epochs=2, callbacks=[metrics], verbose=0).history

    assert {name.removeprefix("rows/0/") for name in history if name.startswith("rows/0/")} == GROUP_FIGURES
    assert history["rows/0/rows"] == [2, 4]
    assert history["rows/0/new"] == [2, 2]
    assert history["rows/0/blocked"] == [3, 0]
    assert history["rows/0/skipped"] == [2, 2]
    assert history["rows/0/expired"] == [0, 0]
    assert all(0 <= rate <= 1 for rate in history["rows/0/hit_rate"])
    assert all(ms > 0 for name in ("lookup_ms", "apply_ms") for ms in history[f"rows/0/{name}"])
    assert history["rows/disk_bytes"][-1] > 0
    assert history["rows/redo_bytes"][-1] > 0

    written = events(tmp_path)
    names = {f"rows/0/{name}" for name in GROUP_FIGURES} | {"rows/disk_bytes", "rows/redo_bytes"}
    assert written.keys() == names
    for name in names:
        assert list(written[name]) == [3, 6]  # batches trained
        np.testing.assert_array_equal(list(written[name].values()), np.float32(history[name]))


def test_rows_that_expire_and_rows_that_are_newer_in_memory_are_counted(tmp_path):
    with damo_tf.Store(tmp_path / "store", ttl_seconds=60, clock="event") as store:
        an_hour_an_epoch = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: store.advance_clock(3_600_000 * (1 + epoch))
        )
        metrics = StoreMetrics(tmp_path, update_freq=1, histogram_rows=1)  # a histogram flushes
        data = batches_of([1, 2, 1], [3, 2, 1])
        make_model(store).fit(data, epochs=2, callbacks=[an_hour_an_epoch, metrics], verbose=0)
    written = events(tmp_path)
    # Each occurrence in a lookup finds a row so, and then its step.
    assert {step: float(n) for step, n in written["rows/0/expired"].items()} == {
        1: 0,
        2: 0,
        3: 3 + 2,
        4: 1 + 1,
    }
    assert {step: float(n) for step, n in written["rows/0/dirty"].items()} == {1: 2, 2: 3, 3: 2, 4: 3}


def test_figures_are_written_as_often_as_asked(store, tmp_path):
    metrics = StoreMetrics(tmp_path, update_freq=2, histogram_rows=0)
    data = batches_of([1], [2], [3], [4], [5])
    history = make_model(store).fit(data, callbacks=[metrics], verbose=0).history
    assert history["rows/0/new"] == [5]
    new = events(tmp_path)["rows/0/new"]
    assert {step: float(value) for step, value in new.items()} == {2: 2, 4: 2, 5: 1}


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": lambda: keras.optimizers.SGD(gradient_accumulation_steps=2)},
        {"optimizer": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())},
        {"optimizer": keras.optimizers.SGD, "steps_per_execution": 2, "run_eagerly": False},
    ],
    ids=["accumulation", "skipped steps", "steps_per_execution"],
)
@pytest.mark.parametrize("length_is_known", [True, False])
def test_batches_are_counted_whatever_keras_makes_of_them(store, tmp_path, settings, length_is_known):
    model = make_model(store)
    model.compile(**{"loss": "mse", "run_eagerly": True, **settings, "optimizer": settings["optimizer"]()})
    data = batches_of([1], [13], [3], [4], [13])
    metrics = StoreMetrics(tmp_path, update_freq=2, histogram_rows=0)
    for _ in range(2):
        model.fit(data if length_is_known else data.filter(lambda *_: True), callbacks=[metrics], verbose=0)
    assert sorted(events(tmp_path)["rows/0/rows"]) == [2, 4, 5, 7, 9, 10]


def test_axis_goes_on_where_the_optimizer_is(store, tmp_path):
    model = make_model(store)
    model.compile(keras.optimizers.SGD(gradient_accumulation_steps=2), "mse", run_eagerly=True)
    for _ in range(2):
        metrics = StoreMetrics(tmp_path, histogram_rows=0)
        model.fit(batches_of([1], [2], [3]), callbacks=[metrics], verbose=0)
    assert sorted(events(tmp_path)["rows/0/rows"]) == [3, 6]


def test_epoch_that_ends_with_a_point_gets_no_second_one(store, tmp_path):
    metrics = StoreMetrics(tmp_path, update_freq=2, histogram_rows=0)
    data = batches_of([1], [2], [3], [4])
    history = make_model(store).fit(data, epochs=2, callbacks=[metrics], verbose=0).history
    assert history["rows/0/new"] == [4, 0]
    new = events(tmp_path)["rows/0/new"]
    assert {step: float(value) for step, value in new.items()} == {2: 2, 4: 2, 6: 0, 8: 0}
    assert history["rows/0/hit_rate"][1] == 1


def test_validation_is_left_out(store, tmp_path):
    metrics = StoreMetrics(tmp_path, histogram_rows=0)
    unseen = np.arange(100, 200)[:, None], np.ones(100)
    history = (
        make_model(store)
        .fit(batches_of(*[[1]] * 4), validation_data=unseen, callbacks=[metrics], epochs=2, verbose=0)
        .history
    )
    assert history["rows/0/hit_rate"] == [0.75, 1.0]
    assert store.stats()["groups"][0]["cache_misses"] > 100


def test_histograms_are_of_a_bounded_sample(store, tmp_path):
    metrics = StoreMetrics(tmp_path, histogram_rows=3)
    model = make_model(store, optimizer={"name": "sgd", "gamma": 1e-9})  # rows stay as they begin
    model.fit(batches_of([5, 1, 2], [1, 1, 2], [1, 3, 4]), callbacks=[metrics], verbose=0)
    norms, updates = (events(tmp_path)[f"rows/0/{name}"][3] for name in ("norm", "updates"))
    assert norms[:, 2].sum() == updates[:, 2].sum() == 3  # keys 1, 2, 3
    filled = norms[norms[:, 2] > 0]
    assert filled[0, 0] - 1e-6 <= np.sqrt(2) <= filled[-1, 1] + 1e-6
    assert updates[0, 0] == 1  # key 3
    assert updates[-1, 1] == 3  # key 1


def test_no_row_is_read_for_figures(tmp_path):
    path = tmp_path / "store"
    with damo_tf.Store(path) as store:
        store.add_group(0, 2, ttl_seconds=3600)
        store.apply_gradients(0, range(100), np.ones((100, 2)))
    table = max(path.glob("*.sst"), key=lambda file: file.stat().st_size)
    data = bytearray(table.read_bytes())
    data[60] ^= 1  # in a row, which nobody can read then
    table.write_bytes(data)

    with damo_tf.Store(path) as store:
        unseen = range(1000, 1004)  # in no file: training does not read the rows either
        history = (
            make_model(store, optimizer="adam", ttl_seconds=3600)
            .fit(
                batches_of(*([key] for key in unseen)),
                validation_data=batches_of([2000]),
                epochs=2,
                callbacks=[StoreMetrics(tmp_path / "log", update_freq=1, histogram_rows=0)],
                verbose=0,
            )
            .history
        )
        assert history["rows/0/rows"] == [104, 104]
        with pytest.raises(RuntimeError, match="checksum mismatch"):
            store.size()


def test_groups_and_stores_have_names_of_their_own(store, tmp_path):
    ids = keras.Input((1,), dtype="int64")
    with damo_tf.Store(tmp_path / "other") as other:
        layers = [damo_tf.Embedding(2, store=s, group=g) for s, g in ((store, 0), (store, 7), (other, 0))]
        joined = keras.layers.Concatenate()([layer(ids) for layer in layers])
        model = keras.Model(ids, keras.layers.Dense(1)(keras.layers.Flatten()(joined)))
        model.compile("sgd", "mse", run_eagerly=True)
        history = model.fit(batches_of([1, 2]), callbacks=[StoreMetrics(tmp_path / "log")], verbose=0).history
        assert {name for name in history if name.endswith(("/rows", "/disk_bytes"))} == {
            "rows/store/0/rows",
            "rows/store/7/rows",
            "rows/store/disk_bytes",
            "rows/other/0/rows",
            "rows/other/disk_bytes",
        }
        (tmp_path / "a").mkdir()
        with damo_tf.Store(tmp_path / "a/store") as same_name:
            both = keras.Model(ids, [damo_tf.Embedding(2, store=s)(ids) for s in (store, same_name)])
            both.compile("sgd", "mse", run_eagerly=True)
            y = [np.ones((1, 1, 2))] * 2
            logs = both.fit(
                np.ones((1, 1), int), y, callbacks=[StoreMetrics(tmp_path / "l")], verbose=0
            ).history
            assert f"rows/{same_name.directory.strip('/')}/0/rows" in logs


def test_a_model_that_its_first_batch_builds_is_counted_from_the_second_on(store, tmp_path):
    model = keras.Sequential(
        [damo_tf.Embedding(2, store=store), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse", run_eagerly=True)
    history = model.fit(
        batches_of([1], [2], [3]), epochs=2, callbacks=[StoreMetrics(tmp_path)], verbose=0
    ).history
    assert history["rows/0/rows"] == [3, 3]
    assert history["rows/0/new"] == [2, 0]


def test_a_model_that_is_never_called_itself_is_counted(store, tmp_path):
    model = OwnTrainStep(make_model(store))
    model.compile("sgd")
    history = model.fit(batches_of([1], [2], [3]), callbacks=[StoreMetrics(tmp_path)], verbose=0).history
    assert history["rows/0/new"] == [3]


def test_a_model_without_rows_is_refused(tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)], name="plain")
    model.compile("sgd", "mse", run_eagerly=True)
    with pytest.raises(
        ValueError, match=r"needs a model with a damo_tf\.Embedding\. Received: model 'plain'"
    ):
        model.fit(np.ones((2, 1)), np.ones((2, 1)), callbacks=[StoreMetrics(tmp_path)], verbose=0)


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"`update_freq` must be 'epoch' or an integer >= 1\. .*='batch'"):
        StoreMetrics(tmp_path, update_freq="batch")
    with pytest.raises(ValueError, match="`histogram_rows` must be an integer in"):
        StoreMetrics(tmp_path, histogram_rows=-1)
    with pytest.raises(TypeError, match="`log_dir` must be a path"):
        StoreMetrics(None)
