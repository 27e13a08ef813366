# SPDX-License-Identifier: Apache-2.0
"""Exports of models whose ids are ragged, sparse, hashed, combined and weighed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from bag_model import bag_inputs, bag_model, check_outputs, parts_of
from plain_tensorflow import READ_ROWS, WITHOUT_DAMO_TF
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

import damo_tf

pytestmark = pytest.mark.usefixtures("keras_seed")


def predicted(model: keras.Model, inputs) -> dict[str, np.ndarray]:
    return {name: output.numpy() for name, output in model(inputs, training=False).items()}


class Served(NamedTuple):
    """The model with everything that ids can be, in all the ways there are to serve it.

    folder: has `inline`, `dense`, `checkpoint`, and for programs in other processes `expected.npz`.
    store: of the model, which tests only read.
    inputs: of a request.
    expected: what the live model makes of them.
    """

    folder: Path
    store: damo_tf.Store
    inputs: dict[str, Any]
    expected: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    keras.utils.set_random_seed(0)
    with damo_tf.Store(folder / "store") as store:
        model, inputs = bag_model(store), bag_inputs(np.random.default_rng(0))
        expected = predicted(model, inputs)
        arrays = {f"out_{name}": array for name, array in expected.items()}
        arrays |= {f"in_{name}": array for name, array in parts_of(inputs).items()}
        np.savez(folder / "expected.npz", **arrays)
        damo_tf.export_inline(model, folder / "inline")
        damo_tf.export_dense(model, folder / "dense")
        store.checkpoint(folder / "checkpoint")
        yield Served(folder, store, inputs, expected)


#: What a program in another process begins with.
READ_EXPECTED = """
import json
import numpy as np
import tensorflow as tf

arrays = np.load("expected.npz")
inputs = {name[3:]: arrays[name] for name in arrays if name.startswith("in_")}
expected = {name[4:]: arrays[name] for name in arrays if name.startswith("out_")}

def check(outputs):
    np.testing.assert_array_equal(outputs["vectors"], expected["vectors"])
    # A product of matrices may be summed in another order.
    np.testing.assert_allclose(outputs["score"], expected["score"], rtol=1e-6)
    print("equal")
"""


#: Stock TensorFlow: the SavedModel with rows inside.
INLINE = """
serve = tf.saved_model.load("inline").signatures["serving_default"]
check(serve(**{name: tf.constant(array) for name, array in inputs.items()}))
"""

#: A client of its own: dense part, description and dump are enough, as docs/serving.md says.
CLIENT = """
import oracles
import xxhash

description = json.load(open("dense/embeddings.json"))
loaded = tf.saved_model.load("dense")
computes, dense = loaded.signatures["ids"], loaded.signatures["serving_default"]

rows = dict(read_rows("dense/" + description["stores"][0]["rows"]))
needed = computes.structured_input_signature[1]
tensors = dict(inputs)
for name, tensor in computes(**{name: tf.constant(inputs[name]) for name in needed}).items():
    tensors[name] = tensor.numpy()

def key_of(value, how):  # as docs/feature_hash.md has it
    text = value if isinstance(value, bytes) else str(int(value)).encode()
    if how["padding_value"] is not None and text == str(how["padding_value"]).encode():
        return how["padding_key"]
    seed = xxhash.xxh3_64_intdigest(how["field"].encode())
    key = xxhash.xxh3_64_intdigest(text, seed=seed)
    return key + 1 if how["padding_value"] is not None and key == how["padding_key"] else key

def row(entry, key):
    if key == entry["padding_key"]:
        return np.zeros(entry["dim"], np.float32)
    if key in rows[entry["group"]] or entry["missing"] == "zeros":
        return rows[entry["group"]].get(key, np.zeros(entry["dim"], np.float32))
    return oracles.initial_weights(entry["initializer"], np.array([key], np.uint64), entry["dim"],
                                   seed=description["stores"][0]["seed"], group=entry["group"])[0]

def bags_of(values, layout):  # lists of values
    if layout["row_splits"]:
        (splits,) = (tensors[name] for name in layout["row_splits"])
        return [values[a:b] for a, b in zip(splits[:-1], splits[1:])]
    if layout["indices"]:
        of_bag = tensors[layout["indices"]][:, 0]
        return [values[of_bag == bag] for bag in range(tensors[layout["dense_shape"]][0])]
    return list(values)

def vectors(entry):
    values = tensors[entry["field"] or entry["input"]]
    if entry["hash"]:
        keys = [key_of(value, entry["hash"]) for value in values.ravel().tolist()]
    else:
        keys = values.astype(np.int64).view(np.uint64).ravel().tolist()
    keys = np.array(keys, np.uint64).reshape(values.shape)
    looked_up = lambda keys: np.stack([row(entry, int(key)) for key in keys])
    if entry["combiner"] is None:
        return looked_up(keys)
    weights = entry["weights"] and bags_of(tensors[entry["weights"]["values"]], entry["weights"])
    bags = bags_of(keys, entry)
    combiners = [entry["combiner"]] * len(bags)
    bags = oracles.OracleBags(bags, combiners, weights, entry["padding_key"])
    nothing = np.zeros((0, entry["dim"]), np.float32)
    return bags.combined(lambda keys: looked_up(keys) if len(keys) else nothing)

feeds = {entry["input"]: vectors(entry) for entry in description["embeddings"]}
feeds |= {name: tensors[name] for name in description["other_inputs"]}
check(dense(**{name: tf.constant(value) for name, value in feeds.items()}))
"""

PREDICTOR = """
import damo_tf

for rows in (None, "checkpoint"):
    with damo_tf.Predictor("dense", rows) as predictor:
        check(predictor.predict(inputs))
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(WITHOUT_DAMO_TF + READ_EXPECTED + INLINE, id="inline"),
        pytest.param(WITHOUT_DAMO_TF + READ_ROWS + READ_EXPECTED + CLIENT, id="dense"),
        pytest.param(READ_EXPECTED + PREDICTOR, id="predictor"),
    ],
)
def test_predictions_in_a_fresh_process_equal_the_live_models(served, program_server, program):
    assert program_server.run(program, folder=served.folder).splitlines()[-1] == "equal"


def bytes_of_constants(directory: Path) -> list[int]:
    """The sizes of all constants in a SavedModel, those in its functions included."""
    graph = SavedModel.FromString((directory / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return [node.ByteSize() for node in nodes if node.op == "Const"]


def test_no_constant_of_the_graph_is_large_whatever_is_exported(served, store, tmp_path, rng):
    """A graph is bound to 2 GB, constants and all; rows, keys and what hashes and initial values need."""
    keys = rng.integers(2**63, size=20_000)
    ids = keras.Input((3,), dtype="int64", name="ids")
    model = keras.Model(ids, damo_tf.Embedding(4, store=store, group=9, initializer="random_normal")(ids))
    store.from_numpy(9, keys, rng.standard_normal((len(keys), 4)))
    damo_tf.export_inline(model, tmp_path / "rows")

    for directory in (served.folder / "inline", tmp_path / "rows"):
        assert 100 < max(bytes_of_constants(directory)) < 2000, directory


def test_predictor_takes_inputs_whole_in_parts_and_as_lists(served):
    inputs = served.inputs
    as_lists = {
        name: value if isinstance(value, tf.SparseTensor) else value.numpy().tolist()
        for name, value in inputs.items()
    }
    for name in ("history", "factors", "tags"):
        as_lists[name] = inputs[name].to_list()

    with damo_tf.Predictor(served.folder / "dense", served.store) as predictor:
        for given in (inputs, parts_of(inputs), as_lists):
            check_outputs(predictor.predict(given), served.expected)


class Ragged(keras.Model):
    """Bags in bags, and bags of a fixed size in bags."""

    def __init__(self, store):
        super().__init__(name="ragged")
        self.sums = damo_tf.Embedding(2, store=store, combiner="mean")
        self.rows = damo_tf.Embedding(2, store=store)

    def call(self, inputs):
        sums = self.sums({"deep": inputs["deep"], "pairs": inputs["pairs"]})
        rows = {"rows": self.rows(inputs["deep"]), "rows_of_pairs": self.rows(inputs["pairs"])}
        return {
            name: tf.reduce_sum(vectors.to_tensor(), axis=1) for name, vectors in {**sums, **rows}.items()
        }


def test_ragged_ids_of_several_axes_are_exported(store, tmp_path, rng):
    model = Ragged(store)
    inputs = {
        "deep": tf.ragged.constant([[[1, 2], []], [], [[3], [4, 5, 6], [7]]], tf.int64),
        "pairs": tf.RaggedTensor.from_row_lengths(tf.constant(rng.integers(9, size=(4, 2))), [3, 0, 1]),
    }
    expected = predicted(model, inputs)
    signature = {
        "deep": tf.RaggedTensorSpec([None, None, None], tf.int64),
        "pairs": tf.RaggedTensorSpec([None, None, 2], tf.int64, ragged_rank=1),
    }

    damo_tf.export_inline(model, tmp_path / "inline", input_signature=signature)
    damo_tf.export_dense(model, tmp_path / "dense", input_signature=signature)

    parts = {
        "deep_values": inputs["deep"].flat_values,
        "deep_row_splits": inputs["deep"].nested_row_splits[0],
        "deep_row_splits_1": inputs["deep"].nested_row_splits[1],
        "pairs_values": inputs["pairs"].flat_values,
        "pairs_row_splits": inputs["pairs"].row_splits,
    }
    inline = tf.saved_model.load(str(tmp_path / "inline")).signatures["serving_default"](**parts)
    with damo_tf.Predictor(tmp_path / "dense", store) as predictor:
        by_predictor = [predictor.predict(inputs), predictor.predict(parts)]
    for outputs in (inline, *by_predictor):
        assert set(outputs) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(outputs[name], array, name)


def test_masks_are_exported(store, tmp_path, rng):
    ids = keras.Input((3,), dtype="int64", name="ids")
    mask = keras.Input((3,), dtype="bool", name="kept")
    vectors = damo_tf.Embedding(2, store=store, combiner="mean", name="rows")(ids, mask=mask)
    model = keras.Model({"ids": ids, "kept": mask}, {"vectors": vectors})
    inputs = {
        "ids": tf.constant(rng.integers(9, size=(20, 3))),
        "kept": tf.constant(rng.random((20, 3)) < 0.5),
    }
    expected = predicted(model, inputs)["vectors"]

    damo_tf.export_inline(model, tmp_path / "inline")
    damo_tf.export_dense(model, tmp_path / "dense")

    inline = tf.saved_model.load(str(tmp_path / "inline")).signatures["serving_default"](**inputs)
    np.testing.assert_array_equal(inline["vectors"], expected)
    with damo_tf.Predictor(tmp_path / "dense", store) as predictor:
        np.testing.assert_array_equal(predictor.predict(inputs)["vectors"], expected)


def test_values_that_the_model_changes_before_it_hashes_them_are_exported(store, tmp_path):
    class LowerCase(keras.layers.Layer):
        def call(self, text):
            return tf.strings.lower(text)

        def compute_output_spec(self, text):
            return keras.KerasTensor(text.shape, "string")

    names = keras.Input((2,), dtype="string", name="names")
    ids = damo_tf.FeatureHash(field="name")(LowerCase()(names))
    model = keras.Model(names, {"vectors": damo_tf.Embedding(2, store=store, name="rows")(ids)})
    given = tf.constant([["Ann", "ann"], ["BOB", "x" * 300]])
    expected = predicted(model, given)["vectors"]

    damo_tf.export_inline(model, tmp_path / "inline")
    damo_tf.export_dense(model, tmp_path / "dense")

    entry = json.loads((tmp_path / "dense" / "embeddings.json").read_text())["embeddings"][0]
    assert entry["field"] is None and entry["hash"] is None
    inline = tf.saved_model.load(str(tmp_path / "inline")).signatures["serving_default"](names=given)
    np.testing.assert_array_equal(inline["vectors"], expected)
    with damo_tf.Predictor(tmp_path / "dense", store) as predictor:
        np.testing.assert_array_equal(predictor.predict({"names": given})["vectors"], expected)


def test_names_of_what_is_computed_are_none_of_the_models_inputs(store, tmp_path, rng):
    ids = keras.Input((3,), dtype="int64", name="ids")
    factors = keras.Input((3,), name="rows_weights")
    layer = damo_tf.Embedding(2, store=store, combiner="sum", name="rows")
    vectors = layer(ids + 1, weights=factors * 2) + keras.ops.sum(factors, axis=-1, keepdims=True)
    model = keras.Model([ids, factors], {"vectors": vectors})
    inputs = [tf.constant(rng.integers(9, size=(5, 3))), tf.constant(rng.random((5, 3)), tf.float32)]
    damo_tf.export_dense(model, tmp_path / "dense")

    with damo_tf.Predictor(tmp_path / "dense", store) as predictor:
        outputs = predictor.predict({"ids": inputs[0], "rows_weights": inputs[1]})

    np.testing.assert_array_equal(outputs["vectors"], predicted(model, inputs)["vectors"])


def test_requests_that_do_not_fit_together_are_refused(served, rng):
    inputs = bag_inputs(rng, count=4)
    parts = parts_of(inputs)
    splits, places = parts["history_row_splits"], parts["clicks_indices"]
    reversed_clicks = tf.SparseTensor([[1, 0], [0, 0]], tf.constant([5, 6], tf.int64), [4, 40])
    refused = [
        ({**inputs, "clicks": [[1]]}, TypeError, "input `clicks` must be a tf.SparseTensor. Received: [[1]]"),
        ({**inputs, "history": inputs["tags"].row_splits}, ValueError, "ragged"),
        ({**inputs, "more": 1}, ValueError, "`inputs` must have the names ['clicks', 'codes', 'factors',"),
        ({**inputs, "codes": [[1.5, 2]]}, TypeError, "`value` must be"),
        ({**parts, "history_row_splits": splits + 1}, ValueError, "`history_row_splits` must rise from 0 to"),
        ({**parts, "history_row_splits": splits[::-1]}, ValueError, "`history_row_splits` must rise from 0"),
        ({**inputs, "clicks": reversed_clicks}, ValueError, "sparse ids must be in row-major order"),
        ({**parts, "clicks_indices": places[1:]}, ValueError, "`clicks_indices` must have shape"),
        (
            {**parts, "clicks_indices": places + 40},
            ValueError,
            "`clicks_indices` must be in the shape [ 4 40]",
        ),
        ({**parts, "clicks_dense_shape": [-4, 40]}, ValueError, "must be one size >= 0 for each axis"),
        ({**parts, "clicks_dense_shape": 160}, ValueError, "must be one size >= 0 for each axis"),
        ({**parts, "factors_values": splits}, TypeError, "`weights` must be floats. Received dtype: int64"),
        (
            {**inputs, "factors": tf.ragged.constant([[1.0], [], [], []], ragged_rank=1)},
            ValueError,
            "`weights` must be laid out like the ids",
        ),
    ]
    with damo_tf.Predictor(served.folder / "dense", served.store) as predictor:
        for given, kind, text in refused:
            with pytest.raises(kind, match=re.escape(text)):
                predictor.predict(given)
