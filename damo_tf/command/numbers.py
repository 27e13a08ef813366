# SPDX-License-Identifier: Apache-2.0
"""Numbers on the command line."""

import math
from typing import Any

import click


class Integer(click.IntRange):
    """An integer in a range. What is none is called so in messages; click's says "no valid integer range"."""

    name = "integer"


class Number(click.FloatRange):
    """A finite number in a range."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """`value` as a float."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not finite.", param, ctx)
        return number


group_number = Integer(0, 255)
