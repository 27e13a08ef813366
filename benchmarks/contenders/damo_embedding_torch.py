# SPDX-License-Identifier: Apache-2.0
"""damo-embedding 1.1.12: a PyTorch layer whose rows are in RocksDB, used as its package description shows."""

from __future__ import annotations

from typing import Any

import damo_embedding
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contenders import LEARNING_RATE, Settings
from benchmarks.ids import scatter

PREFILL_BATCH = 1 << 16
TTL_SECONDS = 100 * 24 * 3600


class DamoEmbedding:
    """Its `Embedding` on a database in `settings.directory`; it has no memory budget to set."""

    def __init__(self, settings: Settings) -> None:
        self._layer = damo_embedding.Embedding(
            settings.dim,
            initializer={"name": "truncate_normal", "mean": 0.0, "stddev": 0.01},
            optimizer={
                "name": "adam",
                "gamma": LEARNING_RATE,
                "beta1": 0.9,
                "beta2": 0.999,
                "lambda": 0.0,
                "epsilon": 1e-8,
            },
        )
        model = torch.nn.Sequential(self._layer)
        damo_embedding.damo_embedding_init(model, TTL_SECONDS, settings.directory, run_service=False)

    def prefill(self, first: int, last: int) -> None:
        """Trains on every rank once, in the order of their keys."""
        keys = np.sort(scatter(np.arange(first, last)))
        for begin in range(0, len(keys), PREFILL_BATCH):
            self._take_step(torch.from_numpy(keys[begin : begin + PREFILL_BATCH, None]))

    def prepare(self, batches: NDArray[np.int64]) -> Any:
        """Tensors of keys `[batch, 1]`: the layer takes examples of fields."""
        return [torch.from_numpy(scatter(batch)[:, None]) for batch in batches]

    def run(self, prepared: Any) -> None:
        """Takes the steps."""
        for ids in prepared:
            self._take_step(ids)

    def settle(self) -> None:
        """It offers nothing to wait for its background work."""

    def figures(self) -> dict[str, float]:
        """None."""
        return {}

    def close(self) -> None:
        """Closes the database."""
        damo_embedding.damo_embedding_close()

    def _take_step(self, ids: torch.Tensor) -> None:
        embeddings = self._layer.forward(ids)
        embeddings.backward(embeddings.detach())


def make(settings: Settings) -> DamoEmbedding:
    """Opens the database."""
    return DamoEmbedding(settings)
