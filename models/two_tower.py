# SPDX-License-Identifier: Apache-2.0
"""A two-tower retrieval model on MovieLens-100K, its embeddings in a damo_tf store.

    python -m models.two_tower --data ml-100k --store run --epochs 10

Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

from models import command, data, tasks
from models.feature_model import VECTORS_GROUP, FeatureModel, mlp

ITEM_FIELDS = ("item", "genre")
USER_FIELDS = ("user", "age", "gender", "occupation", "zip")
TEMPERATURE = 0.1
# Items that share a counter have the sum of their frequencies taken out; a batch notices that rarely.
NUM_COUNTERS = 1 << 16


class TwoTower(FeatureModel):
    """Scores users against items by the cosine of two vectors, each the output of a tower of its own.

    It learns to tell the item that a user liked from the others of the batch, by a sampled softmax. In a
    batch an item is the more often a negative the more it is liked, so the logarithm of its frequency is
    subtracted from its logits: else the model would learn to shun what is popular. Frequencies are counted
    while training goes on, and not estimated from intervals as in the paper, where the corpus is larger.
    Where another example of the batch has the very same item, it is no negative.

    Args:
        fields: the fields of an example, in the order of their slots; it uses those of `USER_FIELDS` and
            `ITEM_FIELDS`.
        hidden: units of each hidden layer of both towers.
        **table: the other arguments of `FeatureModel`.

    Call arguments:
        ids: integer `[batch, slots]`, feature ids of a user and an item that the user liked;
            `data.PADDING` in unused slots.
        training: whether to count the items.

    Output shape:
        float32 `[batch, batch]`, logits of each user's choice among the batch's items.
    """

    INITIAL_STDDEV = 0.1  # products of smaller vectors take long to learn
    # A row's Adam takes a step where the id occurs; with a single rate the towers are ahead of their inputs.
    RATE_OF_VECTORS = 3.0

    def __init__(self, fields: Sequence[data.Field], *, hidden: Sequence[int], **table: Any) -> None:
        super().__init__(fields, **table)
        self.user_tower = mlp(hidden, units=self.feature_vectors.dim)
        self.item_tower = mlp(hidden, units=self.feature_vectors.dim)
        self.counts = self.add_weight(
            name="counts", shape=(NUM_COUNTERS,), initializer="zeros", trainable=False
        )
        names = [field.name for field in fields]
        self.user_fields = [names.index(name) for name in USER_FIELDS]
        self.item_fields = [names.index(name) for name in ITEM_FIELDS]
        self.item_slot = data.field_slots(fields)["item"].start

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the logits, corrected for how often an item comes to be a negative."""
        users, items = self.towers(ids)
        item_ids = ids[:, self.item_slot]
        counters = tf.cast(tf.math.floormod(item_ids, NUM_COUNTERS), tf.int32)
        if training:
            self.counts.assign_add(tf.math.bincount(counters, minlength=NUM_COUNTERS, dtype=tf.float32))
        counts = tf.maximum(tf.gather(self.counts, counters), 1)
        logits = ops.matmul(users, ops.transpose(items)) / TEMPERATURE - tf.math.log(counts)
        same = tf.equal(item_ids[:, tf.newaxis], item_ids)
        return tf.where(tf.linalg.set_diag(same, tf.zeros_like(item_ids, tf.bool)), logits.dtype.min, logits)

    def towers(self, ids: tf.Tensor, training: bool | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """The vectors of length 1 of users and items.

        Args:
            ids: integer `[batch, slots]`.
            training: `False` outside training, or rows are looked up to be trained. Default `None`: as the
                model is called.

        Returns:
            Users and items, float32 `[batch, dim]` each. The score of a pair is their dot product.
        """
        vectors = self.field_vectors(ids, training)
        users = self.user_tower(tf.gather(vectors, self.user_fields, axis=1))
        items = self.item_tower(tf.gather(vectors, self.item_fields, axis=1))
        return ops.normalize(users), ops.normalize(items)


PROGRAM = command.Program(
    name="two_tower",
    title="a two-tower model",
    model=TwoTower,
    task=tasks.RETRIEVAL,
    groups={VECTORS_GROUP: "vectors"},
)


if __name__ == "__main__":
    sys.exit(PROGRAM.main())
