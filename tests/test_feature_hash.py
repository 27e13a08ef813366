# SPDX-License-Identifier: Apache-2.0
"""Ids of features: the same everywhere, for ever, and those that the xxhash package makes."""

import re
from pathlib import Path

import damo
import keras
import numpy as np
import pytest
import tensorflow as tf
import xxhash

import damo_tf
from damo_tf import ops
from damo_tf._native import ops as raw_ops

PAGE = Path(__file__).resolve().parents[1] / "docs" / "feature_hash.md"
#: Texts of every length class of XXH3, among them bytes that are no UTF-8 and zero bytes.
TEXTS = [
    b"",
    b"7",
    b"-7",
    "größe".encode(),
    b"a\0b",
    b"\xff\xfe",
    *(bytes(range(n)) for n in (8, 9, 16, 17, 128)),
]
TEXTS += [bytes(i % 256 for i in range(n)) for n in (129, 240, 241, 1025)]
INTEGERS = [0, 7, -7, 2**31, 2**63 - 1, -(2**63)]


def expected(field: str, value: str | bytes | int) -> int:
    """From the definition in docs/feature_hash.md, by the xxhash package."""
    text = str(value) if isinstance(value, int) else value
    seed = xxhash.xxh3_64_intdigest(field.encode())
    return xxhash.xxh3_64_intdigest(text if isinstance(text, bytes) else text.encode(), seed=seed)


def keys(ids: tf.Tensor) -> list[int]:
    """Ids of a tensor as numbers in [0, 2**64)."""
    return [int(i) % 2**64 for i in np.ravel(ids)]


def golden() -> list[tuple[str, str, int]]:
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (0x\w{16}) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    return [(field, "" if value == "(empty)" else value, int(key, 16)) for field, value, key in rows]


# ---- The function ----


def test_values_of_the_document_are_those_of_every_way_to_hash():
    assert len(golden()) == 9
    for field, value, key in golden():
        assert expected(field, value) == key
        assert damo.feature_hash(field, value) == damo_tf.feature_hash(field, value) == key
        assert keys(damo_tf.FeatureHash(field=field)(tf.constant([value]))) == [key]


def test_odds_in_the_document_are_those_of_pairs_of_64_bits():
    rows = re.findall(r"^\| 10\^(\d+) \| ([\d.e-]+)( %)?.* \| ([\d.e-]+) \|$", PAGE.read_text("utf-8"), re.M)
    assert [int(exponent) for exponent, *_ in rows] == [6, 8, 9, 10]
    for exponent, odds, percent, pairs in rows:
        n = 10 ** int(exponent)
        expected_pairs = n * (n - 1) / 2 / 2**64
        assert float(pairs) == pytest.approx(expected_pairs, rel=0.02)
        assert float(odds) / (100 if percent else 1) == pytest.approx(1 - np.exp(-expected_pairs), rel=0.02)


def test_example_of_the_document_prints_what_it_says(run_python):
    text = PAGE.read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert f"prints `{run_python(program).strip()}`" in text


@pytest.mark.parametrize("value", [*TEXTS, *INTEGERS, 2**64 - 1], ids=lambda v: repr(v)[:12])
def test_any_value_has_the_id_of_the_definition(value):
    assert damo_tf.feature_hash("user", value) == expected("user", value)


def test_integer_and_its_text_are_one_feature_and_other_texts_of_it_are_not():
    hashed = [
        damo_tf.feature_hash("user", v) for v in (7, np.uint8(7), "7", b"7", np.str_("7"), np.bytes_(b"7"))
    ]
    assert set(hashed) == {expected("user", "7")}
    others = {damo_tf.feature_hash("user", v) for v in ("07", " 7", "7.0", "+7")}
    assert len(others - set(hashed)) == 4


def test_fields_are_salts():
    assert damo_tf.feature_hash("user", 7) != damo_tf.feature_hash("item", 7)
    # Neither is a prefix of the value.
    assert damo_tf.feature_hash("a", "bc") != damo_tf.feature_hash("ab", "c")


@pytest.mark.parametrize(
    "values",
    [
        np.array(INTEGERS),
        np.array([[0, 7], [2**63, 2**64 - 1]], np.uint64),
        np.array([[1, -2, 3]], np.int8),
        np.arange(12).reshape(3, 4)[:, ::2],
        np.array([["ann", "größe"], ["", "7"]]),
        np.array([b"ann", b"\xff"]),
        np.array(["ann", b"bob", 7, np.int32(-7)], object),
        np.array(["ann", "größe"], np.dtypes.StringDType()),
        np.array(7),
        np.zeros((0, 3), np.int64),
        [["ann", "bob"], [7, 2**64 - 1]],
        ("ann", b"ann"),
        [],
    ],
    ids=lambda values: f"{type(values).__name__} {getattr(values, 'dtype', '')}",
)
def test_array_has_the_ids_of_its_elements(values):
    hashed = damo_tf.feature_hash("user", values)
    elements = np.asarray(values, object)
    assert hashed.dtype == np.uint64
    assert hashed.shape == elements.shape
    as_texts = [v if isinstance(v, (str, bytes)) else int(v) for v in elements.ravel()]
    assert hashed.ravel().tolist() == [expected("user", v) for v in as_texts]


@pytest.mark.parametrize(
    ("padding", "value", "expected_key"),
    [
        ({"padding_value": ""}, "", 0),
        ({"padding_value": b"", "padding_key": 9}, np.str_(""), 9),
        ({"padding_value": 0, "padding_key": -1}, 0, 2**64 - 1),
        ({"padding_value": 0}, "0", 0),
        ({"padding_value": "0"}, np.int64(0), 0),
        ({"padding_value": np.int64(-1), "padding_key": 2**64 - 1}, -1, 2**64 - 1),
        ({"padding_value": ""}, "ann", expected("user", "ann")),
        ({"padding_value": 0}, "", expected("user", "")),
        ({"padding_key": 9}, "", expected("user", "")),
    ],
)
def test_padding_value_alone_has_the_padding_key(padding, value, expected_key):
    assert damo_tf.feature_hash("user", value, **padding) == expected_key
    layer = damo_tf.FeatureHash(field="user", **padding)
    assert keys(layer(np.array([value]))) == [expected_key]


def test_no_other_value_has_the_padding_key_by_accident():
    key = expected("user", "ann")
    assert damo_tf.feature_hash("user", "ann", padding_value="", padding_key=key) == key + 1
    layer = damo_tf.FeatureHash(field="user", padding_value="", padding_key=key)
    assert keys(layer(tf.constant(["ann", ""]))) == [key + 1, key]


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (1.5, TypeError, r"`value` must be str, bytes or int\. Received: <class 'float'>"),
        (np.array([True]), TypeError, r"`value` must be text or integers\. Received dtype: bool"),
        ([1.5], TypeError, r"`value` must be str, bytes or int\. Received: <class 'float'>"),
        (["ann", None], TypeError, r"`value` must be str, bytes or int\. Received: <class 'NoneType'>"),
        ([True], TypeError, r"`value` must be str, bytes or int\. Received: <class 'bool'>"),
        (True, TypeError, r"`value` must be str, bytes or int\. Received: <class 'bool'>"),
        (2**64, ValueError, r"`value` must be in \[-2\^63, 2\^64\) if it is an int\. Received: value=1844"),
        ([-(2**63) - 1], ValueError, r"`value` must be in \[-2\^63, 2\^64\)"),
        ("\ud800", ValueError, "surrogates not allowed"),
    ],
)
def test_value_of_another_kind_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        damo_tf.feature_hash("user", value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"field": ""}, ValueError, "`field` must be the name of a field"),
        ({"field": 3}, TypeError, r"`field` must be a str\. Received: field=3"),
        ({"field": "\ud800"}, ValueError, "surrogates not allowed"),
        (
            {"padding_value": 1.5},
            TypeError,
            r"`padding_value` must be str, bytes or int\. Received: padding_value=1.5",
        ),
        ({"padding_value": True}, TypeError, "`padding_value` must be str, bytes or int"),
        (
            {"padding_value": 2**64},
            ValueError,
            r"`padding_value` must be an integer in .* Received: padding_value=18",
        ),
        ({"padding_value": "\ud800"}, ValueError, "surrogates not allowed"),
        ({"padding_value": b"\xff"}, ValueError, "can't decode byte 0xff"),
        (
            {"padding_key": None},
            TypeError,
            r"`padding_key` must be an integer in .* Received: padding_key=None",
        ),
        ({"padding_key": 2**64}, ValueError, "`padding_key` must be an integer in"),
    ],
)
def test_wrong_argument_is_refused_by_function_layer_and_op(arguments, error, message):
    settings = {"field": "user", **arguments}
    with pytest.raises(error, match=message):
        damo_tf.FeatureHash(**settings)
    if settings.get("padding_value") != b"\xff":  # TensorFlow's strings need not be UTF-8
        with pytest.raises(error, match=message):
            ops.feature_hash(tf.constant(["ann"]), **settings)
    with pytest.raises(error, match=message):
        damo_tf.feature_hash(settings.pop("field"), 7, **settings)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (
            np.zeros(2, np.int32),
            TypeError,
            "`value` must be a one-dimensional contiguous NumPy array of dtype int64",
        ),
        (np.zeros((2, 2), np.int64), ValueError, "Received rank: 2"),
        (np.zeros(4, np.uint64)[::2], ValueError, "Received strides"),
        (("ann",), TypeError, r"`value` must be str, bytes or int\. Received: <class 'tuple'>"),
    ],
)
def test_the_module_converts_no_array(values, error, message):
    with pytest.raises(error, match=message):
        damo.feature_hash("user", values)


def test_serving_code_needs_no_tensorflow(run_python):
    program = """
import sys
sys.modules["tensorflow"] = None
import damo_tf
print(damo_tf.feature_hash("user", "ann"), "keras" in sys.modules)
"""
    assert run_python(program).split() == [str(expected("user", "ann")), "False"]


# ---- The layer ----


@pytest.mark.parametrize(
    "values",
    [
        tf.constant([["ann", "größe"], ["", "7"]]),
        tf.constant([b"\xff", b"a\0b"]),
        tf.constant(INTEGERS, tf.int64),
        tf.constant([0, 2**63, 2**64 - 1], tf.uint64),
        tf.constant([1, -2], tf.int16),
        tf.constant([200], tf.uint8),
        tf.constant(2**31, tf.uint32),
        tf.zeros([0, 3], tf.string),
    ],
    ids=lambda values: f"{values.dtype.name}{values.shape.as_list()}",
)
@pytest.mark.parametrize("run", [lambda f: f, tf.function], ids=["eager", "function"])
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_layer_hashes_each_value_as_the_function_does(values, run, dtype):
    ids = run(damo_tf.FeatureHash(field="user", dtype=dtype))(values)
    assert ids.dtype == dtype
    assert ids.shape == values.shape
    assert keys(ids) == damo_tf.feature_hash("user", np.asarray(values)).ravel().tolist()


def test_large_batch_is_hashed_like_small_ones():
    values = tf.range(50_000, dtype=tf.int64)  # several blocks for several threads
    assert keys(damo_tf.FeatureHash(field="user")(values)) == [expected("user", i) for i in range(50_000)]


def test_static_shape_is_the_inputs():
    layer = damo_tf.FeatureHash(field="user")
    traced = tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec([None, 3], tf.string))
    assert traced.structured_outputs.shape.as_list() == [None, 3]
    assert traced.structured_outputs.dtype == tf.int64


def test_ragged_and_sparse_stay_what_they_are():
    layer = damo_tf.FeatureHash(field="user")
    ragged = tf.ragged.constant([[["ann"], ["bob", "eve"]], [], [[]]])
    hashed = layer(ragged)
    assert isinstance(hashed, tf.RaggedTensor)
    assert [r.numpy().tolist() for r in hashed.nested_row_splits] == [
        r.numpy().tolist() for r in ragged.nested_row_splits
    ]
    assert keys(hashed.flat_values) == [expected("user", v) for v in ("ann", "bob", "eve")]

    sparse = tf.SparseTensor([[0, 1], [2, 0]], ["ann", "bob"], [3, 2])
    hashed = layer(sparse)
    assert isinstance(hashed, tf.SparseTensor)
    np.testing.assert_array_equal(hashed.indices, sparse.indices)
    np.testing.assert_array_equal(hashed.dense_shape, sparse.dense_shape)
    assert keys(hashed.values) == [expected("user", v) for v in ("ann", "bob")]


def test_dict_and_list_keep_their_structure():
    layer = damo_tf.FeatureHash(field="item")
    hashed = layer(
        {"clicked": tf.ragged.constant([["a"], []]), "shown": [tf.constant(["b"]), tf.constant([7])]}
    )
    assert keys(hashed["clicked"].flat_values) == [expected("item", "a")]
    assert [keys(ids) for ids in hashed["shown"]] == [[expected("item", "b")], [expected("item", 7)]]


@pytest.mark.parametrize(
    "values", [tf.constant([1.5]), tf.constant([True]), np.array([1.5]), tf.constant([1 + 2j])], ids=str
)
@pytest.mark.parametrize("run", [lambda f: f, tf.function], ids=["eager", "function"])
def test_layer_and_op_refuse_what_is_neither_text_nor_integer(values, run):
    message = (
        rf"must be strings or integers\. Received dtype: {keras.backend.standardize_dtype(values.dtype)}"
    )
    with pytest.raises(TypeError, match=f"`inputs` {message}"):
        run(damo_tf.FeatureHash(field="user"))(values)
    with pytest.raises(TypeError, match=f"`values` {message}"):
        run(lambda v: ops.feature_hash(v, "user"))(values)


@pytest.mark.parametrize(
    "values",
    [None, [1, "ann"], tf.ragged.constant([["ann"], []]), tf.SparseTensor([[0]], ["ann"], [1])],
    ids=str,
)
def test_op_refuses_what_is_no_dense_tensor(values):
    message = r"`values` must be a dense tensor of strings or integers\. Received: values="
    with pytest.raises(TypeError, match=message):
        ops.feature_hash(values, "user")


@pytest.mark.parametrize("values", ["ann", ["ann", "bob"], 7, np.array([7], np.uint64), 2**40])
def test_op_takes_what_tensorflow_makes_a_tensor_of(values):
    assert keys(ops.feature_hash(values, "user")) == [expected("user", v) for v in np.ravel(values).tolist()]


def test_symbolic_floats_are_refused():
    with pytest.raises(TypeError, match=r"`inputs` must be strings or integers\. Received dtype: float32"):
        damo_tf.FeatureHash(field="user")(keras.Input((2,)))


@pytest.mark.parametrize("dtype", ["float32", "int32", "mixed_float16"])
def test_dtype_is_one_of_64_bits(dtype):
    with pytest.raises(ValueError, match=r"`dtype` must be 'int64' or 'uint64'\. Received: dtype="):
        damo_tf.FeatureHash(field="user", dtype=dtype)


def test_dataset_map_hashes():
    layer = damo_tf.FeatureHash(field="user")
    dataset = (
        tf.data.Dataset.from_tensor_slices(["ann", "bob", "eve"]).batch(2).map(layer, num_parallel_calls=2)
    )
    assert [keys(ids) for ids in dataset] == [
        [expected("user", v) for v in batch] for batch in (["ann", "bob"], ["eve"])
    ]


@pytest.mark.parametrize(
    ("make", "values"),
    [
        ({"shape": (2,)}, tf.constant([["ann", "bob"], ["", "eve"]])),
        ({"shape": (None,), "ragged": True}, tf.ragged.constant([["ann"], ["bob", "eve"]])),
        ({"shape": (2,), "sparse": True}, tf.SparseTensor([[0, 1], [1, 0]], ["ann", "bob"], [2, 2])),
    ],
    ids=["dense", "ragged", "sparse"],
)
def test_functional_model_keeps_the_kind_of_tensor(make, values):
    inputs = keras.Input(dtype="string", **make)
    model = keras.Model(inputs, damo_tf.FeatureHash(field="user")(inputs))
    hashed = model(values)
    assert type(hashed) is type(values) or tf.is_tensor(hashed)
    flat = [getattr(t, "flat_values", getattr(t, "values", t)) for t in (hashed, values)]
    assert keys(flat[0]) == [expected("user", v) for v in np.ravel(flat[1])]


def model_on_strings(store) -> keras.Model:
    user = keras.Input((2,), dtype="string", name="user")
    ids = damo_tf.FeatureHash(field="user", padding_value="", padding_key=0, name="hash")(user)
    vectors = damo_tf.Embedding(3, store=store, padding_key=0, initializer="ones")(ids)
    return keras.Model(user, keras.layers.Dense(1)(keras.layers.Flatten()(vectors)))


def test_model_trains_the_rows_of_the_strings_and_none_of_the_padding(store):
    model = model_on_strings(store)
    model.compile("sgd", "mse")
    users = tf.constant([["ann", ""], ["bob", "ann"]])
    model.fit(tf.data.Dataset.from_tensors((users, tf.ones([2, 1]))), verbose=0)
    assert store.size() == 2
    for name in ("ann", "bob"):
        assert store.row(0, damo_tf.feature_hash("user", name)).update_num == 1
    assert store.row(0, 0) is None


def test_saved_model_hashes_alike(store, tmp_path):
    model = model_on_strings(store)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    users = tf.constant([["ann", ""], ["bob", "ann"]])
    np.testing.assert_array_equal(loaded(users), model(users))
    assert loaded.get_layer("hash").get_config() == model.get_layer("hash").get_config()


@pytest.mark.parametrize("padding_value", [None, "", b"", "größe", 7, -7])
def test_config_makes_the_same_layer(padding_value):
    layer = damo_tf.FeatureHash(
        field="größe", padding_value=padding_value, padding_key=2**64 - 1, dtype="uint64"
    )
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == layer.get_config()
    values = tf.constant(["", "7", "-7", b"\xff", "ann"])
    np.testing.assert_array_equal(again(values), layer(values))


def test_op_refuses_two_padding_values():
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"`padding_value` must hold at most one value\. Received: 2"
    ):
        raw_ops.damo_feature_hash(tf.constant(["a"]), field="user", padding_value=["", "x"])
