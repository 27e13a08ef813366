# SPDX-License-Identifier: Apache-2.0
"""What every workload works with: sizes, contenders, ids and stores that already hold rows."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.contenders import Settings
from benchmarks.ids import Streams
from benchmarks.launcher import Launch, Worker
from benchmarks.timing import Plan

MIB = 1 << 20
FULL_PLAN = Plan(warmup=8, steps=4, repetitions=7)

#: Contender to the one that makes its files, where it is another.
FILLED_BY = {"damo_layer": "damo_module", "deepfm": "damo_module"}
#: Bytes of a contender's memory where the table is meant to fit.
FULL_BUDGET = 1 << 30


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
        hot_rows: rows of the table that fits in memory.
        large_rows: rows of the one that does not.
        tool_rows: rows of the store that operator's tools work on.
        table_rows: rows of the tables of growing size.
        small_budget: bytes; `large_rows` do not fit in them.
        batch: ids in a step.
        small_batch: ids in a small step.
        deepfm_batch: examples in a step of DeepFM.
        deepfm_rows: ids of its tables, small and large.
        plan: steps of most workloads.
        sustained_steps: in a row, of damo_tf; of who takes ten times as long, a tenth of them.
        fill: steps before the clock starts until a small budget is full.
        redo_steps: steps after which a process is killed.
        look_ahead_steps: in one turn, where look-ahead is measured: it begins anew with each turn.
        device_seconds: of a step, where it waits for a device.
        engine_seconds: of each repetition of a micro-benchmark.
        still_seconds: without a write, after which compaction is taken to have ended.
    """

    hot_rows: int = 1_000_000
    large_rows: int = 10_000_000
    tool_rows: int = 5_000_000
    table_rows: tuple[int, ...] = (10_000, 100_000, 1_000_000, 10_000_000, 20_000_000)
    small_budget: int = 256 * MIB
    batch: int = 65_536
    small_batch: int = 4_096
    deepfm_batch: int = 4_096
    deepfm_rows: tuple[int, int] = (100_000, 10_000_000)
    plan: Plan = FULL_PLAN
    sustained_steps: int = 1_500
    fill: int = 40
    redo_steps: tuple[int, ...] = (4, 16, 64, 256, 512)
    look_ahead_steps: int = 16
    device_seconds: float = 0.1
    engine_seconds: float = 0.2
    still_seconds: float = 2.0

    def up_to(self, max_rows: int) -> Sizes:
        """The same with no table of more rows."""
        return replace(
            self,
            hot_rows=min(self.hot_rows, max_rows),
            large_rows=min(self.large_rows, max_rows),
            tool_rows=min(self.tool_rows, max_rows),
            table_rows=tuple(sorted({min(rows, max_rows) for rows in self.table_rows})),
            deepfm_rows=(min(self.deepfm_rows[0], max_rows), min(self.deepfm_rows[1], max_rows)),
        )


FULL = Sizes()
#: Two minutes: says whether all works, and roughly where things stand.
QUICK = Sizes(
    hot_rows=100_000,
    large_rows=400_000,
    tool_rows=400_000,
    table_rows=(10_000, 100_000, 400_000),
    small_budget=16 * MIB,
    batch=16_384,
    deepfm_batch=1_024,
    deepfm_rows=(10_000, 400_000),
    plan=Plan(warmup=3, steps=2, repetitions=3),
    sustained_steps=100,
    fill=4,
    redo_steps=(2, 8),
    look_ahead_steps=8,
    device_seconds=0.02,
    engine_seconds=0.05,
    still_seconds=1.0,
)
#: Seconds: touches everything and says nothing about speed.
TINY = Sizes(
    hot_rows=2_000,
    large_rows=4_000,
    tool_rows=4_000,
    table_rows=(1_000, 2_000),
    small_budget=4 * MIB,
    batch=256,
    small_batch=64,
    deepfm_batch=32,
    deepfm_rows=(520, 2_600),
    plan=Plan(warmup=1, steps=1, repetitions=2),
    sustained_steps=10,
    fill=1,
    redo_steps=(2,),
    look_ahead_steps=2,
    device_seconds=0.001,
    engine_seconds=0.001,
    still_seconds=0.01,
)


class Bench:
    """The workbench.

    Args:
        folder: for ids and stores; the caller removes it.
        launch: starts contenders.
        sizes: of this run.
        contenders: modules of `benchmarks.contenders` that run; `None`: all.
    """

    def __init__(
        self, folder: Path, launch: Launch, sizes: Sizes, contenders: frozenset[str] | None = None
    ) -> None:
        self.folder = folder
        self.launch = launch
        self.sizes = sizes
        self.streams = Streams(folder)
        self._contenders = contenders
        self._num_copies = 0

    def has(self, contender: str) -> bool:
        """Whether a contender takes part."""
        return self._contenders is None or contender in self._contenders

    def start(self, contender: str, settings: Settings, *, threads: int | None = None) -> Worker:
        """Launches a contender; one that wants files and has none gets an empty folder."""
        if not settings.directory:
            settings = replace(settings, directory=str(self._new_path(contender)))
        return self.launch(contender, settings, threads=threads)

    def start_filled(
        self, contender: str, rows: int, settings: Settings | None = None, *, threads: int | None = None
    ) -> Worker:
        """Launches a contender on a folder of its own in which every rank below `rows` has a row."""
        settings = settings or Settings()
        copy = self.filled_copy(contender, rows, settings)
        return self.launch(contender, replace(settings, directory=str(copy)), threads=threads)

    def filled_copy(self, contender: str, rows: int, settings: Settings) -> Path:
        """A copy of the contender's files with `rows` rows."""
        copy = self._new_path(contender)
        shutil.copytree(self.filled(contender, rows, settings), copy)
        return copy

    def filled(self, contender: str, rows: int, settings: Settings) -> Path:
        """The contender's files with `rows` rows, closed cleanly; made from those of a smaller table."""
        path = self._filled_path(contender, rows)
        if not path.exists():
            smaller = [r for r in self._filled_rows(contender) if r < rows]
            first = max(smaller, default=0)
            if first:
                shutil.copytree(self._filled_path(contender, first), path)
            worker = self.launch(
                FILLED_BY.get(contender, contender),
                replace(
                    settings,
                    directory=str(path),
                    memory_budget=FULL_BUDGET,
                    durability="checkpoint",
                    look_ahead=None,
                ),
            )
            worker.call("prefill", first=first, last=rows)
            worker.call("settle")
            worker.call("close")
        return path

    def discard(self, *workers: Worker) -> None:
        """Ends contenders that are no longer needed."""
        for worker in workers:
            worker.call("close")

    def _filled_path(self, contender: str, rows: int) -> Path:
        return self.folder / f"filled-{contender}-{rows}"

    def _filled_rows(self, contender: str) -> list[int]:
        prefix = f"filled-{contender}-"
        return [int(path.name.removeprefix(prefix)) for path in self.folder.glob(f"{prefix}*")]

    def _new_path(self, contender: str) -> Path:
        self._num_copies += 1
        return self.folder / f"{contender}-{self._num_copies}"
