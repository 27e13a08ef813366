# SPDX-License-Identifier: Apache-2.0
"""The Embedding layer: what it computes, what it takes, what it refuses, how it is saved."""

import json
import shutil
import warnings
from collections import OrderedDict
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from known_gradients import DIM, IDS_SHAPE, KnownGradients, WeightedSum, functional, weighted_sum
from oracles import OracleTable, initial_weights
from stored_rows import assert_rows_equal, rows_of, step_of

import damo_tf

pytestmark = pytest.mark.usefixtures("keras_seed")

FULL_RANGE = np.array([0, 1, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)


def embedding(store, **settings) -> damo_tf.Embedding:
    return damo_tf.Embedding(DIM, store=store, **settings)


def one_step(layer, inputs):
    """One step with gradient 1 everywhere; returns the embeddings before it."""
    with tf.GradientTape() as tape:
        outputs = layer(inputs)
        loss = tf.add_n([tf.reduce_sum(output) for output in tf.nest.flatten(outputs)])
    tape.gradient(loss, layer.trainable_variables)
    return outputs


EAGER_OR_FUNCTION = pytest.mark.parametrize("function", [lambda f: f, tf.function], ids=["eager", "function"])


# ---- What it computes ----


def regression(layer):
    ids = keras.Input((3,), dtype="int64")
    return keras.Model(ids, keras.layers.Dense(1)(keras.layers.Flatten()(layer(ids))))


def test_with_sgd_equals_a_dense_embedding(store, rng):
    vocabulary = 20
    ours = regression(embedding(store, optimizer=keras.optimizers.SGD(0.1)))
    dense_layer = keras.layers.Embedding(vocabulary, DIM)
    dense = regression(dense_layer)
    dense_layer.set_weights([store.lookup(0, np.arange(vocabulary))])
    dense.layers[-1].set_weights(ours.layers[-1].get_weights())

    ids = rng.zipf(1.3, (70, 3)) % vocabulary  # in most batches some ids repeat
    labels = rng.normal(size=(70, 1))
    losses = []
    for model in (ours, dense):
        model.compile(keras.optimizers.SGD(0.1), "mse")
        losses.append(model.fit(ids, labels, 16, epochs=5, shuffle=False, verbose=0).history["loss"])

    # The same float32 operations; gradients of equal ids may be summed in another order.
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    table = store.lookup(0, np.arange(vocabulary))
    np.testing.assert_allclose(table, dense_layer.get_weights()[0], rtol=1e-5, atol=1e-6)
    for a, b in zip(ours.layers[-1].get_weights(), dense.layers[-1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adagrad", "ftrl", "lion"])
def test_with_other_optimizers_equals_the_oracle(store, rng, optimizer):
    layer = embedding(store, optimizer=optimizer, initializer="random_normal")
    dense = keras.layers.Dense(1)
    sgd = keras.optimizers.SGD(0.1)
    oracle = OracleTable(DIM, optimizer=optimizer, initializer="random_normal")

    @tf.function
    def step(ids, labels):
        with tf.GradientTape() as tape:
            embeddings = layer(ids)
            prediction = dense(tf.reduce_sum(embeddings, axis=1))
            loss = tf.reduce_mean(tf.square(prediction - labels))
        weights = layer.trainable_variables + dense.trainable_variables
        *gradients, of_embeddings = tape.gradient(loss, [*weights, embeddings])
        sgd.apply_gradients(zip(gradients, weights, strict=True))
        return embeddings, of_embeddings

    for _ in range(10):
        ids = rng.zipf(1.3, (16, 3)) % 20
        embeddings, gradients = step(ids, rng.normal(size=(16, 1)).astype(np.float32))
        np.testing.assert_array_equal(embeddings, oracle.lookup(ids))
        oracle.apply_gradients(ids, gradients.numpy())
    assert_rows_equal(store, oracle)


def test_rows_begin_with_the_value_of_seed_group_and_key(tmp_path):
    for seed, group in [(0, 0), (0, 255), (2**64 - 1, 3)]:
        with damo_tf.Store(tmp_path / f"{seed}-{group}", seed=seed) as store:
            weights = embedding(store, group=group)(FULL_RANGE)
        expected = initial_weights("random_uniform", FULL_RANGE, DIM, seed=seed, group=group)
        np.testing.assert_array_equal(weights, expected)


def test_lookup_writes_nothing(store):
    embedding(store)(FULL_RANGE)
    assert store.size() == 0
    assert step_of(store) == 0


# ---- Inputs ----


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_ids_of_every_integer_dtype(store, dtype):
    layer = embedding(store, optimizer="sgd")
    ids = np.array([[0, 1, 1], [5, 127, 0]], dtype)
    before = one_step(layer, ids)
    np.testing.assert_array_equal(before, initial_weights("random_uniform", ids, DIM))
    assert [store.row(0, key).update_num for key in (0, 1, 5, 127)] == [1, 1, 1, 1]
    assert store.size() == 4


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_largest_unsigned_id_is_itself(store, dtype):
    layer = embedding(store)
    largest = np.iinfo(dtype).max
    one_step(layer, np.array([largest], dtype))
    assert store.row(0, int(largest)).update_num == 1


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_negative_ids_stand_for_their_64_bits(store, dtype):
    layer = embedding(store)
    negative = np.array([-1, -128], dtype)
    one_step(layer, negative)
    keys = np.array([2**64 - 1, 2**64 - 128], np.uint64)
    np.testing.assert_array_equal(layer(negative), layer(keys))
    assert [store.row(0, int(key)).key for key in keys] == keys.tolist()
    assert store.row(0, -1).key == 2**64 - 1


@pytest.mark.parametrize("make", [tf.constant, np.asarray], ids=["tensor", "array"])
def test_keys_of_the_full_range_are_distinct_and_ordinary(store, make):
    layer = embedding(store, optimizer="sgd")
    one_step(layer, make(FULL_RANGE))
    one_step(layer, make(FULL_RANGE.view(np.int64)))
    oracle = OracleTable(DIM, optimizer="sgd")
    for _ in range(2):
        oracle.apply_gradients(FULL_RANGE, np.ones((5, DIM), np.float32))
    assert_rows_equal(store, oracle)


def test_fit_and_predict_take_uint64_arrays(store):
    layer = embedding(store, optimizer="sgd")
    ids = keras.Input((), dtype="uint64")
    model = keras.Model(ids, layer(ids))
    model.compile("sgd", "mse")
    np.testing.assert_array_equal(model.predict(FULL_RANGE, verbose=0), store.lookup(0, FULL_RANGE))
    model.fit(FULL_RANGE, np.zeros((5, DIM)), verbose=0)
    assert all(store.row(0, int(key)) for key in FULL_RANGE)
    assert store.size() == 5


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 3, 1), (0,), (0, 3), (2, 0, 3)])
@EAGER_OR_FUNCTION
def test_ids_of_any_shape_empty_ones_too(store, shape, function):
    layer = embedding(store)
    ids = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    output = function(lambda x: one_step(layer, x))(tf.constant(ids, tf.int64))
    np.testing.assert_array_equal(output, initial_weights("random_uniform", ids, DIM))
    assert output.shape == (*shape, DIM)
    assert store.size() == ids.size
    assert step_of(store) == 1


def test_batch_of_unknown_size_is_traced_once(store):
    layer = embedding(store)
    layer.build(None)
    traced = []

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.int64)])
    def look_up(ids):
        output = layer(ids)
        traced.append(output.shape.as_list())
        return output

    for size in (2, 5, 0):
        ids = np.arange(3 * size).reshape(size, 3)
        np.testing.assert_array_equal(look_up(ids), store.lookup(0, ids))
    assert traced == [[None, 3, DIM]]


def test_ids_of_unknown_rank(store):
    layer = embedding(store)
    layer.build(None)
    look_up = tf.function(layer, input_signature=[tf.TensorSpec(None, tf.int64)])
    for shape in [(), (2,), (2, 3)]:
        ids = np.ones(shape, np.int64)
        np.testing.assert_array_equal(look_up(ids), store.lookup(0, ids))


# ---- Several features in one call ----

A = np.array([[1, 2, 3], [4, 5, 1]])
B = np.array([1, -1], np.int32)
C = np.array([[[7]], [[2**64 - 1]]], np.uint64)


@pytest.mark.parametrize(
    "inputs",
    [
        {"a": A, "b": B, "c": C},
        [A, B, C],
        (A, B),
        [A],
        {"a": A},
        {"z": A, "a": {"y": B, "b": [C, A]}},
        OrderedDict(z=A, a=B),
        [B, np.zeros((0,), np.int64)],
    ],
    ids=["dict", "list", "tuple", "list of one", "dict of one", "nested", "ordered", "one empty"],
)
@EAGER_OR_FUNCTION
def test_structures_of_features_are_one_step(store, inputs, function):
    layer = embedding(store)
    layer.build(None)
    tensors = tf.nest.map_structure(tf.constant, inputs)
    before = tf.nest.map_structure(lambda ids: store.lookup(0, ids), inputs)
    outputs = function(lambda x: one_step(layer, x))(tensors)

    tf.nest.assert_same_structure(outputs, inputs)
    tf.nest.map_structure(np.testing.assert_array_equal, outputs, before)
    oracle = OracleTable(DIM)
    ids = np.concatenate([ids.reshape(-1).astype(np.uint64) for ids in tf.nest.flatten(inputs)])
    oracle.apply_gradients(ids, np.ones((ids.size, DIM), np.float32))
    assert_rows_equal(store, oracle)


def test_structures_in_functional_models(store):
    layer = embedding(store)
    inputs = {
        "a": keras.Input((3,), dtype="int64", name="a"),
        "b": keras.Input((), dtype="int32", name="b"),
        "c": keras.Input((None, 1), dtype="uint64", name="c"),
    }
    outputs = layer(inputs)
    assert {name: output.shape for name, output in outputs.items()} == {
        "a": (None, 3, DIM),
        "b": (None, DIM),
        "c": (None, None, 1, DIM),
    }
    model = keras.Model(inputs, outputs)
    predictions = model.predict({"a": A, "b": B, "c": C}, verbose=0)
    for name, ids in {"a": A, "b": B, "c": C}.items():
        np.testing.assert_array_equal(predictions[name], store.lookup(0, ids))


def test_structures_in_functions_keep_what_is_known_of_their_shapes(store):
    layer = embedding(store)
    layer.build(None)
    known = {"a": [None, 3], "b": [5], "c": [], "d": None}
    specs = {name: tf.TensorSpec(shape, tf.int64) for name, shape in known.items()}
    outputs = tf.function(lambda ids: layer(ids)).get_concrete_function(specs).structured_outputs
    for name in ("a", "b", "c"):
        assert outputs[name].shape.as_list() == [*known[name], DIM]
    assert outputs["d"].shape.rank is None


def test_fit_takes_a_dataset_of_dicts(store):
    layer = embedding(store, optimizer="sgd")
    inputs = {name: keras.Input((), dtype="int32", name=name) for name in ("user", "item")}
    vectors = layer(inputs)
    model = keras.Model(inputs, keras.layers.Dot(axes=1)([vectors["user"], vectors["item"]]))
    model.compile("sgd", "mse")
    ids = np.arange(10, dtype=np.int32)
    dataset = tf.data.Dataset.from_tensor_slices(({"user": ids, "item": ids + 100}, np.ones(10)))
    model.fit(dataset.batch(4), shuffle=False, verbose=0)
    assert step_of(store) == 3
    assert store.size() == 20


@pytest.mark.parametrize("nothing", [{}, []])
def test_structure_without_ids_is_refused(store, nothing):
    with pytest.raises(ValueError, match="`inputs` must hold at least one tensor of ids"):
        embedding(store)(nothing)


# ---- Inputs that are refused ----


@pytest.mark.parametrize(
    ("ids", "dtype"),
    [
        (np.array([1.0, 2.0], np.float32), "float32"),
        (tf.constant([1.0], tf.float64), "float64"),
        (tf.constant([1.0], tf.bfloat16), "bfloat16"),
        (np.array([True]), "bool"),
        (tf.constant(["1"]), "string"),
        (tf.constant([1j]), "complex"),
    ],
    ids=["float32", "float64", "bfloat16", "bool", "string", "complex"],
)
@EAGER_OR_FUNCTION
def test_ids_that_are_not_integers_are_refused(store, ids, dtype, function):
    layer = embedding(store)
    layer.build(None)
    with pytest.raises(TypeError, match=f"ids must be integers.*Received dtype: {dtype}"):
        function(layer)(ids)


@pytest.mark.parametrize("dtype", ["float32", "bool", "string"])
def test_inputs_that_are_not_integers_are_refused_in_functional_models(store, dtype):
    with pytest.raises(TypeError, match=f"ids must be integers.*Received dtype: {dtype}"):
        embedding(store)(keras.Input((3,), dtype=dtype))
    with pytest.raises(TypeError, match=f"ids must be integers.*Received dtype: {dtype}"):
        embedding(store)([keras.Input((3,), dtype="int64"), keras.Input((3,), dtype=dtype)])


def test_python_numbers_are_refused_as_by_every_keras_layer(store):
    for ids in ([1, 2], 3):
        with pytest.raises(ValueError, match="Only input tensors may be passed"):
            embedding(store)(ids)


# ---- Output shapes ----


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), (DIM,)),
        ((None,), (None, DIM)),
        ((None, 3), (None, 3, DIM)),
        ([2, 3], (2, 3, DIM)),
        ({"a": (None,), "b": (2, None)}, {"a": (None, DIM), "b": (2, None, DIM)}),
        ([(None, 3), (5,)], [(None, 3, DIM), (5, DIM)]),
        (((2,), ((3,), (4,))), ((2, DIM), ((3, DIM), (4, DIM)))),
    ],
)
def test_compute_output_shape(store, shape, expected):
    assert embedding(store).compute_output_shape(shape) == expected


@pytest.mark.parametrize("shape", [(), (3,), (None, 2)])
def test_output_spec_is_that_of_the_output(store, shape):
    layer = embedding(store, dtype="float16")
    spec = layer(keras.Input(shape, dtype="int32"))
    assert spec.shape == (None, *shape, DIM)
    assert spec.dtype == "float16"
    output = layer(np.zeros([5, *(d or 7 for d in shape)], np.int32))
    assert output.dtype == "float16"
    assert len(output.shape) == len(spec.shape)


# ---- Padding and missing rows ----


@pytest.mark.parametrize("padding_key", [0, 7, -1, 2**64 - 1, 2**63])
def test_padding_reads_as_zeros_and_has_no_row(store, padding_key):
    layer = embedding(store, padding_key=padding_key)
    padding = np.uint64(padding_key % 2**64)
    ids = np.array([[padding, 1], [2, padding]], np.uint64)
    output = one_step(layer, ids).numpy()
    assert (output[0, 0] == 0).all()
    assert (output[1, 1] == 0).all()
    assert (output[0, 1] != 0).all()
    assert (layer({"a": ids, "b": np.array([padding])})["b"].numpy() == 0).all()

    oracle = OracleTable(DIM, padding_key=padding_key)
    oracle.apply_gradients(ids, np.ones((2, 2, DIM), np.float32))
    assert_rows_equal(store, oracle)
    assert store.row(0, padding_key) is None


def test_padding_is_no_lookup_to_stats(store):
    layer = embedding(store, padding_key=0)
    layer(np.array([0, 0, 3]))
    assert store.stats()["groups"][0]["lookups"] == 1


def test_gradient_of_padding_may_be_anything(store):
    layer = embedding(store, padding_key=0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(np.array([0, 1])) * [[np.nan], [1.0]])
    tape.gradient(loss, layer.trainable_variables)
    stats = store.stats()["groups"][0]
    assert (stats["skipped"], stats["rows"]) == (0, 1)


def test_every_id_is_ordinary_without_padding(store):
    layer = embedding(store)
    output = one_step(layer, np.array([0, -1]))
    assert (output.numpy() != 0).all()
    assert store.size() == 2


def test_missing_zeros_reads_zeros_until_the_first_update(store, rng):
    batches = KnownGradients(rng)
    layer = embedding(store, missing="zeros")
    unseen = np.array([1000])
    for ids, gradients in batches:
        with tf.GradientTape() as tape:
            loss = weighted_sum(gradients, layer(ids))
        tape.gradient(loss, layer.trainable_variables)
    assert (layer(unseen).numpy() == 0).all()
    # Rows begin with their initial values all the same.
    assert_rows_equal(store, batches.oracle(missing="zeros"))


# ---- Admission ----


@EAGER_OR_FUNCTION
def test_an_id_reads_as_zeros_until_it_has_occurred_min_count_times(store, function):
    layer = embedding(store, optimizer={"name": "sgd", "gamma": 1.0}, initializer="ones", min_count=3)
    step = function(lambda ids: one_step(layer, ids))
    ids = tf.constant([[5, 6], [5, 7]])
    assert (step(ids).numpy() == 0).all()  # 5 occurs twice
    assert store.size() == 0
    assert (step(ids).numpy() == 0).all()
    assert (
        store.row(0, 5).weights.tolist() == [-1.0] * DIM
    )  # from its initial value, the sum of two gradients
    np.testing.assert_array_equal(layer(ids)[:, 0], np.full((2, DIM), -1))
    np.testing.assert_array_equal(layer(ids)[:, 1], np.zeros((2, DIM)))
    assert store.size() == 1
    stats = store.stats()["groups"][0]
    assert (stats["blocked"], stats["inserted"], stats["updated"]) == (5, 1, 1)


def test_training_with_min_count_equals_the_oracle(store, rng):
    batches = KnownGradients(rng, steps=6)
    layer = embedding(store, min_count=9, filter_capacity=1000, missing="initial")
    for ids, gradients in batches:
        with tf.GradientTape() as tape:
            loss = weighted_sum(gradients, layer(ids))
        tape.gradient(loss, layer.trainable_variables)
    oracle = batches.oracle(min_count=9, filter_capacity=1000)
    assert_rows_equal(store, oracle)
    assert 0 < oracle.blocked == store.stats()["groups"][0]["blocked"]
    np.testing.assert_array_equal(layer(batches.ids), oracle.lookup(batches.ids))


def test_fit_with_min_count_equals_the_oracle_and_evaluation_counts_nothing(store, rng):
    batches = KnownGradients(rng, steps=4)
    model = functional(embedding(store, min_count=12))
    model.compile("sgd", WeightedSum())
    ids = batches.ids.reshape(-1, IDS_SHAPE[1])
    batches.fit(model)
    before = store.stats()["groups"][0]
    for _ in range(3):
        model.predict(ids, verbose=0)
        model.evaluate(ids, batches.gradients.reshape(-1, IDS_SHAPE[1], DIM), verbose=0)
        store.lookup(0, ids)
        model(ids, training=False)
    after = store.stats()["groups"][0]
    for figure in ("blocked", "inserted", "filter_bytes", "filter_fill", "rows", "step"):
        assert after[figure] == before[figure], figure
    oracle = batches.oracle(min_count=12)
    assert_rows_equal(store, oracle)
    batches.fit(model)  # nothing was counted in between
    for step_ids, gradients in zip(batches.ids, batches.gradients, strict=True):
        oracle.apply_gradients(step_ids, gradients)
    assert_rows_equal(store, oracle)


def test_min_count_goes_on_where_an_earlier_process_left_off(tmp_path):
    settings = {"optimizer": {"name": "sgd", "gamma": 1.0}, "initializer": "zeros"}
    with damo_tf.Store(tmp_path / "store") as store:
        one_step(embedding(store, min_count=2, filter_capacity=500, **settings), np.array([1, 2, 2]))
        assert store.size() == 1
    with damo_tf.Store(tmp_path / "store") as store:
        one_step(embedding(store, min_count=2, **settings), np.array([1, 3]))
        assert store.size() == 2
        config = store.storage.group_config(0)
        assert (config["min_count"], config["filter_capacity"], config["filter_fpr"]) == (2, 500, 1e-3)
    with (
        damo_tf.Store(tmp_path / "store") as store,
        pytest.raises(ValueError, match="has filter_capacity 500, asked for 600"),
    ):
        embedding(store, min_count=2, filter_capacity=600, **settings).build(None)


def test_a_restore_brings_the_counts_of_the_checkpoint_back(store, tmp_path):
    layer = embedding(store, min_count=3, filter_capacity=500, optimizer={"name": "sgd", "gamma": 1.0})
    one_step(layer, np.array([1, 2, 2]))
    store.checkpoint(tmp_path / "checkpoint")
    one_step(layer, np.array([1, 1, 2]))
    assert store.size() == 2
    store.restore(tmp_path / "checkpoint")
    assert store.size() == 0
    one_step(layer, np.array([1]))
    assert store.size() == 0
    one_step(layer, np.array([2]))
    assert store.row(0, 2).update_num == 1
    assert store.size() == 1


def test_layers_of_one_group_must_agree_on_min_count(store):
    embedding(store, min_count=2).build(None)
    with pytest.raises(ValueError, match=r"add group 0 to store .*: has min_count 2, asked for 0"):
        embedding(store).build(None)


# ---- Stores and groups ----


def test_groups_are_isolated(store):
    ids = np.array([1, 2])
    layers = [embedding(store, group=group) for group in (0, 1, 255)]
    layers[1].build(None)
    one_step(layers[0], ids)
    one_step(layers[2], ids)
    one_step(layers[2], ids)
    assert [step_of(store, group) for group in (0, 1, 255)] == [1, 0, 2]
    assert [store.size(group) for group in (0, 1, 255)] == [2, 0, 2]
    first, _, last = (layer(ids).numpy() for layer in layers)
    assert (first != last).all()


def test_directory_as_store_shares_the_open_store(store):
    ids = np.array([1, 2])
    by_store = embedding(store)
    by_path = [embedding(store.directory), embedding(Path(store.directory))]
    one_step(by_path[0], ids)
    assert store.size() == 2
    for layer in by_path:
        np.testing.assert_array_equal(layer(ids), by_store(ids))
        assert layer.store.storage.directory == store.directory


def test_directory_is_opened_when_the_layer_is_built(tmp_path):
    layer = embedding(tmp_path / "later")
    assert not (tmp_path / "later").exists()
    layer(np.array([1]))
    with layer.store as store:
        assert store.directory == str(tmp_path / "later")
        assert store.options["seed"] == 0


def test_layer_takes_up_rows_of_an_earlier_store(tmp_path, rng):
    batches = KnownGradients(rng, steps=4)
    for part in (slice(0, 2), slice(2, 4)):
        with damo_tf.Store(tmp_path) as store:
            layer = embedding(store)
            for ids, gradients in list(batches)[part]:
                with tf.GradientTape() as tape:
                    loss = weighted_sum(gradients, layer(ids))
                tape.gradient(loss, layer.trainable_variables)
    with damo_tf.Store(tmp_path) as store:
        assert_rows_equal(store, batches.oracle())


def test_layer_on_a_group_that_stands_with_other_settings_is_refused(store):
    embedding(store).build(None)
    for settings, text in [
        ({"dim": 8}, "has dim 4, asked for 8"),
        ({"optimizer": "sgd"}, "has optimizer 'adam', asked for 'sgd'"),
        ({"optimizer": {"name": "adam", "gamma": 0.5}}, r'"gamma":0.001.*asked for .*"gamma":0.5'),
        ({"initializer": "zeros"}, r'"random_uniform"}, asked for {"name":"zeros"}'),
    ]:
        layer = damo_tf.Embedding(**{"dim": DIM, "store": store, **settings})
        with pytest.raises(ValueError, match=f"add group 0 to store '.*': .*{text}"):
            layer(np.array([1]))


def test_store_opened_again_keeps_dim_optimizer_and_seed(tmp_path):
    with damo_tf.Store(tmp_path, seed=3) as store:
        embedding(store).build(None)
    with pytest.raises(ValueError, match="has seed 3, asked for 4"):
        damo_tf.Store(tmp_path, seed=4)
    with damo_tf.Store(tmp_path, seed=3) as store:
        with pytest.raises(ValueError, match="has dim 4, asked for 8"):
            damo_tf.Embedding(8, store=store).build(None)
        with pytest.raises(ValueError, match="has optimizer 'adam', asked for 'sgd'"):
            embedding(store, optimizer="sgd").build(None)
        embedding(store, optimizer={"name": "adam", "gamma": 0.5}).build(None)  # may change
        assert store.stats()["groups"][0]["optimizer"]["gamma"] == 0.5


def test_closed_store_is_a_clear_error_everywhere(store):
    layer = embedding(store)
    model = functional(layer)
    model.compile("sgd", WeightedSum())
    ids, gradients = np.zeros(IDS_SHAPE, np.int64), np.zeros((*IDS_SHAPE, DIM))
    model.fit(ids, gradients, verbose=0)
    store.close()
    for use in (
        lambda: layer(ids),
        lambda: tf.function(layer)(ids),
        lambda: model.fit(ids, gradients, verbose=0),
        lambda: model.predict(ids, verbose=0),
    ):
        with pytest.raises(tf.errors.FailedPreconditionError, match=f"store '{store.directory}' is closed"):
            use()
    with pytest.raises(RuntimeError, match=f"store '{store.directory}' is closed"):
        embedding(store).build(None)


def test_row_is_untouched_by_a_step_that_fails(store):
    layer = embedding(store)
    ids = tf.constant([1, 2], tf.int64)
    one_step(layer, ids)
    before = rows_of(store, 0, [1, 2])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(ids)) * tf.constant(np.inf)
    tape.gradient(loss, layer.trainable_variables)
    assert rows_of(store, 0, [1, 2]) == before


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
