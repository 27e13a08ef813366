# SPDX-License-Identifier: Apache-2.0
"""Operator's tools on a store that is larger than its memory budget: rows a second, and memory."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

from benchmarks.bench import MIB, Bench
from benchmarks.contenders import Settings
from benchmarks.launcher import Worker
from benchmarks.results import Section, Target

#: Tools of `benchmarks.contenders.damo_module`, in the order they run.
TOOLS = ("dump",)
ITERATOR = "bare RocksDB iterator"
#: What a tool may use besides the store's memory budget.
OVERHEAD_BYTES = 200 * MIB


def measure(bench: Bench) -> list[Section]:
    """Each tool and the iterator in turns, on the same files; of damo_tf alone."""
    if not bench.has("damo_layer"):
        return []
    sizes = bench.sizes
    settings = Settings(memory_budget=sizes.small_budget)
    settings = replace(settings, directory=str(bench.filled_copy("damo_layer", sizes.tool_rows, settings)))
    store = bench.start("damo_module", settings)
    # Its own process, so that neither has the other's memory; read-only beside the one that writes.
    runs = {tool: (store, tool) for tool in TOOLS}
    iterator = bench.start("plain_iterator", settings) if bench.has("plain_rocksdb") else None
    if iterator is not None:
        runs[ITERATOR] = (iterator, "iterate")
    speeds = rows_a_second(runs, sizes.plan.repetitions)
    figures = store.call("figures")
    bench.discard(*(worker for worker in (store, iterator) if worker is not None))
    limit = sizes.small_budget + OVERHEAD_BYTES
    targets = [Target("damo_tf: peak memory / (budget + 200 MiB)", figures["VmHWM"] / limit, 1.0, False)]
    if ITERATOR in speeds:
        text = f"dump: times as fast as a {ITERATOR}"
        targets.append(Target(text, speeds["dump"] / speeds[ITERATOR], 0.5, at_least=True))
    return [
        Section(
            f"tools: {sizes.tool_rows:,} rows, budget {sizes.small_budget // MIB} MiB",
            targets=targets,
            figures={
                **{name: f"{speed:,.0f} rows/s" for name, speed in speeds.items()},
                "peak memory of the process": f"{figures['VmHWM'] / MIB:,.0f} MiB",
                "of this before the store was opened": f"{figures['loaded_bytes'] / MIB:,.0f} MiB",
            },
        )
    ]


def rows_a_second(runs: dict[str, tuple[Worker, str]], repetitions: int) -> dict[str, float]:
    """The median of the turns; the first turn, which brings files into the page cache, does not count."""
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions + 1):
        for name, (worker, tool) in runs.items():
            answer = worker.call("tool", name=tool)
            speeds[name].append(answer["rows"] / answer["seconds"])
    return {name: median(found[1:]) for name, found in speeds.items()}
