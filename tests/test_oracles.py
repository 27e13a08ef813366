# SPDX-License-Identifier: Apache-2.0
"""The oracles against sources that are not ours, and docs/initial_values.md against the oracles."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import NormalDist

import numpy as np
import oracles
import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "initial_values.md").read_text(encoding="utf-8")
GOLDEN_ROW = re.compile(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \| ([0-9a-f ]{53}) \|$", re.MULTILINE)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # Random123's kat_vectors
        ([0] * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_matches_its_known_answers(counter, key, words):
    assert " ".join(f"{word:08x}" for word in oracles.philox4x32(counter, key)) == words


def test_normal_quantile_equals_pythons_to_the_last_places():
    p = np.concatenate([np.linspace(1e-6, 1 - 1e-6, 5001), 10.0 ** -np.arange(7, 300)])
    expected = np.array([NormalDist().inv_cdf(value) for value in p])
    np.testing.assert_allclose(oracles.normal_quantile(p), expected, rtol=1e-15, atol=1e-16)


def test_the_pages_golden_values_are_the_oracles():
    rows = GOLDEN_ROW.findall(PAGE)
    assert {row[0] for row in rows} == {
        "random_uniform",
        "random_normal",
        "truncate_normal",
        "xavier_uniform",
    }
    for name, seed, group, key, bits in rows:
        weights = oracles.initial_weights(name, [int(key)], 6, seed=int(seed), group=int(group))
        assert " ".join(f"{word:08x}" for word in weights[0].view(np.uint32)) == bits, (name, key)


def test_the_pages_example_runs_and_equals_the_oracles():
    (source,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    page: dict[str, object] = {}
    exec(source, page)
    for name in ("random_uniform", "random_normal"):
        for key in (0, 1, 2**32, 2**64 - 1):
            expected = oracles.initial_weights(name, [key], 9, seed=2**63 + 5, group=255)[0]
            # inv_cdf uses the machine's logarithm: one place of a float32 at most.
            np.testing.assert_array_max_ulp(np.float32(page[name](2**63 + 5, 255, key, 9)), expected)


def _double_adam(w, gradients, lr, beta1, beta2, epsilon):
    """Adam as the paper writes it, in double."""
    m = v = np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        w = w - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
    return w


def test_adam_follows_the_papers_formula_within_float32():
    rng = np.random.default_rng(3)
    gradients = rng.normal(size=(200, 8)).astype(np.float32)
    weights = rng.normal(size=8).astype(np.float32)
    expected = _double_adam(weights.astype(np.float64), gradients.astype(np.float64), 0.01, 0.8, 0.95, 1e-6)
    spec = {"name": "adam", "gamma": 0.01, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6}
    slots = {name: np.zeros(8, np.float32) for name in ("m", "v")}
    for t, gradient in enumerate(gradients, start=1):
        weights, slots = oracles.optimizer_step(spec, weights, gradient, slots, t)
    np.testing.assert_allclose(weights, expected, atol=200 * 2.0**-24)  # half a place a step


@pytest.mark.parametrize("name", sorted(oracles.OPTIMIZERS))
def test_rows_stepped_together_equal_rows_stepped_alone(name):
    rng = np.random.default_rng(5)
    weights, gradients = rng.normal(size=(2, 6, 3)).astype(np.float32)
    slots = {slot: rng.random((6, 3)).astype(np.float32) for slot in oracles.OPTIMIZERS[name].slot_names}
    update_num = np.array([1, 2, 3, 10, 1000, 10**12])
    together, slots_together = oracles.optimizer_step(name, weights, gradients, slots, update_num)
    for i, t in enumerate(update_num):
        row_slots = {slot: values[i] for slot, values in slots.items()}
        alone, slots_alone = oracles.optimizer_step(name, weights[i], gradients[i], row_slots, t)
        assert np.array_equal(alone, together[i])
        for slot in slots:
            assert np.array_equal(slots_alone[slot], slots_together[slot][i])


def test_table_sums_duplicates_steps_once_and_skips_what_is_not_finite():
    table = oracles.OracleTable(
        2, optimizer={"name": "sgd", "gamma": 0.5}, initializer="zeros", padding_key=0
    )
    gradients = np.array([[1, 2], [9, 9], [3, 4], [np.inf, 0], [5, 6]], np.float32)
    table.apply_gradients([7, 0, 7, -1, 8], gradients)
    assert {key: row.update_num for key, row in table.rows.items()} == {7: 1, 8: 1}
    assert np.array_equal(table.lookup([7, 8, 0, 5]), [[-2, -3], [-2.5, -3], [0, 0], [0, 0]])
    assert (table.skipped, table.global_step) == (1, 1)


def test_unknown_parameters_of_a_spec_are_refused():
    with pytest.raises(ValueError, match="unknown optimizer or parameter"):
        oracles.optimizer_step({"name": "adam", "gama": 1}, [0], [0], {"m": [0], "v": [0]}, 1)
