# SPDX-License-Identifier: Apache-2.0
"""Row optimizers: how the gradient of a row changes it.

Classes carry Keras argument names; dicts take the engine's own (`gamma`, `lambda`, ...), which are in
docs/damo_module.md. Every formula is applied to one row at a time, with the number of updates that
this row has had as its time step.

**Learning rates.** `learning_rate` of each class takes

* a number > 0;
* a schedule of `damo_tf.optimizers.schedules`, or a dict of the engine's parameters for one, such as
  `{"name": "cosine_decay", "decay_steps": 1000, "initial_learning_rate": 0.1}` (without the last, the
  class's default): the engine runs it on the table's persisted global step;
* any Keras `LearningRateSchedule`. `ExponentialDecay`, `InverseTimeDecay`, `PolynomialDecay` and
  `CosineDecay` without warmup become the engine's; others are called at each step with the table's
  global step, an int64 scalar;
* a `tf.Variable` or `keras.Variable`, read at each step;
* a function without arguments, called at each step: `lambda: model.optimizer.learning_rate` lets rows
  follow the dense part. In a `tf.function` what it returns should be a tensor or variable, which then
  becomes part of the graph; a Python number works, too, and costs a call of Python at each step.

What is evaluated at each step is float32 and belongs to the call: layers on one group may differ in it. It
must be >= 0 and finite, or the step fails and changes nothing. The group's own rate, which calls that bring
none use, is then the class's default. A number or a schedule of the engine's belongs to the group instead.

**Row options.** Each class also takes, for the gradient or the weights of one row at a time:

* `clipnorm`: float > 0. The row's gradient, summed over the batch, is scaled down to this L2 norm if it is
  longer. Default `None`: off. Not together with `clipvalue`.
* `clipvalue`: float > 0. Elements of that gradient are clipped to [-clipvalue, clipvalue]. Default `None`:
  off.
* `weight_decay`: float >= 0. `w -= lr * weight_decay * w` before the step, of rows that occur in the batch
  only. Not of `Ftrl`, whose weights are made of its slots.

Clipping comes before L2 penalties and decay, after a loss scale is undone.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import damo
import keras
import numpy as np

from damo_tf._arguments import is_number
from damo_tf._learning_rate import KerasSchedule, check_evaluated, deserialize, serialize
from damo_tf._settings import Parameters, Settings, keras_name, to_parameters
from damo_tf.optimizers import schedules

__all__ = [
    "Adagrad",
    "Adam",
    "AdamW",
    "Ftrl",
    "Lion",
    "Optimizer",
    "SGD",
    "base_rate",
    "get",
    "schedules",
]


@dataclass(frozen=True)
class Optimizer(Settings):
    """Base of the row optimizers. Settings are checked when the object is made.

    Example:

    >>> optimizer = damo_tf.optimizers.Adam(1e-2, clipnorm=1.0)
    >>> isinstance(optimizer, damo_tf.optimizers.Optimizer)
    True
    >>> optimizer == damo_tf.optimizers.Adam.from_config(optimizer.get_config())
    True

    Raises:
        ValueError: a setting breaks its rule.
        TypeError: a setting is of the wrong type.
    """

    clipnorm: float | None = dataclasses.field(default=None, kw_only=True)
    clipvalue: float | None = dataclasses.field(default=None, kw_only=True)

    @classmethod
    def _check(cls, parameters: Parameters) -> None:
        _normalized(parameters)

    @classmethod
    def _check_type(cls, field: dataclasses.Field[Any], value: Any) -> None:
        if field.name != "learning_rate":
            super()._check_type(field, value)
        elif not isinstance(value, (schedules.Schedule, dict)):
            check_evaluated(value)

    def _entries(self, name: str, value: Any) -> Parameters:
        if name != "learning_rate" or is_number(value):
            return super()._entries(name, value)
        base: float = getattr(type(self), name)
        schedule = schedules.from_keras(value) if isinstance(value, KerasSchedule) else value
        if isinstance(schedule, schedules.Schedule):
            return {
                **super()._entries(name, schedule.initial_learning_rate),
                "schedule": schedule.parameters(),
            }
        if isinstance(schedule, dict):
            settings = dict(schedule)
            base = settings.pop("initial_learning_rate", base)
            return {self._parameter_names[name]: base, "schedule": settings}
        return {**super()._entries(name, base), "learning_rate": value}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; of a variable as learning rate its present value, as in Keras."""
        config = super().get_config()
        if not isinstance(config["learning_rate"], dict):
            config["learning_rate"] = serialize(config["learning_rate"])
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The object that `get_config` described."""
        return cls(**{**config, "learning_rate": deserialize(config["learning_rate"])})


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, as `torch.optim.SGD` without momentum.

    `g += lambda * w; w -= lr * g`

    Example:

    >>> sgd = damo_tf.optimizers.SGD(0.5)
    >>> store.add_group(0, dim=2, initializer="zeros", optimizer=sgd)
    >>> store.apply_gradients(0, [7], [[1.0, -4.0]])
    >>> store.lookup(0, 7)
    array([-0.5,  2. ], dtype=float32)

    Args:
        learning_rate: see the module. Default 1e-3.
        l2_regularization_strength: float >= 0, lambda above. Default 0.
        weight_decay, clipnorm, clipvalue: see the module. Default `None`: off.
    """

    learning_rate: Any = 1e-3
    l2_regularization_strength: float = 0.0
    weight_decay: float | None = None

    _name: ClassVar[str] = "sgd"
    _parameter_names: ClassVar[dict[str, str]] = {
        "learning_rate": "gamma",
        "l2_regularization_strength": "lambda",
    }


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class Ftrl(Optimizer):
    """FTRL-Proximal with per-coordinate rates (McMahan et al. 2013, algorithm 1).

    `sigma = (sqrt(n + g*g) - sqrt(n)) / lr; z += g - sigma * w; n += g*g`;
    `w = 0` where `|z| <= l1`, else `-(z - sign(z) * l1) / ((beta + sqrt(n)) / lr + l2)`.

    Example:

    >>> ftrl = damo_tf.optimizers.Ftrl(0.5, l1_regularization_strength=1.0)
    >>> store.add_group(0, dim=2, initializer="zeros", optimizer=ftrl)
    >>> store.apply_gradients(0, [7], [[0.5, -4.0]])
    >>> store.lookup(0, 7)  # weak evidence leaves a weight at 0
    array([0.   , 0.375], dtype=float32)

    Args:
        learning_rate: see the module, alpha in the paper. Default 5e-3.
        beta: float >= 0. Default 0.
        l1_regularization_strength: float >= 0. Default 0.
        l2_regularization_strength: float >= 0. Default 0.
        clipnorm, clipvalue: see the module. Default `None`: off.
    """

    learning_rate: Any = 5e-3
    beta: float = 0.0
    l1_regularization_strength: float = 0.0
    l2_regularization_strength: float = 0.0

    _name: ClassVar[str] = "ftrl"
    _parameter_names: ClassVar[dict[str, str]] = {
        "learning_rate": "gamma",
        "l1_regularization_strength": "lambda1",
        "l2_regularization_strength": "lambda2",
    }


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad, as `torch.optim.Adagrad`; t is the row's number of updates.

    `g += lambda * w; sum += g*g; w -= lr / (1 + (t - 1) * decay) * g / (sqrt(sum) + epsilon)`

    Example:

    >>> adagrad = damo_tf.optimizers.Adagrad(0.5)
    >>> store.add_group(0, dim=2, initializer="zeros", optimizer=adagrad)
    >>> store.apply_gradients(0, [7], [[3.0, -4.0]])
    >>> store.row(0, 7).slots
    {'sum': array([ 9., 16.], dtype=float32)}

    Args:
        learning_rate: see the module. Default 1e-2.
        learning_rate_decay: float >= 0, decay above. Default 0.
        l2_regularization_strength: float >= 0, lambda above. Default 0.
        epsilon: float > 0. Default 1e-10.
        weight_decay, clipnorm, clipvalue: see the module. Default `None`: off.
    """

    learning_rate: Any = 1e-2
    learning_rate_decay: float = 0.0
    l2_regularization_strength: float = 0.0
    epsilon: float = 1e-10
    weight_decay: float | None = None

    _name: ClassVar[str] = "adagrad"
    _parameter_names: ClassVar[dict[str, str]] = {
        "learning_rate": "gamma",
        "learning_rate_decay": "eta",
        "l2_regularization_strength": "lambda",
    }


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam, as `torch.optim.Adam`; t is the row's number of updates.

    `g += lambda * w; m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g*g`;
    `w -= lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + epsilon)`

    Example:

    >>> adam = damo_tf.optimizers.Adam(0.5)
    >>> store.add_group(0, dim=2, initializer="zeros", optimizer=adam)
    >>> store.apply_gradients(0, [7], [[1.0, -4.0]])
    >>> store.lookup(0, 7)  # whatever its gradient, each weight first moves by the learning rate
    array([-0.5,  0.5], dtype=float32)
    >>> list(store.row(0, 7).slots)
    ['m', 'v']

    Args:
        learning_rate: see the module. Default 1e-3.
        beta_1: float in [0, 1). Default 0.9.
        beta_2: float in [0, 1). Default 0.999.
        epsilon: float > 0. Default 1e-8.
        l2_regularization_strength: float >= 0, lambda above. Default 0.
        weight_decay, clipnorm, clipvalue: see the module. Default `None`: off.
    """

    learning_rate: Any = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    l2_regularization_strength: float = 0.0
    weight_decay: float | None = None

    _name: ClassVar[str] = "adam"
    _parameter_names: ClassVar[dict[str, str]] = {
        "learning_rate": "gamma",
        "beta_1": "beta1",
        "beta_2": "beta2",
        "l2_regularization_strength": "lambda",
    }


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`; t is the row's number of updates.

    `w -= lr * weight_decay * w`, then Adam's step. Only rows that occur in a batch decay.

    Example:

    >>> adamw = damo_tf.optimizers.AdamW(0.5, weight_decay=0.5)
    >>> store.add_group(0, dim=2, initializer="ones", optimizer=adamw)
    >>> store.apply_gradients(0, [7], [[0.0, -4.0]])
    >>> store.lookup(0, 7)
    array([0.75, 1.25], dtype=float32)

    Args:
        learning_rate: see the module. Default 1e-3.
        weight_decay: float >= 0. Default 1e-2.
        beta_1: float in [0, 1). Default 0.9.
        beta_2: float in [0, 1). Default 0.999.
        epsilon: float > 0. Default 1e-8.
        clipnorm, clipvalue: see the module. Default `None`: off.
    """

    learning_rate: Any = 1e-3
    weight_decay: float = 1e-2
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    _name: ClassVar[str] = "adamw"
    _parameter_names: ClassVar[dict[str, str]] = {
        "learning_rate": "gamma",
        "weight_decay": "lambda",
        "beta_1": "beta1",
        "beta_2": "beta2",
    }


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2).

    `w -= lr * (sign(b1*m + (1-b1)*g) + weight_decay * w); m = b2*m + (1-b2)*g`

    Example:

    >>> lion = damo_tf.optimizers.Lion(0.5, weight_decay=0.5)
    >>> store.add_group(0, dim=2, initializer="ones", optimizer=lion)
    >>> store.apply_gradients(0, [7], [[1.0, -4.0]])
    >>> store.lookup(0, 7)
    array([0.25, 1.25], dtype=float32)

    Args:
        learning_rate: see the module. Default 3e-4.
        beta_1: float in [0, 1). Default 0.9.
        beta_2: float in [0, 1). Default 0.99.
        weight_decay: float >= 0. Default 1e-2.
        clipnorm, clipvalue: see the module. Default `None`: off.
    """

    learning_rate: Any = 3e-4
    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float = 1e-2

    _name: ClassVar[str] = "lion"
    _parameter_names: ClassVar[dict[str, str]] = {
        "learning_rate": "eta",
        "beta_1": "beta1",
        "beta_2": "beta2",
        "weight_decay": "lambda",
    }


def get(optimizer: Any) -> Parameters:
    """The engine's parameters of an optimizer, however it is given.

    Example:

    >>> damo_tf.optimizers.get(keras.optimizers.SGD(0.1))
    {'gamma': 0.1, 'lambda': 0.0, 'name': 'sgd'}

    Args:
        optimizer: a name (`"adam"`); a dict of the engine's parameters
            (`{"name": "adam", "gamma": 1e-3}`), in which `"schedule"` may be a dict of the parameters of a
            schedule, and `"learning_rate"` what a layer evaluates at each step in place of the group's rate:
            a Keras schedule, a variable, a function or a number; an object of this module; or a Keras
            optimizer that has an equivalent here: `SGD` without momentum, `Ftrl` and `Adagrad` with
            `initial_accumulator_value=0`, `Adam`, `AdamW`, `Lion`, with or without `clipvalue`. Keras adds
            epsilon before Adam's bias correction and inside Adagrad's root, this engine (as PyTorch) after
            it; Keras decays all rows in each step, this engine those of the batch; settings that have no
            counterpart raise.

    Returns:
        A dict with `"name"` and every parameter, defaults filled in, what is off left out; `"schedule"` and
        `"learning_rate"` if there is one.

    Raises:
        ValueError: unknown name or parameter, a value that breaks its rule, or a Keras optimizer
            without equivalent.
        TypeError: none of the above kinds.
    """
    return _normalized(
        to_parameters("optimizer", optimizer, Optimizer, keras.optimizers.Optimizer, _from_keras)
    )


def base_rate(parameters: Parameters) -> float:
    """The learning rate that is a setting of the group, of parameters that `get` returned.

    Example:

    >>> damo_tf.optimizers.base_rate(damo_tf.optimizers.get("lion"))
    0.0003
    """
    (kind,) = [k for k in (SGD, Ftrl, Adagrad, Adam, AdamW, Lion) if k._name == parameters["name"]]
    return float(parameters[kind._parameter_names["learning_rate"]])


def _normalized(parameters: Parameters) -> Parameters:
    """The same parameters as the engine spells them, after checking them."""
    values = dict(parameters)
    evaluated = {}
    if "learning_rate" in values:
        evaluated["learning_rate"] = values.pop("learning_rate")
        _check_no_setting(evaluated["learning_rate"])
        check_evaluated(evaluated["learning_rate"])
    schedule = values.pop("schedule", None)
    optimizer = damo.PyOptimizer(values, schedule)
    scheduled = {} if schedule is None else {"schedule": optimizer.schedule}
    return {**optimizer.parameters, **scheduled, **evaluated}


def _check_no_setting(rate: Any) -> None:
    """Raises if `rate`, of a dict, is a schedule of the engine's, which has an entry of its own there."""
    if isinstance(rate, (schedules.Schedule, dict)):
        raise TypeError(
            "`learning_rate` of a dict must be evaluated at each step. A schedule of the engine's is the "
            "entry 'schedule', a dict of its parameters; its first rate is the optimizer's own parameter, "
            f"such as 'gamma'. Received: learning_rate={rate!r}"
        )


#: Settings of every Keras optimizer that rows have not: neutral values, and what the difference is.
_COMMON_NEUTRAL: dict[str, tuple[tuple[Any, ...], str]] = {
    "clipnorm": (
        (None, 0),
        "it clips the gradient of a whole variable; `clipnorm` of damo_tf.optimizers is for each row",
    ),
    "global_clipnorm": ((None, 0), "it clips the gradients of all variables together"),
    "use_ema": ((False,), "it averages whole variables"),
    "loss_scale_factor": ((None,), "the layer finds the scale of the loss by itself"),
    "gradient_accumulation_steps": ((None,), "rows take a step with each batch"),
}
_NO_DECAY = {"weight_decay": (None, 0, False)}
_SAME_DECAY = {"weight_decay": ("weight_decay", 1.0)}

#: Keras class name to: our class; Keras settings that carry over (their name here, factor); neutral values.
_KERAS_EQUIVALENTS: dict[str, tuple[type[Optimizer], dict[str, tuple[str, float]], dict[str, Any]]] = {
    "SGD": (SGD, _SAME_DECAY, {"momentum": (0, 0.0), "nesterov": (False,)}),
    "Ftrl": (
        Ftrl,
        {
            "beta": ("beta", 1.0),
            "l1_regularization_strength": ("l1_regularization_strength", 1.0),
            # Keras minimises l2 * |w|^2, the paper lambda2 / 2 * |w|^2.
            "l2_regularization_strength": ("l2_regularization_strength", 2.0),
        },
        {
            "learning_rate_power": (-0.5,),
            "initial_accumulator_value": (0, 0.0),
            "l2_shrinkage_regularization_strength": (0, 0.0),
            **_NO_DECAY,
        },
    ),
    "Adagrad": (
        Adagrad,
        {"epsilon": ("epsilon", 1.0), **_SAME_DECAY},
        {"initial_accumulator_value": (0, 0.0)},
    ),
    "Adam": (
        Adam,
        {"beta_1": ("beta_1", 1.0), "beta_2": ("beta_2", 1.0), "epsilon": ("epsilon", 1.0), **_SAME_DECAY},
        {"amsgrad": (False,)},
    ),
    "AdamW": (
        AdamW,
        {"beta_1": ("beta_1", 1.0), "beta_2": ("beta_2", 1.0), "epsilon": ("epsilon", 1.0), **_SAME_DECAY},
        {"amsgrad": (False,)},
    ),
    "Lion": (Lion, {"beta_1": ("beta_1", 1.0), "beta_2": ("beta_2", 1.0), **_SAME_DECAY}, {}),
}


def _from_keras(optimizer: keras.optimizers.Optimizer) -> Optimizer:
    name = keras_name("optimizer", optimizer, keras.optimizers, _KERAS_EQUIVALENTS)
    ours, carried, neutral = _KERAS_EQUIVALENTS[name]
    config = optimizer.get_config()
    rules = {**_COMMON_NEUTRAL, **{setting: (allowed, "") for setting, allowed in neutral.items()}}
    for setting, (allowed, difference) in rules.items():
        if config.get(setting, allowed[0]) not in allowed:
            raise ValueError(
                f"keras.optimizers.{name} has an equivalent for rows only with "
                f"{setting}={allowed[0]!r}{difference and f' ({difference})'}. "
                f"Received: {setting}={config[setting]!r}"
            )
    arguments = {"learning_rate": _rate_of(name, config["learning_rate"])}
    for setting, (argument, factor) in carried.items():
        arguments[argument] = float(config[setting] or 0.0) * factor
    clipvalue = config.get("clipvalue") or None  # 0 turns it off in Keras
    return ours(**arguments, clipvalue=clipvalue)


def _rate_of(name: str, learning_rate: Any) -> Any:
    """The learning rate in the config of a Keras optimizer: a number, or an object in serialized form."""
    if is_number(learning_rate):
        # Keras keeps it as float32; the shortest decimal that rounds to it is what the user wrote.
        return float(np.format_float_positional(np.float32(learning_rate)))
    try:
        return deserialize(learning_rate)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the learning rate of keras.optimizers.{name} cannot be taken from its config, where it is "
            f"{learning_rate!r}; give it to the class in damo_tf.optimizers instead"
        ) from error
