# SPDX-License-Identifier: Apache-2.0
"""The arguments and the config of the Embedding layer, models with it that are saved, and XLA."""

import json
import shutil
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from embedding_layers import FULL_RANGE, embedding, regression
from known_gradients import DIM, KnownGradients, WeightedSum, functional
from stored_rows import assert_rows_equal, rows_of, step_of

import damo_tf

pytestmark = pytest.mark.usefixtures("keras_seed")


# ---- Wrong arguments ----


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"dim": 0}, ValueError, "`dim` must be an integer .*Received: dim=0"),
        ({"dim": -1}, ValueError, "`dim` must be an integer .*Received: dim=-1"),
        ({"dim": "8"}, TypeError, "`dim` must be an integer .*Received: dim='8'"),
        ({"dim": True}, TypeError, "`dim` must be an integer .*Received: dim=True"),
        ({"dim": 2.0}, TypeError, "`dim` must be an integer .*Received: dim=2.0"),
        ({"group": 256}, ValueError, r"`group` must be an integer in \[0, 256\). Received: group=256"),
        ({"group": -1}, ValueError, r"`group` must be an integer in \[0, 256\). Received: group=-1"),
        ({"group": "1"}, TypeError, r"`group` must be an integer in \[0, 256\). Received: group='1'"),
        ({"store": 5}, TypeError, "`store` must be .*path. Received: store=5"),
        ({"store": None}, TypeError, "`store` must be .*path. Received: store=None"),
        ({"optimizer": "adm"}, ValueError, "unknown optimizer 'adm'; known: .*'adam'.*'sgd'"),
        ({"optimizer": 5}, TypeError, "`optimizer` must be .* Received: optimizer=5"),
        (
            {"optimizer": {"name": "adam", "gama": 1}},
            ValueError,
            "optimizer 'adam' has no parameter 'gama'; known: .*'gamma'",
        ),
        (
            {"optimizer": {"name": "adam", "gamma": -1}},
            ValueError,
            "optimizer 'adam': parameter 'gamma' must be > 0. Received: gamma=-1",
        ),
        ({"optimizer": {"gamma": 1}}, ValueError, "optimizer: parameter 'name' is required"),
        ({"initializer": "uniform"}, ValueError, "unknown initializer 'uniform'; known: .*'zeros'"),
        ({"initializer": 5}, TypeError, "`initializer` must be .* Received: initializer=5"),
        ({"padding_key": 1.5}, TypeError, "`padding_key` must be .* Received: padding_key=1.5"),
        ({"padding_key": 2**64}, ValueError, f"`padding_key` must be .*padding_key={2**64}"),
        ({"missing": "zero"}, ValueError, "`missing` must be 'initial' or 'zeros'.*missing='zero'"),
        ({"missing": None}, ValueError, "`missing` must be 'initial' or 'zeros'.*missing=None"),
        (
            {"min_count": 16},
            ValueError,
            r"`min_count` must be an integer in \[0, 16\). Received: min_count=16",
        ),
        ({"min_count": 1.0}, TypeError, "`min_count` must be .* Received: min_count=1.0"),
        ({"filter_capacity": 0}, ValueError, "`filter_capacity` must be .* Received: filter_capacity=0"),
        (
            {"filter_fpr": 0.6},
            ValueError,
            r"`filter_fpr` must be in \[1e-09, 0.5\]. Received: filter_fpr=0.6",
        ),
        ({"filter_fpr": "low"}, TypeError, "`filter_fpr` must be a number > 0. Received: filter_fpr='low'"),
        ({"dtype": "int64"}, ValueError, "`dtype` must be of floats.* Received: dtype='int64'"),
        ({"combine": "sum"}, ValueError, "Unrecognized keyword arguments.*'combine'"),
    ],
)
def test_wrong_argument_is_refused_by_name_rule_and_value(store, arguments, error, text):
    with pytest.raises(error, match=text):
        damo_tf.Embedding(**{"dim": DIM, "store": store, **arguments})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"dim": 65537}, "`dim` must be .*65.*Received: dim=65537"),
        (
            {"min_count": 2, "filter_capacity": 2**32},
            "a filter with filter_capacity=4294967296 .* takes 30875635712 bytes",
        ),
        ({"store": ""}, "`store` must be a path. Received: store=''"),
        ({"store": __file__}, "open store '.*': is a file, not a directory"),
    ],
)
def test_argument_that_the_store_refuses_is_refused_on_building(store, arguments, text):
    with pytest.raises(ValueError, match=text):
        damo_tf.Embedding(**{"dim": DIM, "store": store, **arguments}).build(None)


# ---- Config and saving ----

ALL_SETTINGS = {
    "group": 9,
    "initializer": {"name": "random_normal", "stddev": 0.5},
    "optimizer": {"name": "adamw", "gamma": 0.25},
    "combiner": "mean",
    "padding_key": 2**64 - 1,
    "missing": "zeros",
    "min_count": 3,
    "filter_capacity": 5000,
    "filter_fpr": 0.01,
    "name": "ids",
    "dtype": "mixed_bfloat16",
    "ttl_seconds": 3600,
    "trainable": False,
}


def test_rows_of_a_layer_have_a_time_to_live_of_their_own(tmp_path):
    with damo_tf.Store(tmp_path / "store", clock="event", ttl_seconds=1000) as store:
        layers = {
            None: embedding(store, group=0),
            60: embedding(store, group=1, ttl_seconds=60),
            "never": embedding(store, group=2, ttl_seconds="never"),
        }
        for layer in layers.values():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(tf.constant([1])))
            tape.gradient(loss, layer.trainable_weights)
        for milliseconds, sizes in ((59_999, [1, 1, 1]), (60_000, [1, 0, 1]), (1_000_000, [0, 0, 1])):
            store.advance_clock(milliseconds)
            assert [store.size(layer.group) for layer in layers.values()] == sizes


def test_config_round_trip(store):
    layer = embedding(store, **ALL_SETTINGS)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    assert config["config"]["store"] == store.directory
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, damo_tf.Embedding)
    assert again.get_config() == layer.get_config()
    for attribute in ("dim", *(ALL_SETTINGS.keys() - {"dtype", "trainable"})):
        assert getattr(again, attribute) == getattr(layer, attribute)
    assert again.trainable is False
    assert again.compute_dtype == "bfloat16"
    np.testing.assert_array_equal(again(FULL_RANGE), layer(FULL_RANGE))


def test_config_has_the_optimizer_however_it_was_given(store):
    given = [
        {"name": "sgd", "gamma": 0.1},
        damo_tf.optimizers.SGD(0.1),
        keras.optimizers.SGD(0.1),
    ]
    configs = [embedding(store, optimizer=optimizer, name="e").get_config() for optimizer in given]
    assert configs[0]["optimizer"] == {"name": "sgd", "gamma": 0.1, "lambda": 0.0}
    assert all(config == configs[0] for config in configs)


def trained_model(store, rng):
    model = regression(embedding(store))
    model.compile("adam", "mse")
    model.fit(rng.integers(0, 20, (32, 3)), rng.normal(size=(32, 1)), verbose=0)
    return model


def test_clone_shares_rows(store, rng):
    model = trained_model(store, rng)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    ids = rng.integers(0, 30, (5, 3))
    np.testing.assert_array_equal(clone.predict(ids, verbose=0), model.predict(ids, verbose=0))


def test_saved_model_refers_to_its_store(tmp_path, rng):
    with damo_tf.Store(tmp_path / "store") as store:
        model = trained_model(store, rng)
        model.save(tmp_path / "model.keras")
        ids = rng.integers(0, 30, (5, 3))
        expected = model.predict(ids, verbose=0)
        rows = rows_of(store, 0, range(30))

    loaded = keras.models.load_model(tmp_path / "model.keras")  # opens the store
    with loaded.layers[1].store as store:
        np.testing.assert_array_equal(loaded.predict(ids, verbose=0), expected)
        assert rows_of(store, 0, range(30)) == rows
        loaded.fit(ids, np.ones((5, 1)), verbose=0)  # and goes on
        assert step_of(store) == 2


def test_sequential_model_may_begin_with_the_layer(store):
    layers = [damo_tf.Embedding(4, store=store), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    ids = np.array([[2**62 + 1, 2**62 + 2], [3, -4]])  # as float32 the first two would be one

    model.fit(ids, np.ones((2, 1)), verbose=0)

    assert store.size() == 4
    assert store.row(0, 2**62 + 1) is not None and store.row(0, 2**62 + 2) is not None


def test_saved_model_loads_in_a_fresh_process(tmp_path, rng, run_with_tensorflow):
    with damo_tf.Store(tmp_path / "store") as store:
        model = trained_model(store, rng)
        model.save(tmp_path / "model.keras")
        ids = rng.integers(0, 30, (5, 3))
        expected = model.predict(ids, verbose=0)
    program = """if True:
        import sys, json, keras, damo_tf
        import numpy as np
        model = keras.models.load_model(sys.argv[1])
        print(json.dumps(model.predict(np.array(json.loads(sys.argv[2])), verbose=0).tolist()))
    """
    printed = run_with_tensorflow(program, tmp_path / "model.keras", json.dumps(ids.tolist()))
    np.testing.assert_array_equal(np.float32(json.loads(printed)), expected)


def test_layer_of_a_config_makes_no_new_store(tmp_path, rng):
    with damo_tf.Store(tmp_path / "store") as store:
        trained_model(store, rng).save(tmp_path / "model.keras")
        config = embedding(store).get_config()
    shutil.rmtree(tmp_path / "store")
    for load in (
        lambda: keras.models.load_model(tmp_path / "model.keras"),
        lambda: damo_tf.Embedding.from_config(config).build(None),
    ):
        with pytest.raises(FileNotFoundError, match=r"open store '.*': there is no such directory"):
            load()
    assert not (tmp_path / "store").exists()


def test_weights_of_the_model_are_the_dense_part_and_the_anchor(store, rng):
    layer = embedding(store)
    model = regression(layer)
    assert [weight.path for weight in layer.weights] == [f"{layer.name}/anchor"]
    assert layer.count_params() == 1
    assert layer.anchor.shape == ()
    assert len(model.trainable_weights) == 3


# ---- XLA ----


def test_jit_compile_trains_without_xla_and_keras_says_so(store, rng):
    batches = KnownGradients(rng)
    layer = embedding(store)
    assert layer.supports_jit is False
    model = functional(layer)
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        model.compile("adam", WeightedSum(), jit_compile=True)
    assert model.jit_compile is False
    batches.fit(model)
    assert_rows_equal(store, batches.oracle())


def test_auto_jit_is_off(store):
    model = functional(embedding(store))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.compile("adam", WeightedSum(), jit_compile="auto")
    assert model.jit_compile is False


def test_own_function_with_jit_compile_names_the_op(store):
    layer = embedding(store)
    layer.build(None)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="No registered 'DamoEmbeddingLookup' OpKernel for XLA"
    ):
        tf.function(layer, jit_compile=True)(tf.constant([1], tf.int64))
