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


def test_reads_that_are_no_longer_split_over_threads_are_named(capsys):
    figures = figures_of()
    parts = [part for part in figures if part.endswith("_with_4_threads")]
    for part in parts:
        figures[part]["multiget_calls_per_step"] = 1.0
    expected = [f"{part} multiget_calls_per_step: 1 < 4" for part in parts]
    assert len(parts) == 2
    assert counted_work.beyond_limits(figures, LIMITS) == expected
    assert capsys.readouterr().out.count("  BELOW") == 2
