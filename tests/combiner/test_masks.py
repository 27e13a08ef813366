# SPDX-License-Identifier: Apache-2.0
"""Bags of ids: padding and masks, the layer's own and those that come with the ids."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from bag_layers import COMBINERS, DIM, VOCABULARY, embedding, ragged, train, weights_like
from embedding_layers import EAGER_OR_FUNCTION
from stored_rows import rows_of

import damo_tf

pytestmark = pytest.mark.usefixtures("keras_seed")


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("combiner", COMBINERS)
def test_padding_and_masked_ids_are_as_if_they_were_not_there(tmp_path, rng, combiner, weighted):
    bags = [[5, 1], [], [7, 7, 2]]
    weights = weights_like(bags, rng)
    dense_ids = np.array([[0, 5, 1, 0], [0, 0, 0, 0], [7, 0, 7, 2]])
    dense_weights = np.full(dense_ids.shape, np.nan, np.float32)
    dense_weights[dense_ids != 0] = np.concatenate(weights)
    factors = rng.normal(size=(3, DIM)).astype(np.float32)
    results = {}
    for name, ids, arguments, settings in [
        ("ragged", ragged(bags), {"weights": ragged(weights, tf.float32)}, {}),
        ("padded", dense_ids, {"weights": dense_weights}, {"padding_key": 0}),
        ("masked", dense_ids, {"weights": dense_weights, "mask": dense_ids != 0}, {}),
        ("both", dense_ids, {"weights": dense_weights, "mask": dense_ids != 7}, {"padding_key": 0}),
    ]:
        if not weighted:
            arguments.pop("weights")
        with damo_tf.Store(tmp_path / name, clock="event") as store:
            layer = embedding(store, optimizer="adam", combiner=combiner, **settings)
            outputs = train(layer, ids, lambda o: tf.reduce_sum(o * factors), **arguments)
            results[name] = outputs.numpy().tobytes(), rows_of(store, 0, range(VOCABULARY))
    assert results["padded"] == results["ragged"]
    assert results["masked"] == results["ragged"]
    assert results["both"] != results["ragged"]
    assert results["both"][1][7] is None  # masked in every place


def test_weights_of_padding_and_of_masked_ids_get_no_gradient(store):
    layer = embedding(store, combiner="mean", padding_key=0)
    weights = tf.Variable([[1.0, 2.0, 3.0, 4.0]])
    with tf.GradientTape() as tape:
        combined = layer(
            np.array([[1, 0, 2, 3]]), weights=weights, mask=np.array([[True, True, True, False]])
        )
        loss = tf.reduce_sum(tf.square(combined))
    gradient = tape.gradient(loss, weights).numpy()
    assert gradient[0, 1] == gradient[0, 3] == 0
    assert gradient[0, 0] != 0 != gradient[0, 2]


def sequence_model(embed, reduce):
    ids = keras.Input((5,), dtype="int64")
    return keras.Model(ids, keras.layers.Dense(1)(reduce(embed(ids))))


@pytest.mark.filterwarnings("error:Layer .* does not support masking")
@pytest.mark.parametrize(
    "reduce",
    [lambda: keras.layers.LSTM(3), lambda: keras.layers.GlobalAveragePooling1D()],
    ids=["LSTM", "GlobalAveragePooling1D"],
)
def test_padding_is_masked_in_the_layers_that_follow_as_by_keras(store, rng, reduce):
    layer = embedding(store, padding_key=0, optimizer={"name": "sgd", "gamma": 0.1})
    ours = sequence_model(layer, reduce())
    theirs = sequence_model(keras.layers.Embedding(VOCABULARY, DIM, mask_zero=True), reduce())
    theirs.layers[1].set_weights([store.lookup(0, np.arange(VOCABULARY))])
    for mine, other in zip(ours.layers, theirs.layers, strict=False):
        if not isinstance(mine, (damo_tf.Embedding, keras.layers.InputLayer)) and mine.weights:
            other.set_weights(mine.get_weights())
    ids = rng.integers(1, VOCABULARY, (16, 5)) * (np.arange(5) < rng.integers(1, 6, (16, 1)))
    labels = rng.normal(size=(16, 1))
    for model in (ours, theirs):
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(ids, labels, 4, epochs=3, shuffle=False, verbose=0)
    # The same float32 operations, gradients of equal ids summed in another order.
    np.testing.assert_allclose(ours.predict(ids, verbose=0), theirs.predict(ids, verbose=0), rtol=1e-4)
    assert store.row(0, 0) is None
    more_padding = np.pad(ids, [(0, 0), (0, 2)])
    np.testing.assert_allclose(ours(ids), longer(ours, more_padding), rtol=1e-5)


def longer(model, ids):
    """What a model of five ids gives for more of them."""
    embed, *rest = [layer for layer in model.layers if isinstance(layer, keras.layers.Layer)][1:]
    x = embed(ids)
    for layer in rest:
        x = layer(x)
    return x


@pytest.mark.parametrize(
    ("padding_key", "ids"),
    [
        (0, np.array([[0, 1]])),
        (2**64 - 1, np.array([[-1, 1]], np.int32)),
        (2**64 - 1, np.array([[2**64 - 1, 1]], np.uint64)),
        (2**63, np.array([[2**63, 1]], np.uint64)),
        (7, np.array([[7, 1]], np.uint8)),
    ],
)
@EAGER_OR_FUNCTION
def test_mask_of_padding_of_the_full_range(store, padding_key, ids, function):
    layer = embedding(store, padding_key=padding_key)
    np.testing.assert_array_equal(function(layer.compute_mask)(tf.constant(ids)), [[False, True]])


def test_mask_of_structures_and_combined_ids(store):
    layer = embedding(store, padding_key=0, combiner={"a": None, "b": "sum", "c": "sum", "d": None})
    inputs = {
        "a": tf.constant([[0, 1]]),
        "b": tf.constant([[[0, 0], [1, 0], [2, 3]]]),
        "c": tf.constant([[0, 1]]),
        "d": ragged([[1]]),
    }
    mask = layer.compute_mask(inputs)
    np.testing.assert_array_equal(mask["a"], [[False, True]])
    np.testing.assert_array_equal(mask["b"], [[False, True, True]])
    assert mask["c"] is None
    assert mask["d"] is None
    outputs = layer(inputs)
    np.testing.assert_array_equal(outputs["a"]._keras_mask, mask["a"])
    np.testing.assert_array_equal(outputs["b"]._keras_mask, mask["b"])


def test_masks_pass_through_without_padding(store):
    layer = embedding(store)
    ids, mask = tf.constant([[1, 2]]), tf.constant([[True, False]])
    assert layer.compute_mask(ids) is None
    np.testing.assert_array_equal(layer.compute_mask(ids, mask), mask)
    np.testing.assert_array_equal(layer(ids, mask=mask), store.lookup(0, ids.numpy()))
    padded = embedding(store, padding_key=1)
    np.testing.assert_array_equal(padded.compute_mask(ids, mask), [[False, False]])


class EvenIdsOnly(keras.layers.Layer):
    """Passes ids on with a mask that hides the odd ones."""

    def call(self, ids):
        return ids

    def compute_mask(self, inputs, previous_mask=None):
        return keras.ops.equal(keras.ops.mod(inputs, 2), 0)


def test_mask_that_comes_with_the_ids_is_honoured_in_models(store):
    ids = keras.Input((4,), dtype="int64")
    model = keras.Model(ids, embedding(store, combiner="mean")(EvenIdsOnly()(ids)))
    rows = store.lookup(0, np.arange(VOCABULARY))
    outputs = model.predict(np.array([[1, 2, 3, 4], [1, 3, 5, 7]]), verbose=0)
    np.testing.assert_array_equal(outputs, [(rows[2] + rows[4]) / 2, 0 * rows[0]])


def test_model_with_padding_is_saved_and_loaded(store, tmp_path, rng):
    model = sequence_model(embedding(store, padding_key=2**64 - 1), keras.layers.LSTM(3))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    ids = rng.integers(-1, 3, (4, 5))
    np.testing.assert_array_equal(loaded.predict(ids, verbose=0), model.predict(ids, verbose=0))
