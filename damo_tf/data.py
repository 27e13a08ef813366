# SPDX-License-Identifier: Apache-2.0
"""Input pipelines that read rows from the disk before the training step that needs them."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from damo_tf import ops
from damo_tf._arguments import check_int
from damo_tf._ids import as_keys, as_one_vector
from damo_tf.layers import Embedding
from damo_tf.store import Store
from damo_tf.table import Table, get_table

__all__ = ["prefetch_rows"]


def prefetch_rows(
    dataset: tf.data.Dataset,
    layer_or_store: Embedding | Store,
    *,
    ids: str | Callable[..., Any] | None = None,
    depth: int = 2,
) -> tf.data.Dataset:
    """The same dataset; while a step trains, the rows of the next batches are read into memory.

    For training on tables that are larger than the store's memory budget. What is trained is the same as
    without it, bit for bit; only the waiting for the disk goes. Put it at the end of the pipeline, behind
    `batch`: what comes after it (`shuffle`, `cache`, `prefetch`) would part the reading from the training.

    Example:

    >>> dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    >>> dataset = damo_tf.data.prefetch_rows(dataset, model.get_layer("rows"))
    >>> history = model.fit(dataset, verbose=0)

    Several tables of one store are read together:

    >>> store.add_group(0, dim=8)
    >>> store.add_group(1, dim=8)
    >>> dataset = tf.data.Dataset.from_tensors({"user": [1, 2], "item": [3, 4]})
    >>> dataset = damo_tf.data.prefetch_rows(
    ...     dataset, store, ids=lambda features: {0: features["user"], 1: features["item"]}
    ... )

    Args:
        dataset: a `tf.data.Dataset` of batches.
        layer_or_store: the `damo_tf.Embedding` that will look the ids up, built or not: its table is opened
            now if it is not open yet, as building does. Or a `damo_tf.Store` whose groups exist.
        ids: where an element has its ids, which are as the layer takes them:

            * `None` (default): the whole element, or its first component if it is a tuple such as
              `(inputs, targets)`. Not with a store.
            * A str: that entry of the features, which are a dict: the element or, in a tuple, its first
              component. Not with a store.
            * A function that is called like that of `Dataset.map`. With a layer it returns ids or a nest of
              them; with a store a dict, group to ids or a nest of them.
        depth: integer >= 1. How many batches ahead rows are read. That many batches of rows should fit into
            a small part of the memory budget. Default 2.

    Returns:
        A `tf.data.Dataset` of the same elements in the same order. Where reading fails (the store has been
        closed, a row is damaged), taking the element raises.

    Raises:
        TypeError: an argument is of the wrong type; ids are not integers; a function
            returned something else than `ids` tells.
        ValueError: an argument breaks its rule; the store is closed, or there is none for the layer.
        KeyError: the store has no such group.
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(f"`dataset` must be a tf.data.Dataset. Received: dataset={dataset!r}")
    check_int("depth", depth, 1, None)
    if not isinstance(layer_or_store, (Embedding, Store)):
        raise TypeError(
            "`layer_or_store` must be a damo_tf.Embedding or a damo_tf.Store. "
            f"Received: layer_or_store={layer_or_store!r}"
        )
    _check_ids_argument(ids, isinstance(layer_or_store, Embedding), dataset.element_spec)
    store = layer_or_store.store if isinstance(layer_or_store, Embedding) else layer_or_store
    if store.closed:
        raise ValueError(f"`layer_or_store` must be of an open store. Received: {store!r}")
    if isinstance(layer_or_store, Embedding):
        read = _reader_of_layer(layer_or_store)
    else:
        read = _reader_of_store(store)

    def read_rows(*element: Any) -> Any:
        read(_ids_of(element, ids))
        return element if type(dataset.element_spec) is tuple else element[0]

    return dataset.map(read_rows, name="read_rows").prefetch(depth, name="prefetch_rows")


def _check_ids_argument(ids: Any, of_layer: bool, element_spec: Any) -> None:
    if ids is not None and not isinstance(ids, str) and not callable(ids):
        raise TypeError(f"`ids` must be None, a str or a function. Received: ids={ids!r} of {type(ids)}")
    if callable(ids):
        return
    if not of_layer:
        raise ValueError(
            "`ids` must be a function that returns a dict of group to ids where rows are those of a Store. "
            f"Received: ids={ids!r}"
        )
    if ids is None:
        return
    features = element_spec[0] if type(element_spec) is tuple else element_spec
    if not isinstance(features, Mapping):
        raise ValueError(
            f"`ids` may be a str only where the features are a dict. Received: ids={ids!r} and features "
            f"{features!r}"
        )
    if ids not in features:
        known = ", ".join(map(repr, features))
        raise ValueError(f"`ids` must be one of the features, {known}. Received: ids={ids!r}")


def _ids_of(element: tuple[Any, ...], ids: str | Callable[..., Any] | None) -> Any:
    if callable(ids):
        return ids(*element)
    return element[:1] if ids is None else element[0][ids]


def _reader_of_layer(layer: Embedding) -> Callable[[Any], None]:
    table, padding_key = layer.open_table(), layer.padding_key
    return lambda ids: _read(table, ids, padding_key)


def _reader_of_store(store: Store) -> Callable[[Any], None]:
    def read(ids_by_group: Any) -> None:
        if not isinstance(ids_by_group, Mapping):
            raise TypeError(
                f"`ids` must return a dict of group to ids where rows are those of a Store. "
                f"It returned: {ids_by_group!r}"
            )
        for group, ids in ids_by_group.items():
            check_int("group", group, 0, 256)
            store.storage.group_config(group)  # names the groups there are if this is none
            _read(get_table(store.storage, group), ids, None)

    return read


def _read(table: Table, ids: Any, padding_key: int | None) -> None:
    keys = [as_keys(part) for part in tf.nest.flatten(ids)]
    if not keys:
        raise ValueError(f"`ids` must lead to at least one tensor of ids. Received: {ids!r}")
    # A stateful op: runs with the function that it is traced in, whether or not its output is used.
    ops.prefetch(table.handle, as_one_vector(keys), padding_key=padding_key)
