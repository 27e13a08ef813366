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
    assert measured <= limit
    assert limit < 2 * measured or limit == measured == 0


def test_what_is_within_its_limits_is_printed_and_passes(capsys):
    assert counted_work.over_limits(figures_of(), LIMITS) == []
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(BOUNDS)


def test_each_figure_over_its_limit_is_named(capsys):
    over = counted_work.over_limits(figures_of(factor=2.0), LIMITS)
    expected = [figure for figure, bounds in BOUNDS.items() if bounds["measured"] > 0]
    assert [line.partition(":")[0] for line in over] == expected
    assert capsys.readouterr().out.count("  OVER") == len(expected)
