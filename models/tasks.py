# SPDX-License-Identifier: Apache-2.0
"""What models are trained for: their examples, loss and metric."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from models import data
from models.data import movielens, synthetic
from models.retrieval import RecallAtK, in_batch_softmax

AUC_THRESHOLDS = 2000  # brings the metric within 0.001 of the exact area


def _no_callbacks(training: data.Examples, validation: data.Examples) -> list[keras.callbacks.Callback]:
    return []


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of examples, and how a model learns them and is judged.

    Attributes:
        data: what `read` takes, for the help text.
        read: the examples of a path; raises `DataError`.
        write_log: writes a made-up log into a folder: `(folder, rows, seed)` to the path that `read` takes.
        split: `(examples, share of validation, seed)` to a training and a validation part.
        loss: the loss, as `compile` takes it.
        metric: the name of the metric; the validation metric `val_NAME` must be better if larger.
        metrics: makes the metrics for `compile`.
        callbacks: makes what else measures each epoch, of the two parts.
    """

    data: str
    read: Callable[[Path], data.Examples]
    write_log: Callable[[Path, int, int], Path]
    split: Callable[[data.Examples, float, int], tuple[data.Examples, data.Examples]]
    loss: Any
    metric: str
    metrics: Callable[[], list[keras.metrics.Metric]] = list
    callbacks: Callable[[data.Examples, data.Examples], list[keras.callbacks.Callback]] = _no_callbacks


#: Items that a user liked before, which a model sees at most.
HISTORY_LENGTH = 50
#: Items that a user is shown.
NUM_RECOMMENDED = 20


def _auc() -> list[keras.metrics.Metric]:
    return [keras.metrics.AUC(num_thresholds=AUC_THRESHOLDS, name="auc")]


def _write_clicks(folder: Path, rows: int, seed: int) -> Path:
    path = folder / "log.tsv"
    synthetic.write_log(path, rows=rows, seed=seed)
    return path


def _split_at_random(examples: data.Examples, share: float, seed: int) -> tuple[data.Examples, data.Examples]:
    return examples.split(validation=share, seed=seed)


def _split_in_time(examples: data.Examples, share: float, seed: int) -> tuple[data.Examples, data.Examples]:
    """Each user's last examples are to be predicted from all earlier ones; nothing is left to chance."""
    return examples.split_latest("user", validation=share)


def _write_ratings(folder: Path, rows: int, seed: int) -> Path:
    synthetic.write_ratings(folder, rows=rows, seed=seed)
    return folder


def _recall(training: data.Examples, validation: data.Examples) -> list[keras.callbacks.Callback]:
    return [RecallAtK(training, validation, k=NUM_RECOMMENDED)]


#: The probability of a click, from categories alone.
CLICKS = Task(
    data="Criteo TSV file or MovieLens-100K folder",
    read=data.read,
    write_log=_write_clicks,
    split=_split_at_random,
    loss="binary_crossentropy",
    metric="auc",
    metrics=_auc,
)

#: Likewise, with quantities as numbers.
CLICKS_WITH_NUMBERS = dataclasses.replace(CLICKS, read=functools.partial(data.read, numeric=True))

#: The probability that a user likes an item, given what the user liked before.
CLICKS_WITH_HISTORY = dataclasses.replace(
    CLICKS,
    data="MovieLens-100K folder",
    read=functools.partial(movielens.read_in_time, history=HISTORY_LENGTH),
    write_log=_write_ratings,
    split=_split_in_time,
)

#: The items that a user will like, out of all.
RETRIEVAL = Task(
    data="MovieLens-100K folder",
    read=functools.partial(movielens.read_in_time, liked_only=True),
    write_log=_write_ratings,
    split=_split_in_time,
    loss=in_batch_softmax,
    metric=f"recall_at_{NUM_RECOMMENDED}",
    callbacks=_recall,
)
