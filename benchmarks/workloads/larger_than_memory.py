# SPDX-License-Identifier: Apache-2.0
"""A table of several times the memory budget: Zipf ids, whose hot ones fit, and uniform ids, which miss."""

from __future__ import annotations

import time
from dataclasses import replace

from benchmarks.bench import MIB, Bench
from benchmarks.contenders import Settings
from benchmarks.ids import IdFile
from benchmarks.launcher import Worker
from benchmarks.results import Section, Target, faster
from benchmarks.timing import Measurement, Plan, take_turns

#: Rows of the variable in a process that stands for "TensorFlow alone".
BARE_ROWS = 1_000
#: Looks at a contender that never stops writing.
MOST_LOOKS = 60


def start(bench: Bench) -> dict[str, Worker]:
    """All contenders that keep rows on disk."""
    rows = bench.sizes.large_rows
    settings = Settings(memory_budget=bench.sizes.small_budget)
    workers: dict[str, Worker] = {}
    for contender, name in {"damo_layer": "damo_tf", "plain_rocksdb": "plain RocksDB"}.items():
        if bench.has(contender):
            workers[name] = bench.start_filled(contender, rows, settings)
    if bench.has("damo_embedding_torch"):
        workers["damo-embedding"] = bench.start("damo_embedding_torch", settings)
        workers["damo-embedding"].call("prefill", first=0, last=rows)
    return workers


def measure(bench: Bench) -> list[Section]:
    """Zipf ids, then uniform ids on the same tables, then the memory that both took."""
    sizes = bench.sizes
    plan = replace(sizes.plan, warmup=sizes.fill)
    workers = start(bench)
    zipf = bench.streams.zipf(sizes.large_rows, plan.last, sizes.batch)
    uniform = bench.streams.uniform(sizes.large_rows, plan.last, sizes.batch)
    table = f"{sizes.large_rows:,} rows, budget {sizes.small_budget // MIB} MiB"
    zipf_times, zipf_written = measured_writes(workers, zipf, plan, sizes.still_seconds)
    uniform_times, uniform_written = measured_writes(workers, uniform, plan, sizes.still_seconds)
    sections = [
        Section(
            f"larger than memory: {table}, {sizes.batch:,} Zipf ids a step",
            zipf_times,
            sizes.batch,
            "damo_tf",
            settled=True,
            targets=faster(zipf_times, "damo_tf", "damo-embedding", 20),
            figures=zipf_written,
        ),
        Section(
            f"nearly every id a miss: {table}, {sizes.batch:,} uniform ids a step",
            uniform_times,
            sizes.batch,
            "damo_tf",
            settled=True,
            targets=[
                *faster(uniform_times, "damo_tf", "plain RocksDB", 1.5),
                *faster(uniform_times, "damo_tf", "plain RocksDB", 1.5, settled=True),
            ],
            figures=uniform_written,
        ),
    ]
    if "damo_tf" in workers and bench.has("tf_variable"):
        sections.append(memory(bench, workers["damo_tf"]))
    bench.discard(*workers.values())
    return sections


def measured_writes(
    workers: dict[str, Worker], ids: IdFile, plan: Plan, still_seconds: float
) -> tuple[dict[str, Measurement], dict[str, str]]:
    """Step times, and what each contender wrote to the disk for its steps, compaction included.

    All update the same rows, whose bytes damo_tf counts; without it nothing is said about writes.
    """
    before = {name: figures_when_still(worker, still_seconds) for name, worker in workers.items()}
    times = take_turns(workers, dict.fromkeys(workers, ids), plan)
    after = {name: figures_when_still(worker, still_seconds) for name, worker in workers.items()}
    if "damo_tf" not in workers:
        return times, {}
    damo = after["damo_tf"]
    updated = damo["updated"] - before["damo_tf"]["updated"]
    updated_bytes = updated * damo["bytes"] / damo["rows"]
    figures = {"bytes of a key and its row": f"{damo['bytes'] / damo['rows']:.0f}"}
    for name in workers:
        written = after[name]["write_bytes"] - before[name]["write_bytes"]
        figures[f"{name}: written to disk / bytes of updated rows"] = f"{written / updated_bytes:.2f}"
    return times, figures


def figures_when_still(worker: Worker, still_seconds: float) -> dict[str, float]:
    """A contender's figures once it has written nothing for so long: flushed rows are merged for a while."""
    worker.call("settle")
    figures = worker.call("figures")
    for _ in range(MOST_LOOKS):
        time.sleep(still_seconds)
        written = figures["write_bytes"]
        figures = worker.call("figures")
        if figures["write_bytes"] == written:
            break
    return figures


def memory(bench: Bench, damo: Worker) -> Section:
    """Peak resident memory over that of a process in which TensorFlow takes like steps on few rows."""
    plan = bench.sizes.plan
    ids = bench.streams.zipf(BARE_ROWS, plan.last, bench.sizes.batch)
    bare = bench.start("tf_variable", Settings(rows=BARE_ROWS))
    take_turns({"bare": bare}, {"bare": ids}, plan)
    bare_bytes = bare.call("figures")["VmHWM"]
    bench.discard(bare)
    figures = damo.call("figures")
    over, budget = figures["VmHWM"] - bare_bytes, bench.sizes.small_budget
    return Section(
        "resident memory, larger than memory",
        targets=[Target("damo_tf: peak over a bare TensorFlow process / budget", over / budget, 1.15, False)],
        figures={
            "peak of a bare TensorFlow process": f"{bare_bytes / MIB:,.0f} MiB",
            "peak of damo_tf": f"{figures['VmHWM'] / MIB:,.0f} MiB",
            "of this before the store was opened": f"{figures['loaded_bytes'] / MIB:,.0f} MiB",
            "now": f"{figures['VmRSS'] / MIB:,.0f} MiB",
            "budget": f"{budget / MIB:,.0f} MiB",
        },
    )
