# SPDX-License-Identifier: Apache-2.0
"""load_saved_model: a SavedModel with damo_tf's ops inside, on the store that it is to be on."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

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
        FileNotFoundError: there is no store, or it lacks a group.
        OSError: there is no SavedModel in `directory`.
    """
    path = check_path("directory", directory)
    if store is not None and not isinstance(store, Store):
        store = check_path("store", store)
    with _environment(store.directory if isinstance(store, Store) else store):
        return tf.saved_model.load(path)


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
