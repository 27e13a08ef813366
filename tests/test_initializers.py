# SPDX-License-Identifier: Apache-2.0
"""Row initializers as users configure them: names, dicts, classes, Keras initializers."""

import dataclasses

import keras
import numpy as np
import pytest
from oracles import INITIALIZERS, initial_weights

import damo_tf
from damo_tf import initializers

CLASSES = {
    "zeros": initializers.Zeros,
    "ones": initializers.Ones,
    "random_uniform": initializers.RandomUniform,
    "random_normal": initializers.RandomNormal,
    "truncate_normal": initializers.TruncatedNormal,
    "xavier_uniform": initializers.XavierUniform,
}

# Every setting other than its default, under the engine's names and under the class's.
SETTINGS = {
    "zeros": ({}, {}),
    "ones": ({}, {}),
    "random_uniform": ({"min": -0.5, "max": 0.25}, {"minval": -0.5, "maxval": 0.25}),
    "random_normal": ({"mean": 0.5, "stddev": 0.25}, {"mean": 0.5, "stddev": 0.25}),
    "truncate_normal": ({"mean": 0.5, "stddev": 0.25}, {"mean": 0.5, "stddev": 0.25}),
    "xavier_uniform": ({}, {}),
}

KEYS = [0, 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("name", CLASSES)
def test_name_dict_and_class_without_settings_are_the_defaults(name):
    expected = {"name": name, **INITIALIZERS[name]}
    assert initializers.get(name) == expected
    assert initializers.get({"name": name}) == expected
    assert initializers.get(CLASSES[name]()) == expected


@pytest.mark.parametrize("name", CLASSES)
def test_dict_and_class_with_settings_are_the_same(name):
    parameters, settings = SETTINGS[name]
    assert set(parameters) == set(INITIALIZERS[name])
    assert initializers.get({"name": name, **parameters}) == {"name": name, **parameters}
    assert initializers.get(CLASSES[name](**settings)) == {"name": name, **parameters}


@pytest.mark.parametrize("name", CLASSES)
def test_config_round_trip(name):
    initializer = CLASSES[name](**SETTINGS[name][1])
    assert initializer.get_config() == SETTINGS[name][1]
    assert CLASSES[name].from_config(initializer.get_config()) == initializer
    serialised = keras.saving.serialize_keras_object(initializer)
    assert keras.saving.deserialize_keras_object(serialised) == initializer


def test_settings_cannot_be_changed_once_checked():
    initializer = initializers.RandomUniform()
    with pytest.raises(dataclasses.FrozenInstanceError):
        initializer.minval = 2.0


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("settings_are", ["defaults", "others"])
def test_class_gives_rows_their_initial_weights(store, name, settings_are):
    parameters, settings = SETTINGS[name] if settings_are == "others" else ({}, {})
    store.add_group(2, 5, initializer=CLASSES[name](**settings))
    expected = initial_weights({"name": name, **parameters}, KEYS, 5, group=2)
    np.testing.assert_array_equal(store.lookup(2, KEYS), expected)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: initializers.RandomUniform(1, -1), "initializer 'random_uniform': .*min.*max"),
        (lambda: initializers.RandomUniform(float("nan")), "'min' must be a finite number.*nan"),
        (lambda: initializers.RandomNormal(stddev=-1), "'stddev' must be >= 0. Received: stddev=-1"),
        (lambda: initializers.TruncatedNormal(stddev=-1), "'truncate_normal': parameter 'stddev' must be"),
        (lambda: initializers.RandomNormal(mean=float("inf")), "'mean' must be a finite number.*inf"),
        (
            lambda: initializers.get("uniform"),
            "unknown initializer 'uniform'; known: 'ones', 'random_normal', 'random_uniform', "
            "'truncate_normal', 'xavier_uniform', 'zeros'",
        ),
        (
            lambda: initializers.get({"name": "random_uniform", "minval": 0}),
            "initializer 'random_uniform' has no parameter 'minval'; known: 'max', 'min'",
        ),
        (
            lambda: initializers.get({"name": "zeros", "value": 0}),
            "initializer 'zeros' has no parameter 'value'",
        ),
        (lambda: initializers.get({"min": 0}), "initializer: parameter 'name' is required"),
    ],
)
def test_bad_value_is_refused_by_name_rule_and_value(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: initializers.RandomUniform("a"), "`minval` must be a number. Received: minval='a'"),
        (lambda: initializers.RandomNormal(stddev=True), "`stddev` must be a number. Received: stddev=True"),
        (lambda: initializers.Zeros(seed=1), "unexpected keyword argument 'seed'"),
        (lambda: initializers.get(None), "`initializer` must be a name, a dict, .*initializer=None"),
        (lambda: initializers.get(0), "`initializer` must be a name, a dict, .*initializer=0"),
        (lambda: initializers.get(initializers.Zeros), "`initializer` must be a name, .*class"),
        (lambda: initializers.get(damo_tf.optimizers.SGD()), "`initializer` must be a name, .*SGD"),
    ],
)
def test_argument_of_the_wrong_type_is_a_type_error(make, text):
    with pytest.raises(TypeError, match=text):
        make()


@pytest.mark.parametrize(
    ("keras_initializer", "expected"),
    [
        (lambda k: k.Zeros(), initializers.Zeros()),
        (lambda k: k.Ones(), initializers.Ones()),
        (lambda k: k.RandomUniform(), initializers.RandomUniform(-0.05, 0.05)),
        (lambda k: k.RandomUniform(-2.0, 3.0, seed=5), initializers.RandomUniform(-2.0, 3.0)),
        (lambda k: k.RandomNormal(0.5, 0.25, seed=5), initializers.RandomNormal(0.5, 0.25)),
        (lambda k: k.TruncatedNormal(0.5, 0.25), initializers.TruncatedNormal(0.5, 0.25)),
    ],
)
def test_keras_initializer_with_an_equivalent(keras_initializer, expected):
    assert initializers.get(keras_initializer(keras.initializers)) == initializers.get(expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda k: k.GlorotUniform(),
        lambda k: k.Constant(2.0),
        lambda k: type("Zeros", (k.Zeros,), {})(),
    ],
)
def test_keras_initializer_without_an_equivalent_is_refused(make):
    initializer = make(keras.initializers)
    name = type(initializer).__name__
    with pytest.raises(ValueError, match=f"`{name}` has no equivalent for rows.*: Ones, RandomNormal, "):
        initializers.get(initializer)


@pytest.mark.parametrize(
    "pair", [("RandomUniform", -0.5, 0.5), ("RandomNormal", 0.5, 2.0), ("TruncatedNormal", 0.5, 2.0)]
)
def test_rows_are_distributed_as_keras_distributes_weights(store, pair):
    name, *settings = pair
    initializer = getattr(keras.initializers, name)(*settings, seed=1)
    store.add_group(0, 8, initializer=initializer)
    ours = np.sort(store.lookup(0, np.arange(10_000)), axis=None)
    theirs = np.sort(np.asarray(initializer((10_000, 8))), axis=None)
    # Kolmogorov-Smirnov: two samples of 80,000 differ by more than this once in 10,000 draws; both
    # sides are seeded.
    positions = np.concatenate([ours, theirs])
    distance = np.abs(
        np.searchsorted(ours, positions, "right") - np.searchsorted(theirs, positions, "right")
    ).max()
    assert distance / ours.size < 2.22 * np.sqrt(2 / ours.size)
