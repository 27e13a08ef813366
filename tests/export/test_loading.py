# SPDX-License-Identifier: Apache-2.0
"""SavedModels with the lookup op inside: they find a store where they are loaded."""

import re
import shutil
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

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


def test_a_loaded_model_reads_rows_as_they_are_now(model, store, tmp_path):
    model.export(tmp_path / "exported", verbose=False)
    loaded = damo_tf.load_saved_model(tmp_path / "exported")
    store.apply_gradients(0, KEYS, np.ones((2, 3, 2)))

    np.testing.assert_array_equal(loaded.serve(tf.constant(KEYS)), model.predict(KEYS, verbose=0))


def test_environment_does_not_move_layers_that_have_a_store(store, tmp_path, monkeypatch):
    monkeypatch.setenv("DAMO_STORE", str(tmp_path / "elsewhere"))
    layer = damo_tf.Embedding(2, store=store)

    np.testing.assert_array_equal(layer(tf.constant(KEYS)), store.lookup(0, KEYS))


def test_wrong_arguments_are_refused(model, tmp_path):
    model.export(tmp_path / "exported", verbose=False)
    for arguments, kind, text in [
        ({"directory": 42}, TypeError, "`directory` must be a path. Received: directory=42"),
        ({"store": 42}, TypeError, "`store` must be a path. Received: store=42"),
        ({"store": tmp_path / "none"}, FileNotFoundError, f"open store '{tmp_path / 'none'}'"),
        ({"directory": tmp_path / "none"}, OSError, str(tmp_path / "none")),
    ]:
        with pytest.raises(kind, match=re.escape(text)):
            damo_tf.load_saved_model(**{"directory": tmp_path / "exported", **arguments})
