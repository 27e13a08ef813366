# SPDX-License-Identifier: Apache-2.0
"""Zipf ids over a table that fits in memory: the step that matters most."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bench import Bench
from benchmarks.contenders import Settings
from benchmarks.launcher import Worker, run
from benchmarks.results import Section, Target, faster, share_of
from benchmarks.timing import Measurement, take_turns

DURABILITIES = ("wal", "sync", "checkpoint")
PEERS = {"tfra": "TFRA", "tfra_layer": "TFRA, layer and optimizer", "damo_embedding_torch": "damo-embedding"}


def start(bench: Bench) -> dict[str, Worker]:
    """All contenders, on tables of their own."""
    rows = bench.sizes.hot_rows
    workers: dict[str, Worker] = {}
    if bench.has("damo_layer"):
        for durability in DURABILITIES:
            settings = Settings(durability=durability)
            worker = bench.start_filled("damo_layer", rows, settings)
            worker.call("prefill", first=0, last=rows)  # a store that was just opened has no rows in memory
            workers[f"damo_tf, {durability}"] = worker
    if bench.has("plain_rocksdb"):
        workers["plain RocksDB"] = bench.start_filled("plain_rocksdb", rows)
    if bench.has("tf_variable"):
        workers["TF variable, lazy Adam"] = bench.start("tf_variable", Settings(rows=rows))
    if bench.has("keras_embedding"):
        workers["keras Embedding + Adam"] = bench.start("keras_embedding", Settings(rows=rows))
    for contender, name in PEERS.items():
        if bench.has(contender):
            workers[name] = bench.start(contender, Settings())
            workers[name].call("prefill", first=0, last=rows)
    return workers


def measure(bench: Bench) -> list[Section]:
    """Large and small batches."""
    workers = start(bench)
    sections = [
        measure_batch(bench, workers, bench.sizes.batch, steps_per_turn=2),
        measure_batch(bench, workers, bench.sizes.small_batch, steps_per_turn=8),
        *sustained(bench, workers),
    ]
    bench.discard(*workers.values())
    return sections


def measure_batch(bench: Bench, workers: dict[str, Worker], batch: int, *, steps_per_turn: int) -> Section:
    """Step times with batches of one size.

    Args:
        bench: the workbench.
        workers: the contenders.
        batch: ids in a step.
        steps_per_turn: factor on the plan's steps.
    """
    sizes = bench.sizes
    plan = replace(sizes.plan, steps=sizes.plan.steps * steps_per_turn)
    ids = bench.streams.zipf(sizes.hot_rows, plan.last, batch)
    times = take_turns(workers, dict.fromkeys(workers, ids), plan)
    return Section(
        f"hot, {batch:,} ids: {sizes.hot_rows:,} rows in memory, {batch:,} Zipf ids a step "
        f"({ids.mean_unique():,.0f} distinct)",
        times,
        batch,
        reference="damo_tf, wal",
        targets=targets(times, large=batch == sizes.batch),
    )


def sustained(bench: Bench, workers: dict[str, Worker]) -> list[Section]:
    """Steps in a row, with the writing behind them: turns are too short for damo_tf to begin a flush."""
    sizes = bench.sizes
    steps = {"damo_tf, wal": sizes.sustained_steps, "plain RocksDB": sizes.sustained_steps // 10}
    if not steps.keys() <= workers.keys():
        return []
    ids = bench.streams.zipf(sizes.hot_rows, max(steps.values()), sizes.batch)
    times = {}
    for name, count in steps.items():
        seconds = run(workers[name], ids, 0, count) + workers[name].call("settle")["seconds"]
        times[name] = Measurement((seconds / count,))
    taken = ", ".join(f"{count:,} of {name}" for name, count in steps.items())
    title = (
        f"sustained: hot, {sizes.batch:,} ids, steps in a row and all that is written behind them ({taken})"
    )
    return [Section(title, times, sizes.batch, reference="damo_tf, wal")]


def targets(times: dict[str, Measurement], *, large: bool) -> list[Target]:
    """What is asked for of large and of small batches."""
    found = faster(times, "damo_tf, wal", "TFRA", 3)
    if large:
        found += faster(times, "damo_tf, wal", "damo-embedding", 60)
        found += faster(times, "damo_tf, wal", "plain RocksDB", 25)
        found += share_of(times, "damo_tf, checkpoint", "TF variable, lazy Adam", 0.6)
    return found
