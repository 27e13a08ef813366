# SPDX-License-Identifier: Apache-2.0
"""Row optimizers: how the gradient of a row changes it.

Classes carry Keras argument names; dicts take the engine's own (`gamma`, `lambda`, ...), which are in
docs/damo_module.md. Every formula is applied to one row at a time, with the number of updates that
this row has had as its time step.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import damo
import keras
import numpy as np

from damo_tf._settings import Parameters, Settings, keras_name, to_parameters


@dataclass(frozen=True)
class Optimizer(Settings):
    """Base of the row optimizers. Settings are checked when the object is made.

    Raises:
        ValueError: a setting breaks its rule.
        TypeError: a setting is not a number.
    """

    @classmethod
    def _check(cls, parameters: Parameters) -> None:
        damo.PyOptimizer(parameters)


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, as `torch.optim.SGD` without momentum.

    `g += lambda * w; w -= lr * g`

    Args:
        learning_rate: float > 0. Default 1e-3.
        l2_regularization_strength: float >= 0, lambda above. Default 0.
    """

    learning_rate: float = 1e-3
    l2_regularization_strength: float = 0.0

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

    Args:
        learning_rate: float > 0, alpha in the paper. Default 5e-3.
        beta: float >= 0. Default 0.
        l1_regularization_strength: float >= 0. Default 0.
        l2_regularization_strength: float >= 0. Default 0.
    """

    learning_rate: float = 5e-3
    beta: float = 0.0
    l1_regularization_strength: float = 0.0
    l2_regularization_strength: float = 0.0

    _name: ClassVar[str] = "ftrl"
    _parameter_names: ClassVar[dict[str, str]] = {
        "learning_rate": "gamma",
        "beta": "beta",
        "l1_regularization_strength": "lambda1",
        "l2_regularization_strength": "lambda2",
    }


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad, as `torch.optim.Adagrad`; t is the row's number of updates.

    `g += lambda * w; sum += g*g; w -= lr / (1 + (t - 1) * decay) * g / (sqrt(sum) + epsilon)`

    Args:
        learning_rate: float > 0. Default 1e-2.
        learning_rate_decay: float >= 0, decay above. Default 0.
        l2_regularization_strength: float >= 0, lambda above. Default 0.
        epsilon: float > 0. Default 1e-10.
    """

    learning_rate: float = 1e-2
    learning_rate_decay: float = 0.0
    l2_regularization_strength: float = 0.0
    epsilon: float = 1e-10

    _name: ClassVar[str] = "adagrad"
    _parameter_names: ClassVar[dict[str, str]] = {
        "learning_rate": "gamma",
        "learning_rate_decay": "eta",
        "l2_regularization_strength": "lambda",
        "epsilon": "epsilon",
    }


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam, as `torch.optim.Adam`; t is the row's number of updates.

    `g += lambda * w; m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g*g`;
    `w -= lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + epsilon)`

    Args:
        learning_rate: float > 0. Default 1e-3.
        beta_1: float in [0, 1). Default 0.9.
        beta_2: float in [0, 1). Default 0.999.
        epsilon: float > 0. Default 1e-8.
        l2_regularization_strength: float >= 0, lambda above. Default 0.
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    l2_regularization_strength: float = 0.0

    _name: ClassVar[str] = "adam"
    _parameter_names: ClassVar[dict[str, str]] = {
        "learning_rate": "gamma",
        "beta_1": "beta1",
        "beta_2": "beta2",
        "epsilon": "epsilon",
        "l2_regularization_strength": "lambda",
    }


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`; t is the row's number of updates.

    `w -= lr * weight_decay * w`, then Adam's step. Only rows that occur in a batch decay.

    Args:
        learning_rate: float > 0. Default 1e-3.
        weight_decay: float >= 0. Default 1e-2.
        beta_1: float in [0, 1). Default 0.9.
        beta_2: float in [0, 1). Default 0.999.
        epsilon: float > 0. Default 1e-8.
    """

    learning_rate: float = 1e-3
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
        "epsilon": "epsilon",
    }


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2).

    `w -= lr * (sign(b1*m + (1-b1)*g) + weight_decay * w); m = b2*m + (1-b2)*g`

    Args:
        learning_rate: float > 0. Default 3e-4.
        beta_1: float in [0, 1). Default 0.9.
        beta_2: float in [0, 1). Default 0.99.
        weight_decay: float >= 0. Default 1e-2.
    """

    learning_rate: float = 3e-4
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

    Args:
        optimizer: a name (`"adam"`); a dict of the engine's parameters
            (`{"name": "adam", "gamma": 1e-3}`); an object of this module; or a Keras optimizer that has
            an equivalent here: `SGD` without momentum, `Ftrl` and `Adagrad` with
            `initial_accumulator_value=0`, `Adam`, `AdamW`, `Lion`. Keras adds epsilon before Adam's bias
            correction and inside Adagrad's root, this engine (as PyTorch) after it; settings that have
            no counterpart raise.

    Returns:
        A dict with `"name"` and every parameter, defaults filled in.

    Raises:
        ValueError: unknown name or parameter, a value that breaks its rule, or a Keras optimizer
            without equivalent.
        TypeError: none of the above kinds.
    """
    parameters = to_parameters("optimizer", optimizer, Optimizer, keras.optimizers.Optimizer, _from_keras)
    return damo.PyOptimizer(parameters).parameters


#: Settings of every Keras optimizer that act on whole gradients or variables, and their neutral values.
_COMMON_NEUTRAL = {
    "clipnorm": (None,),
    "clipvalue": (None,),
    "global_clipnorm": (None,),
    "use_ema": (False,),
    "loss_scale_factor": (None,),
    "gradient_accumulation_steps": (None,),
}
_NO_DECAY = {"weight_decay": (None, 0, False)}

#: Keras class name to: our class; Keras settings that carry over (their name here, factor); neutral values.
_KERAS_EQUIVALENTS: dict[str, tuple[type[Optimizer], dict[str, tuple[str, float]], dict[str, Any]]] = {
    "SGD": (
        SGD,
        {"weight_decay": ("l2_regularization_strength", 1.0)},
        {"momentum": (0, 0.0), "nesterov": (False,)},
    ),
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
        {"epsilon": ("epsilon", 1.0)},
        {"initial_accumulator_value": (0, 0.0), **_NO_DECAY},
    ),
    "Adam": (
        Adam,
        {"beta_1": ("beta_1", 1.0), "beta_2": ("beta_2", 1.0), "epsilon": ("epsilon", 1.0)},
        {"amsgrad": (False,), **_NO_DECAY},
    ),
    "AdamW": (
        AdamW,
        {
            "beta_1": ("beta_1", 1.0),
            "beta_2": ("beta_2", 1.0),
            "epsilon": ("epsilon", 1.0),
            "weight_decay": ("weight_decay", 1.0),
        },
        {"amsgrad": (False,)},
    ),
    "Lion": (
        Lion,
        {
            "beta_1": ("beta_1", 1.0),
            "beta_2": ("beta_2", 1.0),
            "weight_decay": ("weight_decay", 1.0),
        },
        {},
    ),
}


def _from_keras(optimizer: keras.optimizers.Optimizer) -> Optimizer:
    name = keras_name("optimizer", optimizer, keras.optimizers, _KERAS_EQUIVALENTS)
    ours, carried, neutral = _KERAS_EQUIVALENTS[name]
    config = optimizer.get_config()
    for setting, allowed in {**_COMMON_NEUTRAL, **neutral}.items():
        if config.get(setting, allowed[0]) not in allowed:
            raise ValueError(
                f"keras.optimizers.{name} has an equivalent for rows only with "
                f"{setting}={allowed[0]!r}. Received: {setting}={config[setting]!r}"
            )
    arguments = {"learning_rate": _constant_rate(name, config["learning_rate"])}
    for setting, (argument, factor) in carried.items():
        arguments[argument] = float(config[setting] or 0.0) * factor
    return ours(**arguments)


def _constant_rate(name: str, learning_rate: Any) -> float:
    if isinstance(learning_rate, (int, float)):
        # Keras keeps it as float32; the shortest decimal that rounds to it is what the user wrote.
        return float(np.format_float_positional(np.float32(learning_rate)))
    raise ValueError(
        f"keras.optimizers.{name} has an equivalent for rows only with a constant learning rate. "
        f"Received: learning_rate={learning_rate!r}"
    )
