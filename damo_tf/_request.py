# SPDX-License-Identifier: Apache-2.0
"""What a request holds for a dense part that `export_dense` wrote: tensors, and the features among them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from damo_tf._arguments import as_keys
from damo_tf._bags import Feature
from damo_tf.hashing import feature_hash


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


def feature_of(embedding: dict[str, Any], tensors: Mapping[str, Any]) -> Feature:
    """What is to be looked up for an entry of `embeddings.json`.

    Args:
        embedding: the entry.
        tensors: of the request, and those that the model computes from them, by name.

    Raises:
        TypeError: ids are not integers, or what is hashed is neither text nor integers.
        ValueError: ids or weights are not ragged or sparse as they should be.
    """
    values = tensors[embedding["field"] or embedding["input"]]
    if embedding["hash"] is None:
        keys = as_keys(values)
    else:
        how = dict(embedding["hash"])
        keys = np.asarray(feature_hash(how.pop("field"), _for_hash(values), **how), np.uint64)
    weights, mask = embedding["weights"], embedding["mask"]
    if weights is not None:
        weights = _laid_out(np.asarray(tensors[weights["values"]]), weights, tensors)
    return Feature(
        _laid_out(keys.view(np.int64), embedding, tensors),
        embedding["combiner"],
        weights,
        None if mask is None else tf.constant(np.asarray(tensors[mask], bool)),
    )


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


def _check_splits(name: str, splits: npt.NDArray[np.int64], count: int) -> None:
    ends = splits[[0, -1]].tolist() if splits.ndim == 1 and len(splits) else None
    if ends != [0, count] or (np.diff(splits) < 0).any():
        raise ValueError(f"`{name}` must rise from 0 to {count}, what it splits. Received: {splits.tolist()}")


def _laid_out(values: npt.NDArray[Any], layout: dict[str, Any], tensors: Mapping[str, Any]) -> Any:
    """`values`, ragged or sparse by the tensors that `layout` names."""
    flat = tf.constant(values)
    if layout["row_splits"]:
        splits = [np.asarray(tensors[name], np.int64) for name in layout["row_splits"]]
        counts = [*(len(inner) - 1 for inner in splits[1:]), len(values)]
        for name, of_axis, count in zip(layout["row_splits"], splits, counts, strict=True):
            _check_splits(name, of_axis, count)
        return tf.RaggedTensor.from_nested_row_splits(flat, splits, validate=False)
    if layout["indices"] is not None:
        indices, shape = (np.asarray(tensors[layout[part]], np.int64) for part in ("indices", "dense_shape"))
        return tf.SparseTensor(indices, flat, shape)
    return flat
