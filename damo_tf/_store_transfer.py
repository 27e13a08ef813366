# SPDX-License-Identifier: Apache-2.0
"""StoreTransfer: the methods of `Store` that take rows out of it and bring them in."""

import os
from collections.abc import Callable
from typing import Any

import damo
import numpy as np
import numpy.typing as npt

from damo_tf import exchange
from damo_tf._arguments import (
    check_bool,
    check_expire_days,
    check_int,
    check_mode,
    check_path,
    check_progress,
)


class StoreTransfer:
    """A base of `Store`: dump files, NumPy, Parquet and Keras."""

    _storage: damo.PyStorage  # of the store

    def dump(
        self,
        path: str | os.PathLike[str],
        *,
        group: int | None = None,
        min_count: int = 0,
        expire_days: float | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> int:
        """Writes the weights of all rows, as of one moment, to a file for serving.

        Training goes on meanwhile; memory use is a few megabytes, whatever the number of rows. The file is
        written as `path.partial` and takes the place of one that is there when it is complete and survives
        loss of power. docs/dump_format.md has its bytes; `damo_tf.read_dump` reads it, `load` brings it into
        a store. Works on a read-only store, too. Expired rows are left out.

        Args:
            path: of the file. Its directory must exist.
            group: a group that exists; `None`: all groups.
            min_count: integer >= 0: rows with fewer updates are left out. Default 0.
            expire_days: number >= 0: rows whose last update is longer ago are left out. `None`: none is.
            progress: a function that is called now and then, with the number of rows written so far and that
                of all rows there are. An exception that it raises ends the work and comes out of this call;
                a file that was there before stays.

        Returns:
            The number of rows in the file.

        Raises:
            ValueError: an argument breaks its rule.
            KeyError: there is no such group.
            RuntimeError: the store is closed, or a row is damaged, or another dump to `path` is under way.
            OSError: the file cannot be written.
        """
        if group is not None:
            check_int("group", group, 0, 256)
        check_int("min_count", min_count, 0, 1 << 63)
        return self._storage.dump(
            check_path("path", path),
            group=group,
            min_count=min_count,
            expire_days=check_expire_days(expire_days),
            progress=check_progress(progress),
        )

    def load(
        self,
        path: str | os.PathLike[str],
        *,
        mode: str = "merge",
        progress: Callable[[int, int], object] | None = None,
    ) -> int:
        """Brings the rows of a dump into their groups.

        A loaded row has the file's weights and stands as after its first update, now: `update_num` 1 and
        the optimizer's slots of a new row. (Adam's next step is its second, with moments of 0. With FTRL an
        element whose gradients have all been 0 becomes 0, as in any new row.) A row that a key had before is
        replaced.

        The whole file is checked before anything changes; then all of it becomes visible in one step, which
        survives loss of power. Steps of training wait meanwhile. Memory use does not depend on the size of
        the file; one whose records are not in the order that `dump` writes takes as much disk again while
        it is sorted.

        Args:
            path: of a file that `dump` wrote, or another of its format.
            mode: `"merge"` (default): rows of keys that are not in the file stay. `"replace"`: groups that
                the file has lose all other rows.
            progress: a function that is called now and then, with the number of rows brought in so far, 0
                while the file is checked, and that of the rows in the file. An exception that it raises ends
                the work, of which nothing is then done, and comes out of this call.

        Returns:
            The number of rows in the file.

        Raises:
            ValueError: the file is cut short, is no dump, or has a key twice or a weight that is not finite;
                a group has another dim here: the message has both.
            KeyError: the store lacks a group that has rows in the file.
            RuntimeError: the store is closed or read-only.
            OSError: the file cannot be read, or the device refused. Nothing is done then; only where it
                failed just as the rows were recorded may all of them be there.
        """
        return self._storage.load(
            check_path("path", path), mode=check_mode(mode), progress=check_progress(progress)
        )

    def to_numpy(
        self, group: int, *, min_count: int = 0, expire_days: float | None = None
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
        """The rows of a group, as of one moment, in memory. For more than fits there: `dump`.

        Args:
            group: a group that exists.
            min_count: see `dump`.
            expire_days: see `dump`.

        Returns:
            keys, uint64 `[n]`, ascending, and weights, float32 `[n, dim]`.
        """
        check_int("group", group, 0, 256)
        check_int("min_count", min_count, 0, 1 << 63)
        return exchange.to_numpy(self._storage, group, min_count, check_expire_days(expire_days))

    def from_numpy(
        self, group: int, keys: npt.ArrayLike, weights: npt.ArrayLike, *, mode: str = "merge"
    ) -> int:
        """Brings rows into a group, all in one step; they are as those of `load`.

        Args:
            group: a group that exists.
            keys: integers `[n]`, all different; negative ones stand for their bits as uint64.
            weights: finite numbers `[n, dim]`; `weights[i]` belongs to `keys[i]`.
            mode: see `load`.

        Returns:
            The number of rows.
        """
        check_int("group", group, 0, 256)
        return exchange.from_numpy(self._storage, group, keys, weights, check_mode(mode))

    def to_parquet(
        self,
        path: str | os.PathLike[str],
        group: int,
        *,
        min_count: int = 0,
        expire_days: float | None = None,
        slots: bool = False,
    ) -> int:
        """Writes the rows of a group, as of one moment, to a Parquet file. Needs `damo_tf[parquet]`.

        The columns are `key` (uint64), `update_time` (timestamp in ms, UTC), `update_num` (int64), `weights`
        (fixed_size_list of dim float32) and, with `slots`, one `slot_NAME` like `weights` for each slot of
        the optimizer, in order of keys. Memory use does not depend on the number of rows; the file is
        written aside and renamed, as by `dump`.

        Args:
            path: of the file. Its directory must exist.
            group: a group that exists.
            min_count: see `dump`.
            expire_days: see `dump`.
            slots: whether to write the optimizer's slots, too. Default `False`.

        Returns:
            The number of rows.
        """
        check_int("group", group, 0, 256)
        check_int("min_count", min_count, 0, 1 << 63)
        days = check_expire_days(expire_days)
        return exchange.to_parquet(
            self._storage, check_path("path", path), group, min_count, days, check_bool("slots", slots)
        )

    def from_parquet(
        self,
        path: str | os.PathLike[str],
        group: int,
        *,
        slots: bool = False,
        mode: str = "merge",
    ) -> int:
        """Brings the rows of a Parquet file into a group, all in one step. Needs `damo_tf[parquet]`.

        Memory use does not depend on the number of rows; they come in any order.

        Args:
            path: of a file with the columns `key`, integers, all different, and `weights`, lists of dim
                finite floats. Others are ignored.
            group: a group that exists.
            slots: `False` (default): rows are as those of `load`. `True`: they are as the file has them,
                with `update_time`, `update_num` and a column `slot_NAME` for each slot of the group's
                optimizer.
            mode: see `load`.

        Returns:
            The number of rows.

        Raises:
            ValueError: it is no Parquet file, a column is missing or of another type, or a value breaks its
                rule.
        """
        check_int("group", group, 0, 256)
        return exchange.from_parquet(
            self._storage, check_path("path", path), group, check_bool("slots", slots), check_mode(mode)
        )

    def from_keras(
        self, embedding_layer: Any, keys: npt.ArrayLike, *, group: int = 0, mode: str = "merge"
    ) -> int:
        """Brings the matrix of a `keras.layers.Embedding` into a group; rows are as those of `load`.

        Example:

        >>> old = keras.layers.Embedding(3, 4)
        >>> old.build()
        >>> store.add_group(0, dim=4)
        >>> store.from_keras(old, keys=[0, 1, 2])
        3

        Args:
            embedding_layer: a built `keras.layers.Embedding` whose `output_dim` is the group's dim.
            keys: integers `[input_dim]`, all different: the key of each row of its matrix, such as
                `range(input_dim)` or the hashes of a vocabulary.
            group: a group that exists. Default 0.
            mode: see `load`.

        Returns:
            The number of rows.
        """
        check_int("group", group, 0, 256)
        return exchange.from_keras(self._storage, group, embedding_layer, keys, check_mode(mode))
