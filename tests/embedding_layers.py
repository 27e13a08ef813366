# SPDX-License-Identifier: Apache-2.0
"""Embedding layers, models and a step, as several files of tests make them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from known_gradients import DIM

import damo_tf

FULL_RANGE = np.array([0, 1, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)


def embedding(store, **settings) -> damo_tf.Embedding:
    return damo_tf.Embedding(DIM, store=store, **settings)


def one_step(layer, inputs):
    """One step with gradient 1 everywhere; returns the embeddings before it."""
    with tf.GradientTape() as tape:
        outputs = layer(inputs)
        loss = tf.add_n([tf.reduce_sum(output) for output in tf.nest.flatten(outputs)])
    tape.gradient(loss, layer.trainable_variables)
    return outputs


EAGER_OR_FUNCTION = pytest.mark.parametrize("function", [lambda f: f, tf.function], ids=["eager", "function"])


def regression(layer):
    ids = keras.Input((3,), dtype="int64")
    return keras.Model(ids, keras.layers.Dense(1)(keras.layers.Flatten()(layer(ids))))


class OwnTrainStep(keras.Model):
    """Trains a model that it has, as autoencoders and adversarial networks do, and is never called itself."""

    def __init__(self, inner: keras.Model) -> None:
        super().__init__()
        self.inner = inner

    def train_step(self, data):
        ids, targets = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self.inner(ids, training=True) - tf.cast(targets, tf.float32)))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}
