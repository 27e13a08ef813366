# SPDX-License-Identifier: Apache-2.0
"""A table of several times the memory budget: Zipf ids, whose hot ones fit, and uniform ids, which miss."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bench import MIB, Bench
from benchmarks.contenders import Settings
from benchmarks.launcher import Worker
from benchmarks.results import Section, Target, faster
from benchmarks.timing import take_turns

#: Rows of the variable in a process that stands for "TensorFlow alone".
BARE_ROWS = 1_000


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
    zipf_times = take_turns(workers, dict.fromkeys(workers, zipf), plan)
    uniform_times = take_turns(workers, dict.fromkeys(workers, uniform), plan)
    sections = [
        Section(
            f"larger than memory: {table}, {sizes.batch:,} Zipf ids a step",
            zipf_times,
            sizes.batch,
            "damo_tf",
            faster(zipf_times, "damo_tf", "damo-embedding", 20),
        ),
        Section(
            f"nearly every id a miss: {table}, {sizes.batch:,} uniform ids a step",
            uniform_times,
            sizes.batch,
            "damo_tf",
            faster(uniform_times, "damo_tf", "plain RocksDB", 1.5),
        ),
    ]
    if "damo_tf" in workers and bench.has("tf_variable"):
        sections.append(memory(bench, workers["damo_tf"]))
    bench.discard(*workers.values())
    return sections


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
