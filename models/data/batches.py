# SPDX-License-Identifier: Apache-2.0
"""Examples as tf.data batches: ids int64 `[batch, slots]`, labels float32 `[batch, 1]`.

An int64 id has the bits of the uint64 id. Where examples have numbers, a dict of "ids" and "numbers", float32
`[batch, numbers]`, stands for the ids.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from models.data.examples import Examples


def batches_per_epoch(examples: Examples, batch_size: int) -> int:
    """Batches in one pass over `examples`; the last may be smaller."""
    return math.ceil(len(examples) / batch_size)


def in_order(examples: Examples, batch_size: int) -> tf.data.Dataset:
    """One pass over `examples`."""
    dataset = tf.data.Dataset.from_tensor_slices(_tensors(examples))
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def shuffled(examples: Examples, batch_size: int, epochs: range, seed: int) -> tf.data.Dataset:
    """One shuffled pass after another, one for each of `epochs`.

    The order within an epoch depends on `seed` and the epoch's number only. So a training that was
    stopped and goes on sees the batches that it would have seen.
    """
    tensors = _tensors(examples)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        rows = tf.range(len(examples))
        order = tf.random.experimental.stateless_shuffle(rows, seed=[seed, epoch])
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    def gather(rows: tf.Tensor) -> tuple[Any, tf.Tensor]:
        return tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), tensors)

    batches = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(one_epoch)
    return batches.map(gather).prefetch(tf.data.AUTOTUNE)


def _tensors(examples: Examples) -> tuple[Any, tf.Tensor]:
    inputs: Any = tf.constant(examples.ids.view(np.int64))
    if examples.numbers is not None:
        inputs = {"ids": inputs, "numbers": tf.constant(examples.numbers)}
    return inputs, tf.constant(examples.labels[:, np.newaxis])
