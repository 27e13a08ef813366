# SPDX-License-Identifier: Apache-2.0
"""load_saved_model: a SavedModel with damo_tf's ops inside, on the store that it is to be on."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from damo_tf._arguments import check_path
from damo_tf.store import Store

#: What the op that opens a SavedModel's store looks at (cc/ops/table_kernels.cc).
_ENVIRONMENT = "DAMO_STORE"
_lock = threading.Lock()


def load_saved_model(
    directory: str | os.PathLike[str], *, store: Store | str | os.PathLike[str] | None = None
) -> Any:
    """Loads what `model.export` or `tf.saved_model.save` wrote of a model with rows in a store.

    Such a SavedModel has damo_tf's lookups in it, so it reads rows as they are in the store, which is that of
    the environment variable `DAMO_STORE`, if it is set; else `store`; else the one where the model was
    saved. `tf.saved_model.load` does the same without an argument for the store; for both, damo_tf must be
    imported, which registers the ops.

    A model on several stores is loaded on those that it was saved on: one path cannot stand for two.

    A store that is not open is opened for writing. Where another process trains, open it yourself before:
    `damo_tf.Store(path, read_only=True)`.

    Example:

    >>> model.export("exported", verbose=False)
    >>> loaded = damo_tf.load_saved_model("exported", store=store)
    >>> loaded.serve(tf.constant([[7]], tf.int64)).shape
    TensorShape([1, 1])

    Args:
        directory: of the SavedModel.
        store: a `damo_tf.Store`, or the path of one, for all groups of the model. Default `None`.

    Returns:
        As `tf.saved_model.load`.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: one store is given, here or by the environment, for a model on several; or here for one
            that looks up in none, as those of `export_inline`.
        FileNotFoundError: there is no store, or it lacks a group.
        OSError: there is no SavedModel in `directory`.
    """
    path = check_path("directory", directory)
    if store is not None and not isinstance(store, Store):
        store = check_path("store", store)
    with _environment(store.directory if isinstance(store, Store) else store):
        _check_stores(path, is_argument=store is not None)
        return tf.saved_model.load(path)


def _check_stores(path: str, *, is_argument: bool) -> None:
    """Fails where one store would take the place of several, or, given as an argument, of none."""
    given = os.environ.get(_ENVIRONMENT)
    recorded = _recorded_stores(path) if given else None
    if recorded is None:
        return
    if is_argument and not recorded:
        raise ValueError(
            f"`store` must be None for SavedModel '{path}', which looks up in no store. Received: '{given}'"
        )
    if len(recorded) > 1:
        raise ValueError(
            f"one store cannot stand for the {len(recorded)} of SavedModel '{path}': {sorted(recorded)}. "
            f"Received: '{given}', by `store` or {_ENVIRONMENT}"
        )


def _recorded_stores(path: str) -> set[str] | None:
    """Paths of the stores that a SavedModel was made on; `None` where there is no SavedModel."""
    try:
        serialized = tf.io.read_file(os.path.join(path, "saved_model.pb")).numpy()
    except tf.errors.OpError:
        return None  # what is there instead is for tf.saved_model.load() to tell
    saved = saved_model_pb2.SavedModel.FromString(serialized)
    graphs = [meta_graph.graph_def for meta_graph in saved.meta_graphs]
    bodies = [
        nodes for graph in graphs for nodes in (graph.node, *(f.node_def for f in graph.library.function))
    ]
    return {path for nodes in bodies for path in _paths_of_handles(nodes)}


def _paths_of_handles(nodes: Iterable[Any]) -> Iterator[str]:
    """The directories that the handle ops among the nodes of one function name."""
    by_name = {node.name: node for node in nodes}
    for node in by_name.values():
        if node.op == "DamoTableHandle":
            directory = by_name[node.input[0].split(":")[0]]
            yield directory.attr["value"].tensor.string_val[0].decode()


@contextmanager
def _environment(directory: str | None) -> Iterator[None]:
    """The environment variable set to `directory`, unless it is set already."""
    if directory is None or os.environ.get(_ENVIRONMENT):
        yield
        return
    with _lock:
        os.environ[_ENVIRONMENT] = directory
        try:
            yield
        finally:
            del os.environ[_ENVIRONMENT]
