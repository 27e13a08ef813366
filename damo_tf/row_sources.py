# SPDX-License-Identifier: Apache-2.0
"""Where a Predictor reads rows: a store, a dump, or checkpoints, each as of one moment."""

import re
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from damo_tf._description import DESCRIPTION_FILE, read_description
from damo_tf.dump_file import DumpedGroup, read_dump
from damo_tf.export.initial_values import initial_values
from damo_tf.store import Store


class Rows(Protocol):
    """Rows that do not change, or only as a live store does."""

    def lookup(self, embedding: dict[str, Any], keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        """The vectors of keys for an entry of `embeddings.json`: float32 `keys.shape + (dim,)`."""

    def settings(self) -> dict[int, dict[str, Any]]:
        """Of each group what is known of it: `dim` and, where written down, `initializer` and `seed`."""


class StoreRows:
    """The rows of an open store.

    Args:
        store: the store, which is read and never changed.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def lookup(self, embedding: dict[str, Any], keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        """See `Rows`."""
        return self.store.lookup(
            embedding["group"],
            keys,
            padding_key=embedding["padding_key"],
            missing=embedding["missing"],
        )

    def settings(self) -> dict[int, dict[str, Any]]:
        """See `Rows`."""
        storage, seed = self.store.storage, self.store.options["seed"]
        return {group: {**storage.group_config(group), "seed": seed} for group in storage.groups}


class DumpRows:
    """The rows of a dump, read from the mapped file; keys are in memory.

    Args:
        path: of the dump.
        seed: of the store that it is of.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self._seed = seed
        self._weights: dict[int, npt.NDArray[np.float32]] = {}
        self._keys: dict[int, npt.NDArray[np.uint64]] = {}
        for number, group in read_dump(path).items():
            self._add(number, group)

    def lookup(self, embedding: dict[str, Any], keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        """See `Rows`."""
        group = embedding["group"]
        flat = keys.reshape(-1)
        vectors = np.zeros((len(flat), embedding["dim"]), np.float32)
        found = np.zeros(len(flat), bool)
        stored = self._keys[group]
        if len(stored):
            places = np.minimum(np.searchsorted(stored, flat), len(stored) - 1)
            found = stored[places] == flat
            vectors[found] = self._weights[group][places[found]]
        if embedding["missing"] == "initial" and not found.all():
            vectors[~found] = self._initial_values(embedding, flat[~found])
        if embedding["padding_key"] is not None:
            vectors[flat == np.uint64(embedding["padding_key"])] = 0
        return vectors.reshape(*keys.shape, embedding["dim"])

    def settings(self) -> dict[int, dict[str, Any]]:
        """See `Rows`."""
        return {group: {"dim": weights.shape[1]} for group, weights in self._weights.items()}

    def _add(self, number: int, group: DumpedGroup) -> None:
        self._keys[number] = np.ascontiguousarray(group.keys)
        self._weights[number] = group.weights

    def _initial_values(
        self, embedding: dict[str, Any], keys: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.float32]:
        values = initial_values(
            tf.constant(keys.view(np.int64)),
            seed=self._seed,
            group=embedding["group"],
            dim=embedding["dim"],
            initializer=embedding["initializer"],
        )
        return np.array(values)


def check_fit(rows: Rows, embeddings: list[dict[str, Any]], seed: int, name: str) -> None:
    """Raises unless rows are of the groups that a dense part was exported with.

    Args:
        rows: the rows.
        embeddings: the entries of `embeddings.json` that are looked up in them.
        seed: of the store that the dense part was exported with.
        name: of the rows, for the message.

    Raises:
        ValueError: a group is missing, or its rows have another width or other initial values.
    """
    settings = rows.settings()
    for embedding in embeddings:
        group, exported = embedding["group"], {**embedding, "seed": seed}
        if group not in settings:
            raise ValueError(f"`store` must have group {group}. Received: {sorted(settings)} in {name}")
        # Where ids without a row read as zeros, their initial values are of no concern.
        compared = ["dim", "initializer", "seed"] if embedding["missing"] == "initial" else ["dim"]
        for setting in compared:
            expected, actual = exported[setting], settings[group].get(setting, exported[setting])
            if actual != expected:
                raise ValueError(
                    f"`store` must have {setting} {expected} in group {group}, as the dense part was "
                    f"exported with. Received: {actual} in {name}"
                )


class Version:
    """A moment of a source: what it is called, and how its rows are opened.

    Args:
        name: equal for equal rows.
        open: opens the rows.
    """

    def __init__(self, name: str, open: Callable[[], Rows]) -> None:
        self.name = name
        self.open = open


class Source(Protocol):
    """Where rows come from."""

    def newest(self) -> Version:
        """The newest rows there are.

        Raises:
            FileNotFoundError: there are none.
        """

    def close(self) -> None:
        """Removes what the source has made for itself."""


class FixedSource:
    """Rows that are always the same object: those of a store that somebody has opened, or of one checkpoint.

    Args:
        rows: the rows.
        name: what they are called.
    """

    def __init__(self, rows: Rows, name: str) -> None:
        self._version = Version(name, lambda: rows)

    def newest(self) -> Version:
        """See `Source`."""
        return self._version

    def close(self) -> None:
        """See `Source`."""


class DumpSource:
    """A dump, which may be replaced by a newer one.

    Args:
        path: of the dump.
        seed: of the store.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        self._seed = seed

    def newest(self) -> Version:
        """See `Source`."""
        return Version(_name(self._path), lambda: DumpRows(self._path, self._seed))

    def close(self) -> None:
        """See `Source`."""


class CheckpointSource:
    """A checkpoint, or a directory of a `CheckpointManager`, of which the newest one counts.

    A full checkpoint is opened where it lies: its files stay readable for whoever has them open, even
    when the manager removes them. A delta is no store, so the chain it belongs to is restored into a
    copy, which takes what differs from what the copy was before. A copy in use is left alone: there are
    two of them after a while, more only if requests take longer than checkpoints are apart.

    Args:
        directory: of the checkpoint or checkpoints.
        seed: of the store that they are of.
        memory_budget: bytes, of each store that is opened.
        scratch: path of a directory for copies; `None`: the system's for temporary files.
    """

    def __init__(self, directory: Path, seed: int, memory_budget: int, scratch: str | None) -> None:
        self._directory = directory
        self._seed = seed
        self._memory_budget = memory_budget
        self._scratch = scratch
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._copies: list[tuple[Store, weakref.ref[StoreRows]]] = []

    def newest(self) -> Version:
        """See `Source`."""
        path = _newest_checkpoint(self._directory)
        opened = self._open_full if read_description(path).base is None else self._open_copy
        return Version(_name(path / DESCRIPTION_FILE), lambda: opened(path))

    def close(self) -> None:
        """See `Source`."""
        for store, _ in self._copies:
            store.close()
        self._copies.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _open_full(self, path: Path) -> Rows:
        return StoreRows(Store(path, read_only=True, memory_budget=self._memory_budget, seed=self._seed))

    def _open_copy(self, path: Path) -> Rows:
        place = next((i for i, (_, user) in enumerate(self._copies) if user() is None), None)
        store = self._new_copy() if place is None else self._copies[place][0]
        store.restore(path)
        rows = StoreRows(store)
        entry = (store, weakref.ref(rows))
        if place is None:
            self._copies.append(entry)
        else:
            self._copies[place] = entry
        return rows

    def _new_copy(self) -> Store:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="damo_predictor_", dir=self._scratch)
        directory = Path(self._folder.name) / str(len(self._copies))
        return Store(directory, memory_budget=self._memory_budget, seed=self._seed, durability="checkpoint")


def has_checkpoints(directory: Path) -> bool:
    """Whether a directory is a checkpoint, or has numbered ones."""
    return (directory / DESCRIPTION_FILE).exists() or bool(_numbered(directory))


def has_training_checkpoints(directory: Path) -> bool:
    """Whether a directory is of a `StoreCheckpoint`, or one checkpoint of it."""
    places = (f"store-0/{DESCRIPTION_FILE}", f"ckpt-*/store-0/{DESCRIPTION_FILE}")
    return any(path for place in places for path in directory.glob(place))


def _newest_checkpoint(directory: Path) -> Path:
    if (directory / DESCRIPTION_FILE).exists():
        return directory
    numbered = _numbered(directory)
    if not numbered:
        raise FileNotFoundError(f"there is no checkpoint in '{directory}' any more")
    return numbered[max(numbered)]


def _numbered(directory: Path) -> dict[int, Path]:
    """The checkpoints that a `CheckpointManager` has in a directory, by number."""
    names = (re.fullmatch(r"ckpt-([1-9]\d*)", entry.name) for entry in directory.iterdir())
    found = {int(name[1]): directory / name[0] for name in names if name}
    return {number: path for number, path in found.items() if (path / DESCRIPTION_FILE).exists()}


def _name(file: Path) -> str:
    """The name of a version whose files appear together with this one."""
    status = file.stat()
    return f"{file} of inode {status.st_ino}, {status.st_mtime_ns} ns"
