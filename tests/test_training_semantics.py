# SPDX-License-Identifier: Apache-2.0
"""What docs/training.md says of whole models, beside the same model on a dense table."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import damo_tf

pytestmark = pytest.mark.usefixtures("keras_seed")

DIM, NUM_IDS, BATCH, STEPS, RATE = 8, 20, 16, 12, 0.25


@pytest.fixture
def data(rng) -> tuple[np.ndarray, np.ndarray]:
    ids = rng.integers(NUM_IDS, size=(STEPS * BATCH, 3))
    targets = rng.uniform(-1, 1, size=(STEPS * BATCH, 1)).astype(np.float32)
    return ids, targets


def regression(embedding) -> keras.Model:
    """Vectors, a dense layer, and a prediction between -1 and 1 in float32, as Keras advises."""
    ids = keras.Input((3,), dtype="int64")
    hidden = keras.layers.Dense(8, "tanh")(keras.layers.Flatten()(embedding(ids)))
    return keras.Model(ids, keras.layers.Dense(1, "tanh", dtype="float32")(hidden))


def train(model, data):
    """Trains one batch after another, and lets the caller look between them."""
    model.compile("sgd", "mse")
    for ids, targets in zip(*(values.reshape(STEPS, BATCH, -1) for values in data), strict=True):
        model.train_on_batch(ids, targets)
        yield


# ---- Mixed precision ----

#: Unit roundoff: half of the distance from 1 to the next number.
ROUNDOFF = {"mixed_float16": 2.0**-11, "mixed_bfloat16": 2.0**-8}


@pytest.mark.parametrize("policy", ROUNDOFF)
def test_rows_of_mixed_precision_are_those_of_float32(store, data, policy):
    keys = np.arange(NUM_IDS)
    rows, initial = {}, None
    for group, dtype in enumerate(["float32", policy]):
        with _policy(dtype):
            model = regression(
                damo_tf.Embedding(
                    DIM,
                    store=store,
                    group=group,
                    optimizer={"name": "sgd", "gamma": RATE},
                    initializer="zeros",
                )
            )
            model.compile("sgd", "mse")
        initial = initial or model.get_weights()
        model.set_weights(initial)
        rows[dtype] = np.stack([store.lookup(group, keys) for _ in train(model, data)])
    largest_gradient = np.abs(np.diff(rows["float32"], axis=0)).max() / RATE
    # The 16 roundings are those of docs/training.md.
    tolerance = STEPS * RATE * 16 * ROUNDOFF[policy] * largest_gradient
    difference = np.abs(rows[policy] - rows["float32"]).max()
    assert 0 < difference <= tolerance < np.abs(rows["float32"]).max()
    counts = [[store.row(group, key).update_num for key in keys] for group in (0, 1)]
    assert counts[0] == counts[1]


class _policy:
    """The dtype policy inside a `with` block."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        self.before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.name)

    def __exit__(self, *exception: object) -> None:
        keras.config.set_dtype_policy(self.before)


# ---- Gradient penalty ----


def test_gradient_penalty_on_the_vectors_trains_like_a_dense_embedding(store, rng):
    keys = np.arange(NUM_IDS)
    layer = damo_tf.Embedding(DIM, store=store, optimizer={"name": "sgd", "gamma": RATE})
    layer.build((None, 3))
    dense = keras.layers.Embedding(NUM_IDS, DIM)
    dense.build((None, 3))
    before = store.lookup(0, keys)
    dense.set_weights([before])
    kernel = tf.constant(rng.normal(size=(DIM, 1)), tf.float32)
    optimizer = keras.optimizers.SGD(RATE)

    @tf.function
    def gradients(embedding, ids):
        with tf.GradientTape() as outer:
            vectors = embedding(ids)
            with tf.GradientTape() as inner:
                inner.watch(vectors)
                loss = tf.reduce_mean(tf.square(tf.sin(vectors) @ kernel))
            penalty = tf.reduce_sum(tf.square(inner.gradient(loss, vectors)))
            total = loss + 10.0 * penalty
        return outer.gradient(total, [weight.value for weight in embedding.trainable_weights])

    for ids in tf.constant(rng.integers(NUM_IDS, size=(STEPS, BATCH, 3))):
        gradients(layer, ids)
        optimizer.apply(gradients(dense, ids), dense.trainable_variables)

    assert store.stats()["groups"][0]["step"] == STEPS
    # Sums in another order: some roundings of float32, 6e-8 of the sum each, in each of the steps.
    np.testing.assert_allclose(store.lookup(0, keys), dense.get_weights()[0], rtol=0, atol=1e-5)
    assert np.abs(store.lookup(0, keys) - before).max() > 0.01
