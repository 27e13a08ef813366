# SPDX-License-Identifier: Apache-2.0
"""export_dense: the dense part in plain TensorFlow, with rows and a description beside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from plain_tensorflow import READ_ROWS, WITHOUT_DAMO_TF

import damo_tf

#: What the description says of ids that are dense and neither hashed nor combined.
PLAIN = {
    "row_splits": [],
    "indices": None,
    "dense_shape": None,
    "hash": None,
    "combiner": None,
    "weights": None,
    "mask": None,
}


def id_input(name: str, length: int = 3, dtype: str = "int64"):
    return keras.Input((length,), dtype=dtype, name=name)


def described(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "embeddings.json").read_text("utf-8"))


def names(directory: Path) -> list[str]:
    return [entry["input"] for entry in described(directory)["embeddings"]]


def fed(
    directory: Path, stores: list[damo_tf.Store], ids: dict[str, Any], others: Any = ()
) -> dict[str, Any]:
    """The predictions of an exported dense part on the rows of live stores."""
    dense = tf.saved_model.load(str(directory)).signatures["serving_default"]
    inputs: dict[str, Any] = dict(others)
    for entry in described(directory)["embeddings"]:
        keys = ids[entry["field"] or entry["input"]]
        inputs[entry["input"]] = stores[entry["store"]].lookup(
            entry["group"], keys, padding_key=entry["padding_key"], missing=entry["missing"]
        )
    outputs = dense(**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: output.numpy() for name, output in outputs.items()}


def test_predictions_equal_the_live_models_where_there_is_no_damo_tf(
    store, tmp_path, rng, keras_seed, run_with_tensorflow: Callable[..., str]
):
    clicked, shown, price = (
        id_input("clicked"),
        id_input("shown", 2, "uint64"),
        keras.Input((1,), name="price"),
    )
    items = damo_tf.Embedding(5, store=store, initializer="random_normal", padding_key=0, name="items")
    users = damo_tf.Embedding(3, store=store, group=255, missing="zeros", name="users")
    vectors = [*items({"clicked": clicked, "shown": shown}).values(), users(clicked)]
    joined = keras.layers.Concatenate(name="joined")([*(keras.layers.Flatten()(v) for v in vectors), price])
    score = keras.layers.Dense(1, activation="sigmoid", name="score")(joined)
    model = keras.Model([clicked, shown, price], [score, joined])
    model.compile("adam", "mse")
    inputs = {
        "clicked": rng.integers(-9, 9, size=(99, 3)),
        "shown": rng.integers(-9, 9, size=(99, 2)).view(np.uint64),
        "price": rng.standard_normal((99, 1)).astype(np.float32),
    }
    model.fit(list(inputs.values()), [np.zeros((99, 1)), np.zeros((99, 35))], epochs=2, verbose=0)
    inputs["clicked"][:50] += 10  # ids without rows among them
    score, joined = model.predict(list(inputs.values()), verbose=0)

    damo_tf.export_dense(model, tmp_path / "exported")

    np.savez(tmp_path / "expected.npz", score=score, joined=joined, **inputs)
    program = """
import json
import numpy as np
import oracles
import tensorflow as tf

def lookup(entry, ids):
    keys = ids.astype(np.int64).view(np.uint64)
    vectors = np.zeros((*keys.shape, entry["dim"]), np.float32)
    if entry["missing"] == "initial":
        how = {"seed": description["stores"][entry["store"]]["seed"], "group": entry["group"]}
        vectors = oracles.initial_weights(entry["initializer"], keys, entry["dim"], **how)
    for place, key in np.ndenumerate(keys):
        vectors[place] = rows[entry["group"]].get(int(key), vectors[place])
        if key == entry["padding_key"]:
            vectors[place] = 0
    return vectors

expected = np.load("expected.npz")
description = json.load(open("exported/embeddings.json"))
rows = dict(read_rows("exported/" + description["stores"][0]["rows"]))
feeds = {entry["input"]: lookup(entry, expected[entry["field"]]) for entry in description["embeddings"]}
feeds |= {name: expected[name] for name in description["other_inputs"]}
dense = tf.saved_model.load("exported").signatures["serving_default"]
assert set(dense.structured_input_signature[1]) == set(feeds)
outputs = dense(**{name: tf.constant(value) for name, value in feeds.items()})
assert description["outputs"] == ["score", "joined"], description["outputs"]
joined = outputs["joined"].numpy()
np.testing.assert_array_equal(joined.view(np.int32), expected["joined"].view(np.int32))
np.testing.assert_allclose(outputs["score"], expected["score"], rtol=1e-6)
print("equal")
"""
    assert run_with_tensorflow(WITHOUT_DAMO_TF + READ_ROWS + program) == "equal\n"


def test_description_says_whose_rows_each_input_takes(store, tmp_path):
    ids = id_input("ids")
    layer = damo_tf.Embedding(
        2, store=store, group=7, initializer={"name": "random_uniform", "min": 0, "max": 1}, padding_key=-1
    )
    second = damo_tf.Embedding(3, store=store, group=8, min_count=2, initializer="zeros")
    out = keras.layers.Dense(1, name="out")(keras.layers.Concatenate()([layer(ids), second(ids)]))

    damo_tf.export_dense(keras.Model(ids, out), tmp_path / "exported")

    assert described(tmp_path / "exported") == {
        "format": 2,
        "stores": [{"rows": "rows.dump", "seed": 0}],
        "embeddings": [
            {
                "input": layer.name,
                "shape": [None, 3, 2],
                "field": "ids",
                **PLAIN,
                "store": 0,
                "group": 7,
                "dim": 2,
                "padding_key": 2**64 - 1,
                "missing": "initial",
                "initializer": {"name": "random_uniform", "min": 0, "max": 1},
            },
            {
                "input": second.name,
                "shape": [None, 3, 3],
                "field": "ids",
                **PLAIN,
                "store": 0,
                "group": 8,
                "dim": 3,
                "padding_key": None,
                "missing": "zeros",
                "initializer": {"name": "zeros"},
            },
        ],
        "composite_inputs": {},
        "other_inputs": [],
        "outputs": ["out"],
    }


def test_each_call_and_feature_of_a_layer_is_an_input(store, tmp_path, rng):
    first, second = id_input("first"), id_input("rows_1")
    layer = damo_tf.Embedding(2, store=store, name="rows")
    vectors = [*layer({"a": first, "b": second}).values(), layer(first), layer(second)]
    model = keras.Model([first, second], keras.layers.Concatenate(name="out")(vectors))
    ids = {"first": rng.integers(9, size=(5, 3)), "rows_1": rng.integers(9, size=(5, 3))}

    damo_tf.export_dense(model, tmp_path / "exported")

    assert names(tmp_path / "exported") == ["rows_a", "rows_b", "rows", "rows_2"]
    outputs = fed(tmp_path / "exported", [store], ids)["out"]
    np.testing.assert_array_equal(outputs, model.predict(list(ids.values()), verbose=0))


def test_each_store_has_a_dump_of_its_own(store, tmp_path, rng):
    ids = id_input("ids")
    with damo_tf.Store(tmp_path / "second", seed=5) as second:
        layers = [damo_tf.Embedding(2, store=s) for s in (store, second, store)]
        model = keras.Model(ids, keras.layers.Concatenate(name="out")([layer(ids) for layer in layers]))
        second.apply_gradients(0, [1, 2], np.ones((2, 2)))
        keys = rng.integers(9, size=(5, 3))

        damo_tf.export_dense(model, tmp_path / "exported")

        assert described(tmp_path / "exported")["stores"] == [
            {"rows": "rows.dump", "seed": 0},
            {"rows": "rows_1.dump", "seed": 5},
        ]
        rows = damo_tf.read_dump(tmp_path / "exported" / "rows_1.dump")[0]
        np.testing.assert_array_equal(rows.weights, second.lookup(0, [1, 2]))
        outputs = fed(tmp_path / "exported", [store, second], {"ids": keys})["out"]
        np.testing.assert_array_equal(outputs, model.predict(keys, verbose=0))


def test_ids_that_the_model_computes_have_a_signature(store, tmp_path, rng):
    raw = id_input("raw")
    layer = damo_tf.Embedding(2, store=store, name="rows")
    model = keras.Model(raw, keras.layers.Flatten(name="out")(layer(raw[:, :2] * 1000 + 7)))
    keys = rng.integers(100, size=(5, 3))

    damo_tf.export_dense(model, tmp_path / "exported")

    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    computed = loaded.signatures["ids"](raw=tf.constant(keys))["rows"].numpy()
    np.testing.assert_array_equal(computed, keys[:, :2] * 1000 + 7)
    assert described(tmp_path / "exported")["embeddings"][0]["field"] is None
    outputs = fed(tmp_path / "exported", [store], {"rows": computed})["out"]
    np.testing.assert_array_equal(outputs, model.predict(keys, verbose=0))


def test_ids_that_are_more_than_ids_stay_an_input(store, tmp_path, rng):
    ids = id_input("ids")
    vectors = damo_tf.Embedding(2, store=store, name="rows")(ids)
    is_item = keras.ops.expand_dims(keras.ops.cast(ids != 0, "float32"), -1)
    model = keras.Model(ids, keras.layers.Multiply(name="out")([vectors, is_item]))
    keys = rng.integers(3, size=(5, 3))

    damo_tf.export_dense(model, tmp_path / "exported")

    assert described(tmp_path / "exported")["other_inputs"] == ["ids"]
    outputs = fed(tmp_path / "exported", [store], {"ids": keys}, {"ids": keys})["out"]
    np.testing.assert_array_equal(outputs, model.predict(keys, verbose=0))


def test_inputs_are_float32_in_mixed_precision(store, tmp_path, rng):
    ids = id_input("ids")
    vectors = damo_tf.Embedding(4, store=store, dtype="mixed_bfloat16")(ids)
    model = keras.Model(ids, keras.layers.Activation("tanh", dtype="mixed_bfloat16", name="out")(vectors))
    keys = rng.integers(100, size=(5, 3))

    damo_tf.export_dense(model, tmp_path / "exported")

    outputs = fed(tmp_path / "exported", [store], {"ids": keys})["out"]
    assert outputs.dtype == tf.bfloat16
    np.testing.assert_array_equal(outputs, model.predict(keys, verbose=0))


def test_ids_that_depend_on_a_lookup_are_refused(store, tmp_path):
    ids = id_input("ids")
    first = damo_tf.Embedding(2, store=store, name="first")(ids)
    best = keras.ops.cast(keras.ops.argmax(first, axis=-1), "int64")
    model = keras.Model(ids, damo_tf.Embedding(2, store=store, group=1, name="second")(best))

    with pytest.raises(ValueError, match=r"'second' must not depend .* Received: ids computed from 'first'"):
        damo_tf.export_dense(model, tmp_path / "exported")


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(store, tmp_path):
    ids = id_input("ids")
    no_rows = keras.Model(ids, keras.layers.Flatten()(ids), name="plain")
    model = keras.Model(ids, damo_tf.Embedding(2, store=store)(ids))
    with pytest.raises(ValueError, match=r"must have a damo_tf.Embedding. Received: model 'plain'"):
        damo_tf.export_dense(no_rows, tmp_path / "exported")
    with pytest.raises(TypeError, match=r"`model` must be a keras.Model. Received: None"):
        damo_tf.export_dense(None, tmp_path / "exported")
    with pytest.raises(FileExistsError, match="there is something already"):
        damo_tf.export_dense(model, tmp_path)
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        damo_tf.export_dense(model, tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
