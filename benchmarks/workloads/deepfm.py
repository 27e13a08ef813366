# SPDX-License-Identifier: Apache-2.0
"""DeepFM in Keras's fit: what embeddings add to the step of a whole model."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bench import Bench
from benchmarks.contenders import Settings
from benchmarks.ids import IdFile
from benchmarks.launcher import Worker
from benchmarks.results import Section, Target, share_of
from benchmarks.timing import Measurement, take_turns

NO_EMBEDDING = "no embedding work"
GRADIENTS = "no embedding work, but gradients"
#: Bytes: the larger table fits, with room.
BUDGET = 6 << 30


def measure(bench: Bench) -> list[Section]:
    """The same model with and without embeddings, on tables of two sizes."""
    if not bench.has("deepfm"):
        return []
    sizes = bench.sizes
    plan = replace(sizes.plan, steps=5 * sizes.plan.steps)
    small, large = sizes.deepfm_rows
    fields = Settings().fields
    files = {
        rows: bench.streams.zipf_fields(rows, plan.last, sizes.deepfm_batch, fields)
        for rows in (small, large)
    }
    workers: dict[str, Worker] = {NO_EMBEDDING: bench.start("deepfm", Settings(embedding="none"))}
    workers[GRADIENTS] = bench.start("deepfm", Settings(embedding="gradients"))
    ids: dict[str, IdFile] = {NO_EMBEDDING: files[small], GRADIENTS: files[small]}
    for rows, file in files.items():
        name = f"damo_tf, {rows:,} ids"
        settings = Settings(embedding="damo_tf", model="deepfm", memory_budget=BUDGET)
        workers[name] = bench.start_filled("deepfm", rows, settings)
        workers[name].call(
            "prefill", first=0, last=rows
        )  # a store that was just opened has no rows in memory
        ids[name] = file
    name = f"keras Embedding, {small:,} ids"
    workers[name] = bench.start("deepfm", Settings(embedding="keras", rows=small))
    ids[name] = files[small]
    times = take_turns(workers, ids, plan)
    bench.discard(*workers.values())
    return [
        Section(
            f"DeepFM fit: {fields} fields, batch {sizes.deepfm_batch:,}",
            times,
            sizes.deepfm_batch * fields,
            NO_EMBEDDING,
            targets(times, small, large),
        )
    ]


def targets(times: dict[str, Measurement], small: int, large: int) -> list[Target]:
    """What is asked for."""
    few, many = f"damo_tf, {small:,} ids", f"damo_tf, {large:,} ids"
    return [
        *share_of(times, few, NO_EMBEDDING, 1.25),
        *share_of(times, many, NO_EMBEDDING, 1.25),
        *share_of(times, many, few, 1.1),
    ]
