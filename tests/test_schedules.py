# SPDX-License-Identifier: Apache-2.0
"""The engine's schedules: against plain NumPy, Keras and `tf.compat.v1.train`; how users write them."""

import damo
import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from oracles import OracleTable
from stored_rows import assert_rows_equal

import damo_tf
from damo_tf import optimizers
from damo_tf.optimizers import schedules

BASE = 0.5
STEPS = [0, 1, 3, 9, 10, 11, 14, 20, 25, 30, 1000]

# Each class with settings other than the defaults, and the engine's name.
CLASSES = {
    "exponential_decay": schedules.ExponentialDecay(BASE, 10, 0.5, staircase=True),
    "nature_exponential_decay": schedules.NaturalExponentialDecay(BASE, 10, 0.5, staircase=True),
    "inverse_time_decay": schedules.InverseTimeDecay(BASE, 10, 0.5, staircase=True),
    "polynomial_decay": schedules.PolynomialDecay(BASE, 10, 0.1, 2.0, cycle=True),
    "cosine_decay": schedules.CosineDecay(BASE, 10, 0.25),
    "liner_cosine_decay": schedules.LinearCosineDecay(BASE, 10, 2.0, 0.25, 0.125),
}


def engine_rates(schedule: schedules.Schedule, steps: list[int]) -> list[float]:
    """The rates that the engine uses: how far a weight goes against a gradient of 1."""
    optimizer = damo.PyOptimizer(
        {"name": "sgd", "gamma": schedule.initial_learning_rate}, schedule.parameters()
    )
    rates = []
    for step in steps:
        weight = np.zeros(1, np.float32)
        optimizer.call(weight, np.ones(1, np.float32), step + 1)
        rates.append(-float(weight[0]))
    return rates


# ---- Formulas ----

ALL = [
    *CLASSES.values(),
    schedules.ExponentialDecay(BASE, 10, 0.5),
    schedules.ExponentialDecay(BASE, 62.5, 1.25),
    schedules.NaturalExponentialDecay(BASE, 10, 0.5),
    schedules.NaturalExponentialDecay(BASE, 10, 0.0),
    schedules.InverseTimeDecay(BASE, 10, 0.5),
    schedules.InverseTimeDecay(BASE, 10, 0.0),
    schedules.PolynomialDecay(BASE, 10),
    schedules.PolynomialDecay(BASE, 10, 0.1, 0.5),
    schedules.PolynomialDecay(BASE, 10, 0.75),  # rises
    schedules.PolynomialDecay(BASE, 10, 0.1, 0.0),
    schedules.PolynomialDecay(BASE, 10, cycle=True),
    schedules.CosineDecay(BASE, 10),
    schedules.CosineDecay(BASE, 1),
    schedules.LinearCosineDecay(BASE, 10),
    schedules.LinearCosineDecay(BASE, 10, num_periods=0),
]


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_schedule_has_the_rates_of_its_formula(schedule):
    expected = [oracles.scheduled_rate(schedule.parameters(), BASE, step) for step in STEPS]

    # Both are doubles but for the last bits of pow, exp and cos, then rounded to float32 once.
    np.testing.assert_allclose(engine_rates(schedule, STEPS), expected, rtol=1e-7, atol=1e-16)


def keras_twin(schedule: schedules.Schedule) -> object | None:
    name = type(schedule).__name__
    twin = getattr(keras.optimizers.schedules, name, None)
    return twin and twin(**schedule.get_config())


@pytest.mark.parametrize("schedule", [s for s in ALL if keras_twin(s) is not None], ids=repr)
def test_schedule_has_the_rates_of_keras(schedule):
    expected = [float(keras_twin(schedule)(step)) for step in STEPS]

    # Keras computes in float32, so that (1 - step / decay_steps) ** power, say, has lost some digits.
    np.testing.assert_allclose(engine_rates(schedule, STEPS), expected, rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("step", STEPS)
def test_schedules_that_keras_lacks_have_the_rates_of_tensorflow_1(step):
    train = tf.compat.v1.train
    for staircase in (False, True):
        schedule = schedules.NaturalExponentialDecay(BASE, 10, 0.5, staircase)
        expected = train.natural_exp_decay(BASE, step, 10, 0.5, staircase)()
        np.testing.assert_allclose(engine_rates(schedule, [step]), [expected], rtol=2e-6)
    for settings in ((0.5, 0.0, 0.001), (2.0, 0.25, 0.125), (0.0, 0.0, 0.001)):
        schedule = schedules.LinearCosineDecay(BASE, 10, *settings)
        expected = train.linear_cosine_decay(BASE, step, 10, *settings)()
        np.testing.assert_allclose(engine_rates(schedule, [step]), [expected], rtol=2e-6, atol=2e-7)


# ---- How they are written ----


@pytest.mark.parametrize("name", CLASSES)
def test_class_has_the_parameters_of_the_engine(name):
    parameters = CLASSES[name].parameters()

    assert damo.PyOptimizer({"name": "sgd"}, parameters).schedule == parameters
    assert parameters["name"] == name
    assert set(parameters) == {"name", *CLASSES[name].get_config()} - {"initial_learning_rate"}


@pytest.mark.parametrize("name", CLASSES)
def test_config_round_trip(name):
    schedule = CLASSES[name]
    assert type(schedule).from_config(schedule.get_config()) == schedule
    serialised = keras.saving.serialize_keras_object(schedule)
    assert keras.saving.deserialize_keras_object(serialised) == schedule
    optimizer = optimizers.Adam(schedule)
    serialised = keras.saving.serialize_keras_object(optimizer)
    assert keras.saving.deserialize_keras_object(serialised) == optimizer


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("optimizer", [optimizers.SGD, optimizers.Lion])
def test_class_and_dict_are_the_same_learning_rate(name, optimizer):
    schedule = CLASSES[name]
    as_dict = {**schedule.parameters(), "initial_learning_rate": BASE}
    parameters = optimizers.get(optimizer(schedule))

    assert parameters == optimizers.get(optimizer(as_dict))
    assert parameters["schedule"] == schedule.parameters()
    assert parameters["eta" if optimizer is optimizers.Lion else "gamma"] == BASE
    assert optimizers.get(parameters) == parameters


def test_dict_without_initial_rate_starts_from_the_optimizers_default():
    parameters = optimizers.get(optimizers.Adagrad({"name": "cosine_decay", "decay_steps": 5}))

    assert parameters["gamma"] == 1e-2
    assert parameters["schedule"] == {"name": "cosine_decay", "decay_steps": 5.0, "alpha": 0.0}


@pytest.mark.parametrize(
    "make",
    [
        lambda k: k.ExponentialDecay(BASE, 10, 0.5, staircase=True),
        lambda k: k.InverseTimeDecay(BASE, 10, 0.5, staircase=True),
        lambda k: k.PolynomialDecay(BASE, 10, 0.1, 2.0, cycle=True),
        lambda k: k.CosineDecay(BASE, 10, 0.25, name="other"),
        lambda k: k.CosineDecay(BASE, 10, 0.25, warmup_steps=3),  # without a target no warmup
    ],
)
def test_keras_schedule_with_the_same_formula_runs_in_the_engine(make):
    schedule = make(keras.optimizers.schedules)
    ours = {type(s).__name__: s for s in CLASSES.values()}[type(schedule).__name__]

    assert optimizers.get(optimizers.SGD(schedule)) == optimizers.get(optimizers.SGD(ours))
    assert optimizers.get(keras.optimizers.SGD(schedule)) == optimizers.get(optimizers.SGD(ours))


@pytest.mark.parametrize(
    "make",
    [
        lambda k: k.CosineDecay(0.0, 10, warmup_target=BASE, warmup_steps=3),
        lambda k: k.CosineDecayRestarts(BASE, 10),
        lambda k: k.PiecewiseConstantDecay([5], [BASE, 0.1]),
        lambda k: type("ExponentialDecay", (k.ExponentialDecay,), {})(BASE, 10, 0.5),
    ],
)
def test_other_keras_schedules_are_evaluated_at_each_step(make):
    schedule = make(keras.optimizers.schedules)

    parameters = optimizers.get(optimizers.SGD(schedule))

    assert parameters == {"name": "sgd", "gamma": 1e-3, "lambda": 0.0, "learning_rate": schedule}


def test_group_keeps_the_schedule_and_goes_on_with_it(tmp_path):
    schedule = schedules.InverseTimeDecay(BASE, 3, 0.5)
    oracle = OracleTable(
        2, optimizer={"name": "adam", "gamma": BASE}, schedule=schedule.parameters(), initializer="zeros"
    )
    for _ in range(3):
        with damo_tf.Store(tmp_path / "store") as store:
            store.add_group(0, 2, optimizer=optimizers.Adam(schedule), initializer="zeros")
            assert store.stats()["groups"][0]["schedule"] == schedule.parameters()
            for _ in range(2):
                store.apply_gradients(0, [1, 2], [[1.0, 2.0], [3.0, 4.0]])
                oracle.apply_gradients([1, 2], [[1.0, 2.0], [3.0, 4.0]])
            assert_rows_equal(store, oracle)


def test_schedule_may_change_when_the_store_is_opened_again(tmp_path):
    with damo_tf.Store(tmp_path / "store") as store:
        store.add_group(0, 2, optimizer=optimizers.SGD(schedules.CosineDecay(BASE, 10)))
    with damo_tf.Store(tmp_path / "store") as store:
        store.add_group(0, 2, optimizer=optimizers.SGD(BASE))
        assert store.stats()["groups"][0]["schedule"] is None


def test_groups_schedules_must_agree_while_it_is_open(store):
    store.add_group(0, 2, optimizer=optimizers.SGD(schedules.CosineDecay(BASE, 10)))

    with pytest.raises(ValueError, match=r'has schedule {"alpha":0.0.*asked for {"name":"constant"}'):
        store.add_group(0, 2, optimizer=optimizers.SGD(BASE))


# ---- Refusals ----


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: schedules.CosineDecay(0, 10), "`initial_learning_rate` must be a finite number > 0.*: .*=0"),
        (
            lambda: schedules.CosineDecay(BASE, 0),
            "schedule 'cosine_decay': parameter 'decay_steps' must be > 0",
        ),
        (lambda: schedules.CosineDecay(BASE, 10, -0.5), "'alpha' must be >= 0. Received: alpha=-0.5"),
        (lambda: schedules.ExponentialDecay(BASE, 10, 0), "'decay_rate' must be > 0. Received: decay_rate=0"),
        (lambda: schedules.PolynomialDecay(BASE, 10, power=-1), "'power' must be >= 0. Received: power=-1"),
        (lambda: schedules.LinearCosineDecay(BASE, 10, -1), "'num_periods' must be >= 0"),
        (
            lambda: optimizers.SGD({"name": "step_decay"}),
            "unknown schedule 'step_decay'; known: 'cosine_decay'",
        ),
        (lambda: optimizers.SGD({"decay_steps": 3}), "schedule: parameter 'name' is required"),
        (
            lambda: optimizers.SGD({"name": "cosine_decay"}),
            "parameter 'decay_steps' is required and must be > 0",
        ),
        (
            lambda: optimizers.SGD({"name": "cosine_decay", "decay_steps": 3, "initial_learning_rate": 0}),
            "'sgd': parameter 'gamma' must be > 0. Received: gamma=0",
        ),
        (
            lambda: optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(BASE, 10, -1.0)),
            "schedule 'exponential_decay': parameter 'decay_rate' must be > 0. Received: decay_rate=-1",
        ),
        (
            lambda: optimizers.get(
                {"name": "sgd", "schedule": {"name": "cosine_decay", "decay_steps": 3, "steps": 3}}
            ),
            "schedule 'cosine_decay' has no parameter 'steps'; known: 'alpha', 'decay_steps'",
        ),
    ],
)
def test_bad_value_is_refused_by_name_rule_and_value(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: schedules.CosineDecay("fast", 10), "`initial_learning_rate` must be a number > 0"),
        (
            lambda: schedules.CosineDecay(BASE, None),
            "`decay_steps` must be a number. Received: decay_steps=None",
        ),
        (
            lambda: schedules.ExponentialDecay(BASE, 10, 0.5, staircase=1),
            "`staircase` must be a bool. Received: staircase=1",
        ),
        (lambda: schedules.PolynomialDecay(BASE, 10, True), "`end_learning_rate` must be a number"),
        (lambda: optimizers.get({"name": "sgd", "schedule": "cosine_decay"}), "`schedule` must be a dict"),
    ],
)
def test_argument_of_the_wrong_type_is_a_type_error(make, text):
    with pytest.raises(TypeError, match=text):
        make()
