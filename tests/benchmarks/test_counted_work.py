# SPDX-License-Identifier: Apache-2.0
"""The guard that counts work instead of timing it: its limits, and that it tells when one is passed."""

import json

import pytest

from benchmarks import counted_work

LIMITS = json.loads(counted_work.LIMITS.read_text(encoding="utf-8"))
BOUNDS = {f"{part} {name}": bounds for part, figures in LIMITS.items() for name, bounds in figures.items()}


def figures_of(factor: float = 1.0) -> counted_work.Figures:
    """What was measured when the limits were set, times a factor."""
    return {
        part: {name: factor * bounds["measured"] for name, bounds in figures.items()}
        for part, figures in LIMITS.items()
    }


@pytest.mark.parametrize("figure", BOUNDS)
def test_what_was_measured_is_allowed_and_twice_of_it_is_not(figure):
    measured, limit = BOUNDS[figure]["measured"], BOUNDS[figure]["limit"]
    assert BOUNDS[figure].get("at_least", 0) <= measured <= limit
    assert limit < 2 * measured or limit == measured == 0


def test_what_is_within_its_limits_is_printed_and_passes(capsys):
    assert counted_work.beyond_limits(figures_of(), LIMITS) == []
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(BOUNDS)


def test_each_figure_over_its_limit_is_named(capsys):
    over = counted_work.beyond_limits(figures_of(factor=2.0), LIMITS)
    expected = [figure for figure, bounds in BOUNDS.items() if bounds["measured"] > 0]
    assert [line.partition(":")[0] for line in over] == expected
    assert capsys.readouterr().out.count("  OVER") == len(expected)


def test_work_that_is_no_longer_split_over_threads_is_named(capsys):
    figures = figures_of()
    expected = []
    for part in LIMITS:
        if part.endswith("_with_4_threads"):
            name = "multiget_calls_per_step" if "_on_disk_" in part else "blocks_per_step"
            figures[part][name] = 1.0
            expected.append(f"{part} {name}: 1 < {LIMITS[part][name]['at_least']}")
    assert len(expected) == 4
    assert counted_work.beyond_limits(figures, LIMITS) == expected
    assert capsys.readouterr().out.count("  BELOW") == 4
