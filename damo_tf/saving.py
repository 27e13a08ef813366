# SPDX-License-Identifier: Apache-2.0
"""load_model: a `.keras` file, on the store that it is to be on."""

import os
from collections.abc import Mapping
from typing import Any

import keras

from damo_tf._arguments import check_path
from damo_tf.layers.saved_rows import stores_of_configs
from damo_tf.store import Store


def load_model(
    filepath: str | os.PathLike[str],
    *,
    store: Store | str | os.PathLike[str] | Mapping[str, Any] | None = None,
    custom_objects: dict[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> keras.Model:
    """Loads what `model.save` wrote, with its rows in a store of your choice.

    The store is that of the environment variable `DAMO_STORE`, if it is set; else `store`; else the one that
    the file names, whose path is that of the store when the model was saved. `keras.saving.load_model` does
    the same without an argument for the store.

    A file that was written without rows (the default) needs a store that stands. The rows of one that was
    written with `save_rows=True` go into the store, which is made if it is not there. If it has rows already
    they must be the file's, as far as numbers of steps and rows tell; else the call fails and changes
    nothing.

    Example:

    >>> model.save("model.keras")
    >>> store.close()
    >>> loaded = damo_tf.load_model("model.keras", store=store.directory)
    >>> loaded.layers[1].store
    Store('...')

    Args:
        filepath: of a `.keras` file.
        store: a `damo_tf.Store`, the path of one, or, for a model on several, a dict from the paths in the
            file to these. A store that needs settings (`memory_budget`, `read_only`, ...) is given open.
            `None` (default): the one that the file names.
        custom_objects: see `keras.saving.load_model`.
        compile: likewise.
        safe_mode: likewise.

    Returns:
        The model.

    Raises:
        FileNotFoundError: there is no store at the path, and no rows in the file.
        ValueError: the store has other rows than the file; one store is given for a model on several; or what
            `keras.saving.load_model` refuses.
        TypeError: `store` is of another type.
    """
    with stores_of_configs(_check_store(store)):
        return keras.saving.load_model(
            filepath, custom_objects=custom_objects, compile=compile, safe_mode=safe_mode
        )


def _check_store(store: Any) -> Any:
    if isinstance(store, Mapping):
        return {check_path("store", recorded): _check_store(given) for recorded, given in store.items()}
    if store is None or isinstance(store, Store):
        return store
    return check_path("store", store)
