# SPDX-License-Identifier: Apache-2.0
"""What the Embedding layer takes and refuses as ids, and the shapes that it returns."""

from collections import OrderedDict

import keras
import numpy as np
import pytest
import tensorflow as tf
from embedding_layers import EAGER_OR_FUNCTION, FULL_RANGE, embedding, one_step
from known_gradients import DIM
from oracles import OracleTable, initial_weights
from stored_rows import assert_rows_equal, step_of

pytestmark = pytest.mark.usefixtures("keras_seed")


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
    text = f"ids must be integers: .*strings become ids in a `damo_tf.FeatureHash`. Received dtype: {dtype}"
    with pytest.raises(TypeError, match=text):
        function(layer)(ids)


@pytest.mark.parametrize("dtype", ["float32", "bool", "string"])
def test_inputs_that_are_not_integers_are_refused_in_functional_models(store, dtype):
    with pytest.raises(TypeError, match=f"ids must be integers.*Received dtype: {dtype}"):
        embedding(store)(keras.Input((3,), dtype=dtype))
    with pytest.raises(TypeError, match=f"ids must be integers.*Received dtype: {dtype}"):
        embedding(store)([keras.Input((3,), dtype="int64"), keras.Input((3,), dtype=dtype)])


def test_functional_models_cast_floats_before_the_layer_sees_them(store):
    """What README.md warns of. It is Keras's doing: should it end, so may the warning."""
    ids = keras.Input((1,), dtype="int64")
    model = keras.Model(ids, embedding(store)(ids))
    np.testing.assert_array_equal(model(np.array([[1.5]])), model(np.array([[1]])))
    with pytest.raises(TypeError, match=r"ids must be integers.*Received dtype: float32"):
        embedding(store)(keras.Input((1,)))  # whose dtype was forgotten


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
