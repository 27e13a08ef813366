# SPDX-License-Identifier: Apache-2.0
"""RowLearningRate: Keras's callbacks set the rates at which rows train, and those of nothing else."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from known_gradients import DIM, IDS_SHAPE, KnownGradients, WeightedSum, functional
from oracles import OracleTable
from stored_rows import assert_rows_equal

import damo_tf
from damo_tf.callbacks import RowLearningRate

pytestmark = pytest.mark.usefixtures("keras_seed")

RATE = 0.5


@pytest.fixture
def batches(rng) -> KnownGradients:
    return KnownGradients(rng)


def embedding(store, learning_rate=RATE, **settings) -> damo_tf.Embedding:
    optimizer = damo_tf.optimizers.Adam(learning_rate)
    return damo_tf.Embedding(DIM, store=store, optimizer=optimizer, **settings)


def compiled(layer) -> keras.Model:
    model = functional(layer)
    model.compile(keras.optimizers.SGD(0.25), WeightedSum())
    return model


def halving() -> keras.callbacks.Callback:
    """Halves the rate at the beginning of each epoch but the first."""
    return keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)


def oracle_of(batches, rate_of_each_epoch, **settings) -> OracleTable:
    oracle = OracleTable(DIM, optimizer="adam", **settings)
    for rate in rate_of_each_epoch:
        for ids, gradients in zip(batches.ids, batches.gradients, strict=True):
            oracle.apply_gradients(ids, gradients, rate)
    return oracle


@pytest.mark.parametrize(
    "make_rate",
    [lambda: RATE, lambda: keras.Variable(RATE), lambda: tf.Variable(RATE)],
    ids=["number", "Keras variable", "tf.Variable"],
)
@pytest.mark.parametrize("run_eagerly", [False, True], ids=["graph", "eager"])
def test_learning_rate_scheduler_sets_the_rate_of_each_epoch(store, batches, make_rate, run_eagerly):
    model = functional(embedding(store, make_rate(), name="rows"))
    model.compile(keras.optimizers.SGD(0.25), WeightedSum(), run_eagerly=run_eagerly)
    history = model.fit(
        batches.ids.reshape(-1, IDS_SHAPE[1]),
        batches.gradients.reshape(-1, IDS_SHAPE[1], DIM),
        batch_size=IDS_SHAPE[0],
        shuffle=False,
        verbose=0,
        epochs=3,
        callbacks=[RowLearningRate(halving())],
    )
    assert_rows_equal(store, oracle_of(batches, [RATE, RATE / 2, RATE / 4]))
    assert model.optimizer.learning_rate.numpy() == 0.25
    assert history.history["learning_rate_rows"] == [RATE, RATE / 2, RATE / 4]


def test_reduce_lr_on_plateau_reduces_the_rate_of_rows(store, batches):
    layer = embedding(store, name="rows")
    model = compiled(layer)
    # No epoch is better than the first by so much.
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.25, patience=1, min_delta=1e9, min_lr=0.01)
    batches.fit(model, epochs=4, callbacks=[RowLearningRate(plateau)])
    # Behind the second epoch, the third, and the fourth, where min_lr stops it.
    assert_rows_equal(store, oracle_of(batches, [RATE, RATE, RATE / 4, RATE / 16]))
    assert layer.learning_rate.numpy() == np.float32(0.01)
    assert model.optimizer.learning_rate.numpy() == 0.25


def test_model_that_was_trained_before_is_traced_again(store, batches):
    model = compiled(embedding(store))
    batches.fit(model)
    batches.fit(model, epochs=2, callbacks=[RowLearningRate(halving())])
    batches.fit(model)
    assert_rows_equal(store, oracle_of(batches, [RATE, RATE, RATE / 2, RATE / 2]))


def test_model_is_traced_no_more_often_than_needed(store, batches):
    model = compiled(embedding(store))
    batches.fit(model, callbacks=[RowLearningRate(halving())])
    train_function = model.train_function
    batches.fit(model, callbacks=[RowLearningRate(halving())])
    assert model.train_function is train_function


def two_tables(store) -> keras.Model:
    """A model on groups 0 and 1, the latter's layer inside another model."""
    inner = functional(embedding(store, 2 * RATE, group=1, name="second"))
    ids = keras.Input(IDS_SHAPE[1:], dtype="int64")
    model = keras.Model(ids, embedding(store, name="first")(ids) + inner(ids))
    model.compile("sgd", WeightedSum())
    return model


def test_each_layer_has_its_own_rate(store, batches):
    batches.fit(two_tables(store), epochs=2, callbacks=[RowLearningRate(halving())])
    assert_rows_equal(store, oracle_of(batches, [RATE, RATE / 2]))
    assert_rows_equal(store, oracle_of(batches, [2 * RATE, RATE], group=1))


def test_layers_that_are_not_given_keep_their_rate(store, batches):
    model = two_tables(store)
    callback = RowLearningRate(halving(), layers=model.get_layer("first"))
    batches.fit(model, epochs=2, callbacks=[callback])
    assert_rows_equal(store, oracle_of(batches, [RATE, RATE / 2]))
    assert_rows_equal(store, oracle_of(batches, [2 * RATE, 2 * RATE], group=1))


def test_callback_that_knows_one_optimizer_only_sets_all_rates(store, batches):
    class Simple(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.optimizer.learning_rate = self.model.optimizer.learning_rate / 2

        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    batches.fit(two_tables(store), epochs=5, callbacks=[RowLearningRate(Simple())])
    assert_rows_equal(store, oracle_of(batches, [RATE, RATE / 2]))
    assert_rows_equal(store, oracle_of(batches, [2 * RATE, RATE / 2], group=1))


def test_every_hook_reaches_the_callback(store, batches):
    called = set()

    class Recording(keras.callbacks.Callback):
        pass

    hooks = {hook for hook in dir(keras.callbacks.Callback) if hook.startswith("on_")}
    for hook in hooks:
        setattr(Recording, hook, lambda self, *arguments, hook=hook, **kwargs: called.add(hook))
    model = compiled(embedding(store))
    callbacks = [RowLearningRate(Recording())]
    batches.fit(model, callbacks=callbacks)
    model.evaluate(batches.ids[0], batches.gradients[0], callbacks=callbacks, verbose=0)
    model.predict(batches.ids[0], callbacks=callbacks, verbose=0)
    # Those without `train` in their names are of older Keras; the base class's train hooks call them.
    assert called == hooks - {"on_batch_begin", "on_batch_end"}


def test_config_has_the_rate_that_was_set(store, batches):
    layer = embedding(store)
    batches.fit(compiled(layer), epochs=2, callbacks=[RowLearningRate(halving())])
    assert layer.get_config()["optimizer"]["learning_rate"] == RATE / 2
    assert store.storage.group_config(0)["optimizer"]["gamma"] == RATE


@pytest.mark.parametrize(
    "rate",
    [
        damo_tf.optimizers.schedules.CosineDecay(0.1, 10),
        keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.2]),
        lambda: 0.1,
    ],
    ids=["engine's schedule", "Keras schedule", "function"],
)
def test_rate_that_is_no_number_is_refused(store, batches, rate):
    model = compiled(embedding(store, rate, name="rows"))
    with pytest.raises(ValueError, match=r"`learning_rate` of layer 'rows' must be a number or a variable"):
        batches.fit(model, callbacks=[RowLearningRate(halving())])


def test_model_without_rows_is_refused():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"`layers` must be given where .*Received: layers=None, model 'seq"):
        model.fit(np.zeros((1, 1)), np.zeros((1, 1)), callbacks=[RowLearningRate(halving())])


def test_layers_of_one_name_are_refused(store, batches):
    layers = [embedding(store, name="rows"), embedding(store, name="rows")]
    with pytest.raises(
        ValueError, match=r"`layers` must have different names\. Received names: \['rows', 'rows'\]"
    ):
        batches.fit(compiled(layers[0]), callbacks=[RowLearningRate(halving(), layers=layers)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"callback": 3}, r"`callback` must be a keras\.callbacks\.Callback\. Received: callback=3"),
        ({"layers": [3]}, r"`layers` must be damo_tf\.Embedding layers\. Received: 3"),
        ({"layers": 3}, r"`layers` must be damo_tf\.Embedding layers\. Received: 3"),
    ],
)
def test_wrong_argument_is_refused(arguments, message):
    with pytest.raises(TypeError, match=message):
        RowLearningRate(**{"callback": halving(), **arguments})
