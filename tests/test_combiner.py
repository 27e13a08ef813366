# SPDX-License-Identifier: Apache-2.0
"""The Embedding layer on bags of ids: ragged, sparse and dense ones, combiners, weights and masks."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from oracles import OracleBags, OracleTable
from stored_rows import assert_rows_equal, rows_of, step_of

import damo_tf

pytestmark = pytest.mark.usefixtures("keras_seed")

DIM = 4
VOCABULARY = 12
COMBINERS = ["sum", "mean", "sqrtn"]
EAGER_OR_FUNCTION = pytest.mark.parametrize("function", [lambda f: f, tf.function], ids=["eager", "function"])
#: Bags of ids, some empty, with repetitions inside and across bags.
BAGS = [[3, 1, 3], [], [7], [1, 2, 3, 4, 5], [], [7, 7], [11]]


def embedding(store, **settings) -> damo_tf.Embedding:
    return damo_tf.Embedding(DIM, **{"store": store, "optimizer": "sgd", **settings})


def ragged(bags, dtype=tf.int64) -> tf.RaggedTensor:
    return tf.ragged.constant(bags, dtype, ragged_rank=1)


def sparse(bags, dtype=tf.int64) -> tf.SparseTensor:
    return ragged(bags, dtype).to_sparse()


def weights_like(bags, rng) -> list[list[float]]:
    return [rng.uniform(0.5, 2, len(bag)).tolist() for bag in bags]


def train(layer, inputs, loss_of, **arguments):
    """One step; returns the outputs before it."""
    with tf.GradientTape() as tape:
        outputs = layer(inputs, **arguments)
        loss = loss_of(outputs)
    tape.gradient(loss, layer.trainable_variables)
    return outputs


# ---- Values and gradients, beside TensorFlow's own ----


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


def layer_rows(layer) -> np.ndarray:
    """The weights of all ids."""
    if not layer.built:
        layer.build(None)
    return layer.store.lookup(layer.group, np.arange(VOCABULARY))


def with_values(ids, values):
    if isinstance(ids, tf.SparseTensor):
        return tf.SparseTensor(ids.indices, values, ids.dense_shape)
    return ids.with_flat_values(values)


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


# ---- Shapes of inputs and outputs ----


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


# ---- Padding and masks ----


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


# ---- Config and errors ----


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
