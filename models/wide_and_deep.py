# SPDX-License-Identifier: Apache-2.0
"""Wide & Deep on Criteo or MovieLens-100K logs, its embeddings in a damo_tf store.

    python -m models.wide_and_deep --data train.tsv --store run

Cheng et al. 2016, "Wide & Deep Learning for Recommender Systems".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

from models import command, data, tasks
from models.feature_model import VECTORS_GROUP, WEIGHTS_GROUP, FeatureModel, mlp

#: Pairs of fields whose values the wide part knows together, where the data have such fields.
CROSSES = (
    # MovieLens
    ("age", "item"),
    ("gender", "item"),
    ("occupation", "item"),
    # Criteo: the categories with few values
    ("C1", "C2"),
    ("C1", "C6"),
    ("C2", "C6"),
    ("C6", "C9"),
)
# Odd, so that multiplying by it maps ids one to one; 2**64 divided by the golden ratio, as an int64.
MULTIPLIER = 0x9E3779B97F4A7C15 - 2**64


class WideAndDeep(FeatureModel):
    """Click probability from a linear model that remembers and a deep network that generalises.

    The wide part sums a weight for each feature and for each pair of features of `CROSSES`, rows in
    `WEIGHTS_GROUP`, trained with FTRL. There is no table to size for the crosses: the id of a pair is a hash
    of the two ids, and only pairs that occur have rows. The deep part is a multi-layer perceptron on the
    fields' vectors; the vector of a field is the sum of those of its features, rows in `VECTORS_GROUP`.

    Args:
        fields: the fields of an example, in the order of their slots.
        hidden: units of each hidden layer.
        **table: the other arguments of `FeatureModel`.

    Call arguments:
        ids: integer `[batch, slots]`, feature ids; `data.PADDING` in unused slots.

    Output shape:
        float32 `[batch, 1]`, probabilities.
    """

    def __init__(self, fields: Sequence[data.Field], *, hidden: Sequence[int], **table: Any) -> None:
        super().__init__(fields, **table)
        self.feature_weights = self.make_weights()
        self.deep = mlp(hidden, units=1)
        slots = data.field_slots(fields)
        pairs = [(slots[a].start, slots[b].start) for a, b in CROSSES if a in slots and b in slots]
        self.crossed_slots = [list(side) for side in zip(*pairs, strict=True)]

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the probabilities."""
        weights = self.feature_weights(self.with_crosses(ids))  # [batch, slots and crosses, 1]
        return ops.sigmoid(ops.sum(weights, axis=1) + self.deep(self.field_vectors(ids)))

    def with_crosses(self, ids: tf.Tensor) -> tf.Tensor:
        """Appends the ids of the pairs, int64 `[batch, slots and crosses]`.

        They are evenly spread, as the ids of features are, and (a, b) is another pair than (b, a).
        """
        if not self.crossed_slots:
            return ids
        first, second = (tf.gather(ids, slots, axis=1) for slots in self.crossed_slots)
        return tf.concat([ids, MULTIPLIER * first + second], axis=1)


PROGRAM = command.Program(
    name="wide_and_deep",
    title="Wide & Deep",
    model=WideAndDeep,
    task=tasks.CLICKS,
    groups={WEIGHTS_GROUP: "weights", VECTORS_GROUP: "vectors"},
)


if __name__ == "__main__":
    sys.exit(PROGRAM.main())
