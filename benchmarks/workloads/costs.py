# SPDX-License-Identifier: Apache-2.0
"""What durability and memory cost: bytes, seconds of opening, threads, look-ahead."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.bench import MIB, Bench
from benchmarks.contenders import Settings
from benchmarks.launcher import run
from benchmarks.results import Section, Target
from benchmarks.timing import take_turns

NOT_AVAILABLE = "not available in this version"

LOOK_AHEAD_DEPTH = 2


@dataclass(frozen=True)
class LookAhead:
    """Steps whose rows are read ahead or not.

    Attributes:
        hot_share: of ids, whose rows are in memory anyway.
        device: whether steps wait for a device, or take what there is of the processor.
        cold_files: whether rows that are read come from the disk, or from the system's page cache.
    """

    hot_share: float
    device: bool = False
    cold_files: bool = False

    def title(self, device_seconds: float) -> str:
        """What is measured."""
        wait = f", {device_seconds * 1e3:.0f} ms of each step on a device" if self.device else ""
        cold = ", files not in the page cache" if self.cold_files else ""
        return f"look-ahead with prefetch_rows: {self.hot_share:.0%} of ids hot{wait}{cold}"


LOOK_AHEAD = (
    LookAhead(0.5),
    LookAhead(0.9),
    LookAhead(0.99),
    LookAhead(0.9, device=True),
    LookAhead(0.9, cold_files=True),
    LookAhead(0.9, device=True, cold_files=True),
)


def measure(bench: Bench) -> list[Section]:
    """Everything but step times of the other workloads; of damo_tf alone."""
    if not bench.has("damo_layer"):
        return []
    return [*bytes_of_rows(bench), *opening(bench), *threads(bench), *look_ahead(bench)]


def bytes_of_rows(bench: Bench) -> list[Section]:
    """Figures and targets about bytes on disk, in memory, and written."""
    sizes = bench.sizes
    disk_row = folder_bytes(bench.filled("damo_layer", sizes.hot_rows, Settings())) / sizes.hot_rows
    ids = bench.streams.zipf(sizes.hot_rows, sizes.plan.last, sizes.batch)
    worker = bench.start_filled("damo_layer", sizes.hot_rows)
    worker.call("prefill", first=0, last=sizes.hot_rows)  # brings the rows into memory
    worker.call("settle")
    before = worker.call("figures")
    seconds = run(worker, ids, 0, sizes.plan.last)
    running = worker.call("figures")
    seconds += worker.call("settle")["seconds"]
    after = worker.call("figures")
    bench.discard(worker)
    updated = after["updated"] - before["updated"]
    row_bytes = after["bytes"] / after["rows"]
    logged = (running["wchar"] - before["wchar"]) / updated
    written = (after["write_bytes"] - before["write_bytes"]) / (updated * row_bytes)
    figures = {
        "key and row": f"{row_bytes:.0f} bytes",
        "on disk per row, all files of a closed store": f"{disk_row:.0f} bytes",
        "written per updated row before flush() (redo log, and what was flushed on the way)": (
            f"{logged:.0f} bytes"
        ),
        "written to disk / bytes of updated rows, flush() included": f"{written:.2f}",
        f"{sizes.plan.last} steps in a row and the flush, per step": (
            f"{seconds / sizes.plan.last * 1e3:.1f} ms"
        ),
        "memory per cached row": NOT_AVAILABLE,
    }
    targets = []
    if running.get("cache_rows"):
        cached = running["cache_bytes"] / running["cache_rows"]
        figures["memory per cached row"] = f"{cached:.0f} bytes"
        targets.append(
            Target("damo_tf: memory of a cached row / its bytes on disk", cached / row_bytes, 1.25, False)
        )
    title = f"bytes: {sizes.hot_rows:,} rows in memory, {sizes.batch:,} Zipf ids a step, durability wal"
    return [Section(title, figures=figures, targets=targets)]


def opening(bench: Bench) -> list[Section]:
    """How long a store takes to open after a kill."""
    title = "opening after a kill, by what the dead process had logged"
    return [Section(title, figures=crashes(bench))]


def crashes(bench: Bench) -> dict[str, str]:
    """Seconds that opening takes after a process was killed."""
    sizes = bench.sizes
    ids = bench.streams.zipf(sizes.hot_rows, max(sizes.redo_steps), sizes.batch)
    found = {}
    for steps in (0, *sizes.redo_steps):
        directory = bench.filled_copy("damo_layer", sizes.hot_rows, Settings())
        before = folder_bytes(directory)
        worker = bench.start("damo_module", Settings(directory=str(directory)))
        run(worker, ids, 0, steps)
        worker.kill()
        grown = folder_bytes(directory) - before
        worker = bench.start("damo_module", Settings(directory=str(directory)))
        seconds = worker.call("figures")["open_seconds"]
        bench.discard(worker)
        found[f"{steps} steps, files grown by {grown / MIB:.1f} MiB"] = f"{seconds:.2f} s"
    return found


def threads(bench: Bench) -> list[Section]:
    """Hot steps with one and with two threads for TensorFlow's kernels."""
    sizes = bench.sizes
    plan = replace(sizes.plan, steps=4 * sizes.plan.steps)
    ids = bench.streams.zipf(sizes.hot_rows, plan.last, sizes.batch)
    workers = {
        f"damo_tf, {number} thread{'s'[: number - 1]}": bench.start_filled(
            "damo_layer", sizes.hot_rows, threads=number
        )
        for number in (1, 2)
    }
    for worker in workers.values():
        worker.call("prefill", first=0, last=sizes.hot_rows)  # brings the rows into memory
    times = take_turns(workers, dict.fromkeys(workers, ids), plan)
    bench.discard(*workers.values())
    title = f"threads: hot, {sizes.batch:,} Zipf ids a step"
    return [Section(title, times, sizes.batch, "damo_tf, 1 thread")]


def look_ahead(bench: Bench) -> list[Section]:
    """Steps with and without look-ahead, over the same dataset."""
    if not can_look_ahead(bench):
        return [Section("look-ahead", figures={"damo_tf.data.prefetch_rows": NOT_AVAILABLE})]
    directories = {
        depth: bench.filled_copy("damo_layer", bench.sizes.large_rows, Settings())
        for depth in (0, LOOK_AHEAD_DEPTH)
    }
    return [look_ahead_case(bench, case, directories) for case in LOOK_AHEAD]


def can_look_ahead(bench: Bench) -> bool:
    """Whether this damo_tf has look-ahead."""
    worker = bench.start("damo_layer", Settings())
    figures = worker.call("figures")
    bench.discard(worker)
    return bool(figures["can_prefetch"])


def look_ahead_case(bench: Bench, case: LookAhead, directories: dict[int, Path]) -> Section:
    """One case; `directories` has a filled store for each depth."""
    sizes = bench.sizes
    plan = replace(sizes.plan, steps=sizes.look_ahead_steps)
    settings = Settings(
        memory_budget=sizes.small_budget,
        device_seconds=sizes.device_seconds if case.device else 0.0,
        cold_files=case.cold_files,
    )
    workers = {
        f"damo_tf{', prefetch_rows' if depth else ''}": bench.start(
            "damo_layer", replace(settings, directory=str(directory), look_ahead=depth)
        )
        for depth, directory in directories.items()
    }
    hot = sizes.large_rows // 100
    ids = bench.streams.mixed(hot, sizes.large_rows, case.hot_share, plan.last, sizes.batch)
    times = take_turns(workers, dict.fromkeys(workers, ids), plan)
    bench.discard(*workers.values())
    return Section(case.title(sizes.device_seconds), times, sizes.batch, "damo_tf")


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
