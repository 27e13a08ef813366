# SPDX-License-Identifier: Apache-2.0
"""`PyOptimizer.call` and `PyInitializer.call`: the arithmetic alone, beside the oracle."""

import damo
import numpy as np
import oracles
import pytest
from damo_tables import RULE, SGD, ZEROS, keys_of, lookup, make_embedding
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_rows import bits


@pytest.mark.parametrize("name", oracles.OPTIMIZERS)
def test_optimizer_call_equals_the_oracle(name, rng):
    optimizer = damo.PyOptimizer({"name": name})
    weights = rng.standard_normal(17, np.float32)
    expected = weights.copy()
    slots = {slot: np.zeros(17, np.float32) for slot in optimizer.slot_names}
    for step in range(1, 30):
        gradients = rng.standard_normal(17, np.float32)
        assert optimizer.call(weights, gradients, step) is None
        expected, slots = oracles.optimizer_step(name, expected, gradients, slots, step)
        np.testing.assert_array_equal(bits(weights), bits(expected), f"step {step}")


def test_optimizer_call_starts_afresh_at_step_1_and_at_another_size():
    gradients = np.float32([0.5, -2])
    optimizer = damo.PyOptimizer({"name": "adam"})
    first = np.zeros(2, np.float32)
    optimizer.call(first, gradients, 1)
    optimizer.call(first.copy(), gradients, 2)
    again = np.zeros(2, np.float32)
    optimizer.call(again, gradients, 1)
    np.testing.assert_array_equal(again, first)

    optimizer.call(np.zeros(2, np.float32), gradients, 2)
    alone = np.zeros(1, np.float32)
    optimizer.call(alone, gradients[:1], 1)
    assert alone[0] == first[0]


def test_optimizer_call_refuses_bad_arguments():
    optimizer = damo.PyOptimizer(SGD)
    weights = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match=r"^`step` must be >= 1, the first step\. Received: step=0$"):
        optimizer.call(weights, weights.copy(), 0)
    message = r"^`gradients` must have the size of `weights`, 2\. Received: 3$"
    with pytest.raises(ValueError, match=message):
        optimizer.call(weights, np.zeros(3, np.float32), 1)
    message = "^`gradients` must not share memory with `weights`, which are updated in place$"
    for gradients in (weights, weights[:1]):
        with pytest.raises(ValueError, match=message):
            optimizer.call(weights[: len(gradients)], gradients, 1)
    with pytest.raises(TypeError, match=f"^`weights` {RULE} float32. Received dtype: float64$"):
        optimizer.call(np.zeros(2), weights, 1)
    np.testing.assert_array_equal(weights, [0, 0])


SCHEDULES = [
    {"name": "exponential_decay", "decay_steps": 7, "decay_rate": 0.5},
    {"name": "exponential_decay", "decay_steps": 7, "decay_rate": 0.5, "staircase": True},
    {"name": "nature_exponential_decay", "decay_steps": 7, "decay_rate": 0.5},
    {"name": "inverse_time_decay", "decay_steps": 7, "decay_rate": 0.5, "staircase": True},
    {"name": "polynomial_decay", "decay_steps": 7, "power": 2, "end_learning_rate": 0.01},
    {"name": "polynomial_decay", "decay_steps": 7, "end_learning_rate": 0.01, "cycle": True},
    {"name": "cosine_decay", "decay_steps": 7, "alpha": 0.1},
    {"name": "liner_cosine_decay", "decay_steps": 7},
    {"name": "linear_cosine_decay", "decay_steps": 7, "num_periods": 2, "beta": 0.1},
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule["name"])
def test_a_schedule_sets_the_learning_rate_of_each_step(schedule):
    optimizer = damo.PyOptimizer({"name": "sgd", "gamma": 0.3}, schedule)
    rates = []
    for step in range(1, 25):
        weights = np.zeros(1, np.float32)
        optimizer.call(weights, -np.ones(1, np.float32), step)
        rates.append(weights[0])
    expected = [oracles.scheduled_rate(schedule, 0.3, step) for step in range(24)]
    # The engine's pow, exp and cos may differ from Python's in the last bit of a double, so a rate that is
    # rounded to float32 may come out one unit in the last place away; beside 0.3 nothing is left of 1e-7.
    np.testing.assert_allclose(rates, expected, rtol=2e-7, atol=1e-15)


def test_a_tables_schedule_runs_on_its_persisted_global_step(tmp_path):
    schedule = {"name": "inverse_time_decay", "decay_steps": 3, "decay_rate": 0.5}
    oracle = oracles.OracleTable(1, optimizer=SGD, initializer="zeros", schedule=schedule)
    for key in range(6):
        with damo.PyStorage(tmp_path / "store") as storage:
            embedding = make_embedding(storage, dimension=1, schedule=schedule)
            embedding.apply_gradients(keys_of(key), np.ones(1, np.float32))
            oracle.apply_gradients([key], np.ones((1, 1), np.float32))
            keys = keys_of(*range(key + 1))
            np.testing.assert_array_equal(lookup(embedding, keys), oracle.lookup(keys))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(oracles.INITIALIZERS)),
    dim=st.integers(1, 70),
    key=st.integers(0, 2**64 - 1),
    group=st.integers(0, 255),
    seed=st.integers(0, 2**64 - 1),
)
def test_initializer_call_equals_the_oracle(name, dim, key, group, seed):
    values = np.full(dim, np.nan, np.float32)
    assert damo.PyInitializer({"name": name}).call(values, key, group, seed) is None
    expected = oracles.initial_weights(name, [key], dim, seed=seed, group=group)[0]
    np.testing.assert_array_equal(bits(values), bits(expected))


def test_initializer_call_takes_key_group_and_seed_0_unless_given():
    initializer = damo.PyInitializer({"name": "random_normal"})
    values, again = np.empty(5, np.float32), np.empty(5, np.float32)
    initializer.call(values)
    initializer.call(again, key=0, group=0, seed=0)
    np.testing.assert_array_equal(values, again)
    initializer.call(again, seed=1)
    assert not np.array_equal(values, again)


def test_initializer_call_refuses_bad_arguments():
    initializer = damo.PyInitializer(ZEROS)
    with pytest.raises(ValueError, match=r"^`group` must be in \[0, 256\)\. Received: group=256$"):
        initializer.call(np.zeros(1, np.float32), 0, 256)
    with pytest.raises(TypeError, match=f"^`values` {RULE} float32. Received dtype: float64$"):
        initializer.call(np.zeros(1))
