# SPDX-License-Identifier: Apache-2.0
"""Settings: the common base of the optimizer and initializer classes.

Each class is a frozen dataclass of numbers with Keras argument names, which it translates to the
engine's parameter names. The engine checks the values.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np

Parameters: TypeAlias = dict[str, bool | int | float | str]


@dataclass(frozen=True)
class Settings:
    """The numbers that configure one algorithm of the engine."""

    #: Name of the algorithm in the engine, and the engine's name of each field.
    _name: ClassVar[str]
    _parameter_names: ClassVar[dict[str, str]] = {}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
                raise TypeError(
                    f"`{field.name}` must be a number. Received: {field.name}={value!r} of {type(value)}"
                )
        self._check(self.parameters())

    @classmethod
    def _check(cls, parameters: Parameters) -> None:
        """Raises ValueError if the engine refuses `parameters`."""
        raise NotImplementedError

    def parameters(self) -> Parameters:
        """The settings under the engine's names, with `"name"`."""
        values: Parameters = {"name": self._name}
        for field in dataclasses.fields(self):
            values[self._parameter_names[field.name]] = float(getattr(self, field.name))
        return values

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The object that `get_config` described."""
        return cls(**config)


def to_parameters(
    kind: str, value: Any, ours: type[Settings], theirs: type, from_keras: Callable[[Any], Settings]
) -> Parameters:
    """The engine's parameters of an optimizer or initializer, however it is given; not yet checked.

    Args:
        kind: `"optimizer"` or `"initializer"`, for the message.
        value: a name, a dict of parameters, an object of ours, or one of Keras.
        ours: base class of our objects.
        theirs: base class of Keras's.
        from_keras: makes our equivalent of Keras's object; raises ValueError if there is none.

    Raises:
        TypeError: `value` is none of these.
    """
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, theirs):
        value = from_keras(value)
    if isinstance(value, ours):
        return value.parameters()
    if isinstance(value, dict):
        return value
    raise TypeError(
        f"`{kind}` must be a name, a dict, a `damo_tf.{kind}s` object or a Keras {kind}. "
        f"Received: {kind}={value!r} of {type(value)}"
    )


def keras_name(kind: str, value: Any, module: ModuleType, known: Iterable[str]) -> str:
    """The name of a Keras object's class, if it is one of `known` and not a class derived from it.

    Raises:
        ValueError: it is another class; the message lists `known`.
    """
    name = type(value).__name__
    if name in known and type(value) is getattr(module, name):
        return name
    raise ValueError(
        f"Keras {kind} `{name}` has no equivalent for rows; those that have: {', '.join(sorted(known))}"
    )
