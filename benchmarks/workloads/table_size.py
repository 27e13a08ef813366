# SPDX-License-Identifier: Apache-2.0
"""Step time against the size of the table: flat as long as the hot rows fit in memory."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bench import FULL_BUDGET, Bench
from benchmarks.contenders import Settings
from benchmarks.ids import IdFile
from benchmarks.launcher import Worker
from benchmarks.results import Section
from benchmarks.timing import take_turns

HOT_SET = "damo_tf, the same number of hot ids"
WHOLE = "damo_tf, Zipf over the whole table"
KERAS = "keras Embedding + Adam, Zipf over the whole table"
#: Keras updates every row at each step: larger tables take seconds.
MOST_KERAS_ROWS = 1_000_000
#: Rows of the largest tables that are brought into memory, most frequent ones first: about as many as stay.
MOST_ROWS_IN_MEMORY = FULL_BUDGET * 10 // 16 // 240


def measure(bench: Bench) -> list[Section]:
    """One curve where the hot ids stay as many as the smallest table has, one where they spread."""
    sizes = bench.sizes
    plan = replace(sizes.plan, warmup=sizes.fill)  # which rows stay in memory is then settled
    hot = sizes.table_rows[0]
    workers: dict[tuple[str, int], Worker] = {}
    ids: dict[tuple[str, int], IdFile] = {}
    for rows in sizes.table_rows:
        if bench.has("damo_layer"):
            ids[HOT_SET, rows] = bench.streams.hot_set(hot, rows, plan.last, sizes.batch)
            ids[WHOLE, rows] = bench.streams.zipf(rows, plan.last, sizes.batch)
            worker = bench.start_filled("damo_layer", rows)
            # What fits is in memory, as Keras's rows are.
            worker.call("prefill", first=0, last=min(rows, MOST_ROWS_IN_MEMORY))
            workers[HOT_SET, rows] = workers[WHOLE, rows] = worker
        if bench.has("keras_embedding") and rows <= MOST_KERAS_ROWS:
            ids[KERAS, rows] = bench.streams.zipf(rows, plan.last, sizes.batch)
            workers[KERAS, rows] = bench.start("keras_embedding", Settings(rows=rows))
    curves: dict[str, list[tuple[int, float]]] = {}
    for curve in (HOT_SET, WHOLE, KERAS):
        sizes_of_curve = [rows for name, rows in workers if name == curve]
        if sizes_of_curve:
            times = take_turns(
                {str(rows): workers[curve, rows] for rows in sizes_of_curve},
                {str(rows): ids[curve, rows] for rows in sizes_of_curve},
                plan,
            )
            curves[curve] = [(rows, times[str(rows)].median * 1e3) for rows in sizes_of_curve]
    bench.discard(*dict.fromkeys(workers.values()))
    figures = {
        f"{curve}, {rows:,} rows": f"{milliseconds:.1f} ms"
        for curve, points in curves.items()
        for rows, milliseconds in points
    }
    title = f"table size: {sizes.batch:,} ids a step, hot ids {hot:,}"
    return [Section(title, figures=figures, curves=curves)]
