# SPDX-License-Identifier: Apache-2.0
"""What a request holds for a dense part that `export_dense` wrote: tensors, and what to look up for them.

It is all NumPy: a request is small, and an op of TensorFlow outside a graph costs more than its work.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from damo_tf._arguments import as_keys
from damo_tf.hashing import feature_hash


class Lookup(NamedTuple):
    """What is looked up for an entry of `embeddings.json`, and what becomes of the rows.

    keys: uint64; with a combiner `[n]`, one bag after another.
    shape: of the vectors without their last axis.
    splits: int64 `[num_bags + 1]`: bag b has the keys from `splits[b]` to `splits[b + 1]`. `None` without a
        combiner: the rows are the vectors.
    weights: float32 `[n]`, zeros for padding; `None` without a combiner.
    """

    keys: npt.NDArray[np.uint64]
    shape: tuple[int, ...]
    splits: npt.NDArray[np.int64] | None = None
    weights: npt.NDArray[np.float32] | None = None


def flat_tensors(inputs: Mapping[str, Any], composites: Mapping[str, Any]) -> dict[str, Any]:
    """The dense tensors of a request, by name.

    Args:
        inputs: dense inputs, ragged and sparse ones, or the tensors that these consist of, by name.
        composites: `composite_inputs` of `embeddings.json`.

    Raises:
        TypeError: a sparse input is given as something else than a `tf.SparseTensor`.
        ValueError: a ragged input is not ragged as it should be.
    """
    tensors: dict[str, Any] = {}
    for name, value in inputs.items():
        if name not in composites:
            tensors[name] = value
            continue
        names, dtype = composites[name]["tensors"], tf.dtypes.as_dtype(composites[name]["dtype"])
        parts = (_of_sparse if composites[name]["kind"] == "sparse" else _of_ragged)(
            name, value, names, dtype
        )
        tensors |= dict(zip(names, parts, strict=True))
    return tensors


def names_of(embedding: dict[str, Any]) -> Iterator[str]:
    """The tensors that an entry of `embeddings.json` names; not ids that the model computes."""
    if embedding["field"] is not None:
        yield embedding["field"]
    for layout in filter(None, (embedding, embedding["weights"])):
        yield from layout["row_splits"]
        yield from filter(None, (layout["indices"], layout["dense_shape"]))
    if embedding["weights"] is not None:
        yield embedding["weights"]["values"]
    if embedding["mask"] is not None:
        yield embedding["mask"]


def lookup_of(embedding: dict[str, Any], tensors: Mapping[str, Any]) -> Lookup:
    """What is to be looked up for an entry of `embeddings.json`.

    Args:
        embedding: the entry.
        tensors: of the request, and those that the model computes from them, by name.

    Raises:
        TypeError: ids are not integers, what is hashed is neither text nor integers; weights are no floats.
        ValueError: ids, weights, mask, row splits or indices do not fit together.
    """
    keys = _keys(embedding, tensors)
    if embedding["combiner"] is None:
        _row_splits(embedding, keys, tensors)
        return Lookup(keys, keys.shape)
    splits, shape = _bags(embedding, keys, tensors)
    weights = _weights(embedding, keys, tensors)
    if embedding["mask"] is not None:
        keep = np.asarray(tensors[embedding["mask"]], bool)
        _check_layout("mask", embedding["mask"], embedding, keep.shape == keys.shape)
        keys, weights = keys[keep], weights[keep]
        splits = np.concatenate([[0], np.cumsum(keep)])[splits]
    keys, weights = keys.ravel(), weights.ravel()
    if embedding["padding_key"] is not None:
        weights = np.where(keys == np.uint64(embedding["padding_key"]), np.float32(0), weights)
    return Lookup(keys, shape, splits, weights)


def _of_ragged(name: str, value: Any, names: list[str], dtype: tf.DType) -> list[Any]:
    ragged_rank = len(names) - 1
    if not isinstance(value, tf.RaggedTensor):
        value = tf.ragged.constant(_as_lists(value), dtype, ragged_rank=ragged_rank)
    if value.ragged_rank != ragged_rank:
        raise ValueError(f"input `{name}` must have {ragged_rank} ragged axes. Received: {value.ragged_rank}")
    return [value.flat_values, *value.nested_row_splits]


def _of_sparse(name: str, value: Any, names: list[str], dtype: tf.DType) -> list[Any]:
    if not isinstance(value, tf.SparseTensor):
        raise TypeError(f"input `{name}` must be a tf.SparseTensor. Received: {value!r} of {type(value)}")
    return [value.indices, value.values, value.dense_shape]


def _as_lists(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _for_hash(values: Any) -> Any:
    return values if isinstance(values, (list, tuple)) else np.asarray(values)


def _keys(embedding: dict[str, Any], tensors: Mapping[str, Any]) -> npt.NDArray[np.uint64]:
    """The ids, in the shape that they or their values have."""
    name = embedding["field"] or embedding["input"]
    values = tensors[name]
    if embedding["hash"] is None:
        return as_keys(values, name)
    how = dict(embedding["hash"])
    return np.asarray(feature_hash(how.pop("field"), _for_hash(values), **how), np.uint64)


def _bags(
    embedding: dict[str, Any], keys: npt.NDArray[np.uint64], tensors: Mapping[str, Any]
) -> tuple[npt.NDArray[np.int64], tuple[int, ...]]:
    """Where each bag of ids begins and the last one ends, and the shape that the bags have."""
    if keys.ndim == 0:
        raise ValueError(f"the ids for input `{embedding['input']}` must have an axis. Received: {keys}")
    if embedding["indices"] is not None:
        return _sparse_bags(embedding, keys, tensors)
    splits = _row_splits(embedding, keys, tensors)
    if splits and keys.ndim == 1:
        return splits[-1], (len(splits[-1]) - 1,)
    shape = keys.shape[:-1]  # the last axis is uniform
    return np.arange(math.prod(shape) + 1) * keys.shape[-1], shape


def _row_splits(
    embedding: dict[str, Any], keys: npt.NDArray[np.uint64], tensors: Mapping[str, Any]
) -> list[npt.NDArray[np.int64]]:
    """The row splits of ragged ids, from the outermost axis, once they are known to split them."""
    splits = {name: np.asarray(tensors[name], np.int64) for name in embedding["row_splits"]}
    count = keys.shape[0] if keys.ndim else 1
    for name, of_axis in reversed(splits.items()):
        _check_splits(name, of_axis, count)
        count = len(of_axis) - 1
    return list(splits.values())


def _check_splits(name: str, splits: npt.NDArray[np.int64], count: int) -> None:
    ends = splits[[0, -1]].tolist() if splits.ndim == 1 and len(splits) else None
    if ends != [0, count] or (np.diff(splits) < 0).any():
        raise ValueError(f"`{name}` must rise from 0 to {count}, what it splits. Received: {splits.tolist()}")


def _sparse_bags(
    embedding: dict[str, Any], keys: npt.NDArray[np.uint64], tensors: Mapping[str, Any]
) -> tuple[npt.NDArray[np.int64], tuple[int, ...]]:
    name = embedding["indices"]
    indices = np.asarray(tensors[name], np.int64)
    shape = np.asarray(tensors[embedding["dense_shape"]], np.int64)
    if shape.ndim != 1 or (shape < 0).any():
        expected = "one size >= 0 for each axis"
        raise ValueError(f"`{embedding['dense_shape']}` must be {expected}. Received: {shape.tolist()}")
    if keys.ndim != 1 or indices.shape != (len(keys), len(shape)):
        expected = f"{(keys.size, len(shape))}, of each id its place"
        raise ValueError(f"`{name}` must have shape {expected}. Received shape: {indices.shape}")
    outside = ((indices < 0) | (indices >= shape)).any(axis=1)
    if outside.any():
        raise ValueError(f"`{name}` must be in the shape {shape}. Received: {indices[outside][0]}")
    bag_of_key = np.zeros(len(keys), np.int64)
    for axis, size in enumerate(shape[:-1]):
        bag_of_key = bag_of_key * size + indices[:, axis]
    (falls,) = np.nonzero(np.diff(bag_of_key) < 0)
    if len(falls):
        raise ValueError(
            "sparse ids must be in row-major order: call tf.sparse.reorder on them. "
            f"Received: `{name}` with {indices[falls[0] + 1]} after {indices[falls[0]]}"
        )
    of_bags = tuple(shape[:-1].tolist())
    return np.searchsorted(bag_of_key, np.arange(math.prod(of_bags) + 1)), of_bags


def _weights(
    embedding: dict[str, Any], keys: npt.NDArray[np.uint64], tensors: Mapping[str, Any]
) -> npt.NDArray[np.float32]:
    """The weights of the ids, in their shape."""
    layout = embedding["weights"]
    if layout is None:
        return np.ones(keys.shape, np.float32)
    weights = np.asarray(tensors[layout["values"]])
    if not tf.dtypes.as_dtype(weights.dtype).is_floating:
        raise TypeError(f"`weights` must be floats. Received dtype: {weights.dtype}")
    places = zip(_places(layout), _places(embedding), strict=True)
    same = all(np.array_equal(tensors[own], tensors[of_ids]) for own, of_ids in places)
    _check_layout("weights", layout["values"], embedding, weights.shape == keys.shape and same)
    return weights.astype(np.float32)


def _places(layout: dict[str, Any]) -> list[str]:
    """The tensors that say where in a bag ids or weights are."""
    return [*layout["row_splits"], *filter(None, [layout["indices"]])]


def _check_layout(name: str, tensor: str, embedding: dict[str, Any], is_that_of_ids: bool) -> None:
    if not is_that_of_ids:
        raise ValueError(
            f"`{name}` must be laid out like the ids: same shape, rows and indices. "
            f"Received other ones in `{tensor}` for input `{embedding['input']}`"
        )
