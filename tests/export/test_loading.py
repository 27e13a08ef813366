# SPDX-License-Identifier: Apache-2.0
"""SavedModels with the lookup op inside: they find a store where they are loaded."""

import re
import shutil
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from bag_model import bag_inputs, bag_model, parts_of

import damo_tf

KEYS = np.array([[1, 2, -1], [3, 0, 7]])


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("DAMO_STORE", raising=False)


@pytest.fixture
def model(store) -> keras.Model:
    """Looks up rows of two groups, of which some exist."""
    ids = keras.Input((3,), dtype="int64", name="ids")
    layers = [damo_tf.Embedding(2, store=store, group=group, optimizer="sgd") for group in (0, 9)]
    model = keras.Model(ids, keras.layers.Concatenate(name="out")([layer(ids) for layer in layers]))
    for group in (0, 9):
        store.apply_gradients(group, [1, 2, 3], np.ones((3, 2)))
    return model


def test_predictions_equal_the_live_models_in_a_process_that_imports_damo_tf(
    model, store, tmp_path, run_with_tensorflow: Callable[..., str]
):
    model.export(tmp_path / "exported", verbose=False)
    tf.saved_model.save(model, str(tmp_path / "saved"))
    np.savez(tmp_path / "expected.npz", ids=KEYS, outputs=model.predict(KEYS, verbose=0))
    store.checkpoint(tmp_path / "copy")
    store.close()
    shutil.move(tmp_path / "store", tmp_path / "moved")
    program = """
import os
import numpy as np
import tensorflow as tf
import damo_tf

expected = np.load("expected.npz")
ids = tf.constant(expected["ids"])

def check(loaded):
    serve = loaded.signatures["serving_default"]
    outputs = serve(**{name: ids for name in serve.structured_input_signature[1]})
    np.testing.assert_array_equal(*outputs.values(), expected["outputs"])

check(damo_tf.load_saved_model("exported", store="moved"))  # where it is now
check(damo_tf.load_saved_model("saved", store=damo_tf.Store("copy", read_only=True)))
os.environ["DAMO_STORE"] = "moved"
check(tf.saved_model.load("exported"))
check(damo_tf.load_saved_model("exported", store="/nowhere"))  # the environment comes first
del os.environ["DAMO_STORE"]
try:
    tf.saved_model.load("exported")
except FileNotFoundError as error:
    assert "open store" in str(error)
    print("equal")
"""
    assert run_with_tensorflow(program) == "equal\n"


def test_bags_and_hashes_are_looked_up_inside_a_savedmodel(
    store, tmp_path, rng, keras_seed, run_with_tensorflow: Callable[..., str]
):
    served = tf.Module()
    served.model, inputs = bag_model(store), bag_inputs(rng)
    served.predict = tf.function(
        lambda inputs: served.model(inputs, training=False),
        input_signature=[{name: spec_of(value) for name, value in inputs.items()}],
    )
    tf.saved_model.save(served, str(tmp_path / "saved"))
    expected = {name: value.numpy() for name, value in served.predict(inputs).items()}
    np.savez(tmp_path / "expected.npz", **expected, **parts_of(inputs))
    store.close()
    shutil.move(tmp_path / "store", tmp_path / "moved")
    program = """
import numpy as np
import tensorflow as tf
import damo_tf

expected = np.load("expected.npz")
inputs = {name: tf.constant(expected[name]) for name in ("shown", "codes")}
for name in ("history", "factors", "tags"):
    values, splits = expected[f"{name}_values"], expected[f"{name}_row_splits"]
    inputs[name] = tf.RaggedTensor.from_row_splits(values, splits)
clicks = [expected[f"clicks_{part}"] for part in ("indices", "values", "dense_shape")]
inputs["clicks"] = tf.SparseTensor(*clicks)
loaded = damo_tf.load_saved_model("saved", store="moved")
outputs = loaded.predict(inputs)
np.testing.assert_array_equal(outputs["vectors"], expected["vectors"])
np.testing.assert_allclose(outputs["score"], expected["score"], rtol=1e-6)
print("equal")
"""
    assert run_with_tensorflow(program) == "equal\n"


def spec_of(value) -> tf.TypeSpec:
    """Of a batch of any size."""
    if isinstance(value, tf.RaggedTensor):
        return tf.RaggedTensorSpec([None, None], value.dtype, row_splits_dtype=value.row_splits.dtype)
    if isinstance(value, tf.SparseTensor):
        return tf.SparseTensorSpec([None, value.shape[1]], value.dtype)
    return tf.TensorSpec([None, *value.shape[1:]], value.dtype)


def test_a_loaded_model_reads_rows_as_they_are_now(model, store, tmp_path):
    model.export(tmp_path / "exported", verbose=False)
    loaded = damo_tf.load_saved_model(tmp_path / "exported")
    store.apply_gradients(0, KEYS, np.ones((2, 3, 2)))

    np.testing.assert_array_equal(loaded.serve(tf.constant(KEYS)), model.predict(KEYS, verbose=0))


def test_environment_does_not_move_layers_that_have_a_store(store, tmp_path, monkeypatch):
    monkeypatch.setenv("DAMO_STORE", str(tmp_path / "elsewhere"))
    layer = damo_tf.Embedding(2, store=store)

    np.testing.assert_array_equal(layer(tf.constant(KEYS)), store.lookup(0, KEYS))


def test_one_store_does_not_stand_for_two(store, tmp_path, monkeypatch):
    with damo_tf.Store(tmp_path / "second") as second:
        ids = keras.Input((3,), dtype="int64", name="ids")
        vectors = [damo_tf.Embedding(2, store=each, group=0)(ids) for each in (store, second)]
        model = keras.Model(ids, keras.layers.Concatenate()(vectors))
        model.export(tmp_path / "exported", verbose=False)
        second.apply_gradients(0, [1], np.ones((1, 2)))

        loaded = damo_tf.load_saved_model(tmp_path / "exported")

        np.testing.assert_array_equal(loaded.serve(tf.constant(KEYS)), model.predict(KEYS, verbose=0))
        directories = re.escape(str(sorted([store.directory, second.directory])))
        with pytest.raises(
            ValueError, match=f"one store cannot stand for the 2 of SavedModel .*{directories}"
        ):
            damo_tf.load_saved_model(tmp_path / "exported", store=second)
        monkeypatch.setenv("DAMO_STORE", second.directory)
        with pytest.raises(ValueError, match=r"Received: .*second', by `store` or DAMO_STORE"):
            damo_tf.load_saved_model(tmp_path / "exported")


def test_wrong_arguments_are_refused(model, tmp_path):
    model.export(tmp_path / "exported", verbose=False)
    damo_tf.export_inline(model, tmp_path / "inline")
    damo_tf.load_saved_model(tmp_path / "inline")
    for arguments, kind, text in [
        ({"directory": 42}, TypeError, "`directory` must be a path. Received: directory=42"),
        ({"store": 42}, TypeError, "`store` must be a path. Received: store=42"),
        ({"store": tmp_path / "none"}, FileNotFoundError, f"open store '{tmp_path / 'none'}'"),
        (
            {"directory": tmp_path / "inline", "store": tmp_path / "store"},
            ValueError,
            f"`store` must be None for SavedModel '{tmp_path / 'inline'}', which looks up in no store",
        ),
        ({"directory": tmp_path / "none"}, OSError, str(tmp_path / "none")),
    ]:
        with pytest.raises(kind, match=re.escape(text)):
            damo_tf.load_saved_model(**{"directory": tmp_path / "exported", **arguments})
