# SPDX-License-Identifier: Apache-2.0
"""Settings: the common base of the optimizer, schedule and initializer classes.

Each class is a frozen dataclass of numbers, and perhaps booleans, with Keras argument names, which it
translates to the engine's parameter names. The engine checks the values. `None` turns a setting off.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Self, TypeAlias

from damo_tf._arguments import is_number

#: Of an optimizer with a schedule or a rate that is evaluated at each step it holds that, too.
Parameters: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """The numbers that configure one algorithm of the engine."""

    #: Name of the algorithm in the engine, and the engine's name of each field that has another one.
    _name: ClassVar[str]
    _parameter_names: ClassVar[dict[str, str]] = {}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._check_type(field, getattr(self, field.name))
        self._check(self.parameters())

    @classmethod
    def _check_type(cls, field: dataclasses.Field[Any], value: Any) -> None:
        """Raises TypeError if a setting is of the wrong type."""
        if value is None and field.default is None:
            return
        of_its_kind, rule = isinstance(value, bool), "a bool"
        if field.type is not bool:
            of_its_kind, rule = is_number(value), "a number"
        if not of_its_kind:
            raise TypeError(
                f"`{field.name}` must be {rule}. Received: {field.name}={value!r} of {type(value)}"
            )

    @classmethod
    def _check(cls, parameters: Parameters) -> None:
        """Raises ValueError if the engine refuses `parameters`."""
        raise NotImplementedError

    def parameters(self) -> Parameters:
        """The settings under the engine's names, with `"name"`."""
        values: Parameters = {"name": self._name}
        for field in dataclasses.fields(self):
            values |= self._entries(field.name, getattr(self, field.name))
        return values

    def _entries(self, name: str, value: Any) -> Parameters:
        """What one setting adds to the engine's parameters."""
        if value is None:
            return {}
        parameter = self._parameter_names.get(name, name)
        return {parameter: value if isinstance(value, bool) else float(value)}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

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


def is_exactly(value: Any, module: ModuleType, known: Iterable[str]) -> bool:
    """Whether a Keras object's class is one of `known` in `module`, and not one derived from it."""
    name = type(value).__name__
    return name in known and type(value) is getattr(module, name)


def keras_name(kind: str, value: Any, module: ModuleType, known: Iterable[str]) -> str:
    """The name of a Keras object's class, if it is one of `known` and not a class derived from it.

    Raises:
        ValueError: it is another class; the message lists `known`.
    """
    name = type(value).__name__
    if is_exactly(value, module, known):
        return name
    raise ValueError(
        f"Keras {kind} `{name}` has no equivalent for rows; those that have: {', '.join(sorted(known))}"
    )
