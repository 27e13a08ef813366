# SPDX-License-Identifier: Apache-2.0
"""Operator's tools on a store that is larger than its memory budget: rows a second, and memory."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

from benchmarks.bench import FULL_BUDGET, MIB, Bench
from benchmarks.contenders import Settings
from benchmarks.launcher import Worker
from benchmarks.results import Section, Target

#: Tools of `benchmarks.contenders.damo_module` that leave the store as it is, in the order they run.
TOOLS = {"dump": "dump", "verify": "verify", "checkpoint": "checkpoint", "expire": "expire, no row due"}
#: One more, which leaves no row.
EXPIRE_ALL = "expire, every row due"
ITERATOR = "bare RocksDB iterator"
#: What a tool may use besides the store's memory budget.
OVERHEAD_BYTES = 200 * MIB
#: The least that a store opens with.
LEAST_BUDGET = 4 * MIB
#: Tools that look and change nothing: what a reader beside a writer runs.
READING_TOOLS = ("dump", "verify")
#: Rows that the writer beside it has updated and only its log has: as many as it lets be dirty.
LOGGED_ROWS = 1_000_000
#: A time to live that a row has outlived by the time it is opened again; and one that none does.
SHORT_TTL, LONG_TTL = 1, 10**9


def measure(bench: Bench) -> list[Section]:
    """Each tool and the iterator in turns, on the same files; then what removes rows. Of damo_tf alone."""
    if not bench.has("damo_layer"):
        return []
    sizes = bench.sizes
    settings = Settings(memory_budget=sizes.small_budget, ttl_seconds=LONG_TTL)
    settings = replace(settings, directory=str(bench.filled_copy("damo_layer", sizes.tool_rows, settings)))
    # Its own process, so that neither has the other's memory; read-only beside the one that writes. First,
    # for a writer that has just opened the store deletes files which a reader may be about to open.
    iterator = bench.start("plain_iterator", settings) if bench.has("plain_rocksdb") else None
    store = bench.start("damo_module", settings)
    runs = {text: (store, tool) for tool, text in TOOLS.items()}
    if iterator is not None:
        runs[ITERATOR] = (iterator, "iterate")
    found = take_tool_turns(runs, sizes.plan.repetitions)
    loaded_bytes = store.call("figures")["loaded_bytes"]
    bench.discard(*(worker for worker in (store, iterator) if worker is not None))
    found[EXPIRE_ALL] = expire_all(bench, settings)
    return [section(bench, found, loaded_bytes), read_beside_writer(bench)]


def section(bench: Bench, found: dict[str, dict[str, float]], loaded_bytes: float) -> Section:
    """The page's part: speeds, and memory of each tool at its peak."""
    sizes = bench.sizes
    tools = {name: figures for name, figures in found.items() if name != ITERATOR}
    peak = max(figures["peak_bytes"] for figures in tools.values())
    limit = sizes.small_budget + OVERHEAD_BYTES
    targets = [Target("tools: peak memory / (budget + 200 MiB)", peak / limit, 1.0, at_least=False)]
    if ITERATOR in found:
        ratio = found["dump"]["speed"] / found[ITERATOR]["speed"]
        targets.append(Target(f"dump: times as fast as a {ITERATOR}", ratio, 0.5, at_least=True))
    texts = {name: f"{figures['speed']:,.0f} rows/s" for name, figures in found.items()}
    for name, figures in tools.items():
        texts[name] += f", peak memory of the process {figures['peak_bytes'] / MIB:,.0f} MiB"
    texts["of this before the store was opened"] = f"{loaded_bytes / MIB:,.0f} MiB"
    budget = sizes.small_budget // MIB
    return Section(f"tools: {sizes.tool_rows:,} rows, budget {budget} MiB", targets=targets, figures=texts)


def take_tool_turns(runs: dict[str, tuple[Worker, str]], repetitions: int) -> dict[str, dict[str, float]]:
    """Of each tool the `speed` in rows a second, the median of the turns, and its `peak_bytes`.

    The first turn, which brings files into the page cache, counts for memory only.
    """
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for _ in range(repetitions + 1):
        for name, (worker, tool) in runs.items():
            answers[name].append(worker.call("tool", name=tool))
    return {
        name: {
            "speed": median(answer["rows"] / answer["seconds"] for answer in turns[1:]),
            "peak_bytes": max(answer["peak_bytes"] for answer in turns),
        }
        for name, turns in answers.items()
    }


def expire_all(bench: Bench, settings: Settings) -> dict[str, float]:
    """The same of one pass that removes every row: there is no second one over the same rows."""
    store = bench.start("damo_module", replace(settings, ttl_seconds=SHORT_TTL))
    answer = store.call("tool", name="expire")
    bench.discard(store)
    return {"speed": answer["rows"] / answer["seconds"], "peak_bytes": answer["peak_bytes"]}


def read_beside_writer(bench: Bench) -> Section:
    """Tools of a reader with a small budget, beside a writer whose log has far more than fits there."""
    sizes = bench.sizes
    rows = min(LOGGED_ROWS, sizes.tool_rows)
    settings = Settings(memory_budget=FULL_BUDGET)
    settings = replace(settings, directory=str(bench.filled_copy("damo_layer", sizes.tool_rows, settings)))
    writer = bench.start("damo_module", settings)
    writer.call("prefill", first=0, last=rows)
    log_bytes = writer.call("figures")["redo_bytes"]
    budget = max(sizes.small_budget // 16, LEAST_BUDGET)
    reader = bench.start("damo_module", replace(settings, memory_budget=budget, read_only=True))
    opened = reader.call("figures")
    peaks = {"opening": opened["VmHWM"]}
    for tool in READING_TOOLS:
        peaks[tool] = reader.call("tool", name=tool)["peak_bytes"]
    bench.discard(reader)
    bench.discard(writer)
    texts = {f"peak memory of the process, {name}": f"{peak / MIB:,.0f} MiB" for name, peak in peaks.items()}
    texts["of this before the store was opened"] = f"{opened['loaded_bytes'] / MIB:,.0f} MiB"
    texts["opening"] = f"{opened['open_seconds']:,.1f} s"
    ratio = max(peaks.values()) / (budget + OVERHEAD_BYTES)
    log = f"{log_bytes / MIB:,.0f} MiB of redo log"
    title = f"tools beside a writer: {log}, {rows:,} rows, budget {budget // MIB} MiB"
    target = Target("reader: peak memory / (budget + 200 MiB)", ratio, 1.0, at_least=False)
    return Section(title, targets=[target], figures=texts)
