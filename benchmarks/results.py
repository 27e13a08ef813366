# SPDX-License-Identifier: Apache-2.0
"""What workloads find: step times, targets, figures and curves."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.timing import Measurement


@dataclass(frozen=True)
class Target:
    """A ratio that is asked for.

    Attributes:
        text: what is compared to what.
        measured: the ratio found.
        limit: the ratio asked for.
        at_least: whether more is better.
    """

    text: str
    measured: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether the ratio is as good as asked for."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass(frozen=True)
class Section:
    """What one workload found.

    Attributes:
        title: says what was measured.
        times: contender to its step times.
        batch: ids in a step.
        reference: the contender that others are compared to.
        targets: ratios of DESIGN's table.
        figures: name to value with unit.
        curves: name to points (rows of the table, milliseconds of a step).
        settled: whether the times with all background work on the clock are told as well.
    """

    title: str
    times: dict[str, Measurement] = field(default_factory=dict)
    batch: int = 0
    reference: str | None = None
    targets: list[Target] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    settled: bool = False


def faster(
    times: dict[str, Measurement], name: str, rival: str, limit: float, *, settled: bool = False
) -> list[Target]:
    """The target that `name` takes at most 1/limit of the rival's time; none if one of them did not run.

    Args:
        times: contender to its step times.
        name: who is to be faster.
        rival: than whom.
        limit: how many times.
        settled: whether to compare with all background work on the clock.
    """
    if name not in times or rival not in times:
        return []
    ours, theirs = (times[who].settled if settled else times[who] for who in (name, rival))
    text = f"{name}: times as fast as {rival}{', background work included' if settled else ''}"
    return [Target(text, theirs.median / ours.median, limit, at_least=True)]


def share_of(times: dict[str, Measurement], name: str, rival: str, limit: float) -> list[Target]:
    """The target that `name` takes at most `limit` times the rival's time; none if one did not run."""
    if name not in times or rival not in times:
        return []
    ratio = times[name].median / times[rival].median
    return [Target(f"{name}: share of the time of {rival}", ratio, limit, at_least=False)]
