# SPDX-License-Identifier: Apache-2.0
"""Those who are measured: one module each, with a function `make(settings)` that returns a `Contender`.

One that only reads returns a `Reader` with a method `tool(name)`, which returns the rows it has passed.

A step takes a batch of ids, duplicates included, looks their embeddings up, takes the embeddings themselves
as their gradient (that of the loss `sum(embedding ** 2) / 2`), sums the gradients of equal ids, and moves
each distinct row by one step of Adam.

Peers run under other versions of Python packages; so this module and `benchmarks.worker` need NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Settings:
    """What a contender is started with; each reads what concerns it.

    Attributes:
        directory: of its files; there with rows in it, or to be made.
        rows: ranks are below this.
        dim: width of a row.
        memory_budget: bytes, for those who keep to one.
        durability: of damo_tf: "wal", "sync" or "checkpoint".
        ttl_seconds: of the `damo` module: the time to live of rows; `None`: for ever.
        read_only: of the `damo` module: open beside one that writes.
        model: of the `damo` module: whose groups the store has, "layer" or "deepfm".
        look_ahead: of damo_tf: the depth of `damo_tf.data.prefetch_rows`; 0: the same dataset without it;
            `None`: no dataset.
        device_seconds: of damo_tf: how long each step leaves the processor alone, as one does whose dense
            part a device computes.
        cold_files: of damo_tf: whether what it reads is not in the system's page cache.
        bag: of damo_tf: ids in a bag, whose rows are averaged into one vector; 0: each row is one.
        fused: of damo_tf: whether the layer's combiner does so, or TensorFlow with the rows.
        embedding: of DeepFM: "none", "gradients" (none either, but gradients up to where embeddings would
            be), "keras" or "damo_tf".
        fields: of DeepFM: ids in an example.
    """

    directory: str = ""
    rows: int = 1
    dim: int = 16
    memory_budget: int = 1 << 30
    durability: str = "wal"
    ttl_seconds: int | None = None
    read_only: bool = False
    model: str = "layer"
    look_ahead: int | None = None
    device_seconds: float = 0.0
    cold_files: bool = False
    bag: int = 0
    fused: bool = True
    embedding: str = "none"
    fields: int = 26


class Reader(Protocol):
    """What every module's `make` returns at least."""

    def figures(self) -> dict[str, float]:
        """Figures about its state."""

    def close(self) -> None:
        """Closes its files."""


class Contender(Reader, Protocol):
    """One that trains."""

    def prefill(self, first: int, last: int) -> None:
        """Gives the ranks in [first, last) rows."""

    def prepare(self, batches: NDArray[np.int64]) -> Any:
        """Turns batches of ranks into whatever `run` takes; not timed."""

    def run(self, prepared: Any) -> None:
        """Takes a step with each batch; this is what is timed."""

    def settle(self) -> None:
        """Ends work in the background, so that it does not run on the next contender's time."""


def numbers(stats: dict[str, Any]) -> dict[str, float]:
    """The numbers in a dict, those of inner dicts under joined names."""
    found: dict[str, float] = {}
    for name, value in stats.items():
        if isinstance(value, dict):
            found |= {f"{name}_{inner}": number for inner, number in numbers(value).items()}
        elif isinstance(value, int | float):
            found[name] = value
    return found
