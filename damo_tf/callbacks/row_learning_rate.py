# SPDX-License-Identifier: Apache-2.0
"""RowLearningRate: Keras's learning rate callbacks, for rows."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from damo_tf.callbacks.rate_variables import rate_variables
from damo_tf.layers import Embedding


class RowLearningRate(keras.callbacks.Callback):
    """Lets a callback that sets learning rates set those of rows, in place of the dense part's.

    `ReduceLROnPlateau`, `LearningRateScheduler` and their like read and set the learning rate of
    `model.optimizer`, which trains the dense part only. Inside this callback they find the layers'
    there, under the layers' names: in the logs a rate is `learning_rate_NAME`.

    Example:

    >>> halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    >>> callbacks = [damo_tf.callbacks.RowLearningRate(halve)]
    >>> history = model.fit(x, y, epochs=2, callbacks=callbacks, verbose=0)
    >>> history.history["learning_rate_rows"]  # of the layer "rows", which began with 0.5
    [0.25, 0.125]

    For dense part and rows alike, give both their own:

    >>> plateau = keras.callbacks.ReduceLROnPlateau
    >>> callbacks = [plateau("val_loss"), damo_tf.callbacks.RowLearningRate(plateau("val_loss"))]

    The learning rate of a layer must be a number or a variable. A number becomes a variable, which from then
    on is the rate of that layer's steps: see `damo_tf.Embedding.learning_rate_variable`. What it is set to
    outlives `fit`, and is in the layer's config, so in a saved model, and in a `StoreCheckpoint`, but not in
    the store.

    Args:
        callback: a `keras.callbacks.Callback`. Keras's own drive the rate of each layer by itself. One that
            knows no more than `model.optimizer.learning_rate` reads that of the first layer and sets all.
        layers: a `damo_tf.Embedding` or several. Default `None`: all that are among `model.layers`, and
            among the layers of models there.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: when training begins: there is no such layer, two have one name, or a layer's learning
            rate is a schedule or a function.
    """

    def __init__(
        self, callback: keras.callbacks.Callback, *, layers: Embedding | Iterable[Embedding] | None = None
    ) -> None:
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(f"`callback` must be a keras.callbacks.Callback. Received: callback={callback!r}")
        super().__init__()
        self.callback = callback
        self.layers = _check_layers(layers)
        # As attributes of this object, so that Keras sees which of them do something.
        for hook in dir(keras.callbacks.Callback):
            if hook.startswith("on_"):
                setattr(self, hook, getattr(callback, hook))

    def set_params(self, params: Any) -> None:
        """Called by Keras."""
        super().set_params(params)
        self.callback.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        """Called by Keras. Makes variables of the layers' rates."""
        super().set_model(model)
        layers = list(_embeddings(model)) if self.layers is None else self.layers
        names = [layer.name for layer in layers]
        if not layers:
            raise ValueError(
                "`layers` must be given where `model.layers` has no damo_tf.Embedding. "
                f"Received: layers=None, model '{model.name}'"
            )
        if len(set(names)) < len(names):
            raise ValueError(f"`layers` must have different names. Received names: {names}")
        self.callback.set_model(_ModelOfRows(model, _RowOptimizers(_row_optimizers(model, layers))))


class _RowOptimizer:
    """What a learning rate callback wants of an optimizer."""

    def __init__(self, name: str, rate: keras.Variable | tf.Variable) -> None:
        self.name = name
        self._rate = rate

    @property
    def learning_rate(self) -> Any:
        return self._rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._rate.assign(value)


class _RowOptimizers:
    """Several of them, as Keras has them, and as one."""

    def __init__(self, optimizers: list[_RowOptimizer]) -> None:
        self.optimizers = optimizers

    @property
    def learning_rate(self) -> Any:
        return self.optimizers[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        for optimizer in self.optimizers:
            optimizer.learning_rate = value


class _ModelOfRows:
    """A model in all but its optimizer."""

    def __init__(self, model: keras.Model, optimizer: _RowOptimizers) -> None:
        self.__dict__.update(_model=model, optimizer=optimizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_model"], name)

    def __setattr__(self, name: str, value: Any) -> None:  # such as `stop_training`
        setattr(self.__dict__["_model"], name, value)


def _check_layers(layers: Any) -> list[Embedding] | None:
    if layers is None:
        return None
    given = [*layers] if isinstance(layers, Iterable) else [layers]
    for layer in given:
        if not isinstance(layer, Embedding):
            raise TypeError(f"`layers` must be damo_tf.Embedding layers. Received: {layer!r}")
    return given


def _embeddings(model: keras.Model) -> Iterator[Embedding]:
    for layer in model.layers:
        if isinstance(layer, Embedding):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _embeddings(layer)


def _row_optimizers(model: keras.Model, layers: list[Embedding]) -> list[_RowOptimizer]:
    rates = rate_variables(model, layers)
    return [_RowOptimizer(layer.name, rate) for layer, rate in zip(layers, rates, strict=True)]
