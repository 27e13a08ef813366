# SPDX-License-Identifier: Apache-2.0
"""Learning rates that are evaluated at each step: Keras schedules, variables, functions.

Schedules of the engine's own are not: they are settings of a group.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from damo_tf import ops
from damo_tf._arguments import is_number
from damo_tf._graphs import varies_between_runs

KerasSchedule = keras.optimizers.schedules.LearningRateSchedule
_VARIABLES = (tf.Variable, keras.Variable)

#: What can be evaluated at each step; a number is the same each time.
Evaluated: TypeAlias = (
    int
    | float
    | keras.optimizers.schedules.LearningRateSchedule
    | tf.Variable
    | keras.Variable
    | Callable[[], Any]
)


def check_evaluated(rate: Any) -> None:
    """Raises unless `rate` can be evaluated at each step.

    Raises:
        TypeError: it cannot; the message says what can.
        ValueError: it is a variable that is no scalar.
    """
    if is_number(rate) or isinstance(rate, KerasSchedule):
        return
    if is_variable(rate):
        _check_scalar(rate)
        return
    if not callable(rate):
        raise TypeError(
            "`learning_rate` must be a number, a schedule, a variable or a function without arguments. "
            f"Received: learning_rate={rate!r} of {type(rate)}"
        )
    try:
        inspect.signature(rate).bind()
    except ValueError:
        return  # a builtin, which has no signature
    except TypeError as error:
        raise TypeError(
            f"`learning_rate` must be a function without arguments. Received: learning_rate={rate!r}: {error}"
        ) from error


def is_variable(rate: Any) -> bool:
    """Whether a learning rate is a variable, which can be assigned to."""
    return isinstance(rate, _VARIABLES)


def serialize(rate: Evaluated) -> Any:
    """A learning rate as configs hold it, as Keras's optimizers do: of a variable its present value."""
    if is_number(rate):
        return float(rate)  # type: ignore[arg-type]
    if is_variable(rate):
        return float(keras.ops.convert_to_numpy(rate))
    return keras.saving.serialize_keras_object(rate)


def deserialize(config: Any) -> Any:
    """What `serialize` was given; a config without such an object is returned as it is."""
    if isinstance(config, dict) and "class_name" in config:
        return keras.saving.deserialize_keras_object(config)
    return config


class LearningRate:
    """A learning rate that is evaluated at each step.

    A plain object, so that Keras takes no variable in it for a weight of the layer that has it.

    Args:
        rate: see `Evaluated`.
    """

    def __init__(self, rate: Evaluated) -> None:
        check_evaluated(rate)
        self.rate = rate
        # Inside a layer of mixed precision Keras reads float32 variables as float16; not inside this one.
        self._exactly = keras.layers.Lambda(self._value, dtype="float32", autocast=False)

    def of_next_step(self, table: tf.Tensor) -> tf.Tensor:
        """The rate of the next step of a table, a float32 scalar.

        Args:
            table: resource scalar, a table handle. A schedule gets its global step.
        """
        return tf.stop_gradient(self._exactly(ops.step(table)))

    def _value(self, step: tf.Tensor) -> tf.Tensor:
        rate = self.rate
        if not callable(rate):
            return _as_float32(rate)
        value = rate(step) if isinstance(rate, KerasSchedule) else rate()
        scalar = _as_float32(value)
        if tf.executing_eagerly() or _varies(value):
            return scalar
        # A Python number, which the graph would keep for ever: Python is to be asked again at each step.
        return tf.ensure_shape(tf.py_function(self._exactly, [step], tf.float32), [])


def _as_float32(value: Any) -> tf.Tensor:
    try:
        tensor = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`learning_rate` must give a number at each step. Received: {value!r} of {type(value)}"
        ) from error
    _check_scalar(tensor)
    return tf.cast(tensor, tf.float32)


def _check_scalar(value: Any) -> None:
    """Raises unless a tensor or variable is a real number; what is not known while tracing, the op checks."""
    dtype = tf.as_dtype(value.dtype)
    if not (dtype.is_floating or dtype.is_integer):
        raise TypeError(f"`learning_rate` must be a real number at each step. Received dtype: {dtype.name}")
    shape = tf.TensorShape(value.shape)
    if not shape.is_compatible_with([]):
        raise ValueError(f"`learning_rate` must be a scalar at each step. Received shape: {shape}")


def _varies(value: Any) -> bool:
    """Whether a value that was found while tracing may be another each time the graph runs."""
    return is_variable(value) or (tf.is_symbolic_tensor(value) and varies_between_runs(value))
