# SPDX-License-Identifier: Apache-2.0
"""Row optimizers as users configure them: names, dicts, classes, Keras optimizers."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from oracles import OPTIMIZERS, OracleTable
from stored_rows import assert_rows_equal

import damo_tf
from damo_tf import optimizers

CLASSES = {
    "sgd": optimizers.SGD,
    "ftrl": optimizers.Ftrl,
    "adagrad": optimizers.Adagrad,
    "adam": optimizers.Adam,
    "adamw": optimizers.AdamW,
    "lion": optimizers.Lion,
}

# Every setting other than its default, under the engine's names and under the class's.
SETTINGS = {
    "sgd": (
        {"gamma": 0.5, "lambda": 0.25},
        {"learning_rate": 0.5, "l2_regularization_strength": 0.25},
    ),
    "ftrl": (
        {"gamma": 0.5, "beta": 1.0, "lambda1": 0.25, "lambda2": 0.125},
        {
            "learning_rate": 0.5,
            "beta": 1.0,
            "l1_regularization_strength": 0.25,
            "l2_regularization_strength": 0.125,
        },
    ),
    "adagrad": (
        {"gamma": 0.5, "eta": 0.25, "lambda": 0.125, "epsilon": 1e-3},
        {
            "learning_rate": 0.5,
            "learning_rate_decay": 0.25,
            "l2_regularization_strength": 0.125,
            "epsilon": 1e-3,
        },
    ),
    "adam": (
        {"gamma": 0.5, "beta1": 0.75, "beta2": 0.875, "epsilon": 1e-3, "lambda": 0.125},
        {
            "learning_rate": 0.5,
            "beta_1": 0.75,
            "beta_2": 0.875,
            "epsilon": 1e-3,
            "l2_regularization_strength": 0.125,
        },
    ),
    "adamw": (
        {"gamma": 0.5, "beta1": 0.75, "beta2": 0.875, "epsilon": 1e-3, "lambda": 0.125},
        {"learning_rate": 0.5, "beta_1": 0.75, "beta_2": 0.875, "epsilon": 1e-3, "weight_decay": 0.125},
    ),
    "lion": (
        {"eta": 0.5, "beta1": 0.75, "beta2": 0.875, "lambda": 0.125},
        {"learning_rate": 0.5, "beta_1": 0.75, "beta_2": 0.875, "weight_decay": 0.125},
    ),
}


# ---- Names, dicts, classes ----


@pytest.mark.parametrize("name", CLASSES)
def test_name_dict_and_class_without_settings_are_the_defaults(name):
    expected = {"name": name, **OPTIMIZERS[name].defaults}
    assert optimizers.get(name) == expected
    assert optimizers.get({"name": name}) == expected
    assert optimizers.get(CLASSES[name]()) == expected


@pytest.mark.parametrize("name", CLASSES)
def test_dict_and_class_with_settings_are_the_same(name):
    parameters, settings = SETTINGS[name]
    assert set(parameters) == set(OPTIMIZERS[name].defaults)
    assert optimizers.get({"name": name, **parameters}) == {"name": name, **parameters}
    assert optimizers.get(CLASSES[name](**settings)) == {"name": name, **parameters}


@pytest.mark.parametrize("name", CLASSES)
def test_each_setting_of_a_class_reaches_its_own_parameter(name):
    parameters, settings = SETTINGS[name]
    defaults = {"name": name, **OPTIMIZERS[name].defaults}
    for parameter, setting in zip(parameters, settings, strict=True):
        changed = optimizers.get(CLASSES[name](**{setting: settings[setting]}))
        assert changed == {**defaults, parameter: parameters[parameter]}


def test_get_does_not_change_its_argument():
    given = {"name": "adam", "gamma": 1}
    optimizers.get(given)
    assert given == {"name": "adam", "gamma": 1}


@pytest.mark.parametrize("name", CLASSES)
def test_config_round_trip(name):
    optimizer = CLASSES[name](**SETTINGS[name][1])
    off = dict.fromkeys(("clipnorm", "clipvalue", "weight_decay"))
    assert {**off, **optimizer.get_config()} == {**off, **SETTINGS[name][1]}
    assert CLASSES[name].from_config(optimizer.get_config()) == optimizer
    serialised = keras.saving.serialize_keras_object(optimizer)
    assert keras.saving.deserialize_keras_object(serialised) == optimizer


@pytest.mark.parametrize("name", CLASSES)
def test_settings_cannot_be_changed_once_checked(name):
    optimizer = CLASSES[name]()
    with pytest.raises(dataclasses.FrozenInstanceError):
        optimizer.learning_rate = -1.0


@pytest.mark.parametrize("name", CLASSES)
def test_class_trains_rows_with_its_settings(store, rng, name):
    parameters, settings = SETTINGS[name]
    store.add_group(0, 3, optimizer=CLASSES[name](**settings))
    oracle = OracleTable(3, optimizer={"name": name, **parameters})
    for _ in range(4):
        keys, gradients = rng.integers(0, 5, 8), rng.normal(size=(8, 3)).astype(np.float32)
        store.apply_gradients(0, keys, gradients)
        oracle.apply_gradients(keys, gradients)
    assert_rows_equal(store, oracle)


# ---- Row options ----


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name in CLASSES for option in OPTIMIZERS[name].row_options]
)
def test_row_option_of_a_class_reaches_its_own_parameter(name, option):
    defaults = {"name": name, **OPTIMIZERS[name].defaults}
    assert optimizers.get(CLASSES[name](**{option: 0.75})) == {**defaults, option: 0.75}
    assert optimizers.get({"name": name, option: 0.75}) == {**defaults, option: 0.75}
    assert optimizers.get(CLASSES[name](**{option: None})) == defaults
    optimizer = CLASSES[name](**{option: 0.75})
    assert CLASSES[name].from_config(optimizer.get_config()) == optimizer


@pytest.mark.parametrize("name", CLASSES)
def test_row_options_train_rows_and_may_change_when_opened_again(tmp_path, rng, name):
    decay = {"weight_decay": 0.1} if "weight_decay" in OPTIMIZERS[name].row_options else {}
    oracle = OracleTable(20)
    for options in ({"clipnorm": 1.0, **decay}, {}, {"clipvalue": 0.5}):
        spec = {"name": name, **options}
        with damo_tf.Store(tmp_path / "store") as store:
            store.add_group(0, 20, optimizer=spec)
            oracle.optimizer = spec
            for _ in range(4):
                keys, gradients = rng.integers(0, 5, 8), rng.normal(size=(8, 20)).astype(np.float32)
                store.apply_gradients(0, keys, gradients)
                oracle.apply_gradients(keys, gradients)
            assert_rows_equal(store, oracle)
            assert options.items() <= store.stats()["groups"][0]["optimizer"].items()


# ---- Refusals ----


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: optimizers.SGD(0), r"optimizer 'sgd': parameter 'gamma' must be > 0. Received: gamma=0"),
        (lambda: optimizers.SGD(-1.0), "parameter 'gamma' must be > 0. Received: gamma=-1"),
        (lambda: optimizers.SGD(float("nan")), "parameter 'gamma' must be .*Received: gamma=-?nan"),
        (lambda: optimizers.SGD(float("inf")), "parameter 'gamma' must be .*Received: gamma=inf"),
        (lambda: optimizers.Adam(beta_1=1.0), r"'adam': parameter 'beta1' must be in \[0, 1\).*beta1=1"),
        (lambda: optimizers.Adam(beta_2=-0.5), r"'beta2' must be in \[0, 1\). Received: beta2=-0.5"),
        (lambda: optimizers.Adam(epsilon=0), "'epsilon' must be > 0. Received: epsilon=0"),
        (lambda: optimizers.AdamW(weight_decay=-1), "'adamw': parameter 'lambda' must be >= 0"),
        (lambda: optimizers.Ftrl(l1_regularization_strength=-1), "'lambda1' must be >= 0"),
        (lambda: optimizers.Adagrad(learning_rate_decay=-1), "'adagrad': parameter 'eta' must be >= 0"),
        (lambda: optimizers.Lion(learning_rate=0), "'lion': parameter 'eta' must be > 0"),
        (lambda: optimizers.get("adm"), "unknown optimizer 'adm'; known: 'adagrad', 'adam', 'adamw', 'ftrl'"),
        (lambda: optimizers.get("Adam"), "unknown optimizer 'Adam'; known: .*'adam'"),
        (lambda: optimizers.get({"name": "nadam"}), "unknown optimizer 'nadam'; known: "),
        (
            lambda: optimizers.get({"name": "adam", "gama": 1}),
            "optimizer 'adam' has no parameter 'gama'; known: 'beta1', 'beta2', 'clipnorm', 'clipvalue', "
            "'epsilon', 'gamma', 'lambda', 'weight_decay'",
        ),
        (
            lambda: optimizers.get({"name": "sgd", "rate": 1}),
            "optimizer 'sgd' has no parameter 'rate'; known: 'clipnorm', 'clipvalue', 'gamma', 'lambda'",
        ),
        (lambda: optimizers.SGD(clipnorm=0), "'sgd': parameter 'clipnorm' must be > 0. Received: clipnorm=0"),
        (lambda: optimizers.Ftrl(clipvalue=-1), "'ftrl': parameter 'clipvalue' must be > 0. Received: "),
        (
            lambda: optimizers.Adam(weight_decay=-1),
            "'adam': parameter 'weight_decay' must be >= 0. Received: ",
        ),
        (
            lambda: optimizers.Lion(clipnorm=1, clipvalue=2),
            "'lion': at most one of 'clipnorm' and 'clipvalue' may be set. Received: clipnorm=1, clipvalue=2",
        ),
        (lambda: optimizers.get({"gamma": 1}), "optimizer: parameter 'name' is required"),
        (lambda: optimizers.get({}), "optimizer: parameter 'name' is required"),
    ],
)
def test_bad_value_is_refused_by_name_rule_and_value(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: optimizers.SGD("fast"),
            "`learning_rate` must be a number, .*Received: learning_rate='fast'",
        ),
        (lambda: optimizers.SGD(clipnorm="1"), "`clipnorm` must be a number. Received: clipnorm='1'"),
        (lambda: optimizers.SGD(0.1, 0.1, 0.1, 0.1), "positional arguments"),
        (lambda: optimizers.Adam(beta_1=True), "`beta_1` must be a number. Received: beta_1=True"),
        (lambda: optimizers.Adam(epsilon=None), "`epsilon` must be a number. Received: epsilon=None"),
        (lambda: optimizers.Adam(momentum=1), "unexpected keyword argument 'momentum'"),
        (lambda: optimizers.get(None), "`optimizer` must be a name, a dict, .*Received: optimizer=None"),
        (lambda: optimizers.get(0.1), "`optimizer` must be a name, a dict, .*Received: optimizer=0.1"),
        (lambda: optimizers.get(optimizers.Adam), "`optimizer` must be a name, .*class"),
        (lambda: optimizers.get(damo_tf.initializers.Zeros()), "`optimizer` must be a name, .*Zeros"),
    ],
)
def test_argument_of_the_wrong_type_is_a_type_error(make, text):
    with pytest.raises(TypeError, match=text):
        make()


# ---- Keras optimizers ----


@pytest.mark.parametrize(
    ("keras_optimizer", "expected"),
    [
        (lambda k: k.SGD(0.1), optimizers.SGD(0.1)),
        (lambda k: k.SGD(0.1, weight_decay=0.25), optimizers.SGD(0.1, weight_decay=0.25)),
        (lambda k: k.SGD(0.1, weight_decay=0.0, clipnorm=0.0), optimizers.SGD(0.1)),
        (lambda k: k.SGD(0.1, clipvalue=0.0), optimizers.SGD(0.1)),
        (lambda k: k.Adam(0.1, clipvalue=0.5), optimizers.Adam(0.1, epsilon=1e-7, clipvalue=0.5)),
        (lambda k: k.Adam(0.1, weight_decay=0.5), optimizers.Adam(0.1, epsilon=1e-7, weight_decay=0.5)),
        (lambda k: k.Adagrad(0.1, 0, 1e-3, weight_decay=0.5), optimizers.Adagrad(0.1, 0, 0, 1e-3, 0.5)),
        (lambda k: k.Lion(0.1, clipvalue=0.5), optimizers.Lion(0.1, weight_decay=0.0, clipvalue=0.5)),
        (
            lambda k: k.Ftrl(
                0.1,
                initial_accumulator_value=0,
                l1_regularization_strength=0.5,
                l2_regularization_strength=0.25,
                beta=2.0,
            ),
            optimizers.Ftrl(0.1, 2.0, 0.5, 0.5),
        ),
        (lambda k: k.Adagrad(0.1, 0, 1e-3), optimizers.Adagrad(0.1, epsilon=1e-3)),
        (lambda k: k.Adam(), optimizers.Adam(epsilon=1e-7)),
        (lambda k: k.Adam(0.3, 0.8, 0.7, 1e-3), optimizers.Adam(0.3, 0.8, 0.7, 1e-3)),
        (lambda k: k.AdamW(0.3), optimizers.AdamW(0.3, 0.004, epsilon=1e-7)),
        (lambda k: k.AdamW(0.3, weight_decay=0.5), optimizers.AdamW(0.3, 0.5, epsilon=1e-7)),
        (lambda k: k.Lion(0.3, 0.8, 0.7), optimizers.Lion(0.3, 0.8, 0.7, 0.0)),
        (lambda k: k.Lion(0.3, weight_decay=0.5), optimizers.Lion(0.3, weight_decay=0.5)),
    ],
)
def test_keras_optimizer_with_an_equivalent(keras_optimizer, expected):
    assert optimizers.get(keras_optimizer(keras.optimizers)) == optimizers.get(expected)


@pytest.mark.parametrize("rate", [1e-3, 0.1, 1 / 3, 5e-4])
def test_learning_rate_of_a_keras_optimizer_is_what_the_user_wrote(rate):
    # Keras keeps it in float32; ours is the number that this float32 prints as.
    parameters = optimizers.get(keras.optimizers.SGD(rate))
    assert parameters["gamma"] == float(str(np.float32(rate)))


def one_half():
    return 0.5


class OwnOptimizer(keras.optimizers.SGD):
    pass


@pytest.mark.parametrize(
    ("keras_optimizer", "text"),
    [
        (
            lambda k: k.RMSprop(),
            "Keras optimizer `RMSprop` has no equivalent.*: Adagrad, Adam, AdamW, Ftrl, Lion, SGD",
        ),
        (lambda k: OwnOptimizer(), "Keras optimizer `OwnOptimizer` has no equivalent"),
        (lambda k: type("SGD", (k.SGD,), {})(), "Keras optimizer `SGD` has no equivalent"),
        (lambda k: k.LossScaleOptimizer(k.SGD()), "Keras optimizer `LossScaleOptimizer` has no equivalent"),
        (lambda k: k.SGD(momentum=0.9), "SGD has .*only with momentum=0. Received: momentum=0.9"),
        (lambda k: k.Adam(amsgrad=True), "Adam has .*only with amsgrad=False. Received: amsgrad=True"),
        (
            lambda k: k.Ftrl(initial_accumulator_value=0, weight_decay=0.1),
            "Ftrl has .*only with weight_decay=None.*weight_decay=0.1",
        ),
        (lambda k: k.Adagrad(), "initial_accumulator_value=0. Received: initial_accumulator_value=0.1"),
        (lambda k: k.Ftrl(), "initial_accumulator_value=0. Received: initial_accumulator_value=0.1"),
        (
            lambda k: k.Ftrl(initial_accumulator_value=0, learning_rate_power=-0.25),
            "learning_rate_power=-0.5. Received: learning_rate_power=-0.25",
        ),
        (
            lambda k: k.Ftrl(initial_accumulator_value=0, l2_shrinkage_regularization_strength=1.0),
            "l2_shrinkage_regularization_strength=0. Received: ",
        ),
        (
            lambda k: k.SGD(clipnorm=1.0),
            r"only with clipnorm=None \(it clips the gradient of a whole variable; `clipnorm` of "
            r"damo_tf.optimizers is for each row\). Received: clipnorm=1.0",
        ),
        (lambda k: k.SGD(global_clipnorm=1.0), "only with global_clipnorm=None .*all variables.* Received: "),
        (lambda k: k.SGD(use_ema=True), r"only with use_ema=False \(.*\). Received: use_ema=True"),
        (lambda k: k.SGD(loss_scale_factor=2.0), "only with loss_scale_factor=None .*Received: "),
        (lambda k: k.SGD(gradient_accumulation_steps=2), "only with gradient_accumulation_steps=None"),
        (lambda k: k.SGD(one_half), "learning rate of keras.optimizers.SGD cannot be taken from its config"),
        (
            lambda k: k.SGD(lambda: 0.5),
            "learning rate of keras.optimizers.SGD cannot be taken from its config",
        ),
    ],
)
def test_keras_optimizer_without_an_equivalent_is_refused(keras_optimizer, text):
    with pytest.raises(ValueError, match=text):
        optimizers.get(keras_optimizer(keras.optimizers))


@pytest.mark.parametrize(
    ("make", "tolerance"),
    [
        # Equal formulas; float32 roundings in another order, some per step.
        (lambda k: k.SGD(0.1), 1e-6),
        (lambda k: k.SGD(0.1, weight_decay=0.05), 1e-6),
        (lambda k: k.SGD(0.1, clipvalue=0.75), 1e-6),
        (lambda k: k.Lion(0.1), 1e-6),
        (lambda k: k.Lion(0.1, weight_decay=0.05), 1e-6),
        # The weights are quotients of sums that grow.
        (lambda k: k.Ftrl(0.1, initial_accumulator_value=0.0), 1e-5),
        (
            lambda k: k.Ftrl(
                0.1,
                initial_accumulator_value=0.0,
                l1_regularization_strength=0.1,
                l2_regularization_strength=0.2,
                beta=0.5,
            ),
            1e-5,
        ),
        # Keras adds epsilon elsewhere: with gradients near 1, that matters by about epsilon / sqrt(v),
        # at most 1e-7 / sqrt(1e-3), of a step.
        (lambda k: k.Adam(0.1), 1e-5),
        (lambda k: k.Adam(0.1, weight_decay=0.05, clipvalue=0.75), 1e-5),
        (lambda k: k.AdamW(0.1, weight_decay=0.05), 1e-5),
        (lambda k: k.Adagrad(0.1, initial_accumulator_value=0.0), 1e-5),
        (lambda k: k.Adagrad(0.1, initial_accumulator_value=0.0, weight_decay=0.05), 1e-5),
    ],
    ids=[
        "SGD",
        "SGD decay",
        "SGD clip",
        "Lion",
        "Lion decay",
        "Ftrl",
        "Ftrl l1 l2 beta",
        "Adam",
        "Adam decay clip",
        "AdamW",
        "Adagrad",
        "Adagrad decay",
    ],
)
def test_rows_train_as_keras_trains_a_dense_embedding(store, rng, make, tolerance):
    optimizer = make(keras.optimizers)
    keys = np.arange(7)
    store.add_group(0, 3, optimizer=optimizer)
    dense = keras.Variable(store.lookup(0, keys))
    for _ in range(8):
        # Every row in every step: Keras updates them all, these rows only those of the batch.
        gradients = (rng.uniform(0.5, 1.5, (7, 3)) * rng.choice([-1, 1], (7, 3))).astype(np.float32)
        optimizer.apply([tf.constant(gradients)], [dense])
        store.apply_gradients(0, keys, gradients)
    np.testing.assert_allclose(store.lookup(0, keys), dense.numpy(), rtol=tolerance, atol=tolerance)
