# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules that the engine runs on a table's persisted global step.

For the `learning_rate` of the classes in `damo_tf.optimizers`, which take any Keras schedule as well. The
global step is the number of apply calls that the table has had before, in this process and in earlier
ones. docs/schedules.md has formulas, edge cases and sources.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import damo
import keras

from damo_tf._arguments import check_positive
from damo_tf._settings import Parameters, Settings, is_exactly

__all__ = [
    "CosineDecay",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LinearCosineDecay",
    "NaturalExponentialDecay",
    "PolynomialDecay",
    "Schedule",
    "from_keras",
]


@dataclass(frozen=True)
class Schedule(Settings):
    """Base of the schedules. Settings are checked when the object is made.

    Example:

    >>> schedule = damo_tf.optimizers.schedules.CosineDecay(0.1, decay_steps=1000)
    >>> isinstance(schedule, damo_tf.optimizers.schedules.Schedule)
    True
    >>> damo_tf.optimizers.Adam(schedule).learning_rate == schedule
    True

    Raises:
        ValueError: a setting breaks its rule.
        TypeError: a setting is of the wrong type.
    """

    initial_learning_rate: float

    def __post_init__(self) -> None:
        check_positive("initial_learning_rate", self.initial_learning_rate)
        super().__post_init__()

    @classmethod
    def _check(cls, parameters: Parameters) -> None:
        damo.PyOptimizer({"name": "sgd"}, parameters)

    def parameters(self) -> Parameters:
        """The schedule's settings under the engine's names; the initial rate is the optimizer's."""
        values = super().parameters()
        del values["initial_learning_rate"]
        return values


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`, as Keras's.

    Example:

    >>> schedule = damo_tf.optimizers.schedules.ExponentialDecay(1.0, decay_steps=1, decay_rate=0.5)
    >>> store.add_group(0, dim=1, initializer="zeros", optimizer=damo_tf.optimizers.SGD(schedule))
    >>> for step in range(3):
    ...     store.apply_gradients(0, [step], [[-1.0]])
    >>> store.lookup(0, [0, 1, 2]).ravel().round(3)  # the rates of steps 0, 1 and 2
    array([1.  , 0.5 , 0.25], dtype=float32)

    Args:
        initial_learning_rate: float > 0.
        decay_steps: float > 0.
        decay_rate: float > 0.
        staircase: whether `step / decay_steps` is rounded down. Default `False`.
    """

    decay_steps: float
    decay_rate: float
    staircase: bool = False

    _name: ClassVar[str] = "exponential_decay"


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class NaturalExponentialDecay(Schedule):
    """`initial_learning_rate * exp(-decay_rate * step / decay_steps)`, as `tf.compat.v1.train`'s.

    Example:

    >>> schedule = damo_tf.optimizers.schedules.NaturalExponentialDecay(1.0, decay_steps=1, decay_rate=0.5)
    >>> store.add_group(0, dim=1, initializer="zeros", optimizer=damo_tf.optimizers.SGD(schedule))
    >>> for step in range(3):
    ...     store.apply_gradients(0, [step], [[-1.0]])
    >>> store.lookup(0, [0, 1, 2]).ravel().round(3)  # the rates of steps 0, 1 and 2
    array([1.   , 0.607, 0.368], dtype=float32)

    Args:
        initial_learning_rate: float > 0.
        decay_steps: float > 0.
        decay_rate: float >= 0.
        staircase: whether `step / decay_steps` is rounded down. Default `False`.
    """

    decay_steps: float
    decay_rate: float
    staircase: bool = False

    _name: ClassVar[str] = "nature_exponential_decay"


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class InverseTimeDecay(Schedule):
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`, as Keras's.

    Example:

    >>> schedule = damo_tf.optimizers.schedules.InverseTimeDecay(1.0, decay_steps=1, decay_rate=1.0)
    >>> store.add_group(0, dim=1, initializer="zeros", optimizer=damo_tf.optimizers.SGD(schedule))
    >>> for step in range(3):
    ...     store.apply_gradients(0, [step], [[-1.0]])
    >>> store.lookup(0, [0, 1, 2]).ravel().round(3)  # the rates of steps 0, 1 and 2
    array([1.   , 0.5  , 0.333], dtype=float32)

    Args:
        initial_learning_rate: float > 0.
        decay_steps: float > 0.
        decay_rate: float >= 0.
        staircase: whether `step / decay_steps` is rounded down. Default `False`.
    """

    decay_steps: float
    decay_rate: float
    staircase: bool = False

    _name: ClassVar[str] = "inverse_time_decay"


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """`(initial - end) * (1 - step / decay_steps) ** power + end`, as Keras's.

    It stays at `end_learning_rate` from `decay_steps` on or, with `cycle`, begins anew over a longer time.

    Example:

    >>> schedule = damo_tf.optimizers.schedules.PolynomialDecay(1.0, decay_steps=2, end_learning_rate=0.5)
    >>> store.add_group(0, dim=1, initializer="zeros", optimizer=damo_tf.optimizers.SGD(schedule))
    >>> for step in range(3):
    ...     store.apply_gradients(0, [step], [[-1.0]])
    >>> store.lookup(0, [0, 1, 2]).ravel().round(3)  # the rates of steps 0, 1 and 2
    array([1.  , 0.75, 0.5 ], dtype=float32)

    Args:
        initial_learning_rate: float > 0.
        decay_steps: float > 0.
        end_learning_rate: float >= 0. Default 1e-4.
        power: float >= 0. Default 1.
        cycle: whether it begins anew. Default `False`.
    """

    decay_steps: float
    end_learning_rate: float = 1e-4
    power: float = 1.0
    cycle: bool = False

    _name: ClassVar[str] = "polynomial_decay"


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class CosineDecay(Schedule):
    """`initial * ((1 - alpha) * (1 + cos(pi * step / decay_steps)) / 2 + alpha)`, as Keras's without warmup.

    It stays at `initial_learning_rate * alpha` from `decay_steps` on.

    Example:

    >>> schedule = damo_tf.optimizers.schedules.CosineDecay(1.0, decay_steps=2, alpha=0.5)
    >>> store.add_group(0, dim=1, initializer="zeros", optimizer=damo_tf.optimizers.SGD(schedule))
    >>> for step in range(3):
    ...     store.apply_gradients(0, [step], [[-1.0]])
    >>> store.lookup(0, [0, 1, 2]).ravel().round(3)  # the rates of steps 0, 1 and 2
    array([1.  , 0.75, 0.5 ], dtype=float32)

    Args:
        initial_learning_rate: float > 0.
        decay_steps: float > 0.
        alpha: float >= 0, the last rate as a fraction of the first. Default 0.
    """

    decay_steps: float
    alpha: float = 0.0

    _name: ClassVar[str] = "cosine_decay"


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class LinearCosineDecay(Schedule):
    """`initial * ((alpha + linear) * cosine + beta)`, as `tf.compat.v1.train`'s.

    With `q = step / decay_steps`, `linear = 1 - q` and `cosine = (1 + cos(2 * pi * num_periods * q)) / 2`.
    From `decay_steps` on `step` counts as `decay_steps`.

    Example:

    >>> schedule = damo_tf.optimizers.schedules.LinearCosineDecay(1.0, decay_steps=4, beta=0.0)
    >>> store.add_group(0, dim=1, initializer="zeros", optimizer=damo_tf.optimizers.SGD(schedule))
    >>> for step in range(3):
    ...     store.apply_gradients(0, [step], [[-1.0]])
    >>> store.lookup(0, [0, 1, 2]).ravel().round(3)  # the rates of steps 0, 1 and 2
    array([1.  , 0.64, 0.25], dtype=float32)

    Args:
        initial_learning_rate: float > 0.
        decay_steps: float > 0.
        num_periods: float >= 0. Default 0.5.
        alpha: float >= 0. Default 0.
        beta: float >= 0. Default 1e-3.
    """

    decay_steps: float
    num_periods: float = 0.5
    alpha: float = 0.0
    beta: float = 0.001

    _name: ClassVar[str] = "liner_cosine_decay"


#: Keras schedules whose formula the engine has: class name to ours, whose settings have the same names.
_KERAS_EQUIVALENTS: dict[str, type[Schedule]] = {
    "ExponentialDecay": ExponentialDecay,
    "InverseTimeDecay": InverseTimeDecay,
    "PolynomialDecay": PolynomialDecay,
    "CosineDecay": CosineDecay,
}


def from_keras(schedule: keras.optimizers.schedules.LearningRateSchedule) -> Schedule | None:
    """The schedule of ours with the formula of Keras's; `None` if there is none.

    Example:

    >>> decay = keras.optimizers.schedules.InverseTimeDecay(0.1, decay_steps=100, decay_rate=0.5)
    >>> damo_tf.optimizers.schedules.from_keras(decay).decay_steps
    100

    Raises:
        ValueError: it has settings that make no sense to the engine, such as a negative `decay_rate`.
    """
    name = type(schedule).__name__
    if not is_exactly(schedule, keras.optimizers.schedules, _KERAS_EQUIVALENTS):
        return None
    config: dict[str, Any] = schedule.get_config()
    config.pop("name")
    if config.pop("warmup_target", None) is not None:
        return None
    config.pop("warmup_steps", None)
    return _KERAS_EQUIVALENTS[name](**config)
