# SPDX-License-Identifier: Apache-2.0
"""export_inline: SavedModels with rows inside predict what the live model predicts."""

import re
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from plain_tensorflow import WITHOUT_DAMO_TF

import damo_tf

#: Dim to initializer.
INITIALIZERS = {
    1: "zeros",
    2: "ones",
    4: {"name": "random_uniform", "min": -0.3, "max": 0.7},
    7: {"name": "random_normal", "mean": 0.1, "stddev": 0.37},
    33: {"name": "truncate_normal", "mean": -0.1, "stddev": 1.7},
    5: "xavier_uniform",
}


def id_input(name: str, length: int = 3, dtype: str = "int64"):
    return keras.Input((length,), dtype=dtype, name=name)


def served(directory) -> Callable[..., dict[str, np.ndarray]]:
    """The predictions of a SavedModel, as NumPy arrays."""
    loaded = tf.saved_model.load(str(directory))

    def predict(**inputs) -> dict[str, np.ndarray]:
        outputs = loaded.signatures["serving_default"](
            **{k: tf.constant(np.asarray(v)) for k, v in inputs.items()}
        )
        return {name: output.numpy() for name, output in outputs.items()}

    return predict


def model_of_vectors(*layers, dtype: str = "int64") -> keras.Model:
    """A model whose outputs are what its layers look up for one input, `ids`."""
    ids = id_input("ids", dtype=dtype)
    return keras.Model(ids, {layer.name: layer(ids) for layer in layers})


def rich_model(first: damo_tf.Store, second: damo_tf.Store) -> keras.Model:
    """Groups, stores, a shared layer, layers on one group, features in one call, a nested model."""
    clicked, shown = id_input("clicked"), id_input("shown", 2, "uint64")
    items = damo_tf.Embedding(5, store=first, optimizer="sgd", name="items")
    same_items = damo_tf.Embedding(
        5, store=first, optimizer="sgd", missing="zeros", padding_key=0, name="same_items"
    )
    users = damo_tf.Embedding(3, store=first, group=255, initializer="xavier_uniform", name="users")
    others = damo_tf.Embedding(4, store=second, initializer="random_normal", padding_key=-1, name="others")
    inner = id_input("inner")
    tower = keras.Model(inner, keras.layers.Flatten()(others(inner)))
    together = items({"clicked": clicked, "shown": shown})
    vectors = [*together.values(), items(clicked), same_items(shown), users(clicked)]
    flat = [keras.layers.Flatten()(v) for v in vectors] + [tower(clicked)]
    joined = keras.layers.Concatenate(name="vectors")(flat)
    score = keras.layers.Dense(1, activation="sigmoid", name="score")(joined)
    return keras.Model([clicked, shown], [score, joined])


def features(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Ids of the full range, some of them often; 0 and -1, or 2**64 - 1, among them."""
    pool = np.concatenate([[0, -1], rng.integers(-(2**63), 2**63, size=30)])
    shown = rng.choice(pool, size=(count, 2)).view(np.uint64)
    return {"clicked": rng.choice(pool, size=(count, 3)), "shown": shown}


def trained(model: keras.Model, rng: np.random.Generator) -> keras.Model:
    inputs = features(rng, 64)
    targets = [np.zeros((64, *shape[1:]), np.float32) for shape in (t.shape for t in model.outputs)]
    model.compile("adam", "mse")
    model.fit(list(inputs.values()), targets, epochs=2, verbose=0)
    return model


def test_predictions_equal_the_live_models_where_there_is_no_damo_tf(
    store, tmp_path, rng, keras_seed, run_with_tensorflow: Callable[..., str]
):
    with damo_tf.Store(tmp_path / "second", seed=2**64 - 1) as second:
        model = trained(rich_model(store, second), rng)
        inputs = features(rng, 200)
        inputs["clicked"][:50] += 1  # ids without rows
        score, vectors = model.predict(list(inputs.values()), verbose=0)
        damo_tf.export_inline(model, tmp_path / "exported")
    np.savez(tmp_path / "expected.npz", score=score, vectors=vectors, **inputs)

    program = """
import numpy as np
import tensorflow as tf

expected = np.load("expected.npz")
serve = tf.saved_model.load("exported").signatures["serving_default"]
outputs = serve(clicked=tf.constant(expected["clicked"]), shown=tf.constant(expected["shown"]))
# What is looked up is the same bits; a product of matrices may be summed in another order.
np.testing.assert_array_equal(outputs["vectors"].numpy().view(np.int32), expected["vectors"].view(np.int32))
np.testing.assert_allclose(outputs["score"], expected["score"], rtol=1e-6)
print("equal")
"""
    assert run_with_tensorflow(WITHOUT_DAMO_TF + program) == "equal\n"


def test_initial_values_are_the_engines_bits(tmp_path, rng):
    keys = np.concatenate([[0, -1, 2**63 - 1, -(2**63)], rng.integers(-(2**63), 2**63, size=4994)])
    keys = keys.reshape(-1, 3)
    with damo_tf.Store(tmp_path / "store", seed=2**63 + 12345) as store:
        layers = [
            damo_tf.Embedding(dim, store=store, group=200 + dim, initializer=initializer, name=f"of_{dim}")
            for dim, initializer in INITIALIZERS.items()
        ]
        damo_tf.export_inline(model_of_vectors(*layers), tmp_path / "exported")
        expected = {layer.name: store.lookup(layer.group, keys) for layer in layers}

    for name, vectors in served(tmp_path / "exported")(ids=keys).items():
        np.testing.assert_array_equal(vectors.view(np.int32), expected[name].view(np.int32), name)


def test_rows_below_min_count_are_left_out_and_read_as_ids_without_a_row(store, tmp_path):
    layer = damo_tf.Embedding(2, store=store, optimizer="sgd", name="rows")
    model = model_of_vectors(layer)
    before = store.lookup(0, [[1, 2, 3]])
    for keys in ([1, 2, 3], [2, 3], [3]):
        store.apply_gradients(0, keys, np.ones((len(keys), 2)))
    trained_rows = store.lookup(0, [[1, 2, 3]])

    damo_tf.export_inline(model, tmp_path / "exported", min_count=2)

    vectors = served(tmp_path / "exported")(ids=[[1, 2, 3]])["rows"]
    np.testing.assert_array_equal(vectors[0], np.stack([before[0, 0], *trained_rows[0, 1:]]))
    (keys,) = (tmp_path / "exported" / "assets").iterdir()
    assert keys.read_text() == "2\n3\n"


def test_ids_that_are_not_admitted_read_as_zeros(store, tmp_path):
    layer = damo_tf.Embedding(2, store=store, min_count=2, initializer="ones", name="rows")
    model = model_of_vectors(layer)
    store.apply_gradients(0, [1, 2, 2], np.ones((3, 2)))

    damo_tf.export_inline(model, tmp_path / "exported")

    vectors = served(tmp_path / "exported")(ids=[[1, 2, 3]])["rows"]
    np.testing.assert_array_equal(vectors, store.lookup(0, [[1, 2, 3]]))
    assert (vectors[0, [0, 2]] == 0).all() and (vectors[0, 1] != 0).all()


def test_mixed_precision_is_exported(store, tmp_path):
    ids = id_input("ids")
    vectors = damo_tf.Embedding(4, store=store, dtype="mixed_float16")(ids)
    model = keras.Model(ids, keras.layers.Dense(2, dtype="mixed_float16", name="dense")(vectors))
    keys = np.arange(30).reshape(10, 3)

    damo_tf.export_inline(model, tmp_path / "exported")

    outputs = served(tmp_path / "exported")(ids=keys)["dense"]
    assert outputs.dtype == np.float16
    np.testing.assert_array_equal(outputs, model.predict(keys, verbose=0))


class Subclassed(keras.Model):
    def __init__(self, store):
        super().__init__(name="subclassed")
        self.embedding = damo_tf.Embedding(4, store=store)
        self.dense = keras.layers.Dense(1)

    def call(self, inputs):
        return self.dense(keras.ops.sum(self.embedding(inputs["ids"]), axis=1))


def test_a_subclassed_model_is_exported_with_its_input_signature(store, tmp_path, rng):
    model = Subclassed(store)
    keys = rng.integers(100, size=(50, 3))
    expected = model.predict({"ids": keys}, verbose=0)

    with pytest.raises(ValueError, match=r"`input_signature` must be given .* Received: model 'subclassed'"):
        damo_tf.export_inline(model, tmp_path / "exported")
    signature = {"ids": tf.TensorSpec([None, 3], tf.int64)}
    damo_tf.export_inline(model, tmp_path / "exported", input_signature=signature)

    outputs = served(tmp_path / "exported")(ids=keys)
    np.testing.assert_allclose(outputs["output"], expected, rtol=1e-6)


class WithUnused(keras.Model):
    """Counts its calls; has a layer that it does not look up in, except while it trains."""

    def __init__(self, store):
        super().__init__()
        self.embedding = damo_tf.Embedding(4, store=store)
        self.unused = damo_tf.Embedding(4, store=store, group=1)
        self.num_calls = 0

    def call(self, ids, training=False):
        self.num_calls += 1
        vectors = self.embedding(ids)
        return vectors + self.unused(ids) if training else vectors


def test_a_model_is_traced_once_and_tables_that_it_does_not_look_up_are_left_out(store, tmp_path):
    model, keys = WithUnused(store), np.arange(30).reshape(10, 3)
    model(keys, training=True)
    for group in (0, 1):
        store.apply_gradients(group, [1], np.ones((1, 4)))
    expected = model.predict(keys, verbose=0)
    model.num_calls = 0

    signature = tf.TensorSpec([None, 3], tf.int64, name="ids")
    damo_tf.export_inline(model, tmp_path / "exported", input_signature=signature)

    assert model.num_calls == 1
    assert len(list((tmp_path / "exported" / "assets").iterdir())) == 1
    np.testing.assert_array_equal(served(tmp_path / "exported")(ids=keys)["output"], expected)


def test_rows_are_no_constants_of_the_graph(store, tmp_path, rng):
    layer = damo_tf.Embedding(2, store=store, name="rows")
    model = model_of_vectors(layer)
    sizes = []
    for count in (10, 10_000):
        keys = rng.integers(2**63, size=count)
        store.from_numpy(0, keys, rng.standard_normal((count, 2)), mode="replace")
        directory = tmp_path / str(count)
        damo_tf.export_inline(model, directory)
        sizes.append((directory / "saved_model.pb").stat().st_size)
        np.testing.assert_array_equal(
            served(directory)(ids=keys[:9].reshape(3, 3))["rows"], store.lookup(0, keys[:9].reshape(3, 3))
        )

    assert abs(sizes[1] - sizes[0]) < 1000


def test_rows_are_copied_in_parts(store, tmp_path, rng, monkeypatch):
    monkeypatch.setattr("damo_tf.export.inline_tables._BYTES_PER_PART", 100)
    model = model_of_vectors(damo_tf.Embedding(2, store=store, name="rows"))
    keys = rng.permutation(300)
    store.from_numpy(0, keys, rng.standard_normal((300, 2)))

    damo_tf.export_inline(model, tmp_path / "exported")

    ids = keys.reshape(100, 3)
    np.testing.assert_array_equal(served(tmp_path / "exported")(ids=ids)["rows"], store.lookup(0, ids))


def test_exporting_changes_neither_store_nor_model(store, tmp_path):
    layer = damo_tf.Embedding(2, store=store, name="rows")
    model = model_of_vectors(layer)
    store.apply_gradients(0, [1], [[1.0, 1.0]])
    before = str((model.get_config(), store.row(0, 1), store.size()))

    damo_tf.export_inline(model, tmp_path / "exported")

    assert str((model.get_config(), store.row(0, 1), store.size())) == before


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(store, tmp_path):
    model = model_of_vectors(damo_tf.Embedding(2, store=store, name="rows"))
    target = tmp_path / "exported"
    ids = id_input("ids")
    no_rows = keras.Model(ids, keras.layers.Flatten()(ids), name="plain")
    for arguments, kind, text in [
        ((42, target), TypeError, "`model` must be a keras.Model. Received: 42"),
        ((no_rows, target), ValueError, "`model` must have a damo_tf.Embedding. Received: model 'plain'"),
        ((model, 42), TypeError, "`directory` must be a path. Received: directory=42"),
        ((model, tmp_path), FileExistsError, f"make '{tmp_path}': there is something already"),
    ]:
        with pytest.raises(kind, match=re.escape(text)):
            damo_tf.export_inline(*arguments)
    with pytest.raises(ValueError, match=r"`min_count` must be an integer in .* Received: min_count=-1"):
        damo_tf.export_inline(model, target, min_count=-1)
    with pytest.raises(TypeError, match=r"`input_signature` must be a tf.TensorSpec, .* Received: 'ids'"):
        damo_tf.export_inline(model, target, input_signature="ids")
    assert [path.name for path in Path(tmp_path).iterdir()] == ["store"]


def test_a_function_traced_before_is_named_and_refused(store, tmp_path):
    class Traced(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding = damo_tf.Embedding(4, store=store)

        @tf.function
        def call(self, ids):
            return self.embedding(ids, training=False)

    model = Traced()
    model(tf.constant([[1, 2, 3]], tf.int64), training=False)
    with pytest.raises(ValueError, match=r"graph still has the ops \['DamoEmbeddingLookup'\]"):
        damo_tf.export_inline(
            model, tmp_path / "exported", input_signature=tf.TensorSpec([1, 3], tf.int64, name="ids")
        )


def test_directory_may_be_there_and_empty(store, tmp_path):
    (tmp_path / "exported").mkdir()

    damo_tf.export_inline(
        model_of_vectors(damo_tf.Embedding(2, store=store, name="rows")), tmp_path / "exported"
    )

    assert served(tmp_path / "exported")(ids=[[1, 2, 3]])["rows"].shape == (1, 3, 2)


class Summed(damo_tf.Embedding):
    """Makes one vector of all ids of a row."""

    def call(self, inputs, **arguments):
        return keras.ops.sum(super().call(inputs, **arguments), axis=-2)

    def compute_output_spec(self, inputs, **arguments):
        return keras.KerasTensor((*inputs.shape[:-1], self.dim), self.compute_dtype)


def test_a_layer_that_does_more_than_a_lookup_is_exported_with_what_it_does(store, tmp_path):
    ids = id_input("ids")
    model = keras.Model(ids, Summed(2, store=store, name="summed")(ids))
    keys = np.arange(30).reshape(10, 3)
    expected = model.predict(keys, verbose=0)

    damo_tf.export_inline(model, tmp_path / "inline")
    damo_tf.export_dense(model, tmp_path / "dense")

    np.testing.assert_array_equal(served(tmp_path / "inline")(ids=keys)["summed"], expected)
    with damo_tf.Predictor(tmp_path / "dense") as predictor:
        np.testing.assert_array_equal(predictor.predict({"ids": keys})["summed"], expected)
