# SPDX-License-Identifier: Apache-2.0
"""Loss and metric of retrieval models."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from models import data


def in_batch_softmax(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross entropy of the choice of each example's own item among those of its batch.

    Args:
        labels: float `[batch, 1]`, all 1; a loss of Keras takes them.
        logits: float `[batch, batch]`, each row an example's.

    Returns:
        float `[batch]`.
    """
    return ops.sparse_categorical_crossentropy(ops.arange(ops.shape(logits)[0]), logits, from_logits=True)


class RecallAtK(keras.callbacks.Callback):
    """Adds `val_recall_at_K` to the logs of an epoch.

    All items but those of a user's training examples are ranked. Recall is the share of the items of the
    user's validation examples that are among the first k; it is averaged over the users who have any.

    The model has a method `towers(ids, training)`, from integer `[n, slots]` to the vectors of n users and n
    items, both `[n, dim]`, whose dot product ranks.

    Args:
        training: examples with fields "user" and "item".
        validation: likewise.
        k: integer >= 1.
    """

    def __init__(self, training: data.Examples, validation: data.Examples, k: int) -> None:
        super().__init__()
        slots = data.field_slots(training.fields)
        user, item = slots["user"].start, slots["item"].start
        ids = np.concatenate([training.ids, validation.ids])
        items, item_rows = np.unique(ids[:, item], return_index=True)
        users, user_rows = np.unique(validation.ids[:, user], return_index=True)
        self._k = k
        self._items = ids[item_rows].view(np.int64)
        self._users = validation.ids[user_rows].view(np.int64)
        self._known = _pairs(training.ids[:, user], training.ids[:, item], users, items)
        self._wanted = _pairs(validation.ids[:, user], validation.ids[:, item], users, items)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Ranks all items for all users."""
        if logs is not None:
            users, _ = self.model.towers(tf.constant(self._users), training=False)
            _, items = self.model.towers(tf.constant(self._items), training=False)
            scores = np.where(self._known, -np.inf, np.asarray(users) @ np.asarray(items).T)
            logs[f"val_recall_at_{self._k}"] = recall_at_k(scores, self._wanted, self._k)


def recall_at_k(scores: NDArray[np.floating], wanted: NDArray[np.bool_], k: int) -> float:
    """Mean over the users of the share of wanted items that are among those of the k best scores.

    Args:
        scores: `[users, items]`.
        wanted: `[users, items]`, at least one of each user.
        k: integer >= 1; all items where there are fewer.
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(wanted, best, axis=1).sum(axis=1)
    return float(np.mean(hits / wanted.sum(axis=1)))


def _pairs(
    users: NDArray[np.uint64],
    items: NDArray[np.uint64],
    all_users: NDArray[np.uint64],
    all_items: NDArray[np.uint64],
) -> NDArray[np.bool_]:
    """`[all users, all items]`: whether the pair occurs; users that are not among all are left out."""
    occurs = np.zeros((len(all_users), len(all_items)), dtype=bool)
    counted = np.isin(users, all_users)
    occurs[np.searchsorted(all_users, users[counted]), np.searchsorted(all_items, items[counted])] = True
    return occurs
