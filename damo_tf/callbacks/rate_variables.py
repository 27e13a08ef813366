# SPDX-License-Identifier: Apache-2.0
"""The learning rates of a model's rows as variables."""

from collections.abc import Sequence
from typing import Any

import keras

from damo_tf._learning_rate import is_variable
from damo_tf.layers import Embedding


def rate_variables(model: keras.Model, layers: Sequence[Embedding]) -> list[Any]:
    """The variables that hold the learning rates of layers, in their order.

    A rate that is a number becomes one, and the model, if it was traced with the number, is traced anew.

    Raises:
        ValueError: the learning rate of a layer is a schedule or a function.
    """
    traced_without = any(not is_variable(layer.learning_rate) for layer in layers)
    with model.distribute_strategy.scope():
        variables = [layer.learning_rate_variable() for layer in layers]
    if traced_without and model.train_function is not None:
        model.make_train_function(force=True)
    return variables
