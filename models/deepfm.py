# SPDX-License-Identifier: Apache-2.0
"""DeepFM on Criteo or MovieLens-100K logs, its embeddings in a damo_tf store.

    python -m models.deepfm --data train.tsv --store run     # three epochs
    python -m models.deepfm --data train.tsv --store run     # three more

Guo et al. 2017, "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

from models import command, data, tasks
from models.feature_model import VECTORS_GROUP, WEIGHTS_GROUP, FeatureModel, mlp


class DeepFM(FeatureModel):
    """Click probability from a factorization machine and a deep network on the same vectors.

    Each feature has a weight, a row in `WEIGHTS_GROUP`, and a vector, a row in `VECTORS_GROUP`; the
    vector of a field is the sum of those of its features. The logit is the sum of the weights, of
    the products of the fields' vectors in pairs, and of the deep network's output on all of them.

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

    def build(self, input_shape: tuple[int | None, int]) -> None:
        """Opens the groups of rows and makes the dense weights."""
        self.feature_weights.build(input_shape)
        self.feature_vectors.build(input_shape)
        self.deep.build((None, len(self.slots_of_fields), self.feature_vectors.dim))
        super().build(input_shape)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the probabilities."""
        weights = self.feature_weights(ids)  # [batch, slots, 1]
        vectors = self.field_vectors(ids)  # [batch, fields, dim]
        # The sum of <u, v> over all pairs is (|sum of v|^2 - sum of |v|^2) / 2.
        pairs = (ops.square(ops.sum(vectors, axis=1)) - ops.sum(ops.square(vectors), axis=1)) / 2
        linear = ops.sum(weights, axis=1)
        return ops.sigmoid(linear + ops.sum(pairs, axis=1, keepdims=True) + self.deep(vectors))


PROGRAM = command.Program(
    name="deepfm",
    title="DeepFM",
    model=DeepFM,
    task=tasks.CLICKS,
    groups={WEIGHTS_GROUP: "weights", VECTORS_GROUP: "vectors"},
)


if __name__ == "__main__":
    sys.exit(PROGRAM.main())
