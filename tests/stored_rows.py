# SPDX-License-Identifier: Apache-2.0
"""Rows of a store as plain values, to be compared bit by bit."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from oracles import OracleTable, as_keys


def rows_of(store: Any, group: int, keys: Iterable[int]) -> dict[int, tuple | None]:
    """Everything that is stored of each key, as comparable values; `None` where there is no row."""
    rows = {}
    for key in as_keys(list(keys)).tolist():
        row = store.row(group, key)
        rows[key] = row and (
            row.update_time,
            row.update_num,
            row.weights.tobytes(),
            {name: values.tobytes() for name, values in row.slots.items()},
        )
    return rows


def step_of(store: Any, group: int = 0) -> int:
    """The number of apply calls that a group has had."""
    return store.stats()["groups"][group]["step"]


def memory_of(store: Any, group: int = 0) -> tuple[int, int, int]:
    """What a group holds in memory and has pushed out: rows there, rows newer than on disk, rows evicted."""
    figures = store.stats()["groups"][group]
    return figures["cache_rows"], figures["dirty"], figures["evicted"]


def assert_rows_equal(store: Any, oracle: OracleTable) -> None:
    """Asserts that the oracle's group has the oracle's rows, bit for bit, no others, and its step."""
    assert step_of(store, oracle.group) == oracle.global_step
    for key, expected in oracle.rows.items():
        actual = store.row(oracle.group, key)
        assert actual is not None, f"key {key} has no row"
        assert actual.update_num == expected.update_num
        assert list(actual.slots) == list(expected.slots)
        assert_same_bits(actual.weights, expected.weights, f"weights of key {key}")
        for name, values in expected.slots.items():
            assert_same_bits(actual.slots[name], values, f"{name} of key {key}")
    assert store.size(oracle.group) == len(oracle.rows)


def assert_same_bits(actual: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Asserts that float32 values are the same as `bits` has them; looks closer only at unequal bytes."""
    same_kind = (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if not same_kind or actual.tobytes() != expected.tobytes():
        np.testing.assert_array_equal(bits(actual), bits(expected), what)


def bits(floats: Any) -> np.ndarray:
    """float32 values as their bits: tells -0 from 0; every NaN is the same one."""
    values = np.array(floats, np.float32, ndmin=1)
    values[np.isnan(values)] = np.nan
    return values.view(np.uint32)
