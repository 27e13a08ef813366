# SPDX-License-Identifier: Apache-2.0
"""What the processes of crash_processes.py train: batches that are known by their number."""

import numpy as np

DIM = 16
BATCH = 300
NUM_KEYS = 12_000  # more rows than the cache of the least memory budget has room for
OPTIMIZER = "adam"
FILTER_CAPACITY = 2000  # for fewer keys than there are: some are taken for others


def make_batch(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys, uint64 [BATCH], some repeated, a third of them few and hot, and gradients [BATCH, DIM]."""
    rng = np.random.default_rng(number)
    keys = rng.integers(0, NUM_KEYS, BATCH)
    keys[::3] %= 100
    return keys.astype(np.uint64), rng.standard_normal((BATCH, DIM), np.float32)
