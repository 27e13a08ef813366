# SPDX-License-Identifier: Apache-2.0
"""Features as bags of keys: which keys are combined, with what weights, and what shape the result has."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from damo_tf._ids import Ids, as_vector, flat_values

COMBINERS = ("sum", "mean", "sqrtn")


class Feature(NamedTuple):
    """What a layer is called with for one feature; `check_combinable` holds.

    ids: int64 or uint64.
    combiner: what combines the last axis; `None`: each id's row is an output.
    weights: floats, one for each of the ids and laid out like them; or `None`.
    mask: bools, likewise, of dense ids: those that are `False` are left out. `None`: none is.
    """

    ids: Ids
    combiner: str | None
    weights: Any = None
    mask: Any = None


class Bags(NamedTuple):
    """The keys of one feature, shared out to bags whose rows are combined.

    keys: int64 `[n]`.
    splits: int64 `[num_bags + 1]`; bag b has the keys from `splits[b]` to `splits[b + 1]`.
    weights: float32 `[n]`, or `None`: all are 1.
    combiner: one of `COMBINERS`.
    shaped: makes the feature's output of float32 `[num_bags, dim]`.
    """

    keys: tf.Tensor
    splits: tf.Tensor
    weights: tf.Tensor | None
    combiner: str
    shaped: Callable[[tf.Tensor], Any]


def check_combiner(combiner: Any) -> Any:
    """`combiner`, one for all features or a structure of them, in plain dicts and lists."""
    if isinstance(combiner, Mapping):
        return {name: check_combiner(of_part) for name, of_part in combiner.items()}
    if isinstance(combiner, (list, tuple)):
        return [check_combiner(of_part) for of_part in combiner]
    if combiner is not None and (not isinstance(combiner, str) or combiner not in COMBINERS):
        raise ValueError(
            "`combiner` must be None, 'sum', 'mean' or 'sqrtn', or a dict or list of these. "
            f"Received: combiner={combiner!r}"
        )
    return combiner


def of_each(name: str, value: Any, inputs: Any) -> list[Any]:
    """`value` for each tensor of `inputs`, in the order of `tf.nest.flatten`.

    Args:
        name: of the argument, for the message.
        value: a structure like `inputs`, where a str or `None` may stand for all that is in its place.
        inputs: a tensor, or dicts and lists of tensors.
    """
    if value is None or isinstance(value, str):
        return [value for _ in tf.nest.flatten(inputs)]
    if isinstance(inputs, Mapping) and isinstance(value, Mapping) and set(inputs) == set(value):
        return [leaf for key in sorted(inputs) for leaf in of_each(name, value[key], inputs[key])]
    if _is_sequence(inputs) and _is_sequence(value) and len(inputs) == len(value):
        return [leaf for i, v in zip(inputs, value, strict=True) for leaf in of_each(name, v, i)]
    if any(isinstance(v, Mapping) or _is_sequence(v) for v in (inputs, value)):
        raise ValueError(
            f"`{name}` must be one for all inputs or have their structure. "
            f"Received: {name}={value!r} and inputs={inputs!r}"
        )
    return [value]


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def check_combinable(ids: Any, combiner: str | None, weights: Any) -> None:
    """Raises unless `ids`, symbolic or not, may be combined so. `None`: are not combined."""
    is_sparse = isinstance(ids, tf.SparseTensor) or (isinstance(ids, keras.KerasTensor) and ids.sparse)
    if combiner is None and is_sparse:
        raise ValueError(
            "`combiner` must be 'sum', 'mean' or 'sqrtn' for sparse ids: there are no sparse embeddings. "
            f"Received: combiner=None and ids={ids!r}"
        )
    if combiner is None and weights is not None:
        raise ValueError(
            "`weights` must be None where `combiner` is: they weigh what is combined. "
            f"Received: weights={weights!r}"
        )
    if combiner is not None and tf.TensorShape(ids.shape).rank == 0:
        raise ValueError(f"ids must have an axis for `combiner` to combine. Received a scalar: {ids!r}")


def with_rows(keys: Ids, rows: tf.Tensor) -> Any:
    """`rows`, `[n, dim]`, in place of the n keys, which are not sparse."""
    values = flat_values(keys)
    shape = tf.concat([tf.shape(values), tf.shape(rows)[-1:]], axis=0)
    shaped = tf.ensure_shape(tf.reshape(rows, shape), values.shape.concatenate(rows.shape[-1:]))
    return keys.with_flat_values(shaped) if isinstance(keys, tf.RaggedTensor) else shaped


def in_place(feature: Feature) -> tuple[tf.TensorShape, Callable[[tf.Tensor], Any]]:
    """How the vectors of a feature are laid out when they come from elsewhere.

    Returns:
        The shape of the vectors without their last axis: that of the output or, where that is ragged, of
        its flat values. And what makes the output of such vectors, needing no more of the ids than the row
        splits of a ragged output.
    """
    ids, combiner = feature.ids, feature.combiner
    if not isinstance(ids, tf.RaggedTensor):
        return (ids.shape if combiner is None else ids.shape[:-1]), lambda vectors: vectors
    flat = ids.flat_values.shape
    if combiner is None:
        return flat, ids.with_flat_values
    if flat.rank != 1:  # the last axis is uniform
        return flat[:-1], ids.with_flat_values
    outer = ids.shape[:1] if ids.ragged_rank == 1 else tf.TensorShape([None])
    return outer, lambda vectors: _with_innermost(ids, vectors)


def as_bags(feature: Feature) -> Bags:
    """The bags of one feature; without a combiner each of its keys is one.

    Raises:
        TypeError: weights are not floats, or not ragged or sparse as the keys are.
        ValueError: weights or mask have another shape than the keys.
        tf.errors.InvalidArgumentError: so it turns out when the graph runs; sparse keys are not in order.
    """
    keys, combiner, weights, mask = feature
    flat = as_vector(keys)
    if combiner is None:
        splits = tf.range(tf.size(flat, tf.int64) + 1)
        return Bags(flat, splits, None, "sum", lambda rows: with_rows(keys, rows))
    if weights is not None:
        weights = _flat_weights(keys, weights)
    if mask is not None:
        return _masked_bags(keys, combiner, weights, mask)
    if isinstance(keys, tf.SparseTensor):
        splits, shaped = _sparse_bags(keys)
    elif isinstance(keys, tf.RaggedTensor):
        splits, shaped = _ragged_bags(keys)
    else:
        splits, shaped = _dense_bags(keys)
    return Bags(flat, splits, weights, combiner, shaped)


def _dense_bags(keys: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
    shape = tf.shape(keys, tf.int64)
    splits = tf.range(tf.reduce_prod(shape[:-1]) + 1) * shape[-1]
    return splits, _reshape_to(shape[:-1], keys.shape[:-1])


def _reshape_to(shape: tf.Tensor, static_shape: tf.TensorShape) -> Callable[[tf.Tensor], tf.Tensor]:
    def shaped(combined: tf.Tensor) -> tf.Tensor:
        dim = combined.shape[-1]
        output = tf.reshape(combined, tf.concat([shape, [dim]], axis=0))
        return tf.ensure_shape(output, static_shape.concatenate([dim]))

    return shaped


def _ragged_bags(keys: tf.RaggedTensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
    if keys.flat_values.shape.rank != 1:  # the last axis is uniform
        splits, shaped_values = _dense_bags(keys.flat_values)
        return splits, lambda combined: keys.with_flat_values(shaped_values(combined))
    splits = tf.cast(keys.nested_row_splits[-1], tf.int64)
    return splits, lambda combined: _with_innermost(keys, combined)


def _with_innermost(keys: tf.RaggedTensor, combined: tf.Tensor) -> Any:
    """`combined` in place of the innermost rows of `keys`."""
    if not isinstance(keys.values, tf.RaggedTensor):
        return combined
    return keys.with_values(_with_innermost(keys.values, combined))


def _sparse_bags(keys: tf.SparseTensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
    shape = keys.dense_shape[:-1]
    strides = tf.math.cumprod(shape, exclusive=True, reverse=True)
    bag_of_key = tf.reduce_sum(keys.indices[:, :-1] * strides, axis=1)
    in_order = tf.debugging.assert_less_equal(
        bag_of_key[:-1],
        bag_of_key[1:],
        message="sparse ids must be in row-major order: call tf.sparse.reorder on them",
    )
    with tf.control_dependencies([] if in_order is None else [in_order]):
        splits = tf.searchsorted(bag_of_key, tf.range(tf.reduce_prod(shape) + 1), out_type=tf.int64)
    return splits, _reshape_to(shape, keys.shape[:-1])


def _masked_bags(keys: Ids, combiner: str, weights: tf.Tensor | None, mask: Any) -> Bags:
    if not isinstance(keys, tf.Tensor):
        raise TypeError(f"`mask` must be None for ragged and sparse ids. Received: mask={mask!r}")
    mask = tf.cast(mask, tf.bool)
    with _same_shape("mask", mask, keys):
        keep = tf.reshape(mask, [-1])
    lengths = tf.reshape(tf.reduce_sum(tf.cast(mask, tf.int64), axis=-1), [-1])
    splits = tf.concat([tf.zeros([1], tf.int64), tf.cumsum(lengths)], axis=0)
    weights = None if weights is None else tf.boolean_mask(weights, keep)
    _, shaped = _dense_bags(keys)
    return Bags(tf.boolean_mask(as_vector(keys), keep), splits, weights, combiner, shaped)


def _flat_weights(keys: Ids, weights: Any) -> tf.Tensor:
    """The weights one after another, float32, once they are known to be laid out like the keys."""
    if not isinstance(weights, (tf.SparseTensor, tf.RaggedTensor)):
        weights = tf.convert_to_tensor(weights)
    if not weights.dtype.is_floating:
        raise TypeError(f"`weights` must be floats. Received dtype: {weights.dtype.name}")
    for kind in (tf.SparseTensor, tf.RaggedTensor):
        if isinstance(keys, kind) != isinstance(weights, kind):
            raise TypeError(
                f"`weights` must be dense, ragged or sparse as the ids are. Received: weights={weights!r} "
                f"and ids={keys!r}"
            )
    with _same_layout(keys, weights):
        return tf.reshape(tf.cast(flat_values(weights), tf.float32), [-1])


def _same_layout(keys: Ids, weights: Any) -> Any:
    if isinstance(keys, tf.SparseTensor):
        return _all_equal("weights", [(weights.indices, keys.indices)])
    if isinstance(keys, tf.RaggedTensor):
        if weights.ragged_rank != keys.ragged_rank:
            raise ValueError(
                f"`weights` must have as many ragged axes as the ids, {keys.ragged_rank}. "
                f"Received: {weights.ragged_rank}"
            )
        splits = zip(weights.nested_row_splits, keys.nested_row_splits, strict=True)
        return _all_equal("weights", [(w, k) for w, k in splits if w is not k])
    return _same_shape("weights", weights, keys)


def _same_shape(name: str, tensor: tf.Tensor, keys: tf.Tensor) -> Any:
    """A context in which `tensor` has the shape of the keys, or running the graph fails."""
    if not tensor.shape.is_compatible_with(keys.shape):
        raise ValueError(
            f"`{name}` must have the shape of the ids, {keys.shape}. Received shape: {tensor.shape}"
        )
    known = tensor.shape.is_fully_defined() and keys.shape.is_fully_defined()
    return _all_equal(name, [] if known else [(tf.shape(tensor), tf.shape(keys))])


def _all_equal(name: str, pairs: list[tuple[tf.Tensor, tf.Tensor]]) -> Any:
    checks = [
        tf.debugging.assert_equal(
            tf.cast(given, tf.int64),
            tf.cast(expected, tf.int64),
            message=f"`{name}` must be laid out like the ids: same shape, rows and indices",
        )
        for given, expected in pairs
    ]
    return tf.control_dependencies([check for check in checks if check is not None])
