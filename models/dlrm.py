# SPDX-License-Identifier: Apache-2.0
"""DLRM on Criteo or MovieLens-100K logs, its embeddings in a damo_tf store.

    python -m models.dlrm --data train.tsv --store run

Naumov et al. 2019, "Deep Learning Recommendation Model for Personalization and Recommendation Systems".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from models import command, data, tasks
from models.feature_model import VECTORS_GROUP, FeatureModel, mlp


class DLRM(FeatureModel):
    """Click probability from the dot products of all pairs of features, quantities among them.

    A bottom perceptron turns the quantities of an example into one vector of the width of the embeddings. The
    top perceptron sees that vector and its dot products, and the fields', with one another. The vector of a
    field is the sum of those of its features.

    Args:
        fields: the fields of an example, in the order of their slots.
        hidden: units of each hidden layer of both perceptrons.
        **table: the other arguments of `FeatureModel`.

    Call arguments:
        inputs: a dict: "ids", integer `[batch, slots]`, feature ids, `data.PADDING` in unused slots; and
            "numbers", float32 `[batch, numbers]`, quantities.

    Output shape:
        float32 `[batch, 1]`, probabilities.
    """

    INITIAL_STDDEV = 0.1  # products of smaller vectors take long to learn

    def __init__(self, fields: Sequence[data.Field], *, hidden: Sequence[int], **table: Any) -> None:
        super().__init__(fields, **table)
        self.bottom = mlp(hidden, units=self.feature_vectors.dim, activation="relu")
        self.top = mlp(hidden, units=1, activation="sigmoid")
        num_vectors = 1 + len(fields)
        # Of the products of all with all, flattened: each pair once, none with itself.
        self.pairs = np.ravel_multi_index(np.tril_indices(num_vectors, -1), (num_vectors, num_vectors))

    def call(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """Returns the probabilities."""
        numbers = self.bottom(inputs["numbers"])  # [batch, dim]
        vectors = self.field_vectors(inputs["ids"])
        vectors = ops.concatenate([numbers[:, None], vectors], axis=1)  # [batch, 1 + fields, dim]
        products = ops.matmul(vectors, ops.transpose(vectors, (0, 2, 1)))
        products = ops.take(ops.reshape(products, (-1, products.shape[1] ** 2)), self.pairs, axis=1)
        return self.top(ops.concatenate([numbers, products], axis=1))


PROGRAM = command.Program(
    name="dlrm",
    title="DLRM",
    model=DLRM,
    task=tasks.CLICKS_WITH_NUMBERS,
    groups={VECTORS_GROUP: "vectors"},
)


if __name__ == "__main__":
    sys.exit(PROGRAM.main())
