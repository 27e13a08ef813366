# SPDX-License-Identifier: Apache-2.0
"""Store: a directory of embedding rows, opened from Python."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import damo
import numpy as np
import numpy.typing as npt

from damo_tf import initializers, optimizers
from damo_tf._arguments import (
    as_keys,
    check_admission,
    check_bool,
    check_group_ttl,
    check_int,
    check_missing,
    check_padding_key,
    check_path,
    check_progress,
    is_number,
)
from damo_tf._store_checkpoints import StoreCheckpoints
from damo_tf._store_transfer import StoreTransfer

DEFAULT_MEMORY_BUDGET = 1 << 30


@dataclass(frozen=True)
class Row:
    """One row of a store.

    Example:

    >>> store.add_group(0, dim=2, initializer="zeros", optimizer=damo_tf.optimizers.Adagrad(0.5))
    >>> store.apply_gradients(0, [7], [[1.0, 2.0]])
    >>> row = store.row(0, 7)
    >>> row.weights, row.slots, row.update_num
    (array([-0.5, -0.5], dtype=float32), {'sum': array([1., 4.], dtype=float32)}, 1)

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


class Store(StoreTransfer, StoreCheckpoints):
    """A directory of embedding rows.

    Opening a directory that is open in this process shares it; the settings must then agree. Another
    process can open it with `read_only=True` only. A store closes when `close` is called, at the end of a
    `with` block, when nothing refers to it any more, or at the end of the process.

    Example:

    >>> with damo_tf.Store("rows") as store:
    ...     store.add_group(0, dim=4, optimizer="sgd")
    ...     store.apply_gradients(0, [7], [[1.0, 1.0, 1.0, 1.0]])
    ...     store.size()
    1

    Args:
        directory: path; created, with its parents, if absent. A directory with other content is refused.
        ttl_seconds: integer > 0. A row not updated for this many seconds reads as missing, in groups that
            have no time of their own (see `add_group`). It is of this opening: the next one may ask for
            less, which applies to the rows that stand, or more. `None`: rows never expire, or, where the
            directory is already open, whatever was asked for then.
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
        clock: what dates rows and lets them expire, fixed when the store is created. `"system"`: the
            machine's wall clock. `"event"`: the latest time that `advance_clock` was told, so that logs of
            the past can be trained on as if they happened now. `None` (default): the store's own; a new
            store's is `"system"`. Neither goes back while the store is open.

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
        clock: str | None = None,
    ) -> None:
        check_int("ttl_seconds", ttl_seconds, 1, 1 << 63, optional=True)
        check_int("memory_budget", memory_budget, 1, 1 << 63)
        check_int("seed", seed, 0, 1 << 64, optional=True)
        if not isinstance(durability, str):
            raise TypeError(f"`durability` must be a str. Received: durability={durability!r}")
        check_bool("read_only", read_only)
        if clock is not None and not isinstance(clock, str):
            raise TypeError(f"`clock` must be a str. Received: clock={clock!r}")
        self._storage = damo.PyStorage(
            check_path("directory", directory),
            ttl_seconds,
            memory_budget=memory_budget,
            durability=durability,
            read_only=read_only,
            seed=seed,
            clock=clock,
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
        """How the store is open: ttl_seconds, memory_budget, durability, read_only, seed, clock."""
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
        ttl_seconds: int | Literal["never"] | None = None,
        min_count: int = 0,
        filter_capacity: int | None = None,
        filter_fpr: float | None = None,
    ) -> None:
        """Configures a group of rows. A layer does this when it is built.

        Adding a group again with equal settings does nothing. In a store opened anew, settings may differ
        from those of earlier times, except `dim` and the kind of optimizer.

        Args:
            group: integer in [0, 256).
            dim: integer in [1, 65536]: weights per row.
            initializer: see `damo_tf.initializers.get`.
            optimizer: see `damo_tf.optimizers.get`. Its learning rate must be a number or a schedule of the
                engine's: one that is evaluated at each step is a layer's, or `apply_gradients`'s.
            ttl_seconds: integer > 0. A row of the group not updated for this many seconds reads as missing.
                `"never"`: none does, whatever the store's `ttl_seconds`. `None`: as the store has it. Kept
                with the store, like the other settings.
            min_count: integer in [0, 15]. A key gets a row with its `min_count`-th occurrence in
                `apply_gradients`; until then it reads as zeros and its gradients are dropped. Default 0: with
                the first.
            filter_capacity: integer in [1, 2**32]: keys without a row that the filter, which counts
                occurrences, is made for; see `docs/admission.md`. It is fixed when the group first has a
                `min_count`. `None`: as it stands, else 2**20, less in a `memory_budget` below 93 MiB; for a
                stream name more, see `damo_tf.Embedding`.
            filter_fpr: number in [1e-9, 0.5]: the share of keys that the filter takes for seen by mistake
                once it has counted `filter_capacity` keys; fixed as well. `None`: as it stands, else 1e-3.

        Raises:
            ValueError: a setting breaks its rule, or the group stands with another; the message has both
                values.
        """
        check_int("group", group, 0, 256)
        check_int("dim", dim, 1, 65537)
        check_admission(min_count, filter_capacity, filter_fpr)
        parameters = optimizers.get(optimizer)
        if "learning_rate" in parameters:
            raise ValueError(
                "`optimizer` must have a learning rate that a store can keep, a number or a schedule of the "
                "engine's; give others to a layer, or to `apply_gradients`. "
                f"Received: learning_rate={parameters['learning_rate']!r}"
            )
        schedule = parameters.pop("schedule", None)
        self._storage.add_group(
            group,
            dim,
            initializers.get(initializer),
            parameters,
            schedule,
            ttl_seconds=check_group_ttl(ttl_seconds),
            min_count=min_count,
            filter_capacity=filter_capacity,
            filter_fpr=filter_fpr,
        )

    def stats(self, *, count_rows: bool = False) -> dict[str, Any]:
        """Figures about the store. Reads no row, so that it can be asked for at every step.

        Args:
            count_rows: whether to count rows, as `size` does, which is a pass over those of groups where
                some may have expired. Default `False`: there `rows` and `bytes` are upper bounds, which
                count rows past their time to live as well until `expire` has removed them, and for ever
                those that RocksDB's compactions have dropped.

        Returns:
            A dict:

            * `directory`; `disk_bytes`, all files, which new rows reach with the next flush;
            * `block_cache_misses`, RocksDB's data blocks read since opening (rows are kept in memory, not
              their blocks, so that `block_cache_hits` stays 0), and `block_cache_bytes`, of indexes and
              filters in memory;
            * `cache_bytes`, memory of the rows kept there; `redo_bytes`, of the redo log on disk; `flushes`,
              times that changed rows were written out since opening; `now`, the time of the store's clock,
              milliseconds since the Unix epoch, UTC;
            * `groups`, group number to a dict of:

              * its settings: `dim`, `optimizer`, `initializer`, `schedule`, `ttl_seconds`, `min_count`,
                `filter_capacity`, `filter_fpr`;
              * `rows`, at most; `rows_exact`, whether it is not just a bound: rows of the group cannot expire
                and never could, or `count_rows`; `row_bytes`, of one row with its key; `bytes`, of all
                `rows`; `step` (apply calls since the group was created);
              * counted since opening: `lookups` (ids looked up, with repetitions, without padding), of these
                `missing` (without a row), `cache_hits` (found in memory) and `cache_misses` (not);
                `updated`, `inserted`, `skipped` (rows left alone because of a gradient that was not finite),
                `blocked` (gradients dropped because their key had not occurred `min_count` times),
                `expired`; `evicted`, rows that made room in memory for others; `lookup_calls`,
                `lookup_seconds`, `apply_calls` and `apply_seconds`: how often lookups and steps were asked
                for, outside training and with an error, too, and how long they took together;
              * now: `cache_rows` in memory, some perhaps initial values of ids without a row; `dirty`, rows
                newer than on disk; `filter_bytes` in memory, and `filter_fill`, the share of the filter's
                counters that are not 0: about 0.5 when it has counted `filter_capacity` keys, and far beyond
                that it lets every key pass.
        """
        return self._storage.stats(count_rows=check_bool("count_rows", count_rows))

    def size(self, group: int | None = None) -> int:
        """The number of rows of one group, or of all.

        Where rows have a time to live, or had one since the store was created, this scans the group.
        """
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
                from, or `"zeros"`. In a group with a `min_count` it reads as zeros always.

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
        learning_rate: float | None = None,
    ) -> None:
        """Takes one optimizer step on the row of each distinct key.

        Gradients of equal keys are summed in order of occurrence. A row whose summed gradient is not
        finite is left alone and counted in `stats()`; so is a key that the group's `min_count` blocks.

        Args:
            group: a group that exists.
            keys: integers of any shape; negative ones stand for their bits as uint64.
            gradients: floats, `keys.shape + (dim,)`.
            padding_key: a key that is left out.
            learning_rate: finite number >= 0: of this call. `None`: the group's own, by its schedule if it
                has one.

        Raises:
            ValueError: 2^32 keys or more.
            OSError: the disk refused. Nothing has changed, unless the message says that the call must not be
                repeated. Then it is in the redo log, has more rows than fit into the memory budget, and is
                finished by whatever needs it next; or it is applied, and with durability `"sync"` may not
                survive loss of power before a later step, a flush or closing succeeds.
        """
        check_int("group", group, 0, 256)
        if learning_rate is not None and not is_number(learning_rate):
            raise TypeError(
                "`learning_rate` must be a number >= 0 or None. "
                f"Received: learning_rate={learning_rate!r} of {type(learning_rate)}"
            )
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
            group,
            array.reshape(-1),
            values.reshape(-1),
            padding_key=check_padding_key(padding_key),
            learning_rate=None if learning_rate is None else float(learning_rate),
        )

    def delete(self, group: int, keys: npt.ArrayLike) -> int:
        """Deletes rows. Their keys then read as if they had never had one (with a `min_count`: as zeros).

        What is deleted stays so after loss of power, whatever the `durability`; its bytes leave the disk
        when RocksDB next compacts the files they are in. Millions of keys are deleted in parts of some
        100,000: after a failure those of earlier parts are gone, and the call can be repeated. Steps taken
        meanwhile may make rows anew. In a group with a `min_count` the keys' occurrences stay counted: their
        next gradients give them rows at once. The filter does not know which keys it has counted, but whoever
        has a key can ask it.

        Args:
            group: a group that exists.
            keys: integers of any shape; negative ones stand for their bits as uint64. Keys without a row
                and repeated ones are fine.

        Returns:
            How many rows there were, expired ones not counted.
        """
        check_int("group", group, 0, 256)
        return self._storage.delete(group, as_keys(keys).reshape(-1))

    def advance_clock(self, milliseconds: int) -> None:
        """Tells a store with `clock="event"` the time of an event.

        It is "now" from then on, for updates and for the time to live, unless a later time was told before.
        Call it with each batch, before the batch is trained on. It survives, as a step does, with the next
        step, `flush` or `close`.

        Args:
            milliseconds: integer in [0, 253402300800000): milliseconds since the Unix epoch, UTC.

        Raises:
            ValueError: it is out of range, as times in micro- or nanoseconds are.
            RuntimeError: the store's clock is `"system"`; the store is open read-only.
        """
        check_int("milliseconds", milliseconds, 0, 253402300800000)
        self._storage.advance_clock(int(milliseconds))

    def expire(self, progress: Callable[[int, int], object] | None = None) -> int:
        """Removes the rows that are past their time to live.

        They read as missing before, too; this gives back their space. So do RocksDB's compactions, in the
        background and when they come to it; rows that those have dropped are not counted here. Where a tenth
        of a group's rows or more is removed, its files are written anew, else compactions give the space
        back by and by. Works in bounded memory; training goes on beside it, and steps wait while a part
        of 32,768 rows is removed. A removed row stays so after a crash.

        Example:

        >>> store.expire(progress=lambda scanned, removed: print(f"{removed} of {scanned} rows"))
        0

        Args:
            progress: a function that is called now and then, with the number of rows looked at and the
                number removed so far. An exception that it raises ends the work and comes out of this call;
                what was removed stays so.

        Returns:
            The number of rows removed.
        """
        return self._storage.expire(check_progress(progress))

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
