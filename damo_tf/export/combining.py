# SPDX-License-Identifier: Apache-2.0
"""The dense part of an export behind what combines rows: one graph from the rows of a request on."""

from typing import Any

import tensorflow as tf

from damo_tf.export.vectors import combined


def behind_combiners(dense: Any, embeddings: list[dict[str, Any]]) -> Any:
    """The dense part as a function of rows, whatever becomes of them before.

    Args:
        dense: its signature `serving_default`.
        embeddings: the entries of `embeddings.json`.

    Returns:
        A function of one dict, traced, which returns what `dense` does. The dict has the inputs of `dense`;
        in the place of vectors that are combined a dict: the `rows` float32 `[n, dim]`, zeros for padding,
        their `weights` float32 `[n]`, likewise, the `splits` of the bags int64 `[num_bags + 1]`, and the
        `shape` of the vectors without their last axis, int64.
    """
    specs = dense.structured_input_signature[1]
    combiners = {entry["input"]: entry["combiner"] for entry in embeddings if entry["combiner"] is not None}
    signature = {name: _bags(spec) if name in combiners else spec for name, spec in specs.items()}

    def run(feeds: dict[str, Any]) -> dict[str, tf.Tensor]:
        vectors = {
            name: _vectors(feed, combiners[name], specs[name].shape) if name in combiners else feed
            for name, feed in feeds.items()
        }
        outputs: dict[str, tf.Tensor] = dense(**vectors)
        return outputs

    return tf.function(run, input_signature=[signature], autograph=False).get_concrete_function()


def _bags(vectors: tf.TensorSpec) -> dict[str, tf.TensorSpec]:
    return {
        "rows": tf.TensorSpec([None, vectors.shape[-1]], tf.float32),
        "weights": tf.TensorSpec([None], tf.float32),
        "splits": tf.TensorSpec([None], tf.int64),
        "shape": tf.TensorSpec([vectors.shape.rank - 1], tf.int64),
    }


def _vectors(bags: dict[str, tf.Tensor], combiner: str, shape: tf.TensorShape) -> tf.Tensor:
    vectors = combined(bags["rows"], bags["splits"], bags["weights"], combiner)
    return tf.ensure_shape(tf.reshape(vectors, tf.concat([bags["shape"], [shape[-1]]], axis=0)), shape)
