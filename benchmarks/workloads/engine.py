# SPDX-License-Identifier: Apache-2.0
"""The engine alone, one thread, no TensorFlow: `benchmarks/cc/engine_benchmark.cc`."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from typing import Any

from benchmarks.bench import Bench
from benchmarks.build import NATIVE
from benchmarks.results import Section, Target

#: Benchmark to the rate that is asked for, in items per second.
RATES = {"BM_Lookup": ("lookups/s", 25e6), "BM_Apply": ("ids/s through deduplication and Adam", 20e6)}

#: Bytes: what an item of `BM_MemoryRead` is.
CACHE_LINE = 64


def measure(bench: Bench) -> list[Section]:
    """Rates of lookups, of applies, and of the optimizers."""
    program = NATIVE / "engine_benchmark"
    if not bench.has("engine") or not program.exists():
        return []
    rates = run(bench, str(program))
    figures = {name: _per_second(rate) for name, rate in sorted(rates.items())}
    figures |= shares_of_what_is_possible(rates)
    targets = [
        Target(f"engine: M {what} / {wanted / 1e6:.0f} M", rate / wanted, 1, at_least=True)
        for benchmark, (what, wanted) in RATES.items()
        for name, rate in rates.items()
        if name == f"{benchmark}/65536"
    ]
    title = (
        f"engine alone, one thread, {bench.sizes.hot_rows:,} rows of dim 16 in memory, durability checkpoint"
    )
    return [Section(title, figures=figures, targets=targets)]


def _per_second(rate: float) -> str:
    return f"{rate / 1e6:.1f} M/s" if rate >= 1e6 else f"{rate / 1e3:.0f} k/s"


def shares_of_what_is_possible(rates: dict[str, float]) -> dict[str, str]:
    """The engine's rates as shares of what the machine, or RocksDB alone, reaches with the same rows."""
    shares = {}
    for bare in sorted(name for name in rates if name.startswith("BM_Bare")):
        name = bare.replace("Bare", "")
        shares[f"{name} / {bare}"] = f"{rates[name] / rates[bare]:.2f}"
    if "BM_MemoryRead" in rates:
        shares["memory read from end to end"] = f"{rates['BM_MemoryRead'] * CACHE_LINE / 1e9:.1f} GB/s"
    return shares


def run(bench: Bench, program: str) -> dict[str, float]:
    """Items per second of each benchmark, the median of interleaved repetitions."""
    environment = {
        **os.environ,
        "DAMO_BENCH_STORE": str(bench.folder / "engine-store"),
        "DAMO_BENCH_ROWS": str(bench.sizes.hot_rows),
    }
    command = [
        program,
        "--benchmark_format=json",
        f"--benchmark_repetitions={bench.sizes.plan.repetitions}",
        "--benchmark_enable_random_interleaving=true",
        f"--benchmark_min_time={bench.sizes.engine_seconds}",
    ]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    rates: dict[str, list[float]] = {}
    entries: list[dict[str, Any]] = json.loads(printed)["benchmarks"]
    for entry in entries:
        if entry["run_type"] == "iteration":
            rates.setdefault(entry["run_name"], []).append(entry["items_per_second"])
    return {name: statistics.median(values) for name, values in rates.items()}
