# SPDX-License-Identifier: Apache-2.0
"""BatchCounter: how many batches a callback has seen trained."""

from collections.abc import Mapping
from typing import Any

import keras


class BatchCounter:
    """Counts the batches of an epoch that are trained.

    Keras tells callbacks the number of the last batch that a call of the train function was to train. With
    `steps_per_execution` the last call of an epoch may train fewer. How many is known from the length of the
    epoch or, where Keras does not know that, from how far the optimizer has come. Only a
    `LossScaleOptimizer`, which leaves out steps, cannot tell: there such a call counts as a whole one.
    """

    def __init__(self) -> None:
        self._done = 0
        self._iteration = 0

    def begin_epoch(self, model: keras.Model) -> None:
        """Begins to count anew.

        Args:
            model: what is trained.
        """
        self._done = 0
        self._iteration = iterations_of(model)

    def advance(self, model: keras.Model, params: Mapping[str, Any], batch: int) -> int:
        """How many batches have been trained since the last call, or since the epoch began.

        Args:
            model: what is trained.
            params: the callback's.
            batch: the argument of `on_train_batch_end`.
        """
        before, done = self._done, batch + 1
        steps = params.get("steps")
        if steps is not None:
            done = min(done, steps)
        elif model.steps_per_execution > 1:
            done -= self._missing(model)
        self._done = done
        return done - before

    def _missing(self, model: keras.Model) -> int:
        """How many batches of an execution there were not."""
        iteration = iterations_of(model)
        trained = iteration - self._iteration
        self._iteration = iteration
        if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
            return 0
        return model.steps_per_execution - trained if 0 < trained < model.steps_per_execution else 0


def iterations_of(model: keras.Model) -> int:
    """How many batches a model's optimizer has had, without those that a `LossScaleOptimizer` left out.

    Its `iterations` counts those that it accumulates as one.
    """
    optimizer = getattr(model, "optimizer", None)
    variables = [] if optimizer is None else optimizer.variables
    return sum(int(variable) for variable in variables if variable.name == "iteration")
