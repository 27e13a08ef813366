# SPDX-License-Identifier: Apache-2.0
"""What Keras's files hold of a layer's rows, and where a layer that comes out of one finds its store."""

import json
import os
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from damo_tf import ops
from damo_tf._description import DESCRIPTION_FILE
from damo_tf.store import Store
from damo_tf.table import Table

_ENVIRONMENT = "DAMO_STORE"
_ROWS = "rows"  # of a layer's assets, the directory with a checkpoint of its store
_STEP = "step"  # beside the anchor in a file of weights: the table's global step when it was written


class _Replacement:
    """Stores that layers of configs are to be on, for the time of one `load_model`.

    Attributes:
        recorded: the directories that the configs named.
    """

    def __init__(self, store: Store | str | Mapping[str, Store | str] | None) -> None:
        self._store = store
        self.recorded: set[str] = set()

    def of(self, recorded: str) -> Store | str:
        self.recorded.add(recorded)
        if self._store is None:
            return recorded
        if isinstance(self._store, Mapping):
            return self._store.get(recorded, recorded)
        if len(self.recorded) > 1:
            raise ValueError(
                f"the model is on several stores, {sorted(self.recorded)}, which cannot all be "
                f"{self._store!r}: `damo_tf.load_model` takes a dict from these to others"
            )
        return self._store


_replacement: ContextVar[_Replacement | None] = ContextVar("damo_tf_store_of_configs", default=None)


@contextmanager
def stores_of_configs(store: Store | str | Mapping[str, Store | str] | None) -> Iterator[None]:
    """Layers made from configs inside this context are on `store`; see `damo_tf.load_model`.

    Raises:
        ValueError: in it, when one store takes the place of several; at its end, when a dict names others.
    """
    store = os.environ.get(_ENVIRONMENT) or store
    replacement = _Replacement(store)
    token = _replacement.set(replacement)
    try:
        yield
    finally:
        _replacement.reset(token)
    if isinstance(store, Mapping) and not store.keys() <= replacement.recorded:
        unknown = sorted(store.keys() - replacement.recorded)
        raise ValueError(f"`store` names {unknown}; the model is on {sorted(replacement.recorded)}")


def store_of_config(recorded: str) -> Store | str:
    """The store, or its directory, of a layer whose config has the directory `recorded`."""
    replacement = _replacement.get()
    if replacement is not None:
        return replacement.of(recorded)
    return os.environ.get(_ENVIRONMENT) or recorded


#: Of each store, the layer that last wrote its rows to an archive, and where.
_written: dict[str, tuple[weakref.ref[Any], Path]] = {}


def write_rows(layer: Any, assets: str) -> None:
    """Writes a checkpoint of a layer's store among the assets of the layer, for a `.keras` file.

    Nothing is written if another layer on the store has written it for the same file.
    """
    rows = Path(assets) / _ROWS
    writer, written = _written.get(layer.store.directory, (None, rows))
    is_of_another = writer is not None and writer() is not layer and written.is_dir()
    if is_of_another and _root(written.parent) == _root(rows.parent):
        return
    layer.store.checkpoint(rows)
    _written[layer.store.directory] = weakref.ref(layer), rows


def _root(assets: Path) -> Path:
    """The directory of all assets of a file, which Keras names so."""
    return next((path for path in (assets, *assets.parents) if path.name == "assets"), assets)


def read_rows(directory: str, assets: str | None) -> Store | None:
    """Brings the rows among a layer's assets into the store in `directory`, which is made if it is not there.

    Returns:
        The store; `None` if there are no rows among the assets.

    Raises:
        ValueError: the store has rows already, and not those of the file.
    """
    rows = Path(assets or "", _ROWS)
    if assets is None or not rows.is_dir():
        return None
    with Store(rows, read_only=True, seed=None) as checkpoint:
        settings = {name: checkpoint.options[name] for name in ("seed", "clock")}
    try:
        store = Store.attach(directory, create_if_missing=False)
    except FileNotFoundError:
        store = Store(directory, **settings)
    description = json.loads((rows / DESCRIPTION_FILE).read_text("utf-8"))
    theirs = {group["group"]: (group["step"], group["rows"]) for group in description["groups"]}
    groups = store.stats()["groups"]
    ours = {number: (group["step"], group["rows"]) for number, group in groups.items()}
    if any(map(any, ours.values())) and ours != theirs:
        raise ValueError(
            f"store '{store.directory}' has rows, and the file has others; {_difference(ours, theirs)}. Take "
            "the file's into a new store: `damo_tf.load_model(file, store=directory)`"
        )
    if ours != theirs:
        store.restore(rows)
    return store


def _difference(ours: dict[int, tuple[int, int]], theirs: dict[int, tuple[int, int]]) -> str:
    for group in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(group, (0, 0)), theirs.get(group, (0, 0))
        if here != there:
            found = f"group {group} has {here[1]} rows after {here[0]} steps"
            return f"{found}, in the file {there[1]} after {there[0]}"
    return ""


_warned_of_saving: weakref.WeakSet[Table] = weakref.WeakSet()
_warned_of_loading: weakref.WeakSet[Table] = weakref.WeakSet()


def note_step(layer: Any, table: Table, weights: Any) -> None:
    """Writes the table's step into what Keras saves of a layer's weights. Warns once of what is not in it."""
    if not table.closed:
        weights[_STEP] = np.array(int(ops.step(table.handle)))
    if layer.save_rows or table in _warned_of_saving:
        return
    _warned_of_saving.add(table)
    warnings.warn(
        f"the rows of layer '{layer.name}' stay in store '{layer.store.directory}': files of weights do not "
        "hold them, and a `.keras` file holds the path of the store. `damo_tf.callbacks.StoreCheckpoint` "
        "saves both together; with `save_rows=True` they go into `.keras` files, too.",
        stacklevel=2,
    )


def weights_without_step(layer: Any, table: Table | None, weights: Any) -> dict[str, Any]:
    """The weights that Keras saved of a layer. Warns once if the rows are not of the same step."""
    step = int(np.asarray(weights[_STEP])) if _STEP in weights.keys() else None  # noqa: SIM118 - no dict
    if step is not None and table is not None and not layer.save_rows and table not in _warned_of_loading:
        now = int(ops.step(table.handle))
        if now != step:
            _warned_of_loading.add(table)
            warnings.warn(
                f"layer '{layer.name}': the weights were saved after {step} steps of group {layer.group} of "
                f"store '{layer.store.directory}', whose rows have taken {now}. To go back to one moment of "
                "both, use `damo_tf.callbacks.StoreCheckpoint`.",
                stacklevel=2,
            )
    return {name: weights[name] for name in weights.keys() if name != _STEP}  # noqa: SIM118
