# SPDX-License-Identifier: Apache-2.0
"""The Embedding layer: what it computes, on which rows of which stores."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from embedding_layers import EAGER_OR_FUNCTION, FULL_RANGE, embedding, one_step, regression
from known_gradients import DIM, IDS_SHAPE, KnownGradients, WeightedSum, functional, weighted_sum
from oracles import OracleTable, initial_weights
from stored_rows import assert_rows_equal, rows_of, step_of

import damo_tf

pytestmark = pytest.mark.usefixtures("keras_seed")


# ---- What it computes ----


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
