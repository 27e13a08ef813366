# SPDX-License-Identifier: Apache-2.0
"""Bags of ids: combiners in a layer's config, and calls that are refused."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from bag_layers import BAGS, embedding, ragged, sparse

pytestmark = pytest.mark.usefixtures("keras_seed")


@pytest.mark.parametrize(
    "combiner", [None, "mean", {"a": "sum", "b": None}, ["sum", None], {"a": ["sum", "mean"], "b": "sqrtn"}]
)
def test_combiner_is_in_the_config(store, combiner):
    layer = embedding(store, combiner=combiner)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    assert config["config"]["combiner"] == combiner
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == layer.get_config()


def test_saved_model_combines_as_before(store, tmp_path):
    ids, weights = keras.Input((3,), dtype="int64"), keras.Input((3,))
    vectors = embedding(store, combiner={"x": "mean", "y": None})(
        {"x": ids, "y": ids}, weights={"x": weights, "y": None}
    )
    model = keras.Model([ids, weights], vectors)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    inputs = [np.array([[1, 2, 3]]), np.array([[0.5, 1.0, 2.0]])]
    for name, output in model.predict(inputs, verbose=0).items():
        np.testing.assert_array_equal(loaded.predict(inputs, verbose=0)[name], output)


@pytest.mark.parametrize("combiner", ["max", "", 5, True, {"a": "max"}, ["sum", 5], b"sum"])
def test_unknown_combiner_is_refused(store, combiner):
    with pytest.raises(
        ValueError, match=r"`combiner` must be None, 'sum', 'mean' or 'sqrtn'.* Received: combiner="
    ):
        embedding(store, combiner=combiner)


IDS = np.array([[1, 2]])
UNSORTED = tf.SparseTensor([[1, 0], [0, 0]], [1, 2], [2, 1])


@pytest.mark.parametrize(
    ("combiner", "ids", "arguments", "error", "text"),
    [
        (None, sparse(BAGS), {}, ValueError, "`combiner` must be .* for sparse ids.*combiner=None"),
        ("sum", np.array(1), {}, ValueError, "ids must have an axis for `combiner` to combine"),
        (None, IDS, {"weights": IDS * 1.0}, ValueError, "`weights` must be None where `combiner` is"),
        ("sum", IDS, {"weights": IDS}, TypeError, "`weights` must be floats. Received dtype: int64"),
        (
            "sum",
            IDS,
            {"weights": np.ones((2, 1))},
            ValueError,
            r"`weights` must have the shape of the ids, \(1, 2\). Received shape: \(2, 1\)",
        ),
        (
            "sum",
            IDS,
            {"weights": ragged([[1.0, 2.0]], tf.float32)},
            TypeError,
            "`weights` must be dense, ragged",
        ),
        (
            "sum",
            ragged(BAGS),
            {"weights": np.ones(14)},
            TypeError,
            "`weights` must be dense, ragged or sparse as",
        ),
        (
            "sum",
            ragged([[1], [2, 3]]),
            {"weights": ragged([[1.0, 2.0], [3.0]], tf.float32)},
            tf.errors.InvalidArgumentError,
            "`weights` must be laid out like the ids",
        ),
        (
            "sum",
            ragged([[1], [2, 3]]),
            {"weights": tf.ragged.constant([[[1.0]], [[2.0], [3.0]]])},
            ValueError,
            "`weights` must have as many ragged axes as the ids, 1. Received: 2",
        ),
        (
            "sum",
            sparse([[1], [2]]),
            {"weights": tf.SparseTensor([[0, 0], [1, 1]], [1.0, 2.0], [2, 2])},
            tf.errors.InvalidArgumentError,
            "`weights` must be laid out like the ids",
        ),
        ("sum", UNSORTED, {}, tf.errors.InvalidArgumentError, "row-major order: call tf.sparse.reorder"),
        ("sum", ragged(BAGS), {"mask": IDS > 0}, TypeError, "`mask` must be None for ragged and sparse ids"),
        (
            "sum",
            IDS,
            {"mask": np.array([[True]])},
            ValueError,
            r"`mask` must have the shape of the ids, \(1, 2\)",
        ),
        ({"a": "sum"}, IDS, {}, ValueError, "`combiner` must be one for all inputs or have their structure"),
        (
            {"a": "sum"},
            {"b": IDS},
            {},
            ValueError,
            "`combiner` must be one for all inputs or have their structure",
        ),
        (
            ["sum"],
            [IDS, IDS],
            {},
            ValueError,
            "`combiner` must be one for all inputs or have their structure",
        ),
        (
            "sum",
            [IDS, IDS],
            {"weights": IDS * 1.0},
            ValueError,
            "`weights` must be one for all inputs or have",
        ),
        ("sum", ragged([[1.0]], tf.float32), {}, TypeError, "ids must be integers"),
        ("sum", sparse([[1.0]], tf.float32), {}, TypeError, "ids must be integers"),
    ],
)
def test_wrong_call_is_refused_by_name_rule_and_value(store, combiner, ids, arguments, error, text):
    with pytest.raises(error, match=text):
        embedding(store, combiner=combiner)(ids, **arguments)


def test_wrong_call_is_refused_in_functional_models(store):
    with pytest.raises(ValueError, match=r"`combiner` must be .* for sparse ids"):
        embedding(store)(keras.Input((3,), dtype="int64", sparse=True))
    with pytest.raises(ValueError, match="`weights` must be None where `combiner` is"):
        embedding(store)(keras.Input((3,), dtype="int64"), weights=keras.Input((3,)))


def test_layout_of_weights_is_checked_where_only_the_graph_knows_it(store):
    layer = embedding(store, combiner="sum")
    layer.build(None)
    unknown = [tf.TensorSpec([None, None], tf.int64), tf.TensorSpec([None, None], tf.float32)]
    look_up = tf.function(lambda ids, weights: layer(ids, weights=weights), input_signature=unknown)
    np.testing.assert_array_equal(look_up(IDS, np.ones((1, 2))), layer(IDS))
    with pytest.raises(tf.errors.InvalidArgumentError, match="`weights` must be laid out like the ids"):
        look_up(IDS, np.ones((2, 1)))
