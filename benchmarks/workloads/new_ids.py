# SPDX-License-Identifier: Apache-2.0
"""Ids never seen before: how fast rows are born, while the memory budget lasts and past it."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bench import MIB, Bench
from benchmarks.contenders import Settings
from benchmarks.launcher import Worker
from benchmarks.results import Section, faster
from benchmarks.timing import Plan, take_turns

CONTENDERS = {
    "damo_layer": "damo_tf",
    "plain_rocksdb": "plain RocksDB",
    "tfra": "TFRA",
    "damo_embedding_torch": "damo-embedding",
}
#: Bytes of a row of dim 16 in any cache, at most: what is used to tell when the budget is full.
ROW_BYTES = 320


def measure(bench: Bench) -> list[Section]:
    """Two phases on the same tables, which start empty."""
    sizes, batch = bench.sizes, bench.sizes.batch
    full = max(4, sizes.small_budget // ROW_BYTES // batch)  # steps that fill the budget
    within = Plan(warmup=1, steps=1, repetitions=full - 1)
    past = replace(sizes.plan, first=3 * full, warmup=0)
    ids = bench.streams.consecutive(past.last, batch)
    settings = Settings(memory_budget=sizes.small_budget)
    workers = {name: bench.start(c, settings) for c, name in CONTENDERS.items() if bench.has(c)}
    files = dict.fromkeys(workers, ids)

    while_it_lasts = take_turns(workers, files, within)
    for worker in workers.values():
        overflow(worker, str(ids.path), within.last, past.first)
    sustained = take_turns(workers, files, past, count_settling=True)
    bench.discard(*workers.values())
    budget = f"budget {sizes.small_budget // MIB} MiB, {batch:,} new ids a step"
    return [
        Section(
            f"new ids while the budget lasts: {budget}",
            while_it_lasts,
            batch,
            "damo_tf",
            faster(while_it_lasts, "damo_tf", "TFRA", 1),
        ),
        Section(
            f"new ids past the budget, writing them out included: {budget}",
            sustained,
            batch,
            "damo_tf",
            faster(sustained, "damo_tf", "damo-embedding", 5),
        ),
    ]


def overflow(worker: Worker, path: str, first: int, last: int) -> None:
    """Adds rows until the budget is far exceeded."""
    for step in range(first, last):
        worker.call("run", path=path, first=step, count=1)
    worker.call("settle")
