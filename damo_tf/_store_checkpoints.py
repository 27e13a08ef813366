# SPDX-License-Identifier: Apache-2.0
"""StoreCheckpoints: the methods of `Store` that write checkpoints and bring one back."""

import os
from collections.abc import Callable, Sequence

import damo

from damo_tf._arguments import check_path, check_progress


class StoreCheckpoints:
    """A base of `Store`: full checkpoints, those of what has changed, and the way back."""

    _storage: damo.PyStorage  # of the store

    def checkpoint(
        self,
        directory: str | os.PathLike[str],
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Writes the store, as of one moment between steps, into a new directory.

        It holds rows with their slots and counters, global steps, settings and all else that the store
        keeps. On the store's own filesystem its large files are hard links: a checkpoint of any size takes
        about as long as a `flush`, and space only as the store changes. Elsewhere they are copied, while
        training goes on. The directory appears when all of it is on disk; `store.restore` takes it, and
        `Store(directory, read_only=True)` reads it. See docs/checkpoint_format.md.

        Args:
            directory: path that does not exist, outside the store's own directory. Parents are made.
            progress: a function that is called now and then, with the number of bytes written so far, those
                of linked files included, and that of the whole checkpoint. An exception that it raises ends
                the work, of which nothing is left, and comes out of this call.

        Raises:
            ValueError: there is something at `directory`, or it lies in the store's directory.
            RuntimeError: the store is read-only, or someone is writing the same checkpoint.
            OSError: the device or filesystem refused; nothing is left.
        """
        self._storage.checkpoint(check_path("directory", directory), progress=check_progress(progress))

    def checkpoint_delta(
        self,
        directory: str | os.PathLike[str],
        since: str | os.PathLike[str],
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Writes what has changed since an earlier checkpoint into a new directory.

        That is each row that differs from it, and the keys that have no row any more; steps, settings and
        the like are whole. Reads the store and the checkpoint from end to end and holds neither in memory.
        To be restored it needs `since`, unchanged, at the same place relative to itself.

        Args:
            directory: as for `checkpoint`.
            since: a checkpoint of this store, full or itself a delta.
            progress: as for `checkpoint`, with the number of rows compared so far and that of the store's.

        Raises:
            FileNotFoundError: there is no checkpoint at `since`, or none that it builds on.
            ValueError: as for `checkpoint`; or `since` is of another seed.
            RuntimeError: as for `checkpoint`; or a file of `since` is damaged or missing.
            OSError: the device or filesystem refused; nothing is left.
        """
        self._storage.checkpoint_delta(
            check_path("directory", directory), check_path("since", since), progress=check_progress(progress)
        )

    def restore(
        self,
        checkpoint: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Makes the store what it was at a checkpoint.

        Rows, slots, counters and steps are replaced in one atomic step, which a crash leaves done or not
        done; layers and tables of the store go on with what was restored. Training from there gives the
        same bits as training that was never interrupted. What was applied since the checkpoint is gone. A
        group that the checkpoint lacks has no rows afterwards. Settings that a layer, or `add_group`, has
        asked for since opening stay in force; of other groups they are the checkpoint's.

        Everything is validated first. Steps taken by other threads wait until it is done; it reads store
        and checkpoint from end to end, and writes what differs.

        Args:
            checkpoint: directory of a checkpoint. If it is a delta, the checkpoints that it builds on are
                found by themselves. Or the list of them all, the full one first, wherever they lie.
            progress: a function that is called now and then, with the number of rows compared so far and
                that of the checkpoint's. An exception that it raises ends the work, of which nothing is then
                done, and comes out of this call.

        Raises:
            FileNotFoundError: a checkpoint, or one that it builds on, is not there.
            ValueError: the checkpoint has another seed, or a group another `dim` or kind of optimizer, than
                the store; the message has both values. Or a delta builds on another checkpoint than given.
            RuntimeError: the checkpoint is damaged; the store is read-only.
            OSError: the device or filesystem refused.
        """
        if isinstance(checkpoint, (str, os.PathLike)):
            checkpoint = [checkpoint]
        if not isinstance(checkpoint, Sequence):
            raise TypeError(
                "`checkpoint` must be a path or a list of paths. "
                f"Received: checkpoint={checkpoint!r} of {type(checkpoint)}"
            )
        chain = [check_path("checkpoint", directory) for directory in checkpoint]
        self._storage.restore(chain, progress=check_progress(progress))
