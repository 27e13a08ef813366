# SPDX-License-Identifier: Apache-2.0
"""Store: a directory of embedding rows, opened from Python."""

import os
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import damo
import numpy as np
import numpy.typing as npt

from damo_tf import initializers, optimizers
from damo_tf._arguments import (
    as_keys,
    check_int,
    check_missing,
    check_padding_key,
    check_path,
)

DEFAULT_MEMORY_BUDGET = 1 << 30


@dataclass(frozen=True)
class Row:
    """One row of a store.

    Attributes:
        group: 0 to 255.
        key: 0 to 2**64 - 1.
        update_time: when the row was last updated, milliseconds since the Unix epoch, UTC.
        update_num: how many updates the row has had.
        weights: float32 `[dim]`.
        slots: the optimizer's state, name to float32 `[dim]`, in the order it lies on disk.
    """

    group: int
    key: int
    update_time: int
    update_num: int
    weights: npt.NDArray[np.float32]
    slots: dict[str, npt.NDArray[np.float32]]


class Store:
    """A directory of embedding rows.

    Opening a directory that is open in this process shares it; the settings must then agree. Another
    process can open it with `read_only=True` only. A store closes when `close` is called, at the end of a
    `with` block, when nothing refers to it any more, or at the end of the process.

    Example:

    >>> with damo_tf.Store(directory) as store:
    ...     store.add_group(0, dim=4, optimizer="sgd")
    ...     store.apply_gradients(0, [7], [[1.0, 1.0, 1.0, 1.0]])
    ...     store.size()
    1

    Args:
        directory: path; created, with its parents, if absent. A directory with other content is refused.
        ttl_seconds: integer > 0. A row not updated for this many seconds reads as missing. `None`: rows
            never expire, or, where the directory is already open, whatever was asked for then.
        memory_budget: bytes, at least 4 MiB, for the rows kept in memory, for RocksDB's block cache and for
            its memtables, all together. Rows that are used again and again should fit into half of it; any
            table works in any budget, the slower the more of its rows have to come from the disk. Default
            1 GiB.
        durability: what a finished step survives. `"wal"` (default): the death of the process, through one
            record per step in a redo log that lies in the directory. `"sync"`: loss of power too; each step
            waits until the disk has its record. `"checkpoint"`: neither, there is no log; after a crash the
            store is as of some moment not before the last `flush`.
        read_only: open without the right to write, beside a writer in another process, and see the
            rows as of now. Default `False`.
        seed: integer in [0, 2**64): seed of initial values, fixed when the store is created. `None`: the
            store's own, whatever it is. Default 0.

    Raises:
        ValueError: a setting breaks its rule or disagrees with the store; the message has both values.
        TypeError: an argument is of the wrong type.
        RuntimeError: another process has the store open for writing; the store is damaged.
        FileNotFoundError: `read_only`, and there is no store.
        OSError: the device or filesystem refused.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        ttl_seconds: int | None = None,
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
        durability: str = "wal",
        read_only: bool = False,
        seed: int | None = 0,
    ) -> None:
        check_int("ttl_seconds", ttl_seconds, 1, 1 << 63, optional=True)
        check_int("memory_budget", memory_budget, 1, 1 << 63)
        check_int("seed", seed, 0, 1 << 64, optional=True)
        if not isinstance(durability, str):
            raise TypeError(f"`durability` must be a str. Received: durability={durability!r}")
        if not isinstance(read_only, bool):
            raise TypeError(f"`read_only` must be a bool. Received: read_only={read_only!r}")
        self._storage = damo.PyStorage(
            check_path("directory", directory),
            ttl_seconds,
            memory_budget=memory_budget,
            durability=durability,
            read_only=read_only,
            seed=seed,
        )

    @classmethod
    def attach(cls, directory: str | os.PathLike[str], *, create_if_missing: bool = True) -> Self:
        """Opens a directory without asking for any particular setting.

        A store that is open in this process is shared as it is; one that stands keeps its seed; a new one
        gets the defaults.

        Args:
            directory: path of the store.
            create_if_missing: whether an absent or empty directory becomes a new store.

        Raises:
            FileNotFoundError: there is no store, and none is to be made.
        """
        store = cls.__new__(cls)
        store._storage = damo.PyStorage(
            check_path("directory", directory), create_if_missing=create_if_missing
        )
        return store

    @property
    def directory(self) -> str:
        """The store's absolute path, symbolic links resolved."""
        return self._storage.directory

    @property
    def storage(self) -> damo.PyStorage:
        """The same store in the low-level API, for use with `damo.PyEmbedding`."""
        return self._storage

    @property
    def options(self) -> dict[str, Any]:
        """How the store is open: ttl_seconds, memory_budget, durability, read_only, seed."""
        return self._storage.options

    @property
    def closed(self) -> bool:
        """Whether the store has been closed, here or elsewhere in this process."""
        return self._storage.closed

    def add_group(
        self,
        group: int,
        dim: int,
        *,
        initializer: Any = "random_uniform",
        optimizer: Any = "adam",
    ) -> None:
        """Configures a group of rows. A layer does this when it is built.

        Adding a group again with equal settings does nothing. In a store opened anew, settings may differ
        from those of earlier times, except `dim` and the kind of optimizer.

        Args:
            group: integer in [0, 256).
            dim: integer in [1, 65536]: weights per row.
            initializer: see `damo_tf.initializers.get`.
            optimizer: see `damo_tf.optimizers.get`.

        Raises:
            ValueError: a setting breaks its rule, or the group stands with another; the message has both
                values.
        """
        check_int("group", group, 0, 256)
        check_int("dim", dim, 1, 65537)
        self._storage.add_group(group, dim, initializers.get(initializer), optimizers.get(optimizer))

    def stats(self) -> dict[str, Any]:
        """Figures about the store.

        Returns:
            A dict:

            * `directory`; `disk_bytes`, all files, which new rows reach with the next flush;
            * `block_cache_misses`, RocksDB's data blocks read since opening (rows are kept in memory, not
              their blocks, so that `block_cache_hits` stays 0), and `block_cache_bytes`, of indexes and
              filters in memory;
            * `cache_bytes`, memory of the rows kept there; `redo_bytes`, of the redo log on disk; `flushes`,
              times that changed rows were written out since opening;
            * `groups`, group number to a dict of:

              * its settings: `dim`, `optimizer`, `initializer`, `schedule`;
              * `rows`, `bytes` (of keys and rows), `step` (apply calls since the group was created);
              * counted since opening: `lookups` (ids looked up, with repetitions, without padding), of these
                `missing` (without a row), `cache_hits` (found in memory) and `cache_misses` (not);
                `updated`, `inserted`, `skipped` (rows left alone because of a gradient that was not finite),
                `expired`; `evicted`, rows that made room in memory for others;
              * now: `cache_rows` in memory, some perhaps initial values of ids without a row; `dirty`, rows
                newer than on disk.
        """
        return self._storage.stats()

    def size(self, group: int | None = None) -> int:
        """The number of rows of one group, or of all. With a time to live this scans the rows."""
        if group is not None:
            check_int("group", group, 0, 256)
        return self._storage.size(group)

    def row(self, group: int, key: int) -> Row | None:
        """One row, or `None` if the key has none. Changes nothing.

        Args:
            group: a group that exists.
            key: integer in [-2**63, 2**64); a negative one stands for its bits as uint64.
        """
        check_int("group", group, 0, 256)
        check_int("key", key, -(1 << 63), 1 << 64)
        fields = self._storage.row(group, int(key) % (1 << 64))
        return None if fields is None else Row(**fields)

    def lookup(
        self,
        group: int,
        keys: npt.ArrayLike,
        *,
        padding_key: int | None = None,
        missing: str = "initial",
    ) -> npt.NDArray[np.float32]:
        """The weights of rows. Changes nothing.

        Args:
            group: a group that exists.
            keys: integers of any shape; negative ones stand for their bits as uint64.
            padding_key: a key that reads as zeros.
            missing: what a key without a row reads as: `"initial"`, the value its first update will start
                from, or `"zeros"`.

        Returns:
            float32, `keys.shape + (dim,)`.
        """
        check_int("group", group, 0, 256)
        array = as_keys(keys)
        weights = np.empty((*array.shape, self._dim(group)), np.float32)
        self._storage.lookup(
            group,
            array.reshape(-1),
            weights.reshape(-1),
            padding_key=check_padding_key(padding_key),
            missing=check_missing(missing),
        )
        return weights

    def apply_gradients(
        self,
        group: int,
        keys: npt.ArrayLike,
        gradients: npt.ArrayLike,
        *,
        padding_key: int | None = None,
    ) -> None:
        """Takes one optimizer step on the row of each distinct key.

        Gradients of equal keys are summed in order of occurrence. A row whose summed gradient is not
        finite is left alone and counted in `stats()`.

        Args:
            group: a group that exists.
            keys: integers of any shape; negative ones stand for their bits as uint64.
            gradients: floats, `keys.shape + (dim,)`.
            padding_key: a key that is left out.
        """
        check_int("group", group, 0, 256)
        array = as_keys(keys)
        values = np.asarray(gradients)
        if values.dtype.kind not in "fiu":
            raise TypeError(f"`gradients` must be numbers. Received dtype: {values.dtype}")
        expected = (*array.shape, self._dim(group))
        if values.shape != expected:
            raise ValueError(
                f"`gradients` must have shape keys.shape + (dim,) = {expected}. "
                f"Received shape: {values.shape}"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite: skipped and counted
            values = np.ascontiguousarray(values, np.float32)
        self._storage.apply_gradients(
            group, array.reshape(-1), values.reshape(-1), padding_key=check_padding_key(padding_key)
        )

    def flush(self) -> None:
        """Writes out the rows that are newer than on disk; returns when they survive loss of power.

        What a step survives without it: see `durability`. `close` and the background write rows out, too.
        """
        self._storage.flush()

    def close(self) -> None:
        """Closes the store for everyone in this process. Closing again does nothing."""
        self._storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.directory!r}{', closed' if self.closed else ''})"

    def _dim(self, group: int) -> int:
        dim: int = self._storage.group_config(group)["dim"]
        return dim
