# SPDX-License-Identifier: Apache-2.0
"""The vectors of a feature in plain TensorFlow, wherever its rows are looked up."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from damo_tf._bags import Feature, as_bags, with_rows
from damo_tf._ids import as_vector


def vectors_of(feature: Feature, lookup: Callable[[tf.Tensor], tf.Tensor], padding_key: int | None) -> Any:
    """What an `Embedding` makes of a feature, to the engine's bits, which the sign of a zero is none of.

    Args:
        feature: ids and what becomes of them.
        lookup: takes int64 keys `[n]` and returns their rows, float32 `[n, dim]`, zeros for padding.
        padding_key: a key in [0, 2**64) that is in no divisor.

    Returns:
        float32, dense or ragged.
    """
    if feature.combiner is None:
        return with_rows(feature.ids, lookup(as_vector(feature.ids)))
    bags = as_bags(feature)
    weights = tf.ones_like(bags.keys, tf.float32) if bags.weights is None else bags.weights
    if padding_key is not None:
        weights = tf.where(is_padding(bags.keys, padding_key), 0.0, weights)
    return bags.shaped(combined(lookup(bags.keys), bags.splits, weights, bags.combiner))


def is_padding(keys: tf.Tensor, padding_key: int) -> tf.Tensor:
    """Which of int64 keys are `padding_key`, in [0, 2**64)."""
    return tf.equal(keys, tf.constant(np.uint64(padding_key).astype(np.int64)))


def combined(rows: tf.Tensor, splits: tf.Tensor, weights: tf.Tensor, combiner: str) -> tf.Tensor:
    """The rows of each bag as one, by the formulas of cc/damo/combiner/bag.h.

    Args:
        rows: float32 `[n, dim]`, zeros for padding.
        splits: int64 `[num_bags + 1]`; bag b has the rows from `splits[b]` to `splits[b + 1]`.
        weights: float32 `[n]`, zeros for padding.
        combiner: one of `COMBINERS`.

    Returns:
        float32 `[num_bags, dim]`.
    """
    # The last bag that begins at or before the row: the others that do are empty.
    places = tf.range(tf.size(weights, tf.int64))
    bag_of_row = tf.searchsorted(splits, places, side="right", out_type=tf.int64) - 1
    num_bags = tf.size(splits, tf.int64) - 1
    sums = tf.math.unsorted_segment_sum(rows * weights[:, tf.newaxis], bag_of_row, num_bags)
    if combiner == "sum":
        return sums
    wide = tf.cast(weights, tf.float64)
    if combiner == "mean":
        divisors = tf.math.unsorted_segment_sum(wide, bag_of_row, num_bags)
    else:
        divisors = tf.sqrt(tf.math.unsorted_segment_sum(wide * wide, bag_of_row, num_bags))
    return tf.math.divide_no_nan(sums, tf.cast(divisors, tf.float32)[:, tf.newaxis])
