# SPDX-License-Identifier: Apache-2.0
"""Settings: the common base of the optimizer and initializer classes.

Each class is a frozen dataclass of numbers with Keras argument names, which it translates to the
engine's parameter names. The engine checks the values.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

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
            if isinstance(value, bool) or not isinstance(value, (int, float)):
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
