# SPDX-License-Identifier: Apache-2.0
"""What a training keeps on disk from one run to the next."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import damo_tf
from models.errors import CommandError


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What weights and rows were made for; a model with any other value cannot go on from them.

    Attributes:
        model: name of its module.
        fields: names of the fields of an example.
        dim: width of the feature vectors.
        hidden: units of each hidden layer.
        seed: of the initial values, and of the split: another would validate on what was learned.
    """

    model: str
    fields: list[str]
    dim: int
    hidden: list[int]
    seed: int


class RunDirectory:
    """The directory of a training: a damo_tf store, and in it one more folder.

    | entry | content |
    |---|---|
    | dense/recipe.json | the `Recipe` |
    | dense/ckpt-* | checkpoints of dense weights, their optimizer, and the number of finished epochs |
    | all else | the store |
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dense = path / "dense"
        self._recipe = self.dense / "recipe.json"

    def check(self, recipe: Recipe) -> None:
        """Makes sure that the directory is new, or was made for `recipe`. Changes nothing.

        The recipe binds once an epoch is finished: a first run that failed can be mended and repeated.

        Raises:
            CommandError: it is damaged, not readable, or for something else.
        """
        try:
            if self._recipe.exists():
                self._check(dataclasses.asdict(recipe), json.loads(self._recipe.read_text(encoding="utf-8")))
            elif self.path.is_dir() and any(self.path.iterdir()):
                raise self._error("not empty and, having no dense/recipe.json, not of this command")
        except OSError as error:
            raise self._error(f"{error.strerror}: {error.filename}") from error
        except ValueError as error:
            raise self._error(f"damaged: recipe.json is no JSON: {error}") from error

    def keep(self, recipe: Recipe) -> None:
        """Writes down what the directory, whose store is open, is made for.

        Raises:
            CommandError: it cannot be written.
        """
        try:
            self.dense.mkdir(exist_ok=True)
            self._recipe.write_text(json.dumps(dataclasses.asdict(recipe), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise self._error(f"{error.strerror}: {error.filename}") from error

    def _check(self, wanted: dict[str, Any], found: Any) -> None:
        if isinstance(found, dict):
            found = {"model": "deepfm", **found}  # there was no other model once, and no entry
        if not isinstance(found, dict) or found.keys() != wanted.keys():
            raise self._error(f"damaged: recipe.json must have the entries {', '.join(wanted)}")
        for name, value in wanted.items():
            if found[name] != value and any(self.dense.glob("ckpt-*")):
                raise self._error(f"made for {name}={found[name]}, asked for {name}={value}")

    def _error(self, problem: str) -> CommandError:
        return CommandError(f"store {self.path}: {problem}")


class DenseCheckpoints:
    """The dense half of a model: its weights, their optimizer, the number of finished epochs.

    Args:
        directory: of the checkpoints; the last two are kept.
        model: a built and compiled model.
    """

    def __init__(self, directory: Path, model: keras.Model) -> None:
        model.optimizer.build(model.trainable_variables)
        self._directory = directory
        self._epochs = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, epochs=self._epochs)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(directory), max_to_keep=2)

    def restore(self) -> int:
        """Loads the last checkpoint, if there is one, and returns the number of finished epochs.

        Raises:
            CommandError: the directory is damaged or of another model.
        """
        latest = self._manager.latest_checkpoint
        if latest is None:
            if any(self._directory.glob("ckpt-*")):
                raise CommandError(f"{self._directory}: damaged: it has no readable checkpoint")
            return 0
        try:
            self._checkpoint.restore(latest).assert_existing_objects_matched()
        except Exception as error:  # what TensorFlow raises here has no common base
            problem = str(error).splitlines()[0]
            raise CommandError(f"{self._directory}: cannot restore {latest}: {problem}") from error
        return int(self._epochs)

    def save(self, epochs: int) -> None:
        """Writes a checkpoint after `epochs` finished epochs."""
        self._epochs.assign(epochs)
        self._manager.save(checkpoint_number=epochs)


class SaveEachEpoch(keras.callbacks.Callback):
    """Saves both halves of a model at the end of an epoch, the rows first.

    A process that dies within an epoch leaves rows that are ahead of the dense weights by a part of
    it, and the next run repeats the epoch. That is sound, as a row carries its own optimizer state,
    but it is not bit for bit what an uninterrupted run gives.
    """

    def __init__(self, store: damo_tf.Store, checkpoints: DenseCheckpoints) -> None:
        super().__init__()
        self._store = store
        self._checkpoints = checkpoints

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Flushes the store, then writes a checkpoint; `epoch` counts from 0."""
        self._store.flush()
        self._checkpoints.save(epoch + 1)
