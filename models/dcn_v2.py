# SPDX-License-Identifier: Apache-2.0
"""DCN-V2 on Criteo or MovieLens-100K logs, its embeddings in a damo_tf store.

    python -m models.dcn_v2 --data train.tsv --store run

Wang et al. 2021, "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to
Rank Systems": the stacked form, with cross layers of low rank.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from models import command, data, tasks
from models.feature_model import VECTORS_GROUP, FeatureModel, mlp

NUM_CROSS_LAYERS = 3
# The rank of a cross layer's matrix is its width divided by this: the paper finds little lost at a quarter.
RANK_DIVISOR = 4


class CrossLayer(keras.layers.Layer):
    """`x0 * (U V x + b) + x`, equation 2 of the paper: features of one more degree than those of `x`.

    Call arguments:
        x0: float `[batch, width]`, the inputs of the first cross layer.
        x: float `[batch, width]`, the outputs of the one before.

    Output shape:
        `[batch, width]`.
    """

    def build(self, x0_shape: tuple[int | None, int], x_shape: tuple[int | None, int]) -> None:
        """Makes U, V and b for the width of the inputs."""
        width = x_shape[-1]
        rank = max(1, width // RANK_DIVISOR)
        self.down = keras.layers.Dense(rank, use_bias=False)  # V
        self.up = keras.layers.Dense(width)  # U and b
        self.down.build(x_shape)
        self.up.build((*x_shape[:-1], rank))

    def call(self, x0: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns the crossed features."""
        return x0 * self.up(self.down(x)) + x


class DCNV2(FeatureModel):
    """Click probability from explicit products of features, and a deep network on top of them.

    The vector of a field is the sum of those of its features. Each cross layer multiplies the fields' vectors
    once more into what came before; a multi-layer perceptron makes the logit of the result.

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
        self.flatten = keras.layers.Flatten()
        self.crosses = [CrossLayer() for _ in range(NUM_CROSS_LAYERS)]
        self.deep = mlp(hidden, units=1, activation="sigmoid")

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the probabilities."""
        x = x0 = self.flatten(self.field_vectors(ids))
        for cross in self.crosses:
            x = cross(x0, x)
        return self.deep(x)


PROGRAM = command.Program(
    name="dcn_v2",
    title="DCN-V2",
    model=DCNV2,
    task=tasks.CLICKS,
    groups={VECTORS_GROUP: "vectors"},
)


if __name__ == "__main__":
    sys.exit(PROGRAM.main())
