# SPDX-License-Identifier: Apache-2.0
"""Memory of the whole process while a table of several times the budget is trained (contract C12).

What the figures of `stats` leave out counts here, too: lists, buffers, files being written, RocksDB's code,
and what malloc keeps. Bytes are the system's; no time is measured.
"""

import json
from pathlib import Path

import pytest

MIB = 1 << 20
BUDGET = 64 * MIB
DIM = 16
STEPS = 40

#: Every id is new: rows are born, written, and evicted.
TRAIN = """
import json, sys
import numpy as np
import damo

path, durability, budget, dim, batch, steps = *sys.argv[1:3], *map(int, sys.argv[3:])

def memory(name):
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name + ":"))

numbers = np.arange(batch, dtype=np.uint64)
keys = np.zeros_like(numbers)
weights, gradients = np.zeros(batch * dim, np.float32), np.ones(batch * dim, np.float32)
before = memory("VmRSS")
storage = damo.PyStorage(path, memory_budget=budget, durability=durability)
table = damo.PyEmbedding(
    storage, damo.PyOptimizer({"name": "adam"}), damo.PyInitializer({"name": "ones"}), dim
)
for _ in range(steps):
    np.multiply(numbers, np.uint64(0x9E3779B97F4A7C15), out=keys)  # scattered, as hashed ids are
    table.lookup(keys, weights)
    table.apply_gradients(keys, gradients)
    numbers += np.uint64(batch)
group = storage.stats()["groups"][0]
print(json.dumps({"used": memory("VmHWM") - before, "rows": group["rows"], "bytes": group["bytes"]}))
"""


@pytest.mark.parametrize("durability", ["wal", "checkpoint"])
@pytest.mark.parametrize("batch", [20_000])
def test_a_process_stays_inside_the_budget_while_it_trains_far_more_rows(
    tmp_path: Path, run_python, durability, batch
):
    found = json.loads(run_python(TRAIN, tmp_path / "store", durability, BUDGET, DIM, batch, STEPS))

    assert found["rows"] == batch * STEPS
    assert found["bytes"] > 2.5 * BUDGET
    # docs/performance.md, "What the memory budget holds": beside the budget what a call takes while it runs,
    # and a chunk from which slabs are cut. The rest is RocksDB's code, loaded as it runs, and malloc's.
    print(f"used: {found['used'] / MIB:.1f} MiB")
    of_a_call = batch * (16 + 8 + 80)
    assert found["used"] <= 1.15 * BUDGET + of_a_call + 2 * MIB
