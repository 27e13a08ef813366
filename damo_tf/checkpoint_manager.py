# SPDX-License-Identifier: Apache-2.0
"""CheckpointManager: numbered checkpoints of a store, of which the last few are kept."""

import os
import re
import shutil
from pathlib import Path

from damo_tf._arguments import check_int, check_path
from damo_tf._aside import DELETED, UNFINISHED, is_being_written
from damo_tf._description import Description, read_description
from damo_tf.store import Store


class CheckpointManager:
    """Keeps the last checkpoints of a store in a directory, as `tf.train.CheckpointManager` does of a model.

    Checkpoints are named `ckpt-1`, `ckpt-2`, and so on. A process that is killed at any moment leaves whole
    checkpoints, and names of unfinished ones that the next manager of the directory removes. What has such a
    name but is no checkpoint, or has a damaged description, is left alone and not counted.

    Example:

    >>> manager = damo_tf.CheckpointManager(store, checkpoints, max_to_keep=2)
    >>> manager.save().name
    'ckpt-1'
    >>> manager.restore_or_initialize() == manager.latest_checkpoint
    True

    Args:
        store: the store to save and restore.
        directory: path, made if absent. It should be on the store's filesystem, where checkpoints share
            files with the store, and outside the store's directory.
        max_to_keep: integer >= 1: how many checkpoints to keep that can be restored. Those that a kept delta
            builds on are kept besides. `None`: all.
        full_every: integer >= 1: each so-manyth checkpoint is full, those between hold the changes since
            the one before. Default 1: all are full.
    """

    def __init__(
        self,
        store: Store,
        directory: str | os.PathLike[str],
        *,
        max_to_keep: int | None = 3,
        full_every: int = 1,
    ) -> None:
        if not isinstance(store, Store):
            raise TypeError(f"`store` must be a damo_tf.Store. Received: {store!r} of {type(store)}")
        check_int("max_to_keep", max_to_keep, 1, None, optional=True)
        check_int("full_every", full_every, 1, None)
        self._store = store
        self._directory = Path(check_path("directory", directory)).absolute()
        self._max_to_keep = max_to_keep
        self._full_every = full_every
        self._directory.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()

    @property
    def directory(self) -> Path:
        """Where the checkpoints are."""
        return self._directory

    @property
    def checkpoints(self) -> list[Path]:
        """The checkpoints that are there, oldest first. Some may be kept for later ones only."""
        return [self._path(number) for number in self._numbers()]

    @property
    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint, or `None` if there is none."""
        numbers = self._numbers()
        return self._path(numbers[-1]) if numbers else None

    def save(self) -> Path:
        """Writes a checkpoint, then removes those that are no longer kept.

        Returns:
            Its directory.

        Raises:
            RuntimeError, OSError: see `Store.checkpoint` and `Store.checkpoint_delta`; nothing is removed.
        """
        numbers = self._numbers()
        path = self._path(max(self._taken(), default=0) + 1)
        if not numbers or self._next_is_full(numbers[-1]):
            self._store.checkpoint(path)
        else:
            self._store.checkpoint_delta(path, since=self._path(numbers[-1]))
        self._remove_old()
        return path

    def restore_or_initialize(self) -> Path | None:
        """Restores the store from the newest checkpoint, if there is one.

        Returns:
            The checkpoint's directory; `None` if there is none, and nothing was done.

        Raises:
            ValueError, RuntimeError, OSError: see `Store.restore`.
        """
        latest = self.latest_checkpoint
        if latest is not None:
            self._store.restore(latest)
        return latest

    def _path(self, number: int) -> Path:
        return self._directory / f"ckpt-{number}"

    def _taken(self) -> list[int]:
        """The numbers of all names that a checkpoint could have."""
        names = (re.fullmatch(r"ckpt-([1-9]\d*)", entry.name) for entry in self._directory.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def _numbers(self) -> list[int]:
        return [number for number in self._taken() if self._describe(number) is not None]

    def _describe(self, number: int) -> Description | None:
        try:
            return read_description(self._path(number))
        except (FileNotFoundError, RuntimeError):
            return None

    def _chain(self, number: int) -> tuple[list[int], bool]:
        """A checkpoint and those it builds on, as far as they are there, newest first; whether all are."""
        chain: list[int] = []
        link = number
        while (description := self._describe(link)) is not None:
            chain.append(link)
            if description.base is None:
                return chain, True
            name = re.fullmatch(r"(?:.*/)?ckpt-([1-9]\d*)", description.base)
            if name is None or int(name[1]) >= link:
                break  # none of ours
            link = int(name[1])
        return chain, False

    def _next_is_full(self, latest: int) -> bool:
        chain, is_whole = self._chain(latest)
        return len(chain) >= self._full_every or not is_whole

    def _remove_old(self) -> None:
        if self._max_to_keep is None:
            return
        numbers = self._numbers()
        needed = {link for kept in numbers[-self._max_to_keep :] for link in self._chain(kept)[0]}
        # Newest first, so that at no moment there is a delta without what it builds on.
        for number in reversed([number for number in numbers if number not in needed]):
            deleted = self._directory / f"ckpt-{number}{DELETED}"
            self._path(number).rename(deleted)
            shutil.rmtree(deleted)

    def _remove_leftovers(self) -> None:
        for entry in self._directory.iterdir():
            name = re.fullmatch(rf"ckpt-\d+({re.escape(UNFINISHED)}|{re.escape(DELETED)})", entry.name)
            if name and entry.is_dir() and not is_being_written(entry):
                shutil.rmtree(entry)
