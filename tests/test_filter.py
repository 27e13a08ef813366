# SPDX-License-Identifier: Apache-2.0
"""damo.PyFilter against the filter of oracles.py and against the theory of Bloom filters."""

import math

import damo
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import OracleFilter

KEYS = st.sampled_from([0, 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1) | st.integers(0, 300)


@settings(max_examples=50, deadline=None)
@given(
    capacity=st.integers(1, 20_000),
    fpr=st.sampled_from([0.5, 0.1, 1e-2, 1e-3, 1e-6]),
    additions=st.lists(st.tuples(KEYS, st.integers(0, 20)), max_size=300),
    asked=st.lists(KEYS, max_size=50),
)
def test_counts_equal_the_oracles(capacity, fpr, additions, asked):
    oracle = OracleFilter(capacity, fpr)
    counted = damo.PyFilter({"capacity": capacity, "fpr": fpr})
    for key, n in additions:
        oracle.add(key, n)
        counted.add(key, n)

    keys = [key for key, _ in additions] + asked

    assert counted.count(np.array(keys, np.uint64)).tolist() == [oracle.count(key) for key in keys]
    nonzero = sum(count > 0 for count in oracle.counters.values())
    assert counted.fill == pytest.approx(nonzero / (8192 * oracle.num_pages))


def test_a_key_passes_when_it_has_occurred_often_enough():
    counted = damo.PyFilter({"capacity": 1000, "min_count": 3})
    counted.add(7)
    counted.add(7)
    assert not counted.check(7)
    counted.add(7)
    assert counted.check(7)
    counted.add(8, 3)
    assert counted.check(np.array([7, 8, 9], np.uint64)).tolist() == [True, True, False]
    assert isinstance(counted.check(7), bool)
    assert counted.count(7) == 3


def test_an_array_counts_every_repetition():
    counted = damo.PyFilter({"capacity": 1000})
    counted.add(np.array([1, 2, 1, 1], np.uint64), 2)
    counts = counted.count(np.array([1, 2, 3], np.uint64))
    assert counts.tolist() == [6, 2, 0]
    assert counts.dtype == np.uint8
    assert counted.count(np.uint64(1)) == 6
    counted.add(np.array([], np.uint64))
    assert counted.count(np.array([], np.uint64)).size == 0


def test_counts_end_at_fifteen():
    counted = damo.PyFilter({"capacity": 1000, "min_count": 15})
    counted.add(1, 10**18)
    assert counted.count(1) == 15
    assert counted.check(1)


def test_the_default_filter_is_large_and_takes_memory_as_it_needs_it():
    counted = damo.PyFilter({})
    assert counted.parameters == {
        "name": "counting_bloom",
        "capacity": 2**28,
        "fpr": 1e-3,
        "min_count": 1,
    }
    assert counted.num_bytes == 0
    counted.add(5)
    assert counted.num_bytes == 4096


def test_false_positives_are_as_rare_as_the_theory_says(capsys):
    """The share of keys never added that count as added, once `capacity` keys have been.

    The bound: theory, and a tenth for pages that hold more keys than others, and four standard deviations.
    """
    capacity, asked = 100_000, 1_000_000
    for fpr in (1e-1, 1e-2, 1e-3):
        counted = damo.PyFilter({"capacity": capacity, "fpr": fpr})
        counted.add(np.arange(capacity, dtype=np.uint64))
        measured = counted.check(np.arange(capacity, capacity + asked, dtype=np.uint64)).mean()
        counters = -capacity * math.log(fpr) / math.log(2) ** 2
        probes = round(-math.log2(fpr))
        theory = (1 - math.exp(-probes * capacity / counters)) ** probes
        with capsys.disabled():
            print(f"\nfpr {fpr:g}: theory {theory:.3e}, measured {measured:.3e}", end="")
        assert abs(measured - theory) <= 0.1 * theory + 4 * math.sqrt(theory / asked)
        assert counted.fill == pytest.approx(1 - math.exp(-probes * capacity / counters), rel=0.01)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"capacity": 0}, r"'capacity' must be an integer in \[1, 2\^32\]. Received: capacity=0"),
        ({"capacity": 1.5}, r"Received: capacity=1.5"),
        ({"capacity": 2**32 + 1}, "'capacity' must be"),
        ({"fpr": 0.0}, r"'fpr' must be in \(0, 1\). Received: fpr=0"),
        ({"fpr": 0.9}, r"`filter_fpr` must be in \[1e-09, 0.5\]. Received: filter_fpr=0.9"),
        ({"min_count": 0}, r"'min_count' must be an integer in \[1, 15\]. Received: min_count=0"),
        ({"min_count": 16}, "Received: min_count=16"),
        ({"count": 3}, "filter 'counting_bloom' has no parameter 'count'"),
        ({"name": "cuckoo"}, "unknown filter 'cuckoo'; known: 'counting_bloom'"),
    ],
)
def test_a_bad_parameter_is_refused_by_name_rule_and_value(parameters, text):
    with pytest.raises(ValueError, match=text):
        damo.PyFilter(parameters)


@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        (-1, ValueError, r"`key` must be in \[0, 2\^64\). Received: key=-1"),
        (2**64, ValueError, "Received: key=18446744073709551616"),
        (1.0, TypeError, "`key` must be an int, or a one-dimensional contiguous NumPy array of dtype uint64"),
        (np.array([1]), TypeError, "Received dtype: int64"),
        (np.zeros((1, 1), np.uint64), ValueError, "Received rank: 2"),
    ],
)
def test_a_bad_key_is_refused_and_counts_nothing(key, error, text):
    counted = damo.PyFilter({"capacity": 10})
    for call in (counted.add, counted.check, counted.count):
        with pytest.raises(error, match=text):
            call(key)
    assert counted.fill == 0


def test_a_negative_number_of_occurrences_is_refused():
    with pytest.raises(ValueError, match=r"`n` must be >= 0. Received: n=-1"):
        damo.PyFilter({"capacity": 10}).add(1, -1)
