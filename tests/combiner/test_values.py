# SPDX-License-Identifier: Apache-2.0
"""Bags of ids: what is combined and what its gradients are, beside TensorFlow's own and the oracle."""

import numpy as np
import pytest
import tensorflow as tf
from bag_layers import (
    BAGS,
    COMBINERS,
    DIM,
    VOCABULARY,
    embedding,
    layer_rows,
    ragged,
    sparse,
    train,
    weights_like,
)
from embedding_layers import EAGER_OR_FUNCTION
from oracles import OracleBags, OracleTable
from stored_rows import assert_rows_equal, step_of

import damo_tf

pytestmark = pytest.mark.usefixtures("keras_seed")


def with_values(ids, values):
    if isinstance(ids, tf.SparseTensor):
        return tf.SparseTensor(ids.indices, values, ids.dense_shape)
    return ids.with_flat_values(values)


@EAGER_OR_FUNCTION
@pytest.mark.parametrize("make", [ragged, sparse], ids=["ragged", "sparse"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("combiner", COMBINERS)
def test_values_and_gradients_equal_tensorflows(store, rng, combiner, weighted, make, function):
    rate = 0.1
    layer = embedding(store, combiner=combiner, optimizer={"name": "sgd", "gamma": rate})
    table = tf.Variable(store_rows := layer_rows(layer))
    ids, factors = make(BAGS), tf.constant(rng.normal(size=(len(BAGS), DIM)), tf.float32)
    weights = tf.Variable(np.concatenate(weights_like(BAGS, rng)), dtype=tf.float32) if weighted else None

    @function
    def ours():
        with tf.GradientTape() as tape:
            given = None if weights is None else with_values(ids, tf.convert_to_tensor(weights))
            combined = layer(ids, weights=given)
            loss = tf.reduce_sum(combined * factors)
        return combined, tape.gradient(loss, [*layer.trainable_variables, *([weights] if weighted else [])])

    def theirs():
        sparse_ids = sparse(BAGS)
        with tf.GradientTape() as tape:
            given = None if weights is None else with_values(sparse_ids, tf.convert_to_tensor(weights))
            combined = tf.nn.safe_embedding_lookup_sparse(table, sparse_ids, given, combiner)
            loss = tf.reduce_sum(combined * factors)
        of_table, of_weights = tape.gradient(loss, [table, weights if weighted else tf.Variable(0.0)])
        table.scatter_sub(tf.IndexedSlices(rate * of_table.values, of_table.indices))
        return combined, of_weights

    for _ in range(3):
        combined, gradients = ours()
        expected, of_weights = theirs()
        # The same sums of at most five float32 products each, divided in another order.
        np.testing.assert_allclose(combined, expected, rtol=1e-5, atol=1e-6)
        if weighted:
            of_weights = tf.convert_to_tensor(of_weights)  # it is sparse, as ids are pruned first
            np.testing.assert_allclose(gradients[1], of_weights, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer_rows(layer), table, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(store_rows, layer_rows(layer))
    assert step_of(store) == 3


@pytest.mark.parametrize("combiner", COMBINERS)
def test_negative_weights_equal_tensorflows(store, rng, combiner):
    """As in `embedding_lookup_sparse`: its safe sister leaves out ids of weights that are not positive."""
    layer = embedding(store, combiner=combiner, optimizer={"name": "sgd", "gamma": 1})
    ids = sparse([bag for bag in BAGS if bag])
    weights = tf.Variable(rng.normal(size=ids.values.shape), dtype=tf.float32)
    table = tf.Variable(before := layer_rows(layer))
    factors = tf.constant(rng.normal(size=(ids.shape[0], DIM)), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        given = with_values(ids, tf.convert_to_tensor(weights))
        combined = layer(ids, weights=given)
        expected = tf.nn.embedding_lookup_sparse(table, ids, given, combiner)
        loss, expected_loss = (tf.reduce_sum(vectors * factors) for vectors in (combined, expected))
    of_weights, _ = tape.gradient(loss, [weights, *layer.trainable_variables])
    of_table, expected_of_weights = tape.gradient(expected_loss, [table, weights])
    # A mean whose weights nearly cancel loses as many digits as they do.
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(combined, expected, **close)
    # Likewise, of differences of numbers that may be as large as the largest gradient.
    largest = np.abs(expected_of_weights).max()
    np.testing.assert_allclose(of_weights, expected_of_weights, rtol=1e-4, atol=1e-5 * largest)
    np.testing.assert_allclose(before - layer_rows(layer), tf.convert_to_tensor(of_table), **close)


@pytest.mark.parametrize("combiner", COMBINERS)
def test_dense_ids_are_combined_along_their_last_axis(store, rng, combiner):
    layer = embedding(store, combiner=combiner)
    ids = rng.integers(VOCABULARY, size=(2, 3, 5))
    weights = rng.uniform(0.5, 2, ids.shape).astype(np.float32)
    rows = layer_rows(layer)
    for given in (None, weights):
        of_ids = np.ones(ids.shape) if given is None else given
        divisor = {"sum": 1.0, "mean": of_ids.sum(-1), "sqrtn": np.sqrt(np.square(of_ids).sum(-1))}[combiner]
        expected = (rows[ids] * of_ids[..., None]).sum(-2) / np.expand_dims(divisor, -1)
        np.testing.assert_allclose(layer(ids, weights=given), expected, rtol=1e-5)  # sums of 5 products


@pytest.mark.parametrize("optimizer", ["adam", "ftrl"])
def test_training_equals_the_oracle_bit_for_bit(store, rng, optimizer):
    layer = embedding(
        store,
        optimizer=optimizer,
        combiner={"history": "mean", "shown": None, "tags": "sqrtn"},
        padding_key=0,
    )
    oracle = OracleTable(DIM, optimizer=optimizer, padding_key=0)

    @tf.function(reduce_retracing=True)
    def step(inputs, weights, factors):
        return train(
            layer,
            inputs,
            lambda outputs: sum(tf.reduce_sum(outputs[name] * factors[name]) for name in outputs),
            weights=weights,
        )

    for _ in range(4):
        history = [rng.integers(VOCABULARY, size=rng.integers(4)).tolist() for _ in range(5)]
        tags = [rng.integers(VOCABULARY, size=rng.integers(4)).tolist() for _ in range(5)]
        tag_weights = weights_like(tags, rng)
        shown = rng.integers(VOCABULARY, size=(5, 2))
        inputs = {"shown": tf.constant(shown), "history": ragged(history), "tags": sparse(tags)}
        weights = {"history": None, "shown": None, "tags": sparse(tag_weights, tf.float32)}
        factors = {name: rng.normal(size=(5, DIM)).astype(np.float32) for name in ("history", "tags")}
        factors["shown"] = rng.normal(size=(5, 2, DIM)).astype(np.float32)
        outputs = step(inputs, weights, {name: tf.constant(f) for name, f in factors.items()})

        # In the order in which tf.nest has them, that of their names.
        bags = OracleBags(
            history + [[key] for key in shown.reshape(-1).tolist()] + tags,
            ["mean"] * 5 + ["sum"] * 10 + ["sqrtn"] * 5,
            [[1.0] * len(bag) for bag in history] + [[1.0]] * 10 + tag_weights,
            padding_key=0,
        )
        combined = bags.combined(oracle.lookup)
        np.testing.assert_array_equal(outputs["history"], combined[:5])
        np.testing.assert_array_equal(outputs["shown"], combined[5:15].reshape(5, 2, DIM))
        np.testing.assert_array_equal(outputs["tags"], combined[15:])
        of_vectors = [factors["history"], factors["shown"].reshape(10, DIM), factors["tags"]]
        oracle.apply_gradients(bags.keys, bags.row_gradients(np.concatenate(of_vectors)))
    assert_rows_equal(store, oracle)


@pytest.mark.parametrize("combiner", ["mean", "sqrtn"])
def test_weights_that_add_up_to_nothing_give_zeros_and_no_gradient(store, combiner):
    layer = embedding(store, combiner=combiner)
    weights = tf.Variable([[0.0, 0.0]])
    with tf.GradientTape() as tape:
        combined = layer(np.array([[1, 2]]), weights=weights)
        loss = tf.reduce_sum(combined)
    gradients = tape.gradient(loss, [weights, *layer.trainable_variables])
    np.testing.assert_array_equal(combined, np.zeros((1, DIM)))
    np.testing.assert_array_equal(gradients[0], [[0.0, 0.0]])


def test_no_tensor_has_a_row_or_a_gradient_for_each_id(store):
    num_ids, dim = 1000, 7
    layer = damo_tf.Embedding(dim, store=store, combiner="mean")
    ids, weights = tf.zeros([10, num_ids // 10], tf.int64), tf.Variable(tf.ones([10, num_ids // 10]))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(layer(ids, weights=weights)))
        return tape.gradient(loss, [weights, *layer.trainable_variables])

    graph = step.get_concrete_function().graph
    shapes = [output.shape for operation in graph.get_operations() for output in operation.outputs]
    assert "DamoEmbeddingApplyCombinedGradients" in {operation.type for operation in graph.get_operations()}
    assert all(shape.is_fully_defined() for shape in shapes)
    assert max(shape.num_elements() for shape in shapes) == num_ids
