# SPDX-License-Identifier: Apache-2.0
"""CheckpointManager: numbered checkpoints of a store, of which the last few are kept."""

import fcntl
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from damo_tf._arguments import check_int, check_path
from damo_tf.store import Store

_DESCRIPTION = "DAMO_CHECKPOINT"
_UNFINISHED = ".unfinished"  # the engine's suffix of a checkpoint that is being written
_DELETED = ".deleted"  # ours, of one that is being removed


class CheckpointManager:
    """Keeps the last checkpoints of a store in a directory, as `tf.train.CheckpointManager` does of a model.

    Checkpoints are named `ckpt-1`, `ckpt-2`, and so on. A process that is killed at any moment leaves whole
    checkpoints, and names of unfinished ones that the next manager of the directory removes.

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
        path = self._path(numbers[-1] + 1 if numbers else 1)
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

    def _numbers(self) -> list[int]:
        names = (re.fullmatch(r"ckpt-([1-9]\d*)", entry.name) for entry in self._directory.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def _base(self, number: int) -> int | None:
        """The number of the checkpoint that one builds on, `None` for a full one."""
        description: dict[str, Any] = json.loads((self._path(number) / _DESCRIPTION).read_text("utf-8"))
        if "base" not in description:
            return None
        return int(description["base"]["path"].rpartition("-")[2])

    def _chain(self, number: int) -> list[int]:
        """A checkpoint and those it builds on, as far as they are there, newest first."""
        chain = []
        link: int | None = number
        while link is not None and self._path(link).is_dir():
            chain.append(link)
            link = self._base(link)
        return chain

    def _next_is_full(self, latest: int) -> bool:
        chain = self._chain(latest)
        return len(chain) >= self._full_every or self._base(chain[-1]) is not None  # else a link is missing

    def _remove_old(self) -> None:
        if self._max_to_keep is None:
            return
        numbers = self._numbers()
        needed = {link for kept in numbers[-self._max_to_keep :] for link in self._chain(kept)}
        # Newest first, so that at no moment there is a delta without what it builds on.
        for number in reversed([number for number in numbers if number not in needed]):
            deleted = self._directory / f"ckpt-{number}{_DELETED}"
            self._path(number).rename(deleted)
            shutil.rmtree(deleted)

    def _remove_leftovers(self) -> None:
        for entry in self._directory.iterdir():
            name = re.fullmatch(rf"ckpt-\d+({re.escape(_UNFINISHED)}|{re.escape(_DELETED)})", entry.name)
            if name and not _is_being_written(entry):
                shutil.rmtree(entry)


def _is_being_written(directory: Path) -> bool:
    """Whether a process holds the engine's lock of an unfinished checkpoint."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
