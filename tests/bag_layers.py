# SPDX-License-Identifier: Apache-2.0
"""Embedding layers on bags of ids, the bags, and a step, as several files of tests make them."""

import numpy as np
import tensorflow as tf

import damo_tf

DIM = 4
VOCABULARY = 12
COMBINERS = ["sum", "mean", "sqrtn"]
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


def layer_rows(layer) -> np.ndarray:
    """The weights of all ids."""
    if not layer.built:
        layer.build(None)
    return layer.store.lookup(layer.group, np.arange(VOCABULARY))
