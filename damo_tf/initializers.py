# SPDX-License-Identifier: Apache-2.0
"""Row initializers: the weights a row has before its first update.

An initial value is a function of (seed of the store, group, key) alone, the same on every machine;
docs/initial_values.md has the generator and golden values. Classes carry Keras argument names, without
`seed`: that is the store's.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import damo
import keras

from damo_tf._settings import Parameters, Settings, keras_name, to_parameters

__all__ = [
    "Initializer",
    "Ones",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "XavierUniform",
    "Zeros",
    "get",
]


@dataclass(frozen=True)
class Initializer(Settings):
    """Base of the row initializers. Settings are checked when the object is made.

    Example:

    >>> initializer = damo_tf.initializers.RandomNormal(stddev=0.05)
    >>> isinstance(initializer, damo_tf.initializers.Initializer)
    True
    >>> initializer.get_config()
    {'mean': 0.0, 'stddev': 0.05}

    Raises:
        ValueError: a setting breaks its rule.
        TypeError: a setting is not a number.
    """

    @classmethod
    def _check(cls, parameters: Parameters) -> None:
        damo.PyInitializer(parameters)


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class Zeros(Initializer):
    """All weights 0.

    Example:

    >>> store.add_group(0, dim=4, initializer=damo_tf.initializers.Zeros())
    >>> store.lookup(0, 7)
    array([0., 0., 0., 0.], dtype=float32)
    """

    _name: ClassVar[str] = "zeros"


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class Ones(Initializer):
    """All weights 1.

    Example:

    >>> store.add_group(0, dim=4, initializer=damo_tf.initializers.Ones())
    >>> store.lookup(0, 7)
    array([1., 1., 1., 1.], dtype=float32)
    """

    _name: ClassVar[str] = "ones"


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class RandomUniform(Initializer):
    """Uniform between two bounds.

    Example:

    >>> store.add_group(0, dim=4, initializer=damo_tf.initializers.RandomUniform(-0.1, 0.1))
    >>> store.lookup(0, 7)
    array([ 0.03179661, -0.0914906 ,  0.04401516, -0.00947892], dtype=float32)

    Args:
        minval: finite float. Default -1.
        maxval: finite float >= `minval`. Default 1.
    """

    minval: float = -1.0
    maxval: float = 1.0

    _name: ClassVar[str] = "random_uniform"
    _parameter_names: ClassVar[dict[str, str]] = {"minval": "min", "maxval": "max"}


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class RandomNormal(Initializer):
    """Normal distribution.

    Example:

    >>> store.add_group(0, dim=4, initializer=damo_tf.initializers.RandomNormal(stddev=0.1))
    >>> store.lookup(0, 7)
    array([ 0.04096893, -0.17218646,  0.05830666, -0.01190815], dtype=float32)

    Args:
        mean: finite float. Default 0.
        stddev: float >= 0. Default 1.
    """

    mean: float = 0.0
    stddev: float = 1.0

    _name: ClassVar[str] = "random_normal"
    _parameter_names: ClassVar[dict[str, str]] = {"mean": "mean", "stddev": "stddev"}


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class TruncatedNormal(Initializer):
    """Normal distribution, values more than 2 `stddev` from the mean drawn again.

    Example:

    >>> store.add_group(0, dim=4, initializer=damo_tf.initializers.TruncatedNormal(stddev=0.1))
    >>> bool((abs(store.lookup(0, range(1000))) <= 0.2).all())
    True

    Args:
        mean: finite float. Default 0.
        stddev: float >= 0, of the distribution before truncation. Default 1.
    """

    mean: float = 0.0
    stddev: float = 1.0

    _name: ClassVar[str] = "truncate_normal"
    _parameter_names: ClassVar[dict[str, str]] = {"mean": "mean", "stddev": "stddev"}


@keras.saving.register_keras_serializable("damo_tf")
@dataclass(frozen=True)
class XavierUniform(Initializer):
    """Uniform in [-limit, limit], limit = sqrt(6 / (1 + dim)) (Glorot and Bengio 2010).

    A row is what one input, of weight 1, contributes to `dim` outputs: fan-in 1, fan-out `dim`.

    Example:

    >>> store.add_group(0, dim=4, initializer=damo_tf.initializers.XavierUniform())
    >>> store.lookup(0, 7)
    array([ 0.34831443, -1.0022293 ,  0.48216188, -0.10383639], dtype=float32)
    """

    _name: ClassVar[str] = "xavier_uniform"


def get(initializer: Any) -> Parameters:
    """The engine's parameters of an initializer, however it is given.

    Example:

    >>> damo_tf.initializers.get(keras.initializers.RandomUniform(-0.1, 0.1))
    {'max': 0.1, 'min': -0.1, 'name': 'random_uniform'}

    Args:
        initializer: a name (`"random_uniform"`); a dict of the engine's parameters
            (`{"name": "random_uniform", "min": -0.1, "max": 0.1}`); an object of this module; or one of
            Keras's `Zeros`, `Ones`, `RandomUniform`, `RandomNormal`, `TruncatedNormal`, whose seed is
            ignored: the store has one.

    Returns:
        A dict with `"name"` and every parameter, defaults filled in.

    Raises:
        ValueError: unknown name or parameter, a value that breaks its rule, or a Keras initializer
            without equivalent.
        TypeError: none of the above kinds.
    """
    parameters = to_parameters(
        "initializer", initializer, Initializer, keras.initializers.Initializer, _from_keras
    )
    return damo.PyInitializer(parameters).parameters


#: Keras class name to our class; settings other than the seed have the same names here.
_KERAS_EQUIVALENTS: dict[str, type[Initializer]] = {
    "Zeros": Zeros,
    "Ones": Ones,
    "RandomUniform": RandomUniform,
    "RandomNormal": RandomNormal,
    "TruncatedNormal": TruncatedNormal,
}


def _from_keras(initializer: keras.initializers.Initializer) -> Initializer:
    name = keras_name("initializer", initializer, keras.initializers, _KERAS_EQUIVALENTS)
    config = {k: v for k, v in initializer.get_config().items() if k != "seed"}
    return _KERAS_EQUIVALENTS[name].from_config(config)
