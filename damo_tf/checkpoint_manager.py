# SPDX-License-Identifier: Apache-2.0
"""CheckpointManager: numbered checkpoints of a store, of which the last few are kept."""

import os
import re
from pathlib import Path

from damo_tf._arguments import check_int, check_path
from damo_tf._description import Description, read_description
from damo_tf._numbered_directories import NumberedDirectories
from damo_tf.store import Store


class CheckpointManager:
    """Keeps the last checkpoints of a store in a directory, as `tf.train.CheckpointManager` does of a model.

    Checkpoints are named `ckpt-1`, `ckpt-2`, and so on. A process that is killed at any moment leaves whole
    checkpoints, and names of unfinished ones that the next manager of the directory removes. What has such a
    name but is no checkpoint, or has a damaged description, is left alone and not counted.

    Example:

    >>> manager = damo_tf.CheckpointManager(store, "checkpoints", max_to_keep=2)
    >>> manager.save().name
    'ckpt-1'
    >>> manager.restore_or_initialize() == manager.latest_checkpoint
    True

    Args:
        store: the store to save and restore.
        directory: path, made if absent. It should be on the store's filesystem, where checkpoints share
            files with the store, and outside the store's directory.
        max_to_keep: integer >= 1: how many checkpoints to keep that can be restored. Those that a kept delta
            builds on are kept besides, and so are those after the oldest that is kept, even if what they
            build on has been lost. `None`: all.
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
        self._max_to_keep = max_to_keep
        self._full_every = full_every
        self._directories = NumberedDirectories(
            check_path("directory", directory), lambda path: _describe(path) is not None
        )

    @property
    def directory(self) -> Path:
        """Where the checkpoints are."""
        return self._directories.directory

    @property
    def checkpoints(self) -> list[Path]:
        """The checkpoints that are there, oldest first. Some may be kept for later ones only."""
        return self._directories.paths()

    @property
    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint, or `None` if there is none."""
        return self._directories.latest()

    def save(self) -> Path:
        """Writes a checkpoint, then removes those that are no longer kept.

        Returns:
            Its directory.

        Raises:
            RuntimeError, OSError: see `Store.checkpoint` and `Store.checkpoint_delta`; nothing is removed.
        """
        numbers = self._directories.numbers()
        path = self._directories.path(self._directories.next_number())
        if not numbers or self._next_is_full(numbers[-1]):
            self._store.checkpoint(path)
        else:
            self._store.checkpoint_delta(path, since=self._directories.path(numbers[-1]))
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

    def _chain(self, number: int) -> tuple[list[int], bool]:
        """A checkpoint and those it builds on, as far as they are there, newest first; whether all are."""
        chain: list[int] = []
        link = number
        while (description := _describe(self._directories.path(link))) is not None:
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
        numbers = self._directories.numbers()
        chains = {number: self._chain(number) for number in numbers}
        kept = [number for number in numbers if chains[number][1]][-self._max_to_keep :]
        if len(kept) < self._max_to_keep:
            return
        needed = {link for number in kept for link in chains[number][0]}
        # Newest first, so that at no moment there is a delta without what it builds on.
        for number in reversed(numbers):
            if number < kept[0] and number not in needed:
                self._directories.remove(number)


def _describe(path: Path) -> Description | None:
    """The description of the checkpoint at a path; `None` if there is no sound one."""
    try:
        return read_description(path)
    except (FileNotFoundError, RuntimeError):
        return None
