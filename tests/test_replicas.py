# SPDX-License-Identifier: Apache-2.0
"""Replicas on two logical CPUs train the rows that one replica trains.

TensorFlow fixes its devices when it is first used, so everything here is trained in one process of its own,
group by group.
"""

import numpy as np
import pytest
from known_gradients import DIM, IDS_SHAPE, KnownGradients
from oracles import OracleBags, OracleTable
from stored_rows import assert_rows_equal

import damo_tf

#: One rate for each batch; all of them in one schedule.
RATES = [0.5, 0.125, 0.25]
#: Group to how its learning rate is given. All train, in one model, on the same known gradients.
EVALUATED = {
    0: "number",
    1: "schedule",
    2: "Keras variable",
    3: "tf.Variable",
    4: "function of a variable",
    5: "function of Python",
}
#: Groups of whole models: with two replicas, and the same with one.
MODEL_OF_TWO, MODEL_OF_ONE = 10, 11
#: Group of a layer inside a `tf.cond`, where replicas cannot wait for each other.
IN_COND = 20
#: Group of bags with weights, beside ids that are not combined, on known gradients.
BAGS = 21
#: Groups of models that learn the weights of bags: with two replicas, and the same with one.
BAGS_OF_TWO, BAGS_OF_ONE = 30, 31

TRAIN = """
import sys, warnings
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import damo_tf
from known_gradients import DIM, IDS_SHAPE, KnownGradients, WeightedSum, weighted_sum
from test_replicas import (
    BAGS, BAGS_OF_ONE, BAGS_OF_TWO, EVALUATED, IN_COND, MODEL_OF_ONE, MODEL_OF_TWO, RATES, weights_of,
)

store = damo_tf.Store(sys.argv[1])
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
warnings.filterwarnings("error", message=".* is looked up by several calls in one step")
batches = KnownGradients(np.random.default_rng(int(sys.argv[2])), steps=len(RATES))

python_rate = RATES[:1]


class SetRate(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        for rate in rates:
            rate.assign(RATES[batch])
        python_rate[:] = [RATES[batch]]


with strategy.scope():
    rates = [make(RATES[0], dtype="float32", trainable=False) for make in (keras.Variable, tf.Variable)]
    learning_rates = {
        "number": RATES[0],
        "schedule": keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], RATES),
        "Keras variable": rates[0],
        "tf.Variable": rates[1],
        "function of a variable": lambda: rates[0],
        "function of Python": lambda: python_rate[0],
    }
    ids = keras.Input(IDS_SHAPE[1:], dtype="int64")
    vectors = []
    for group, kind in EVALUATED.items():
        optimizer = damo_tf.optimizers.Adam(learning_rates[kind])
        vectors.append(damo_tf.Embedding(DIM, store=store, group=group, optimizer=optimizer)(ids))
    model = keras.Model(ids, vectors)
    model.compile("sgd", [WeightedSum() for _ in vectors])
model.fit(
    batches.ids.reshape(-1, IDS_SHAPE[1]),
    [batches.gradients.reshape(-1, IDS_SHAPE[1], DIM)] * len(vectors),
    batch_size=IDS_SHAPE[0],
    shuffle=False,
    callbacks=[SetRate()],
    verbose=0,
)


def regression(group):
    keras.utils.set_random_seed(1)
    optimizer = damo_tf.optimizers.SGD(0.25)
    layer = damo_tf.Embedding(DIM, store=store, group=group, initializer="zeros", optimizer=optimizer)
    ids = keras.Input((3,), dtype="int64")
    hidden = keras.layers.Dense(8, "tanh")(keras.layers.Flatten()(layer(ids)))
    model = keras.Model(ids, keras.layers.Dense(1, "tanh")(hidden))
    model.compile("sgd", "mse")
    return model


rng = np.random.default_rng(int(sys.argv[2]))
ids = rng.integers(10, size=(96, 3))
targets = rng.uniform(-1, 1, size=(96, 1)).astype(np.float32)
with strategy.scope():
    model_of_two = regression(MODEL_OF_TWO)
for model in (model_of_two, regression(MODEL_OF_ONE)):
    model.fit(ids, targets, batch_size=16, epochs=3, shuffle=False, verbose=0)
np.savez(sys.argv[1] + ".npz", two=model_of_two.get_weights()[0], one=model.get_weights()[0])


with strategy.scope():
    combiner = {"bags": "mean", "ids": None}
    layer = damo_tf.Embedding(DIM, store=store, group=BAGS, combiner=combiner, optimizer="adam")
    ids = keras.Input(IDS_SHAPE[1:], dtype="int64")
    outputs = layer({"bags": ids, "ids": ids[:, 1:]}, weights={"bags": weights_of(ids), "ids": None})
    model = keras.Model(ids, keras.ops.concatenate([outputs["bags"][:, None], outputs["ids"]], axis=1))
    model.compile("sgd", WeightedSum())
batches.fit(model)


def regression_on_bags(group):
    keras.utils.set_random_seed(1)
    optimizer = damo_tf.optimizers.SGD(0.5)
    layer = damo_tf.Embedding(
        DIM, store=store, group=group, initializer="ones", optimizer=optimizer, combiner="sqrtn"
    )
    ids = keras.Input((3,), dtype="int64")
    weights = keras.layers.Dense(3, "sigmoid", name="weights")(keras.ops.cast(ids, "float32") / 10)
    model = keras.Model(ids, keras.layers.Dense(1, "tanh")(layer(ids, weights=weights)))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    return model


rng = np.random.default_rng(int(sys.argv[2]))
ids = rng.integers(10, size=(96, 3))
targets = rng.uniform(-1, 1, size=(96, 1)).astype(np.float32)
with strategy.scope():
    model_of_two = regression_on_bags(BAGS_OF_TWO)
model_of_one = regression_on_bags(BAGS_OF_ONE)
kernels = [model_of_one.get_layer("weights").get_weights()[0]]
for model in (model_of_two, model_of_one):
    model.fit(ids, targets, batch_size=16, epochs=3, shuffle=False, verbose=0)
    kernels.append(model.get_layer("weights").get_weights()[0])
np.save(sys.argv[1] + ".npy", kernels)

with strategy.scope():
    optimizer = damo_tf.optimizers.SGD(0.5)
    layer = damo_tf.Embedding(DIM, store=store, group=IN_COND, initializer="ones", optimizer=optimizer)
    layer.build(IDS_SHAPE)
    layer.loss_scale = 1.0

@tf.function
def step(ids, gradients):
    with tf.GradientTape() as tape:
        loss = tf.cond(tf.size(ids) > 0, lambda: weighted_sum(gradients, layer(ids)), lambda: 0.0)
    return tape.gradient(loss, layer.trainable_variables)

dataset = tf.data.Dataset.from_tensor_slices((batches.ids, batches.gradients))
for batch in strategy.experimental_distribute_dataset(dataset.unbatch().batch(IDS_SHAPE[0])):
    strategy.run(step, args=batch)
store.close()
"""


def weights_of(ids):
    """Weights that float32 holds exactly; of ids from -5 to 5."""
    return (ids + 7.0) / 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory, program_server):
    """The store, the dense weights of both models, and the batches."""
    seed = 20
    folder = tmp_path_factory.mktemp("replicas")
    directory = folder / "store"
    program_server.run(TRAIN, directory, seed, folder=folder)
    with damo_tf.Store(directory, seed=None) as store, np.load(f"{directory}.npz") as weights:
        yield store, dict(weights), KnownGradients(np.random.default_rng(seed), steps=len(RATES))


@pytest.mark.parametrize("group", EVALUATED, ids=EVALUATED.values())
def test_a_batch_is_one_step_at_one_rate(trained, group):
    store, _, batches = trained
    oracle = OracleTable(DIM, group=group, optimizer="adam")
    rates = RATES if group else [RATES[0]] * len(RATES)
    for ids, gradients, rate in zip(batches.ids, batches.gradients, rates, strict=True):
        oracle.apply_gradients(ids, gradients, rate)
    assert_rows_equal(store, oracle)


def test_replicas_train_like_one(trained):
    store, weights, _ = trained
    keys = np.arange(10)
    # Dense gradients are summed in another order: some roundings of float32, 6e-8 each, in each of 18 steps.
    np.testing.assert_allclose(weights["two"], weights["one"], rtol=0, atol=1e-5)
    two, one = store.lookup(MODEL_OF_TWO, keys), store.lookup(MODEL_OF_ONE, keys)
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-5)
    assert np.abs(one).max() > 0.1
    steps = [store.stats()["groups"][group]["step"] for group in (MODEL_OF_TWO, MODEL_OF_ONE)]
    assert steps == [18, 18]


def test_a_batch_of_bags_and_their_weights_is_one_step(trained):
    store, _, batches = trained
    oracle = OracleTable(DIM, group=BAGS, optimizer="adam")
    half = IDS_SHAPE[0] // 2
    for all_ids, all_gradients in zip(batches.ids, batches.gradients, strict=True):
        keys, gradients = [], []
        for replica in (slice(half), slice(half, None)):
            ids, of_vectors = all_ids[replica], all_gradients[replica]
            single = ids[:, 1:].reshape(-1, 1)
            bags = OracleBags(
                [*ids, *single],
                ["mean"] * len(ids) + ["sum"] * len(single),
                [*weights_of(ids), *np.ones_like(single)],
            )
            keys.append(bags.keys)
            gradients.append(
                bags.row_gradients(np.concatenate([of_vectors[:, 0], of_vectors[:, 1:].reshape(-1, DIM)]))
            )
        oracle.apply_gradients(np.concatenate(keys), np.concatenate(gradients))
    assert_rows_equal(store, oracle)


def test_replicas_train_rows_and_weights_of_bags_like_one(trained):
    store, _, _ = trained
    keys = np.arange(10)
    before, of_two, of_one = np.load(f"{store.directory}.npy")
    # Dense gradients are summed in another order: some roundings of float32, 6e-8 each, in each of 18 steps.
    np.testing.assert_allclose(of_two, of_one, rtol=0, atol=1e-5)
    assert np.abs(of_one - before).max() > 0.01
    two, one = store.lookup(BAGS_OF_TWO, keys), store.lookup(BAGS_OF_ONE, keys)
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-5)
    assert np.abs(one - 1).max() > 0.1
    steps = [store.stats()["groups"][group]["step"] for group in (BAGS_OF_TWO, BAGS_OF_ONE)]
    assert steps == [18, 18]


def test_replicas_that_cannot_wait_for_each_other_each_take_a_step(trained):
    store, _, batches = trained
    expected = batches.oracle(group=IN_COND, initializer="ones", optimizer={"name": "sgd", "gamma": 0.5})
    np.testing.assert_array_equal(
        store.lookup(IN_COND, list(expected.rows)), expected.lookup(list(expected.rows))
    )
    assert store.stats()["groups"][IN_COND]["step"] == 2 * len(batches)
