# SPDX-License-Identifier: Apache-2.0
"""A model with everything that ids can be: hashed, dense, ragged or sparse, combined, weighed, padded."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import damo_tf

#: Of each group the ids that have rows; those of groups 1 and 2 are hashes.
ROWS = np.arange(-10, 30)
TAGS = [f"tag {i}" * (i % 40) for i in range(60)]  # of 0 to 273 bytes
TAG_PADDING = TAGS[0]
DIMS = {0: 3, 1: 4, 2: 2}


@keras.saving.register_keras_serializable("tests")
class SumOfRagged(keras.layers.Layer):
    """Sums over the ragged axis of `[batch, (length), dim]`."""

    def call(self, vectors: tf.RaggedTensor) -> tf.Tensor:
        return tf.reduce_sum(vectors, axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], input_shape[-1])


def bag_model(store: damo_tf.Store) -> keras.Model:
    """The model, some of whose ids have rows. Output `vectors` is what it looks up, `score` a prediction."""
    history, factors = (
        keras.Input((None,), dtype=dtype, name=name, ragged=True)
        for name, dtype in (("history", "int64"), ("factors", "float32"))
    )
    clicks = keras.Input((40,), dtype="int64", name="clicks", sparse=True)
    shown = keras.Input((3,), dtype="int32", name="shown")
    tags = keras.Input((None,), dtype="string", name="tags", ragged=True)
    codes = keras.Input((2,), dtype="int64", name="codes")

    combiner = {"clicks": "sqrtn", "history": "mean", "plain": None, "shown": "mean"}
    items = damo_tf.Embedding(
        DIMS[0], store=store, initializer="random_normal", combiner=combiner, padding_key=0, name="items"
    )
    of_items = items(
        {"clicks": clicks, "history": history, "plain": history, "shown": shown + 0},
        weights={
            "clicks": None,
            "history": factors,
            "plain": None,
            "shown": keras.ops.cast(shown, "float32") / 4,
        },
    )
    tag_ids = damo_tf.FeatureHash(field="tag", padding_value=TAG_PADDING)(tags)
    of_tags = damo_tf.Embedding(
        DIMS[1], store=store, group=1, missing="zeros", combiner="sqrtn", padding_key=0, name="tags_of"
    )(tag_ids)
    code_ids = damo_tf.FeatureHash(field="code", dtype="uint64")(codes)
    of_codes = damo_tf.Embedding(
        DIMS[2], store=store, group=2, min_count=2, initializer="ones", combiner="sum", name="codes_of"
    )(code_ids)
    of_items["plain"] = SumOfRagged()(of_items["plain"])
    vectors = keras.layers.Concatenate(name="vectors")([*of_items.values(), of_tags, of_codes])
    score = keras.layers.Dense(1, activation="sigmoid", name="score")(vectors)
    model = keras.Model(
        {
            "history": history,
            "factors": factors,
            "clicks": clicks,
            "shown": shown,
            "tags": tags,
            "codes": codes,
        },
        {"vectors": vectors, "score": score},
    )
    _give_rows(store)
    return model


def _give_rows(store: damo_tf.Store) -> None:
    rng = np.random.default_rng(7)
    keys = {
        0: ROWS,
        1: damo_tf.feature_hash("tag", TAGS[:30]),
        2: damo_tf.feature_hash("code", ROWS),
    }
    for group, dim in DIMS.items():
        weights = rng.standard_normal((len(keys[group]), dim)).astype(np.float32)
        store.from_numpy(group, keys[group], weights)


def bag_inputs(rng: np.random.Generator, count: int = 50) -> dict[str, Any]:
    """Inputs of the model: ids with rows and without, repeated, padded; bags without any."""
    lengths = rng.integers(0, 5, count)
    lengths[:2] = 0
    num = int(lengths.sum())
    history = tf.RaggedTensor.from_row_lengths(rng.integers(-20, 40, num), lengths)
    dense = rng.integers(1, 60, (count, 40)) * (rng.random((count, 40)) < 0.1)
    return {
        "history": history,
        "factors": history.with_flat_values(tf.constant(rng.uniform(-1, 2, num), tf.float32)),
        "clicks": tf.sparse.from_dense(tf.constant(dense, tf.int64)),
        "shown": tf.constant(rng.integers(0, 40, (count, 3)), tf.int32),
        "tags": tf.RaggedTensor.from_row_lengths(rng.choice(np.array(TAGS, object), num), lengths),
        "codes": tf.constant(rng.integers(-20, 40, (count, 2)), tf.int64),
    }


def parts_of(inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """The dense tensors that inputs consist of, named as in a SavedModel."""
    parts: dict[str, Any] = {}
    for name, value in inputs.items():
        if isinstance(value, tf.RaggedTensor):
            parts |= {f"{name}_values": value.flat_values, f"{name}_row_splits": value.row_splits}
        elif isinstance(value, tf.SparseTensor):
            parts |= {f"{name}_{part}": getattr(value, part) for part in ("indices", "values", "dense_shape")}
        else:
            parts[name] = value
    return {
        name: part.numpy().astype(bytes) if part.dtype == tf.string else part.numpy()
        for name, part in parts.items()
    }


def check_outputs(outputs: Any, expected: Any) -> None:
    """Raises unless predictions equal those of the live model."""
    # What is looked up and combined is the same; a product of matrices may be summed in another order.
    np.testing.assert_array_equal(np.asarray(outputs["vectors"]), expected["vectors"])
    np.testing.assert_allclose(np.asarray(outputs["score"]), expected["score"], rtol=1e-6)
