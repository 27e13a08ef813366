# SPDX-License-Identifier: Apache-2.0
"""Batches that are known by their number, so that a process can tell what another one has trained."""

import os

import damo
import numpy as np
from oracles import OracleTable

DIM = 8
BATCH = 150
NUM_KEYS = 400


def make_batch(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys, uint64 [BATCH], some of them repeated, and gradients, float32 [BATCH, DIM]."""
    rng = np.random.default_rng(number)
    return rng.integers(0, NUM_KEYS, BATCH).astype(np.uint64), rng.standard_normal((BATCH, DIM), np.float32)


def open_table(directory: str | os.PathLike[str], **settings) -> tuple[damo.PyStorage, damo.PyEmbedding]:
    """The store in `directory` and its group 0, which the batches train."""
    storage = damo.PyStorage(directory, **settings)
    optimizer, initializer = damo.PyOptimizer({"name": "adam"}), damo.PyInitializer({"name": "ones"})
    return storage, damo.PyEmbedding(storage, optimizer, initializer, DIM)


def apply(embedding: damo.PyEmbedding, number: int) -> None:
    keys, gradients = make_batch(number)
    embedding.apply_gradients(keys, gradients.reshape(-1))


def train_and_close(directory: str | os.PathLike[str], num_batches: int) -> None:
    storage, embedding = open_table(directory)
    for number in range(num_batches):
        apply(embedding, number)
    storage.close()


def oracle_after(num_batches: int) -> OracleTable:
    """What the table must be after batches 0 .. num_batches - 1."""
    oracle = OracleTable(DIM, optimizer="adam", initializer="ones")
    for number in range(num_batches):
        oracle.apply_gradients(*make_batch(number))
    return oracle
