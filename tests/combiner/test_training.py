# SPDX-License-Identifier: Apache-2.0
"""Bags of ids in training: several features in one call, models, and when rows take a step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from bag_layers import BAGS, DIM, VOCABULARY, embedding, layer_rows, ragged, sparse, train, weights_like
from embedding_layers import EAGER_OR_FUNCTION
from stored_rows import rows_of, step_of

import damo_tf

pytestmark = pytest.mark.usefixtures("keras_seed")

# ---- Several features in one call ----


@pytest.mark.parametrize(
    ("inputs", "combiner"),
    [
        ({"a": ragged(BAGS), "b": np.array([[3], [7]])}, {"a": "mean", "b": None}),
        ([ragged(BAGS), sparse(BAGS)], ["sum", "sqrtn"]),
        ((ragged(BAGS), sparse(BAGS)), ["sum", "sqrtn"]),
        ({"a": [ragged(BAGS), sparse(BAGS)], "b": np.array([3])}, {"a": "mean", "b": None}),
        ([np.array([[3, 7]]), np.array([[7]])], "sum"),
        ([ragged(BAGS), np.array([7])], None),
    ],
)
@EAGER_OR_FUNCTION
def test_features_with_combiners_of_their_own_are_one_step(store, inputs, combiner, function):
    layer = embedding(store, optimizer="adam", combiner=combiner)

    @function
    def step():
        return train(layer, inputs, lambda outputs: sum(tf.reduce_sum(o) for o in tf.nest.flatten(outputs)))

    outputs = step()
    tf.nest.assert_same_structure(outputs, inputs)
    assert step_of(store) == 1
    assert store.row(0, 7).update_num == 1


def test_features_in_one_call_are_what_they_are_alone(store):
    rng = np.random.default_rng(3)
    inputs = {"x": ragged(BAGS), "y": np.array([[1, 2], [3, 4]]), "z": sparse(BAGS)}
    weights = {"x": ragged(weights_like(BAGS, rng), tf.float32), "y": None, "z": None}
    combiner = {"x": "mean", "y": None, "z": "sqrtn"}
    together = embedding(store, combiner=combiner)(inputs, weights=weights)
    for name, ids in inputs.items():
        alone = embedding(store, combiner=combiner[name])(ids, weights=weights[name])
        np.testing.assert_array_equal(together[name], alone)


# ---- Models ----


def test_fit_on_ragged_and_sparse_batches_equals_fit_on_padded_ones(tmp_path, rng):
    bags = [rng.integers(1, VOCABULARY, rng.integers(4)).tolist() for _ in range(24)]
    labels = rng.normal(size=(24, 1)).astype(np.float32)
    trained = {}
    for kind, inputs in {
        "ragged": ragged(bags),
        "sparse": sparse(bags),
        "padded": ragged(bags).to_tensor(),
    }.items():
        keras.utils.set_random_seed(1)
        with damo_tf.Store(tmp_path / kind, clock="event") as store:
            settings = {kind: True} if kind != "padded" else {}
            ids = keras.Input((None,), dtype="int64", **settings)
            vectors = embedding(store, optimizer="adam", combiner="mean", padding_key=0)(ids)
            model = keras.Model(ids, keras.layers.Dense(1)(vectors))
            model.compile(keras.optimizers.SGD(0.1), "mse")
            dataset = tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(8)
            model.fit(dataset, epochs=2, shuffle=False, verbose=0)
            predictions = model.predict(dataset, verbose=0)
            evaluated = model.evaluate(dataset, verbose=0)
            assert step_of(store) == 6
            trained[kind] = rows_of(store, 0, range(VOCABULARY)), predictions.tobytes(), evaluated
    assert trained["ragged"] == trained["sparse"] == trained["padded"]


def test_fit_takes_ragged_arrays_of_ids(store):
    ids = keras.Input((None,), dtype="int64", ragged=True)
    model = keras.Model(ids, embedding(store, combiner="sqrtn")(ids))
    model.compile("sgd", "mse")
    model.fit(ragged(BAGS), np.ones((len(BAGS), DIM)), batch_size=4, verbose=0)
    assert step_of(store) == 2
    assert model.predict(ragged(BAGS), verbose=0).shape == (len(BAGS), DIM)


def test_weights_may_come_from_an_input_or_from_the_model(store, rng):
    ids, scores = keras.Input((3,), dtype="int64"), keras.Input((3,))
    attention = keras.layers.Dense(3, activation="softmax")
    vectors = embedding(store, combiner="sum")(ids, weights=attention(scores))
    model = keras.Model([ids, scores], keras.layers.Dense(1)(vectors))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    inputs = [rng.integers(VOCABULARY, size=(16, 3)), rng.normal(size=(16, 3))]
    before = attention.get_weights()[0]
    losses = model.fit(inputs, rng.normal(size=(16, 1)), 16, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert not np.array_equal(attention.get_weights()[0], before)
    assert step_of(store) == 20


def test_mixed_precision_keeps_weights_in_float32(store, tmp_path):
    ids = ragged([[1, 2], [3]])
    weights = ragged([[1 / 3, 2 / 3], [1 + 2**-20]], tf.float32)  # float16 cannot hold them
    trained = []
    for number, dtype in enumerate(["float32", "mixed_float16"]):
        with damo_tf.Store(tmp_path / str(number), clock="event") as own:
            layer = embedding(own, combiner="sum", dtype=dtype)
            outputs = train(layer, ids, lambda o: tf.reduce_sum(tf.cast(o, tf.float32)), weights=weights)
            assert outputs.dtype == layer.compute_dtype
            trained.append(rows_of(own, 0, [1, 2, 3]))
    assert trained[0] == trained[1]


def test_loss_scale_is_undone_for_rows_and_not_for_weights(store):
    layer = embedding(store, combiner="mean", optimizer={"name": "sgd", "gamma": 1.0})
    layer.loss_scale = 512.0
    weights = tf.Variable([[1.0, 2.0]])
    before = layer_rows(layer)
    with tf.GradientTape() as tape:
        loss = 512 * tf.reduce_sum(layer(np.array([[1, 2]]), weights=weights))
    gradient = tape.gradient(loss, [weights, *layer.trainable_variables])[0]
    rows = layer_rows(layer)
    np.testing.assert_allclose(before[1] - rows[1], np.full(DIM, 1 / 3), rtol=1e-5)  # rows near 1
    difference = (before[1] - before[2]).sum() / 9
    np.testing.assert_allclose(gradient, 512 * np.array([[2 * difference, -difference]]), rtol=1e-4)


# ---- Training and not ----


def outer_tape(layer, ids, loss_of):
    look_up = tf.function(lambda: layer(ids))
    with tf.GradientTape() as tape:
        loss = loss_of(look_up())
    tape.gradient(loss, layer.trainable_variables)


def recomputed(layer, ids, loss_of):
    layer.loss_scale = 1.0  # a recomputed part cannot add losses
    look_up = tf.recompute_grad(lambda: layer(ids))
    with tf.GradientTape() as tape:
        loss = loss_of(look_up())
    tape.gradient(loss, layer.trainable_variables)


@pytest.mark.parametrize(
    "step",
    [
        train,
        lambda *a: tf.function(train)(*a),
        outer_tape,
        lambda *a: tf.function(outer_tape)(*a),
        recomputed,
    ],
    ids=["eager", "function", "outer tape", "nested functions", "recomputed"],
)
def test_rows_take_one_step_however_gradients_are_asked_for(store, step):
    layer = embedding(store, combiner="mean", optimizer={"name": "sgd", "gamma": 1.0})
    before = layer_rows(layer)
    step(layer, ragged([[1, 2], [], [2]]), tf.reduce_sum)
    assert step_of(store) == 1
    # One difference of float32 numbers below 2.
    np.testing.assert_allclose((before - layer_rows(layer))[:4, 0], [0, 0.5, 1.5, 0], atol=1e-6)


@pytest.mark.parametrize("tape_is", ["inside", "outside"])
def test_gradient_of_weights_is_of_the_rows_before_their_step(store, tape_is):
    layer = embedding(store, combiner="sum", optimizer={"name": "sgd", "gamma": 100.0})
    expected = layer_rows(layer)[[1, 2]].sum(-1)
    weights = tf.Variable([[1.0, 1.0]])

    def look_up():
        return layer(np.array([[1, 2]]), weights=weights)

    def step(look_up):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(look_up())
        return tape.gradient(loss, [weights, *layer.trainable_variables])[0]

    gradient = step(tf.function(look_up)) if tape_is == "outside" else tf.function(step)(look_up)
    np.testing.assert_allclose(gradient, [expected], rtol=1e-5)  # sums of four
    assert not np.allclose(layer_rows(layer)[[1, 2]].sum(-1), expected)


@pytest.mark.parametrize("how", ["training=False", "not trainable", "frozen"])
def test_frozen_rows_stay_and_weights_still_get_their_gradient(store, how):
    layer = embedding(store, combiner="sum", trainable=how != "not trainable")
    expected = layer_rows(layer)[[1, 2]].sum(-1)
    weights = tf.Variable([[1.0, 1.0]])
    with tf.GradientTape() as tape:
        arguments = {"training": False} if how == "training=False" else {}
        if how == "frozen":
            with layer.frozen():
                combined = layer(np.array([[1, 2]]), weights=weights)
        else:
            combined = layer(np.array([[1, 2]]), weights=weights, **arguments)
        loss = tf.reduce_sum(combined)
    gradient = tape.gradient(loss, [weights, layer.anchor])[0]
    np.testing.assert_allclose(gradient, [expected], rtol=1e-5)  # sums of four
    assert step_of(store) == 0
    assert store.size() == 0


def test_keys_below_their_min_count_are_zeros_in_a_bag(store):
    layer = embedding(store, combiner="mean", min_count=2)
    rows = layer_rows(embedding(store, group=1))
    assert rows.any()
    ids = ragged([[1, 2, 2]])
    np.testing.assert_array_equal(train(layer, ids, tf.reduce_sum), np.zeros((1, DIM)))
    assert store.row(0, 1) is None
    np.testing.assert_allclose(layer(ids)[0], store.lookup(0, [2])[0] * 2 / 3, rtol=1e-6)  # one division
