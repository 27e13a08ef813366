# SPDX-License-Identifier: Apache-2.0
"""Bags of ids: which shapes they may have, and which shapes come of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from bag_layers import BAGS, DIM, embedding, layer_rows, ragged, sparse, train
from embedding_layers import EAGER_OR_FUNCTION
from stored_rows import step_of

pytestmark = pytest.mark.usefixtures("keras_seed")


def test_ragged_ids_keep_their_outer_axes(store):
    layer = embedding(store, combiner="sum")
    rows = layer_rows(layer)
    ids = tf.ragged.constant([[[1, 2], [], [3]], [], [[4]]], tf.int64)
    combined = layer(ids)
    expected = [[rows[1] + rows[2], 0 * rows[0], rows[3]], [], [rows[4]]]
    assert isinstance(combined, tf.RaggedTensor)
    assert combined.shape.as_list() == [3, None, DIM]
    np.testing.assert_array_equal(combined.row_lengths(), [3, 0, 1])
    np.testing.assert_array_equal(combined.flat_values, expected[0] + expected[2])


def test_ragged_ids_may_have_a_uniform_last_axis(store):
    layer = embedding(store, combiner="sum")
    rows = layer_rows(layer)
    ids = tf.RaggedTensor.from_row_lengths(tf.constant([[1, 2], [3, 4], [5, 6]], tf.int64), [2, 0, 1])
    combined = layer(ids)
    np.testing.assert_array_equal(combined.row_lengths(), [2, 0, 1])
    np.testing.assert_array_equal(
        combined.flat_values, [rows[1] + rows[2], rows[3] + rows[4], rows[5] + rows[6]]
    )


@EAGER_OR_FUNCTION
@pytest.mark.parametrize(
    "ids",
    [
        ragged(BAGS),
        tf.ragged.constant([[[1, 2], [], [3]], [], [[4]]], tf.int64),
        tf.RaggedTensor.from_row_lengths(tf.constant([[1, 2], [3, 4], [5, 6]], tf.int64), [2, 0, 1]),
        tf.ragged.constant([[], []], tf.int64),
        tf.ragged.constant([[1, 2], [3]], tf.int32, row_splits_dtype=tf.int32),
        tf.ragged.constant([[2**64 - 1], [0]], tf.uint64),
    ],
    ids=["ragged", "two ragged axes", "uniform last axis", "empty", "int32", "uint64"],
)
def test_ragged_ids_without_combiner_give_ragged_rows(store, ids, function):
    layer = embedding(store)
    rows = function(layer)(ids)
    assert isinstance(rows, tf.RaggedTensor)
    for ours, theirs in zip(rows.nested_row_splits, ids.nested_row_splits, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(rows.flat_values, store.lookup(0, ids.flat_values.numpy()))
    train(layer, ids, lambda outputs: tf.reduce_sum(outputs.flat_values))
    assert step_of(store) == 1
    assert store.size() == len(np.unique(ids.flat_values))


@pytest.mark.parametrize(
    ("shape", "indices"),
    [
        ([3, 4], [[0, 1], [0, 3], [2, 0]]),
        ([2, 3, 4], [[0, 0, 1], [0, 2, 0], [0, 2, 1], [1, 2, 3]]),
        ([4], [[0], [2]]),
        ([0, 3], np.zeros((0, 2))),
        ([3, 0], np.zeros((0, 2))),
    ],
)
def test_sparse_ids_of_any_rank_are_combined_along_their_last_axis(store, shape, indices):
    layer = embedding(store, combiner="mean")
    keys = np.arange(1, len(indices) + 1)
    ids = tf.SparseTensor(np.asarray(indices, np.int64), keys, np.asarray(shape, np.int64))
    padded = embedding(store, combiner="mean", padding_key=0)(tf.sparse.to_dense(ids))
    assert layer(ids).shape == (*shape[:-1], DIM)
    np.testing.assert_array_equal(layer(ids), padded)
    np.testing.assert_array_equal(tf.function(layer)(ids), padded)


def test_batches_without_ids_are_zeros_and_steps(store):
    layer = embedding(store, combiner="mean")
    for ids in (ragged([[], []]), sparse([[], []]), np.zeros((2, 0), np.int64)):
        outputs = train(layer, ids, tf.reduce_sum)
        np.testing.assert_array_equal(outputs, np.zeros((2, DIM)))
    assert step_of(store) == 3
    assert store.size() == 0


def test_ids_of_unknown_rank_are_combined(store):
    layer = embedding(store, combiner="sum")
    rows = layer_rows(layer)
    look_up = tf.function(layer, input_signature=[tf.TensorSpec(None, tf.int64)])
    np.testing.assert_array_equal(look_up(np.array([1, 2])), rows[1] + rows[2])
    np.testing.assert_array_equal(look_up(np.array([[1, 2]])), [rows[1] + rows[2]])


def test_combined_batches_of_unknown_size_are_traced_once_and_keep_what_is_known(store):
    layer = embedding(store, combiner={"a": "sum", "b": "mean", "c": None})
    layer.build(None)
    traced = []

    @tf.function(
        input_signature=[
            {
                "a": tf.RaggedTensorSpec([None, None], tf.int64),
                "b": tf.SparseTensorSpec([None, 3, None], tf.int64),
                "c": tf.TensorSpec([None, 2], tf.int64),
            }
        ]
    )
    def look_up(inputs):
        outputs = layer(inputs)
        traced.append({name: output.shape.as_list() for name, output in outputs.items()})
        return outputs

    for size in (1, 4):
        ids = tf.ones([size, 3, 2], tf.int64)
        look_up({"a": ragged(BAGS[:size]), "b": tf.sparse.from_dense(ids), "c": ids[:, 0]})
    assert traced == [{"a": [None, DIM], "b": [None, 3, DIM], "c": [None, 2, DIM]}]


@pytest.mark.parametrize(
    ("combiner", "shape", "expected"),
    [
        ("sum", (None, 3), (None, DIM)),
        ("mean", [2, None, 5], (2, None, DIM)),
        ("sum", {"a": (2, 3), "b": (4,)}, {"a": (2, DIM), "b": (DIM,)}),
        ({"a": "sum", "b": None}, {"a": (2, 3), "b": (4,)}, {"a": (2, DIM), "b": (4, DIM)}),
        (["sum", None], [(2, 3), (4,)], [(2, DIM), (4, DIM)]),
    ],
)
def test_compute_output_shape_of_a_combiner(store, combiner, shape, expected):
    assert embedding(store, combiner=combiner).compute_output_shape(shape) == expected


@pytest.mark.parametrize(
    ("shape", "kind", "combiner", "expected", "is_ragged"),
    [
        ((3,), {}, "sum", (None, DIM), False),
        ((3, 5), {}, "sum", (None, 3, DIM), False),
        ((None,), {"sparse": True}, "sum", (None, DIM), False),
        ((None,), {"ragged": True}, "sum", (None, DIM), False),
        ((None, None), {"ragged": True}, "sum", (None, None, DIM), True),
        ((None,), {"ragged": True}, None, (None, None, DIM), True),
    ],
)
def test_output_spec_of_a_combiner(store, shape, kind, combiner, expected, is_ragged):
    spec = embedding(store, combiner=combiner)(keras.Input(shape, dtype="int64", **kind))
    assert spec.shape == expected
    assert spec.ragged == is_ragged
    assert not spec.sparse
