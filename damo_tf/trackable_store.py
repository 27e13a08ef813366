# SPDX-License-Identifier: Apache-2.0
"""TrackableStore: the rows of a store in a `tf.train.Checkpoint`."""

import json
import os
from pathlib import Path

import tensorflow as tf

from damo_tf._arguments import check_path
from damo_tf._description import DESCRIPTION_FILE
from damo_tf._numbered_directories import NumberedDirectories
from damo_tf.store import Store

_FORMAT = 1  # on disk: never renumber


class TrackableStore(tf.train.experimental.PythonState):
    """Lets a `tf.train.Checkpoint` save and restore a store with the variables.

    Whenever the checkpoint is written, so is, before it, a checkpoint of the store in a directory of its own,
    whose name the checkpoint then holds; restoring it restores the store. A process that is killed between
    the two leaves a checkpoint of rows that nothing names. A learning rate of rows that callbacks set is a
    variable of its own: give `layer.learning_rate_variable()` to the checkpoint, too.

    Example:

    >>> rows = damo_tf.TrackableStore(store, "checkpoints_of_rows")
    >>> checkpoint = tf.train.Checkpoint(model=model, rows=rows)
    >>> manager = tf.train.CheckpointManager(checkpoint, "checkpoints", max_to_keep=3)
    >>> rows.keep_with(manager)
    >>> path = manager.save()
    >>> status = checkpoint.restore(manager.latest_checkpoint)

    Args:
        store: the store to save and restore.
        directory: path, made if absent, of the store's checkpoints `ckpt-1`, `ckpt-2`, and so on: on the
            store's filesystem, where they share files with it, and outside the store's directory. It may be
            moved, together with the TensorFlow checkpoints.

    Raises:
        TypeError: an argument is of the wrong type.
    """

    def __init__(self, store: Store, directory: str | os.PathLike[str]) -> None:
        super().__init__()
        if not isinstance(store, Store):
            raise TypeError(f"`store` must be a damo_tf.Store. Received: {store!r} of {type(store)}")
        self._store = store
        self._directories = NumberedDirectories(
            check_path("directory", directory), lambda path: (path / DESCRIPTION_FILE).is_file()
        )
        self._manager: tf.train.CheckpointManager | None = None

    @property
    def directory(self) -> Path:
        """Where the checkpoints of rows are."""
        return self._directories.directory

    def keep_with(self, manager: tf.train.CheckpointManager) -> None:
        """From now on, each save removes the checkpoints of rows that none of a manager's checkpoints names.

        One more than the manager keeps may be there: the one that its last save has removed from its list.
        Without this call, all are kept.

        Args:
            manager: of a `tf.train.Checkpoint` that has this object, and the only one that saves it.
        """
        if not isinstance(manager, tf.train.CheckpointManager):
            raise TypeError(
                f"`manager` must be a tf.train.CheckpointManager. Received: {manager!r} of {type(manager)}"
            )
        self._manager = manager

    def serialize(self) -> str:
        """TensorFlow calls it to write a checkpoint."""
        number = self._directories.next_number()
        self._store.checkpoint(self._directories.path(number))
        if self._manager is not None:
            self._remove_all_but({number} | self._named_by(self._manager))
        return json.dumps({"format": _FORMAT, "checkpoint": number})

    def deserialize(self, string_value: bytes | str) -> None:
        """TensorFlow calls it to restore a checkpoint."""
        self._store.restore(self._directories.path(_number_in(string_value)))

    def _named_by(self, manager: tf.train.CheckpointManager) -> set[int]:
        """The numbers of the checkpoints of rows that a manager's checkpoints name."""
        return {number for path in manager.checkpoints for number in _numbers_in_checkpoint(path)}

    def _remove_all_but(self, numbers: set[int]) -> None:
        for number in self._directories.numbers():
            if number not in numbers:
                self._directories.remove(number)


def _number_in(text: bytes | str) -> int:
    state = json.loads(text)
    if state.get("format") != _FORMAT:
        raise ValueError(f"the rows in the checkpoint have format {state.get('format')}, expected {_FORMAT}")
    return int(state["checkpoint"])


def _numbers_in_checkpoint(path: str) -> list[int]:
    """The numbers in all Python states of a TensorFlow checkpoint that are of this kind."""
    if not Path(f"{path}.index").exists():
        return []  # removed by hand
    reader = tf.train.load_checkpoint(path)
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith("/.ATTRIBUTES/py_state")]
    numbers = []
    for name in names:
        try:
            numbers.append(_number_in(reader.get_tensor(name)))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # somebody else's state
    return numbers
