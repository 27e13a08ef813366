# SPDX-License-Identifier: Apache-2.0
"""Contenders take turns: A B C, A B C, ...; what disturbs the machine disturbs them all."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchmarks.ids import IdFile
from benchmarks.launcher import Worker, run


@dataclass(frozen=True)
class Measurement:
    """Seconds of a step in each repetition: the mean over the steps taken in one go.

    Attributes:
        seconds: on the clock.
        settling: what a repetition's steps left to be done in the background took afterwards, for each step;
            empty if it is in `seconds`.
    """

    seconds: tuple[float, ...]
    settling: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    @property
    def low(self) -> float:
        """The fastest."""
        return min(self.seconds)

    @property
    def high(self) -> float:
        """The slowest."""
        return max(self.seconds)

    @property
    def settled(self) -> Measurement:
        """The same with all background work on the clock."""
        if not self.settling:
            return self
        return Measurement(tuple(map(sum, zip(self.seconds, self.settling, strict=True))))


@dataclass(frozen=True)
class Plan:
    """Which batches of its file a contender takes, and when.

    Attributes:
        warmup: steps before the clock starts.
        steps: steps in one turn.
        repetitions: turns.
        first: batch to begin with.
    """

    warmup: int
    steps: int
    repetitions: int
    first: int = 0

    @property
    def last(self) -> int:
        """The batch after the last one taken."""
        return self.first + self.warmup + self.steps * self.repetitions


def take_turns(
    workers: dict[str, Worker], ids: dict[str, IdFile], plan: Plan, *, count_settling: bool = False
) -> dict[str, Measurement]:
    """Step times of all contenders, each on its ids.

    After each turn a contender ends its work in the background, so that it does not run on another's time.

    Args:
        workers: name to contender.
        ids: name to its ids; the same file, where contenders are to be compared.
        plan: how many steps.
        count_settling: whether that work counts; it does where writing is what is measured.
    """
    for name, worker in workers.items():
        for first in range(plan.first, plan.first + plan.warmup, plan.steps):
            run(worker, ids[name], first, min(plan.steps, plan.first + plan.warmup - first))
        worker.call("settle")
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    settling: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(plan.repetitions):
        first = plan.first + plan.warmup + turn * plan.steps
        for name, worker in workers.items():
            elapsed = run(worker, ids[name], first, plan.steps)
            seconds[name].append(elapsed / plan.steps)
            settling[name].append(worker.call("settle")["seconds"] / plan.steps)
    times = {name: Measurement(tuple(seconds[name]), tuple(settling[name])) for name in workers}
    return {name: time.settled for name, time in times.items()} if count_settling else times
