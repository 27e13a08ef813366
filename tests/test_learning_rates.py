# SPDX-License-Identifier: Apache-2.0
"""Learning rates that a layer evaluates at each step: variables, functions, Keras schedules."""

import signal
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from known_gradients import (
    DIM,
    IDS_SHAPE,
    KnownGradients,
    WeightedSum,
    eager_tape,
    functional,
    sequential,
    tape_around_function,
    tape_in_function,
    train_step,
    weighted_sum,
    while_loop_of_steps,
)
from oracles import OracleTable
from stored_rows import assert_rows_equal, rows_of, step_of

import damo_tf
from damo_tf import optimizers

pytestmark = pytest.mark.usefixtures("keras_seed")

RATES = [0.5, 0.125, 0.25]  # one for each batch


@pytest.fixture
def batches(rng) -> KnownGradients:
    return KnownGradients(rng, steps=len(RATES))


def embedding(store, learning_rate, optimizer=optimizers.Adam, **settings) -> damo_tf.Embedding:
    return damo_tf.Embedding(DIM, store=store, optimizer=optimizer(learning_rate), **settings)


def oracle_of(batches, rates=RATES, optimizer="adam") -> OracleTable:
    """A table that has had every batch, each with its own rate."""
    oracle = OracleTable(DIM, optimizer=optimizer)
    for ids, gradients, rate in zip(batches.ids, batches.gradients, rates, strict=True):
        oracle.apply_gradients(ids, gradients, float(np.float32(rate)))
    return oracle


# ---- Schedules in every mode ----


@keras.saving.register_keras_serializable("tests")
class OneRatePerStep(keras.optimizers.schedules.LearningRateSchedule):
    """RATES, over and over."""

    def __call__(self, step):
        return tf.gather(tf.constant(RATES), step % len(RATES))

    def get_config(self):
        return {}


SCHEDULES = {
    "of Keras": lambda: keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], RATES),
    "of the user": OneRatePerStep,
}


def tape_in_one_function(layer, batches):
    layer.build(IDS_SHAPE)  # making a weight would trace it twice
    assert tape_in_function(layer, batches) == 1


def fit(**settings):
    def train(layer, batches):
        model = sequential(layer)
        model.compile(keras.optimizers.SGD(0.1), WeightedSum(), **settings)
        batches.fit(model)

    return train


MODES = {
    "eager tape": eager_tape,
    "function": tape_in_one_function,
    "tape around function": tape_around_function,
    "while loop": while_loop_of_steps,
    "fit": fit(),
    "fit eagerly": fit(run_eagerly=True),
    "fit of several steps": fit(steps_per_execution=3),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedule_is_called_with_the_global_step_in_every_mode(store, batches, schedule, mode):
    MODES[mode](embedding(store, SCHEDULES[schedule]()), batches)

    assert_rows_equal(store, oracle_of(batches))


def counting_function():
    """A function that gives Python numbers, the next at each call that trains."""
    calls = iter(RATES)
    return lambda: next(calls)


@pytest.mark.parametrize("mode", ["eager tape", "fit eagerly"])
def test_function_is_called_once_for_each_eager_step(store, batches, mode):
    MODES[mode](embedding(store, counting_function()), batches)

    assert_rows_equal(store, oracle_of(batches))


@pytest.mark.parametrize("mode", MODES)
def test_function_may_read_the_models_step(store, batches, mode):
    layer = embedding(store, lambda: OneRatePerStep()(damo_tf.ops.step(layer.open_table().handle)))

    MODES[mode](layer, batches)

    assert_rows_equal(store, oracle_of(batches))


# ---- What changes between steps ----


class Setting:
    """A learning rate that a test can set."""

    def __init__(self, kind: str) -> None:
        self.value = 0.0
        self.variable = {
            "tf.Variable": lambda: tf.Variable(0.0),
            "float64 tf.Variable": lambda: tf.Variable(0.0, dtype=tf.float64),
            "keras.Variable": lambda: keras.Variable(0.0),
        }.get(kind, lambda: None)()
        self.learning_rate = {
            "function of a number": lambda: self.value,
            "function of a NumPy number": lambda: np.float64(self.value),
            "function of a new constant": lambda: tf.constant(self.value) * 1.0,
            "function of a variable": lambda: kept,
            "function of a calculation": lambda: kept * 2.0,
        }.get(kind, self.variable)
        if kind == "function of a variable":
            kept = self.variable = tf.Variable(0.0)
        if kind == "function of a calculation":
            kept = keras.Variable(0.0)
            self.variable = type("Doubled", (), {"assign": lambda _, value: kept.assign(value / 2)})()

    def set(self, value: float) -> None:
        self.value = value
        if self.variable is not None:
            self.variable.assign(value)


KINDS = [
    "tf.Variable",
    "float64 tf.Variable",
    "keras.Variable",
    "function of a number",
    "function of a NumPy number",
    "function of a new constant",
    "function of a variable",
    "function of a calculation",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", [lambda f: f, tf.function], ids=["eager", "function"])
def test_change_acts_at_once_without_tracing_again(store, batches, kind, function):
    setting = Setting(kind)
    layer = embedding(store, setting.learning_rate)
    layer.build(IDS_SHAPE)
    traces = []

    @function
    def step(ids, gradients):
        traces.append(1)
        return train_step(layer, ids, gradients)

    for batch, rate in zip(batches, RATES, strict=True):
        setting.set(rate)
        step(*batch)

    assert_rows_equal(store, oracle_of(batches))
    assert len(traces) == (1 if function is tf.function else len(RATES))


@pytest.mark.parametrize("kind", KINDS)
def test_callback_changes_the_rate_between_batches_of_fit(store, batches, kind):
    setting = Setting(kind)
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: setting.set(RATES[batch])
    )
    model = functional(embedding(store, setting.learning_rate))
    model.compile(keras.optimizers.SGD(0.1), WeightedSum())

    batches.fit(model, callbacks=[callback])

    assert_rows_equal(store, oracle_of(batches))


def test_rows_follow_the_models_optimizer(store, batches):
    layer = embedding(store, lambda: model.optimizer.learning_rate)
    model = functional(layer)
    # Changed by the optimizer itself, inside the function that runs all three steps.
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], RATES)
    model.compile(keras.optimizers.SGD(rates), WeightedSum(), steps_per_execution=3)

    batches.fit(model)

    assert_rows_equal(store, oracle_of(batches))


def test_rows_follow_a_learning_rate_scheduler(store, batches):
    layer = embedding(store, lambda: model.optimizer.learning_rate)
    model = functional(layer)
    model.compile(keras.optimizers.SGD(1.0), WeightedSum())
    epochs = [batches, batches]

    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: [0.5, 0.25][epoch])
    batches.fit(model, epochs=len(epochs), callbacks=[scheduler])

    oracle = OracleTable(DIM, optimizer="adam")
    for epoch, rate in zip(epochs, [0.5, 0.25], strict=True):
        for ids, gradients in zip(epoch.ids, epoch.gradients, strict=True):
            oracle.apply_gradients(ids, gradients, rate)
    assert_rows_equal(store, oracle)


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_does_not_round_the_rate(store, batches, kind):
    rate = 0.1  # float16 has 0.09998
    setting = Setting(kind)
    setting.set(rate)
    layer = embedding(store, setting.learning_rate, dtype="mixed_float16")
    model = sequential(layer)
    model.compile(keras.optimizers.SGD(0.1), WeightedSum())

    batches.fit(model)

    assert_rows_equal(store, oracle_of(batches, [rate] * len(RATES)))


def test_features_in_one_call_are_one_step_of_the_schedule(store, batches):
    layer = embedding(store, SCHEDULES["of Keras"]())
    for ids, gradients in batches:
        with tf.GradientTape() as tape:
            first, second = layer([ids[:2], ids[2:]])
            loss = weighted_sum(gradients[:2], first) + weighted_sum(gradients[2:], second)
        tape.gradient(loss, layer.trainable_variables)

    assert_rows_equal(store, oracle_of(batches))


# ---- Store and step ----


def test_schedule_goes_on_from_the_persisted_step(tmp_path, batches):
    for batch in batches:
        with damo_tf.Store(tmp_path / "store") as store:
            train_step(embedding(store, SCHEDULES["of Keras"]()), *batch)

    with damo_tf.Store(tmp_path / "store") as store:
        store.add_group(0, DIM, optimizer="adam")
        assert_rows_equal(store, oracle_of(batches))


def test_config_of_the_group_has_the_optimizers_default_rate(store, batches):
    train_step(embedding(store, tf.Variable(0.5)), *next(iter(batches)))

    group = store.stats()["groups"][0]
    assert group["optimizer"]["gamma"] == 1e-3
    assert group["schedule"] is None


def test_rate_belongs_to_the_call_where_layers_share_a_group(store, batches):
    fast, slow = embedding(store, tf.Variable(0.5)), embedding(store, lambda: 0.25)
    own = damo_tf.Embedding(DIM, store=store, optimizer="adam")

    for layer, batch in zip((fast, slow, own), batches, strict=True):
        train_step(layer, *batch)

    oracle = OracleTable(DIM, optimizer="adam")
    for rate, ids, gradients in zip((0.5, 0.25, None), batches.ids, batches.gradients, strict=True):
        oracle.apply_gradients(ids, gradients, rate)
    assert_rows_equal(store, oracle)


def test_constant_rates_of_layers_on_one_group_must_agree(store):
    embedding(store, 0.5).build(IDS_SHAPE)

    with pytest.raises(ValueError, match=r'has optimizer .*"gamma":0.5.*, asked for .*"gamma":0.25'):
        embedding(store, 0.25).build(IDS_SHAPE)


KILLED = """
import os, signal, sys
import numpy as np
import tensorflow as tf
import damo_tf

store = damo_tf.Store(sys.argv[1])
rate = tf.Variable(0.0)
layer = damo_tf.Embedding(3, store=store, optimizer=damo_tf.optimizers.Adam(rate, clipnorm=1.0))
step = tf.function(lambda ids: train(ids))

def train(ids):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(ids)) * 2.0
    return tape.gradient(loss, layer.trainable_variables)

for value in (0.5, 0.1, 0.0, 0.3):
    rate.assign(value)
    step(tf.constant([1, 2, 1]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_replay_after_a_kill_uses_the_rates_of_the_calls(tmp_path, run_with_tensorflow):
    run_with_tensorflow(KILLED, tmp_path / "store", status=-signal.SIGKILL)

    optimizer = {"name": "adam", "clipnorm": 1.0}
    oracle = OracleTable(3, optimizer=optimizer)
    for rate in (0.5, 0.1, 0.0, 0.3):
        oracle.apply_gradients([1, 2, 1], np.full((3, 3), 2.0), float(np.float32(rate)))
    with damo_tf.Store(tmp_path / "store") as store:
        store.add_group(0, 3, optimizer=optimizer)
        assert_rows_equal(store, oracle)


# ---- Without a layer ----


def test_store_applies_with_the_rate_of_the_call(store, batches):
    store.add_group(0, DIM, optimizer="adam")

    for ids, gradients, rate in zip(batches.ids, batches.gradients, RATES, strict=True):
        store.apply_gradients(0, ids, gradients, learning_rate=rate)

    assert_rows_equal(store, oracle_of(batches))


@pytest.mark.parametrize("rate", [-0.5, float("nan"), float("inf"), 1e39])
def test_store_refuses_a_rate_that_no_step_can_be_taken_with(store, rate):
    store.add_group(0, 1, optimizer="sgd")

    with pytest.raises(ValueError, match=r"`learning_rate` must be >= 0 and finite in float32. Received: "):
        store.apply_gradients(0, [1], [[1.0]], learning_rate=rate)

    assert store.size() == step_of(store) == 0


@pytest.mark.parametrize("rate", ["fast", True, [0.5]])
def test_store_refuses_a_rate_that_is_no_number(store, rate):
    store.add_group(0, 1, optimizer="sgd")

    with pytest.raises(
        TypeError, match=r"`learning_rate` must be a number >= 0 or None. Received: learning_rate="
    ):
        store.apply_gradients(0, [1], [[1.0]], learning_rate=rate)


@pytest.mark.parametrize("rate", [tf.Variable(0.5), lambda: 0.5, OneRatePerStep()])
def test_store_keeps_no_rate_that_is_evaluated_at_each_step(store, rate):
    with pytest.raises(ValueError, match="`optimizer` must have a learning rate that a store can keep"):
        store.add_group(0, 1, optimizer=optimizers.SGD(rate))


# ---- Refusals ----


@pytest.mark.parametrize("rate", [-0.5, float("nan"), float("inf")])
@pytest.mark.parametrize("function", [lambda f: f, tf.function], ids=["eager", "function"])
def test_bad_rate_fails_the_step_and_changes_nothing(store, batches, rate, function):
    variable = tf.Variable(0.5)
    layer = embedding(store, variable)
    step = function(lambda ids, gradients: train_step(layer, ids, gradients))
    batch = next(iter(batches))
    step(*batch)
    before = rows_of(store, 0, batches.keys)
    variable.assign(rate)

    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"`learning_rate` must be >= 0 and finite in float32. Received: learning_rate=",
    ):
        step(*batch)

    assert rows_of(store, 0, batches.keys) == before
    assert step_of(store) == 1
    variable.assign(0.25)
    step(*batch)
    assert step_of(store) == 2


@pytest.mark.parametrize("mode", ["eager tape", "function", "fit"])
@pytest.mark.parametrize(
    ("given", "exception", "text"),
    [
        ([0.5, 0.5], ValueError, r"must be a scalar at each step. Received shape: \(2,\)"),
        ("fast", TypeError, "must be a real number at each step. Received dtype: string"),
        (True, TypeError, "must be a real number at each step. Received dtype: bool"),
        (None, TypeError, "must give a number at each step. Received: None"),
    ],
)
def test_function_that_gives_no_number_is_named(store, batches, mode, given, exception, text):
    layer = embedding(store, lambda: given)

    with pytest.raises(exception, match=f"`learning_rate` {text}"):
        MODES[mode](layer, batches)

    assert step_of(store) == 0


@pytest.mark.parametrize(
    "schedule", [optimizers.schedules.CosineDecay(0.5, 10), {"name": "cosine_decay", "decay_steps": 10}]
)
def test_schedule_of_the_engine_has_a_place_of_its_own_in_a_dict(schedule):
    with pytest.raises(TypeError, match="A schedule of the engine's is the entry 'schedule'"):
        optimizers.get({"name": "sgd", "learning_rate": schedule})


@pytest.mark.parametrize(
    ("variable", "exception", "text"),
    [
        (lambda: tf.Variable([0.5, 0.5]), ValueError, r"must be a scalar .*Received shape: \(2,\)"),
        (lambda: keras.Variable([0.5]), ValueError, r"must be a scalar .*Received shape: \(1,\)"),
        (lambda: tf.Variable("fast"), TypeError, "must be a real number .*Received dtype: string"),
    ],
)
def test_variable_that_can_be_no_rate_is_refused_at_once(variable, exception, text):
    with pytest.raises(exception, match=f"`learning_rate` {text}"):
        optimizers.SGD(variable())


def test_lookups_that_do_not_train_ask_for_no_rate(store, batches):
    def never():
        raise AssertionError("asked")

    layer = embedding(store, never)
    ids = next(iter(batches))[0]
    layer(ids, training=False)
    with layer.frozen():
        layer(ids)
    layer.trainable = False
    layer(ids)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        ("fast", "`learning_rate` must be a number, a schedule, a variable or a function without arguments"),
        (None, "`learning_rate` must be a number, .*Received: learning_rate=None"),
        (True, "`learning_rate` must be a number, .*Received: learning_rate=True"),
        (tf.constant(0.5), "`learning_rate` must be a number, a schedule, a variable or a function"),
        (
            lambda step: step,
            "`learning_rate` must be a function without arguments.*missing a required argument",
        ),
        (keras.optimizers.schedules.CosineDecay, "`learning_rate` must be a function without arguments"),
    ],
)
def test_what_can_give_no_rate_is_a_type_error(rate, text):
    with pytest.raises(TypeError, match=text):
        optimizers.SGD(rate)
    with pytest.raises(TypeError, match=text):
        optimizers.get({"name": "sgd", "learning_rate": rate})


# ---- Keras ----


@pytest.mark.parametrize("make", [tf.Variable, keras.Variable])
def test_variable_is_no_weight_of_the_layer(store, batches, make):
    layer = embedding(store, make(0.5))
    model = sequential(layer)
    model.compile("sgd", WeightedSum())

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as that of a weight without a gradient
        batches.fit(model)

    assert [weight.name for weight in model.weights] == ["anchor"]
    assert layer.variables == layer.weights


def test_keras_optimizer_brings_its_schedule(store, batches):
    optimizer = keras.optimizers.Lion(keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], RATES))

    eager_tape(damo_tf.Embedding(DIM, store=store, optimizer=optimizer), batches)

    assert_rows_equal(store, oracle_of(batches, optimizer={"name": "lion", "lambda": 0.0}))


@keras.saving.register_keras_serializable("tests")
def a_third():
    return 1 / 3


@pytest.mark.parametrize(
    ("make", "restored"),
    [
        (lambda: OneRatePerStep(), OneRatePerStep),
        (lambda: keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], RATES), None),
        (lambda: a_third, a_third),
        (lambda: tf.Variable(0.25), 0.25),
        (lambda: keras.Variable(0.25), 0.25),
    ],
    ids=["own schedule", "Keras schedule", "function", "tf.Variable", "keras.Variable"],
)
def test_config_round_trip(store, make, restored):
    layer = embedding(store, make())
    layer.build(IDS_SHAPE)

    again = damo_tf.Embedding.from_config(layer.get_config())

    again.build(IDS_SHAPE)  # on the same group: its config is the same
    rate = again.get_config()["optimizer"]["learning_rate"]
    assert rate == layer.get_config()["optimizer"]["learning_rate"]
    if isinstance(restored, float):
        assert rate == restored
    optimizer = optimizers.SGD(make())
    assert optimizers.SGD.from_config(optimizer.get_config()).get_config() == optimizer.get_config()


def test_saved_model_goes_on_with_its_schedule(tmp_path, store, batches):
    model = sequential(embedding(store, OneRatePerStep()))
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    loaded.compile(keras.optimizers.SGD(0.1), WeightedSum())
    batches.fit(loaded)

    assert_rows_equal(store, oracle_of(batches))


def test_saved_model_has_the_value_of_a_variable(tmp_path, store, batches):
    variable = tf.Variable(0.5)
    model = sequential(embedding(store, variable))
    model.save(tmp_path / "model.keras")
    variable.assign(0.125)

    loaded = keras.saving.load_model(tmp_path / "model.keras")
    eager_tape(loaded.layers[0], batches)

    assert_rows_equal(store, oracle_of(batches, [0.5] * len(RATES)))


def test_saved_model_with_a_lambda_needs_the_users_trust(tmp_path, store):
    model = sequential(embedding(store, lambda: 0.5))
    model.save(tmp_path / "model.keras")

    with pytest.raises((TypeError, ValueError), match=r"safe_mode|lambda"):
        keras.saving.load_model(tmp_path / "model.keras")
