# SPDX-License-Identifier: Apache-2.0
"""Bags of ids whose rows are averaged: by the layer's combiner, and by TensorFlow after a plain lookup."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bench import MIB, Bench
from benchmarks.contenders import Settings
from benchmarks.launcher import Worker
from benchmarks.results import Section
from benchmarks.timing import take_turns

BAG = 16
#: A width at which rows and their gradients outweigh the rest.
WIDE = 256


def measure(bench: Bench) -> list[Section]:
    """Rows of the usual width, then wide ones, of which few fit into the same memory."""
    return [
        measure_width(bench, Settings().dim, bench.sizes.hot_rows),
        measure_width(bench, WIDE, bench.sizes.hot_rows // 32),
    ]


def measure_width(bench: Bench, dim: int, rows: int) -> Section:
    """Step times and memory, with as many ids as in the hot workload.

    Args:
        bench: the workbench.
        dim: width of a row.
        rows: of the table.
    """
    workers: dict[str, Worker] = {}
    for name, fused in {"combiner": True, "lookup, then reduce_mean": False}.items():
        if bench.has("damo_layer"):
            workers[name] = bench.start("damo_layer", Settings(dim=dim, bag=BAG, fused=fused))
    plan = replace(bench.sizes.plan, steps=2 * bench.sizes.plan.steps)
    ids = bench.streams.zipf(rows, plan.last, bench.sizes.batch)
    times = take_turns(workers, dict.fromkeys(workers, ids), plan)
    figures = {}
    for name, worker in workers.items():
        found = worker.call("figures")
        figures[f"peak memory of {name}"] = f"{found['VmHWM'] / MIB:,.0f} MiB"
    bench.discard(*workers.values())
    return Section(
        f"combiner: {bench.sizes.batch:,} Zipf ids a step in bags of {BAG}, {rows:,} rows of {dim} weights",
        times,
        bench.sizes.batch,
        reference="combiner",
        figures=figures,
    )
