# SPDX-License-Identifier: Apache-2.0
"""Arrays and parameters that the module `damo` takes, and those that it refuses."""

import json

import damo
import numpy as np
import oracles
import pytest
from damo_tables import DIM, FLOATS, KEYS, RULE, SGD, keys_of, lookup

# ---- Arrays ----

WRONG_KEYS = {
    "list": ([1, 2], TypeError, f"`keys` {RULE} uint64. Received: <class 'list'>"),
    "None": (None, TypeError, f"`keys` {RULE} uint64. Received: <class 'NoneType'>"),
    "int64": (KEYS.astype(np.int64), TypeError, f"`keys` {RULE} uint64. Received dtype: int64"),
    "swapped bytes": (KEYS.astype(">u8"), TypeError, f"`keys` {RULE} uint64. Received dtype: >u8"),
    "float": (KEYS.astype(float), TypeError, f"`keys` {RULE} uint64. Received dtype: float64"),
    "scalar": (np.array(1, np.uint64), ValueError, f"`keys` {RULE} uint64. Received rank: 0"),
    "matrix": (KEYS.reshape(2, 1), ValueError, f"`keys` {RULE} uint64. Received rank: 2"),
    "every second": (
        np.arange(4, dtype=np.uint64)[::2],
        ValueError,
        f"`keys` {RULE} uint64. Received strides: (16,)",
    ),
    "reversed": (KEYS[::-1], ValueError, f"`keys` {RULE} uint64. Received strides: (-8,)"),
}

WRONG_FLOATS = {
    "list": ([0.0] * 6, TypeError, f"{RULE} float32. Received: <class 'list'>"),
    "float64": (FLOATS.astype(float), TypeError, f"{RULE} float32. Received dtype: float64"),
    "float16": (FLOATS.astype(np.float16), TypeError, f"{RULE} float32. Received dtype: float16"),
    "swapped bytes": (FLOATS.astype(">f4"), TypeError, f"{RULE} float32. Received dtype: >f4"),
    "matrix": (FLOATS.reshape(2, DIM), ValueError, f"{RULE} float32. Received rank: 2"),
    "every second": (np.zeros(12, np.float32)[::2], ValueError, f"{RULE} float32. Received strides: (8,)"),
    "not aligned": (
        np.zeros(25, np.uint8)[1:].view(np.float32),
        ValueError,
        f"{RULE} float32. Received strides: (4,)",
    ),
    "too few": (FLOATS[:-1], ValueError, "must hold len(keys) * dimension = 2 * 3 = 6 floats. Received: 5"),
    "too many": (
        np.zeros(9, np.float32),
        ValueError,
        "must hold len(keys) * dimension = 2 * 3 = 6 floats. Received: 9",
    ),
}


@pytest.mark.parametrize("method", ["lookup", "apply_gradients", "prefetch"])
@pytest.mark.parametrize(("keys", "exception", "message"), WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_keys_are_never_converted(embedding, storage, method, keys, exception, message):
    floats = () if method == "prefetch" else (FLOATS.copy(),)
    with pytest.raises(exception) as caught:
        getattr(embedding, method)(keys, *floats)
    assert str(caught.value) == message
    assert storage.stats()["groups"][0]["step"] == 0


@pytest.mark.parametrize("name", ["weights", "gradients"])
@pytest.mark.parametrize(("floats", "exception", "message"), WRONG_FLOATS.values(), ids=WRONG_FLOATS)
def test_floats_are_never_converted(embedding, storage, name, floats, exception, message):
    method = embedding.lookup if name == "weights" else embedding.apply_gradients
    with pytest.raises(exception) as caught:
        method(KEYS, floats)
    assert str(caught.value) == f"`{name}` {message}"
    assert storage.stats()["groups"][0]["step"] == 0


def test_only_the_output_must_be_writable(embedding):
    keys, floats = KEYS.copy(), FLOATS.copy()
    keys.flags.writeable = floats.flags.writeable = False
    embedding.apply_gradients(keys, floats)
    with pytest.raises(ValueError, match=r"^`weights` must be writable\. Received: a read-only array$"):
        embedding.lookup(keys, floats)


# ---- Parameters ----


def test_parameters_to_json_sorts_keys_and_keeps_types():
    parameters = damo.Parameters()
    for name, value in [("name", "x"), ("flag", True), ("count", 3), ("rate", 0.1), ("one", 1.0)]:
        assert parameters.insert(name, value) is None
    assert parameters.to_json() == '{"count":3,"flag":true,"name":"x","one":1.0,"rate":0.1}'
    parameters.insert("count", 4)
    assert json.loads(parameters.to_json())["count"] == 4
    assert repr(parameters) == f"Parameters({parameters.to_json()})"


def test_parameters_take_numpy_scalars_for_what_they_are():
    parameters = damo.Parameters()
    parameters.insert("flag", np.bool_(True))
    parameters.insert("count", np.int32(-3))
    parameters.insert("rate", np.float32(0.5))
    assert parameters.to_json() == '{"count":-3,"flag":true,"rate":0.5}'


@pytest.mark.parametrize(
    ("value", "exception", "message"),
    [
        (None, TypeError, "parameter 'x' must be a bool, int, float or str. Received: x=None"),
        ([1], TypeError, "parameter 'x' must be a bool, int, float or str. Received: x=[1]"),
        (b"y", TypeError, "parameter 'x' must be a bool, int, float or str. Received: x=b'y'"),
        (1j, TypeError, "parameter 'x' must be a bool, int, float or str. Received: x=1j"),
        (
            np.arange(2),
            TypeError,
            "parameter 'x' must be a bool, int, float or str. Received: x=array([0, 1])",
        ),
        (2**63, ValueError, "parameter 'x' must fit in 64 bits. Received: x=9223372036854775808"),
    ],
)
def test_a_parameter_of_another_kind_is_refused(value, exception, message):
    with pytest.raises(exception) as caught:
        damo.Parameters().insert("x", value)
    assert str(caught.value) == message
    with pytest.raises(exception) as caught:
        damo.PyOptimizer({"name": "sgd", "x": value})
    assert str(caught.value) == message


def test_a_dict_stands_for_parameters_everywhere():
    parameters = damo.Parameters()
    parameters.insert("name", "lion")
    parameters.insert("eta", 1)
    assert (
        damo.PyOptimizer(parameters).parameters == damo.PyOptimizer({"name": "lion", "eta": 1.0}).parameters
    )
    for make, name in [(damo.PyOptimizer, "parameters"), (damo.PyInitializer, "parameters")]:
        with pytest.raises(TypeError) as caught:
            make("lion")
        assert str(caught.value) == f"`{name}` must be a dict or damo.Parameters. Received: {name}='lion'"
    with pytest.raises(TypeError) as caught:
        damo.PyOptimizer({"name": "sgd"}, "cosine_decay")
    message = "`schedule` must be a dict or damo.Parameters. Received: schedule='cosine_decay'"
    assert str(caught.value) == message
    with pytest.raises(TypeError, match=r"^keys of `parameters` must be str\. Received: 1$"):
        damo.PyOptimizer({1: 2})


@pytest.mark.parametrize("name", oracles.OPTIMIZERS)
def test_an_optimizers_defaults_are_the_documented_ones(name):
    assert damo.PyOptimizer({"name": name}).parameters == {"name": name, **oracles.OPTIMIZERS[name].defaults}
    assert damo.PyOptimizer({"name": name}).slot_names == list(oracles.OPTIMIZERS[name].slot_names)


@pytest.mark.parametrize("name", oracles.INITIALIZERS)
def test_an_initializers_defaults_are_the_documented_ones(name):
    assert damo.PyInitializer({"name": name}).parameters == {"name": name, **oracles.INITIALIZERS[name]}


def test_apply_gradients_takes_the_rate_of_the_call(storage, embedding):
    oracle = oracles.OracleTable(DIM, optimizer=SGD, initializer="zeros")
    gradients = np.arange(1, DIM + 1, dtype=np.float32)
    embedding.apply_gradients(keys_of(1), gradients, 0.25)
    embedding.apply_gradients(keys_of(1), gradients, learning_rate=np.float32(0.125))
    embedding.apply_gradients(keys_of(1), gradients)
    storage.apply_gradients(0, keys_of(1), gradients, learning_rate=0)
    for rate in (0.25, 0.125, None, 0.0):
        oracle.apply_gradients([1], gradients[None], rate)
    np.testing.assert_array_equal(lookup(embedding, keys_of(1)), oracle.lookup([1]))

    with pytest.raises(ValueError, match="`learning_rate` must be >= 0 and finite in float32"):
        embedding.apply_gradients(keys_of(1), gradients, -0.25)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        embedding.apply_gradients(keys_of(1), gradients, "fast")


def test_an_optimizer_tells_its_schedule():
    assert damo.PyOptimizer(SGD).schedule is None
    schedule = damo.PyOptimizer(SGD, {"name": "cosine_decay", "decay_steps": 5}).schedule
    assert schedule == {"name": "cosine_decay", "decay_steps": 5.0, "alpha": 0.0}


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError) as caught:
        damo.PyOptimizer({"name": "sdg"})
    known = ", ".join(f"'{name}'" for name in sorted(oracles.OPTIMIZERS))
    assert str(caught.value) == f"unknown optimizer 'sdg'; known: {known}"
    with pytest.raises(ValueError) as caught:
        damo.PyInitializer({"name": "normal"})
    known = ", ".join(f"'{name}'" for name in sorted(oracles.INITIALIZERS))
    assert str(caught.value) == f"unknown initializer 'normal'; known: {known}"
    with pytest.raises(ValueError) as caught:
        damo.PyOptimizer(SGD, {"name": "linear"})
    known = ", ".join(f"'{name}'" for name in sorted(oracles.SCHEDULES))
    assert str(caught.value) == f"unknown schedule 'linear'; known: {known}"


@pytest.mark.parametrize("name", oracles.OPTIMIZERS)
def test_an_unknown_optimizer_parameter_lists_the_known_ones(name):
    with pytest.raises(ValueError) as caught:
        damo.PyOptimizer({"name": name, "learning_rate": 0.1})
    optimizer = oracles.OPTIMIZERS[name]
    known = ", ".join(f"'{key}'" for key in sorted([*optimizer.defaults, *optimizer.row_options]))
    assert str(caught.value) == f"optimizer '{name}' has no parameter 'learning_rate'; known: {known}"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "optimizer: parameter 'name' is required"),
        ({"name": 1}, "optimizer: parameter 'name' must be a string. Received: name=1"),
        (
            {"name": "sgd", "gamma": 0},
            "optimizer 'sgd': parameter 'gamma' must be > 0. Received: gamma=0",
        ),
        (
            {"name": "lion", "eta": -1.5},
            "optimizer 'lion': parameter 'eta' must be > 0. Received: eta=-1.5",
        ),
        (
            {"name": "adam", "beta1": 1},
            "optimizer 'adam': parameter 'beta1' must be in [0, 1). Received: beta1=1",
        ),
        (
            {"name": "adamw", "beta2": -0.1},
            "optimizer 'adamw': parameter 'beta2' must be in [0, 1). Received: beta2=-0.1",
        ),
        (
            {"name": "ftrl", "lambda1": -1},
            "optimizer 'ftrl': parameter 'lambda1' must be >= 0. Received: lambda1=-1",
        ),
        (
            {"name": "adagrad", "epsilon": "tiny"},
            "optimizer 'adagrad': parameter 'epsilon' must be a number. Received: epsilon='tiny'",
        ),
    ],
)
def test_a_value_that_breaks_its_rule_is_named_with_the_rule(parameters, message):
    with pytest.raises(ValueError) as caught:
        damo.PyOptimizer(parameters)
    assert str(caught.value) == message
