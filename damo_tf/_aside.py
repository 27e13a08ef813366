# SPDX-License-Identifier: Apache-2.0
"""Files and directories that appear under their names when they are whole, as the engine's do."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

#: Suffix of a file that is being written, of a directory that is, and of one that is being removed.
PARTIAL = ".partial"
UNFINISHED = ".unfinished"
DELETED = ".deleted"


@contextmanager
def file_aside(path: str) -> Iterator[str]:
    """A path beside `path` to write to: renamed at the end, removed if that is not reached.

    The file then takes the place of one that is there, and survives loss of power.

    Raises:
        RuntimeError: someone is writing the same file.
        OSError: there is something else than a file at `path`; the device or filesystem refused.
    """
    if os.path.lexists(path) and not os.path.isfile(path):
        raise FileExistsError(f"create file '{path}': it exists and is not a regular file")
    partial = f"{path}{PARTIAL}"
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _lock(descriptor, partial, path)
        with _removed_on_failure(partial):
            yield partial
            os.fsync(descriptor)
            os.replace(partial, path)
    finally:
        os.close(descriptor)
    sync(os.path.dirname(path))


@contextmanager
def directory_aside(path: str) -> Iterator[str]:
    """An empty directory beside `path`, to be filled: renamed at the end, removed if that is not reached.

    What a process that died has left of an attempt is removed. What is put in must be synced by who does so.

    Raises:
        FileExistsError: there is something at `path`, other than an empty directory.
        RuntimeError: someone is writing the same directory.
        OSError: the device or filesystem refused.
    """
    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise FileExistsError(f"make '{path}': there is something already")
    unfinished = f"{path}{UNFINISHED}"
    os.makedirs(unfinished, exist_ok=True)
    descriptor = os.open(unfinished, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor, unfinished, path)
        with _removed_on_failure(unfinished):
            _remove_content(unfinished)
            yield unfinished
            os.fsync(descriptor)
            os.rename(unfinished, path)
    finally:
        os.close(descriptor)
    sync(os.path.dirname(path))


def is_being_written(directory: str | os.PathLike[str]) -> bool:
    """Whether a process holds the lock of an unfinished directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int, name: str, path: str) -> None:
    """Locks what is open as `name`, until it is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who had the lock may have finished since: then it has the final name.
        if os.path.samestat(os.fstat(descriptor), os.stat(name)):
            return
    except (BlockingIOError, FileNotFoundError):
        pass
    raise RuntimeError(f"make '{path}': it is being written at this moment (see '{name}')")


@contextmanager
def _removed_on_failure(name: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if os.path.isdir(name):
            shutil.rmtree(name)
        elif os.path.lexists(name):
            os.unlink(name)
        raise


def _remove_content(directory: str) -> None:
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def sync(path: str | os.PathLike[str]) -> None:
    """Returns when a file, or the names in a directory, survive loss of power."""
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
