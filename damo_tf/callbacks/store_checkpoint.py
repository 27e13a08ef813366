# SPDX-License-Identifier: Apache-2.0
"""StoreCheckpoint: dense weights, optimizer state and rows of one moment, in one directory."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from damo_tf._arguments import check_freq, check_int, check_path, is_number
from damo_tf._aside import directory_aside, sync
from damo_tf._learning_rate import is_variable, serialize
from damo_tf._numbered_directories import NumberedDirectories
from damo_tf.callbacks.batch_counter import BatchCounter
from damo_tf.callbacks.rate_variables import rate_variables
from damo_tf.layers import Embedding
from damo_tf.layers.in_model import embeddings_of, is_built, stores_of
from damo_tf.store import Store

_DESCRIPTION = "DAMO_TRAINING"
_VARIABLES = "variables.npz"
_FORMAT = 1  # on disk: never renumber


class Position(NamedTuple):
    """How far a training has come.

    Example:

    >>> checkpoint = damo_tf.callbacks.StoreCheckpoint("checkpoints")
    >>> history = model.fit(x, y, batch_size=4, epochs=2, callbacks=[checkpoint], verbose=0)
    >>> checkpoint.position
    Position(epoch=2, batch=0, step=4)

    Attributes:
        epoch: epochs that are finished: the `initial_epoch` of the `fit` that goes on.
        batch: batches of the epoch after those that are trained, too. 0 where an epoch had ended.
        step: batches trained in all.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0


class StoreCheckpoint(keras.callbacks.Callback):
    """Saves all that a training consists of, as of one moment, into one directory of its own.

    That is the variables of the model (those that are not trained and the seeds of its random layers, too),
    the variables of the optimizer that it was compiled with, a checkpoint of each store that its
    `damo_tf.Embedding` layers use, and the learning rates of these layers as far as they are variables, as
    `RowLearningRate` makes them. The directory appears, by a rename, when all of it is on disk. A process
    that is killed at any moment, resumed from the latest one, trains to the same bits as one that was not
    interrupted, provided that the batches are the same: data that is shuffled must be shuffled by epoch, not
    by how often the program was started.

    Example:

    >>> checkpoint = damo_tf.callbacks.StoreCheckpoint("checkpoints", keep=2)
    >>> position = checkpoint.restore_latest(model)
    >>> position
    Position(epoch=0, batch=0, step=0)
    >>> history = model.fit(
    ...     x, y, initial_epoch=position.epoch, epochs=3, callbacks=[checkpoint], verbose=0
    ... )
    >>> checkpoint.restore_latest(model)
    Position(epoch=3, batch=0, step=3)

    With an integer `save_freq` a checkpoint may be from the midst of an epoch. Then train what is left of
    that epoch first, which only you can cut out of your data:

    >>> if position.batch:
    ...     done, epoch = 32 * position.batch, position.epoch
    ...     model.fit(x[done:], y[done:], initial_epoch=epoch, epochs=epoch + 1, callbacks=[checkpoint])
    ...     position = checkpoint.position

    Put it last among the callbacks: what others do after it at the end of an epoch is not in the checkpoint.

    Args:
        directory: path, made if absent, of the checkpoints `ckpt-1`, `ckpt-2`, and so on. It should be on the
            filesystem of the store, where checkpoints share files with it, and outside the store's directory.
        save_freq: `"epoch"` (default): at the end of each. An integer >= 1: whenever so many batches have
            been trained since the last checkpoint, or, with `steps_per_execution`, at the next moment that
            Keras offers; where that is the end of an epoch whose length Keras knows, after the epoch.
        keep: integer >= 1: how many checkpoints to keep, the older ones are removed. `None`: all. Default 3.

    Raises:
        ValueError: an argument breaks its rule; or, when training begins, `directory` lies in a store.
        TypeError: an argument is of the wrong type.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        keep: int | None = 3,
    ) -> None:
        super().__init__()
        self._save_freq = check_freq("save_freq", save_freq)
        check_int("keep", keep, 1, None, optional=True)
        self._directories = NumberedDirectories(
            check_path("directory", directory), lambda path: (path / _DESCRIPTION).is_file()
        )
        self._keep = keep
        self._position = Position()
        self._batches = BatchCounter()
        self._is_resumed = False  # restored, and no epoch begun since
        self._steps_at_save = 0

    @property
    def directory(self) -> Path:
        """Where the checkpoints are."""
        return self._directories.directory

    @property
    def checkpoints(self) -> list[Path]:
        """The checkpoints that are there, oldest first."""
        return self._directories.paths()

    @property
    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint, or `None` if there is none."""
        return self._directories.latest()

    @property
    def position(self) -> Position:
        """How far the training has come, saved or not."""
        return self._position

    def save(self) -> Path:
        """Writes a checkpoint of this moment, then removes those that are no longer kept.

        `fit` must have been called with this callback, and no step must be under way.

        Returns:
            Its directory.

        Raises:
            RuntimeError, OSError: it could not be written; nothing is left of it, and nothing is removed.
        """
        if self.model is None:
            raise RuntimeError("`save` needs the model of a `fit` that was given this callback")
        number = self._directories.next_number()
        with directory_aside(str(self._directories.path(number))) as unfinished:
            _write(Path(unfinished), self.model, self._position)
        self._steps_at_save = self._position.step
        if self._keep is not None:
            for old in self._directories.numbers()[: -self._keep]:
                self._directories.remove(old)
        return self._directories.path(number)

    def restore_latest(self, model: keras.Model) -> Position:
        """Makes a model and its stores what they were at the newest checkpoint, if there is one.

        A store becomes, with all its groups, what it was; steps taken since are gone. A layer whose learning
        rate was a variable has that value again; of a number it becomes a variable. Nothing is changed if the
        checkpoint does not fit the model. Without a checkpoint nothing is done.

        Args:
            model: built, and compiled if it was when the checkpoint was written.

        Returns:
            Where to go on; `Position(0, 0, 0)` without a checkpoint.

        Raises:
            TypeError: `model` is no Keras model.
            ValueError: the model is not built, or other than the one that was saved; the message says how.
            RuntimeError: the checkpoint is damaged.
            OSError: a file cannot be read.
        """
        if not isinstance(model, keras.Model):
            raise TypeError(f"`model` must be a keras.Model. Received: model={model!r} of {type(model)}")
        if not is_built(model):
            raise ValueError(
                f"`model` must be built before it can be restored: call it on a batch. Received: {model!r}"
            )
        latest = self.latest_checkpoint
        if latest is not None:
            self._position = _restore(latest, model)
            self._steps_at_save = self._position.step
            self._is_resumed = True
        return self._position

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Keras calls it. Looks now at what would else end the training at the first save."""
        for store in stores_of(self.model):
            if self.directory.resolve().is_relative_to(Path(store.directory).resolve()):
                raise ValueError(
                    "`directory` must lie outside the directories of the model's stores. "
                    f"Received: directory='{self.directory}' in store '{store.directory}'"
                )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keras calls it."""
        goes_on = self._is_resumed and epoch == self._position.epoch
        self._is_resumed = False
        before = self._position.batch if goes_on else 0  # trained in an earlier `fit`
        self._position = Position(epoch, before, self._position.step)
        self._batches.begin_epoch(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Keras calls it; `batch` is the last one that was to be trained, counted from 0 in each `fit`."""
        trained = self._batches.advance(self.model, self.params, batch)
        epoch, before, step = self._position
        self._position = Position(epoch, before + trained, step + trained)
        steps = self.params.get("steps")
        is_last = steps is not None and batch + 1 >= steps  # more with `steps_per_execution`
        if self._is_due() and not is_last:
            self.save()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keras calls it."""
        self._position = Position(epoch + 1, 0, self._position.step)
        if self._save_freq is None or self._is_due():
            self.save()

    def _is_due(self) -> bool:
        steps = self._position.step - self._steps_at_save
        return self._save_freq is not None and steps >= self._save_freq


def _variables_of(model: keras.Model) -> list[Any]:
    """All variables that a training goes on from, in an order that follows from the model's code."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return list(model.variables)
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    return [*model.variables, *optimizer.variables]


def _writable_stores_of(model: keras.Model) -> list[Store]:
    """The stores that training can change."""
    return [store for store in stores_of(model) if not store.options["read_only"]]


def _rates_of(model: keras.Model) -> list[float | None]:
    """The learning rate of each embedding layer; `None` where training does not change it."""
    rates = [layer.learning_rate for layer in embeddings_of(model)]
    return [serialize(rate) if is_variable(rate) else None for rate in rates]


def _write(directory: Path, model: keras.Model, position: Position) -> None:
    stores = []
    for i, store in enumerate(_writable_stores_of(model)):
        store.checkpoint(directory / f"store-{i}")
        stores.append({"checkpoint": f"store-{i}", "directory": store.directory})
    variables = _variables_of(model)
    _save_arrays(directory / _VARIABLES, [variable.numpy() for variable in variables])
    description = {
        "format": _FORMAT,
        **position._asdict(),
        "stores": stores,
        "variables": [_description_of(variable) for variable in variables],
        "learning_rates": _rates_of(model),
    }
    text = json.dumps(description, indent=1) + "\n"
    (directory / _DESCRIPTION).write_text(text, "utf-8")
    sync(directory / _DESCRIPTION)


def _description_of(variable: Any) -> dict[str, Any]:
    return {"path": variable.path, "dtype": str(variable.dtype), "shape": list(variable.shape)}


def _save_arrays(path: Path, arrays: list[npt.NDArray[Any]]) -> None:
    # NumPy's file format does not know bfloat16 and the like: their bits do.
    plain = [a.view(f"u{a.itemsize}") if a.dtype.kind == "V" else a for a in arrays]
    np.savez(path, *plain)
    sync(path)


def _load_arrays(path: Path, variables: list[Any]) -> list[npt.NDArray[Any]]:
    try:
        with np.load(path) as file:
            arrays = [file[f"arr_{i}"] for i in range(len(variables))]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RuntimeError(f"checkpoint '{path.parent}': '{path.name}' is damaged: {error}") from error
    return [a.view(variable.numpy().dtype) for a, variable in zip(arrays, variables, strict=True)]


def _read_description(directory: Path) -> dict[str, Any]:
    try:
        description: dict[str, Any] = json.loads((directory / _DESCRIPTION).read_text("utf-8"))
    except ValueError as error:
        raise RuntimeError(f"checkpoint '{directory}': '{_DESCRIPTION}' is damaged: {error}") from error
    if description.get("format") != _FORMAT:
        raise ValueError(
            f"checkpoint '{directory}' has format {description.get('format')}, this release reads {_FORMAT}"
        )
    return description


def _restore(directory: Path, model: keras.Model) -> Position:
    description = _read_description(directory)
    variables, stores = _variables_of(model), _writable_stores_of(model)
    _check_fits(directory, description, variables, stores)
    rates = _rates_by_layer(directory, description, embeddings_of(model))
    values = _load_arrays(directory / _VARIABLES, variables)
    for entry, store in zip(description["stores"], stores, strict=True):
        store.restore(directory / entry["checkpoint"])
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    for variable, rate in zip(rate_variables(model, [*rates]), rates.values(), strict=True):
        variable.assign(rate)
    return Position(description["epoch"], description["batch"], description["step"])


def _check_fits(
    directory: Path, description: dict[str, Any], variables: list[Any], stores: list[Store]
) -> None:
    """Raises ValueError unless the checkpoint is of such a model."""
    saved: list[dict[str, Any]] = description["variables"]
    ours = [_description_of(variable) for variable in variables]
    numbers = (("stores", len(description["stores"]), len(stores)), ("variables", len(saved), len(ours)))
    for name, theirs, our_number in numbers:
        if theirs != our_number:
            raise ValueError(
                f"checkpoint '{directory}' has {theirs} {name}, the model and its optimizer have {our_number}"
            )
    for there, here in zip(saved, ours, strict=True):
        # Not by path: Keras numbers the names of layers through the life of a process.
        if (there["shape"], there["dtype"]) != (here["shape"], here["dtype"]):
            raise ValueError(
                f"checkpoint '{directory}': variable '{there['path']}' has shape {there['shape']} and dtype "
                f"{there['dtype']}, '{here['path']}' of the model has shape {here['shape']} and dtype "
                f"{here['dtype']}"
            )


def _rates_by_layer(
    directory: Path, description: dict[str, Any], layers: list[Embedding]
) -> dict[Embedding, float]:
    """The learning rates that the checkpoint holds. Raises ValueError unless the layers can have them."""
    rates = description.get("learning_rates", [None] * len(layers))  # absent: of an earlier release
    if len(rates) != len(layers):
        raise ValueError(
            f"checkpoint '{directory}' has {len(rates)} learning rates of rows, the model has {len(layers)} "
            "damo_tf.Embedding layers"
        )
    by_layer = {layer: rate for layer, rate in zip(layers, rates, strict=True) if rate is not None}
    for layer, rate in by_layer.items():
        if not is_number(layer.learning_rate) and not is_variable(layer.learning_rate):
            raise ValueError(
                f"checkpoint '{directory}' has learning rate {rate} for layer '{layer.name}', whose own is "
                f"neither a number nor a variable: {layer.learning_rate!r}"
            )
    return by_layer
