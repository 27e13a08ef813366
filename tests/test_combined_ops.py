# SPDX-License-Identifier: Apache-2.0
"""The ops on bags of keys: shapes, refusals, and what the layer never asks of them."""

import numpy as np
import pytest
import tensorflow as tf
from oracles import OracleBags, OracleTable
from stored_rows import assert_rows_equal, step_of

from damo_tf import ops
from damo_tf._native import ops as raw_ops
from damo_tf.table import get_table

DIM = 3
ANCHOR = tf.constant(0.0)
KEYS = tf.constant([1, 2, 3], tf.int64)
SPLITS = tf.constant([0, 2, 3], tf.int64)
NUM_BAGS = tf.constant([2], tf.int64)
WEIGHTS = tf.ones([3])
GRADIENTS = tf.ones([2, DIM])
EAGER_OR_FUNCTION = pytest.mark.parametrize("function", [lambda f: f, tf.function], ids=["eager", "function"])


@pytest.fixture
def handle(store) -> tf.Tensor:
    store.add_group(0, DIM, optimizer="sgd")
    return get_table(store.storage, 0).handle


def lookup(handle, keys=KEYS, splits=SPLITS, num_bags=NUM_BAGS, anchor=ANCHOR, **settings):
    settings = {"dim": DIM, "combiners": ["sum"], **settings}
    return ops.lookup_combined(handle, keys, splits, num_bags, anchor, **settings)


def apply(handle, gradients=GRADIENTS, loss_scale=1.0, weights=(), rates=(), **settings):
    bags = {"keys": KEYS, "splits": SPLITS, "num_bags": NUM_BAGS, "combiners": ["sum"], **settings}
    return raw_ops.damo_embedding_apply_combined_gradients(
        table=handle,
        gradients=gradients,
        loss_scale=loss_scale,
        weights=list(weights),
        learning_rate=list(rates),
        **bags,
    )


def weights_gradient(handle, gradients=GRADIENTS, weights=(WEIGHTS,), **settings):
    bags = {"keys": KEYS, "splits": SPLITS, "num_bags": NUM_BAGS, "combiners": ["sum"], **settings}
    return raw_ops.damo_embedding_weights_gradient(
        table=handle, gradients=gradients, weights=list(weights), **bags
    )


# ---- Shape functions ----


def traced_shapes(function, *shapes_and_dtypes):
    specs = [tf.TensorSpec(shape, dtype) for shape, dtype in shapes_and_dtypes]
    outputs = tf.function(function).get_concrete_function(*specs).structured_outputs
    return [output.shape.as_list() for output in tf.nest.flatten(outputs)]


@pytest.mark.parametrize(("splits", "num_bags"), [([5], 4), ([None], None), (None, None), ([1], 0)])
def test_outputs_have_a_row_for_each_bag(handle, splits, num_bags):
    def all_three(keys, splits):
        combined, probe = lookup(handle, keys, splits)
        token = apply(handle, combined, keys=keys, splits=splits)
        of_weights = weights_gradient(handle, combined, (), keys=keys, splits=splits)
        return combined, probe, token, of_weights

    shapes = traced_shapes(all_three, ([7], tf.int64), (splits, tf.int64))
    assert shapes == [[num_bags, DIM], [], [], [7]]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda h: lookup(tf.raw_ops.Pack(values=[h, h], axis=0)), "Shape must be rank 0 but is rank 1"),
        (lambda h: lookup(h, keys=tf.zeros([1, 1], tf.int64)), "Shape must be rank 1 but is rank 2"),
        (lambda h: lookup(h, splits=tf.zeros([], tf.int64)), "Shape must be rank 1 but is rank 0"),
        (lambda h: lookup(h, num_bags=tf.zeros([], tf.int64)), "Shape must be rank 1 but is rank 0"),
        (lambda h: lookup(h, anchor=tf.zeros([1])), "Shape must be rank 0 but is rank 1"),
        (lambda h: lookup(h, weights=tf.zeros([4])), "must be equal, but are 3 and 4"),
        (lambda h: lookup(h, learning_rate=tf.zeros([1])), "Shape must be rank 0 but is rank 1"),
        (lambda h: lookup(h, splits=tf.zeros([0], tf.int64)), "Negative dimension size"),
        (lambda h: apply(h, tf.ones([3, DIM])), "must be equal, but are"),
        (lambda h: apply(h, loss_scale=[1.0]), "Shape must be rank 0 but is rank 1"),
        (lambda h: apply(h, rates=[[1.0]]), "Shape must be rank 0 but is rank 1"),
        (lambda h: weights_gradient(h, tf.ones([3, DIM])), "must be equal, but are"),
    ],
)
def test_shapes_that_cannot_fit_are_refused_when_traced(handle, call, text):
    with pytest.raises(ValueError, match=text):
        tf.function(lambda: call(handle))()


# ---- Refusals when run ----


def unknown_shape(value, dtype=tf.float32):
    """The value, with a shape that no shape function can see."""
    return tf.numpy_function(lambda: np.asarray(value, dtype.as_numpy_dtype), [], dtype)


@EAGER_OR_FUNCTION
@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda h: lookup(h, dim=5), r"`dim` must be the table's, 3 in group 0 .*\. Received: dim=5"),
        (
            lambda h: lookup(h, keys=unknown_shape([[1]], tf.int64)),
            r"`keys` must be a vector\. Received shape: \[1,1\]",
        ),
        (
            lambda h: lookup(h, splits=unknown_shape(0, tf.int64)),
            r"`splits` must be a vector\. Received shape: \[\]",
        ),
        (lambda h: lookup(h, splits=unknown_shape([], tf.int64)), "`splits` must not be empty"),
        (
            lambda h: lookup(h, splits=[0, 4, 3]),
            r"`splits` must never fall\. Received: 4, then 3",
        ),
        (
            lambda h: lookup(h, splits=[0, 2, 4]),
            r"`splits` must begin at 0 and end at the number of keys, 3\. Received: from 0 to 4",
        ),
        (
            lambda h: lookup(h, splits=[-1, 2, 3]),
            r"`splits` must begin at 0 and end at the number of keys, 3\. Received: from -1 to 3",
        ),
        (
            lambda h: lookup(h, num_bags=[1]),
            "`num_bags` must be >= 0 and add up to one less than `splits` has, 2",
        ),
        (
            lambda h: lookup(h, num_bags=[3, -1], combiners=["sum", "mean"]),
            "`num_bags` must be >= 0 and add up to one less than `splits` has, 2",
        ),
        (
            lambda h: lookup(h, num_bags=[1, 1]),
            r"`num_bags` must hold one number for each of 1 combiners\. Received: 2",
        ),
        (
            lambda h: lookup(h, weights=unknown_shape([1.0])),
            r"`weights` must have the shape of keys, \[3\]\. Received shape: \[1\]",
        ),
        (
            lambda h: raw_ops.damo_embedding_lookup_combined(
                h, KEYS, SPLITS, NUM_BAGS, ANCHOR, [WEIGHTS, WEIGHTS], [], dim=DIM, combiners=["sum"]
            ),
            r"`weights` must hold at most one tensor\. Received: 2",
        ),
        (
            lambda h: lookup(h, learning_rate=-0.5, weights=WEIGHTS),
            r"`learning_rate` must be >= 0 and finite in float32\. Received: learning_rate=-0\.5",
        ),
        (
            lambda h: apply(h, unknown_shape(np.ones([3, DIM]))),
            r"`gradients` must have shape \[number of bags, dim\] = \[2,3\]\. Received shape: \[3,3\]",
        ),
        (
            lambda h: apply(h, loss_scale=np.inf),
            r"`loss_scale` must be finite and its reciprocal, too\. Received: inf",
        ),
        (
            lambda h: apply(h, weights=[WEIGHTS], rates=[0.5, 0.5]),
            r"`learning_rate` must hold at most one rate\. Received: 2",
        ),
        (
            lambda h: weights_gradient(h, unknown_shape(np.ones([2, 5]))),
            r"`gradients` must have shape .* = \[2,3\]\. Received shape: \[2,5\]",
        ),
    ],
)
def test_bad_input_is_an_invalid_argument(store, handle, function, call, text):
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        function(lambda: call(handle))()
    assert step_of(store) == 0


@pytest.mark.parametrize("combiners", [["max"], []])
def test_combiners_that_there_are_not_are_an_invalid_argument(handle, combiners):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"attr 'combiners'|is not in the list"):
        lookup(handle, combiners=combiners)


@pytest.mark.parametrize(
    ("call", "action"),
    [(lookup, "lookup in"), (apply, "apply gradients to"), (weights_gradient, "lookup in")],
)
def test_closed_store_is_a_failed_precondition(store, handle, call, action):
    store.close()
    with pytest.raises(tf.errors.FailedPreconditionError, match=rf"{action} group 0 of store .*: .*closed"):
        call(handle)


# ---- What they compute ----


def test_apply_equals_the_oracle_bit_for_bit_whatever_the_scale(store, handle, rng):
    oracle = OracleTable(DIM, optimizer="sgd")
    for loss_scale in (1.0, 2.0**10, 0.0):
        bags = [rng.integers(6, size=n).tolist() for n in (3, 0, 2, 5)]
        weights = [rng.normal(size=len(bag)).tolist() for bag in bags]
        gradients = rng.normal(size=(4, DIM)).astype(np.float32)
        of_bags = OracleBags(bags, ["mean", "mean", "sum", "sqrtn"], weights)
        lengths = [len(bag) for bag in bags]
        token = apply(
            handle,
            gradients * (loss_scale or 1.0),
            loss_scale,
            [np.concatenate(weights).astype(np.float32)],
            keys=np.concatenate(bags).astype(np.int64),
            splits=np.cumsum([0, *lengths]),
            num_bags=[2, 1, 1],
            combiners=["mean", "sum", "sqrtn"],
        )
        assert token == 0
        oracle.apply_gradients(of_bags.keys, of_bags.row_gradients(gradients))
    assert_rows_equal(store, oracle)


def test_token_is_nan_only_if_a_scaled_gradient_is_not_finite(handle):
    infinite = tf.constant([[np.inf] * DIM, [1.0] * DIM], tf.float32)
    assert apply(handle, infinite) == 0
    assert np.isnan(apply(handle, infinite, loss_scale=2.0))


def test_learning_rate_of_an_apply_call(store, handle):
    before = store.lookup(0, [3])
    apply(handle, rates=[0.25], weights=[WEIGHTS])
    np.testing.assert_array_equal(store.lookup(0, [3]), before - np.float32(0.25))


def test_gradients_of_rows_are_applied_only_where_asked_for(store, handle):
    for training in (False, True):
        anchor = tf.Variable(0.0)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(lookup(handle, anchor=anchor.read_value(), training=training)[0])
        token = tape.gradient(loss, anchor)
        assert (token is None) != training
    assert step_of(store) == 1


def test_gradients_of_weights_have_no_derivative_and_say_so(handle):
    weights = tf.Variable(WEIGHTS)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(lookup(handle, weights=weights.read_value())[0]))
        penalty = tf.reduce_sum(tape.gradient(loss, weights))
    with pytest.raises(LookupError, match="DamoEmbeddingWeightsGradient"):
        outer.gradient(penalty, weights)
