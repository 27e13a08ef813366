# SPDX-License-Identifier: Apache-2.0
"""Numbered directories that are published by rename: `ckpt-1`, `ckpt-2`, and so on."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from damo_tf._aside import DELETED, UNFINISHED, is_being_written


class NumberedDirectories:
    """The directories `ckpt-N` in a directory. What is whole under such a name, by `is_whole`, counts.

    A process that is killed at any moment leaves whole ones, and others with a suffix, which the next
    object of the directory removes. What has such a name but is not whole is left alone.

    Args:
        directory: path, made if absent.
        is_whole: whether a path is such a directory.
    """

    def __init__(self, directory: str | os.PathLike[str], is_whole: Callable[[Path], bool]) -> None:
        self.directory = Path(directory).absolute()
        self._is_whole = is_whole
        self.directory.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()

    def path(self, number: int) -> Path:
        """The directory of a number, whether it is there or not."""
        return self.directory / f"ckpt-{number}"

    def paths(self) -> list[Path]:
        """Those that are there, in the order of their numbers."""
        return [self.path(number) for number in self.numbers()]

    def latest(self) -> Path | None:
        """The one with the highest number, or `None` if there is none."""
        numbers = self.numbers()
        return self.path(numbers[-1]) if numbers else None

    def numbers(self) -> list[int]:
        """The numbers of those that are there, ascending."""
        return [number for number in self._taken() if self._is_whole(self.path(number))]

    def next_number(self) -> int:
        """One more than any that is taken, by whatever."""
        return max(self._taken(), default=0) + 1

    def remove(self, number: int) -> None:
        """Removes one; at no moment is a part of it under its name."""
        deleted = Path(f"{self.path(number)}{DELETED}")
        self.path(number).rename(deleted)
        shutil.rmtree(deleted)

    def _taken(self) -> list[int]:
        names = (re.fullmatch(r"ckpt-([1-9]\d*)", entry.name) for entry in self.directory.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def _remove_leftovers(self) -> None:
        for entry in self.directory.iterdir():
            name = re.fullmatch(rf"ckpt-\d+({re.escape(UNFINISHED)}|{re.escape(DELETED)})", entry.name)
            if name and entry.is_dir() and not is_being_written(entry):
                shutil.rmtree(entry)
