# SPDX-License-Identifier: Apache-2.0
"""Deep Interest Network on MovieLens-100K, its embeddings in a damo_tf store.

    python -m models.din --data ml-100k --store run

Zhou et al. 2018, "Deep Interest Network for Click-Through Rate Prediction", with ReLUs in place of Dice and
without mini-batch aware regularization.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from models import command, data, tasks
from models.feature_model import VECTORS_GROUP, FeatureModel, mlp

ATTENTION_HIDDEN = (36,)


class DIN(FeatureModel):
    """Probability that a user likes an item, from the items the user liked before.

    What was liked matters as far as it bears on the item in question: a small network, the activation unit,
    weighs each item of the history against the target, and the weighted sum is the user's interest. Weights
    do not add up to 1, so that a strong interest stays a strong one (section 4.3).

    History and target share one table and, in one call, one optimizer step: the history is ragged and costs
    what is in it.

    Args:
        fields: the fields of an example, in the order of their slots, "item" and "history" among them.
        hidden: units of each hidden layer.
        **table: the other arguments of `FeatureModel`.

    Call arguments:
        ids: integer `[batch, slots]`, feature ids; `data.PADDING` in unused slots, which are a field's last.

    Output shape:
        float32 `[batch, 1]`, probabilities.
    """

    INITIAL_STDDEV = 0.1  # products of smaller vectors take long to learn

    def __init__(self, fields: Sequence[data.Field], *, hidden: Sequence[int], **table: Any) -> None:
        present = [field for field in fields if field.name != "history"]
        super().__init__(present, **table)
        self.activation_unit = mlp(ATTENTION_HIDDEN, units=1)
        self.deep = mlp(hidden, units=1, activation="sigmoid")
        self.flatten = keras.layers.Flatten()
        slots = data.field_slots(fields)
        self.history_slots = slots["history"]
        self.present_slots = [slot for field in present for slot in slots[field.name]]
        self.target = [field.name for field in present].index("item")

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the probabilities."""
        history = ids[:, self.history_slots.start : self.history_slots.stop]
        history = tf.RaggedTensor.from_tensor(history, padding=data.PADDING)
        present = tf.gather(ids, self.present_slots, axis=1)
        vectors = self.feature_vectors({"present": present, "history": history})
        fields = ops.matmul(self.slots_of_fields, vectors["present"])  # [batch, fields, dim]
        interest = self.interest(fields[:, self.target], vectors["history"])
        return self.deep(ops.concatenate([self.flatten(fields), interest], axis=1))

    def interest(self, target: tf.Tensor, history: tf.RaggedTensor) -> tf.Tensor:
        """The history, weighed against the target and summed.

        Args:
            target: float32 `[batch, dim]`.
            history: float32 `[batch, (length), dim]`, ragged.

        Returns:
            float32 `[batch, dim]`; zeros where there is no history.
        """
        example = history.value_rowids()  # of each item of all histories
        items = history.values  # [items, dim]
        targets = tf.gather(target, example)
        pairs = ops.concatenate([items, targets, targets - items, targets * items], axis=1)
        weighed = self.activation_unit(pairs) * items
        return tf.math.unsorted_segment_sum(weighed, example, tf.shape(target)[0])


PROGRAM = command.Program(
    name="din",
    title="a Deep Interest Network",
    model=DIN,
    task=tasks.CLICKS_WITH_HISTORY,
    groups={VECTORS_GROUP: "vectors"},
)


if __name__ == "__main__":
    sys.exit(PROGRAM.main())
