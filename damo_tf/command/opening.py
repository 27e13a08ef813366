# SPDX-License-Identifier: Apache-2.0
"""How commands open stores."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
import damo

from damo_tf._description import DESCRIPTION_FILE
from damo_tf.command.numbers import Integer

#: Small beside a trainer's, and enough for passes over everything.
DEFAULT_MEMORY_BUDGET = 256 << 20
MIN_MEMORY_BUDGET = 4 << 20


@dataclass(frozen=True)
class StoreOpener:
    """A store that is named, and not open yet.

    Attributes:
        directory: of the store, absolute.
        memory_budget: bytes for caches and memtables.
        ttl_seconds: of groups without a time to live of their own; `None`: for ever.
    """

    directory: str
    memory_budget: int = DEFAULT_MEMORY_BUDGET
    ttl_seconds: int | None = None

    def reading(self) -> damo.PyStorage:
        """Opens it as it is now, beside whoever has it open for writing; to be used in a `with`."""
        return self._open(read_only=True)

    def writing(self) -> damo.PyStorage:
        """Opens it for writing, which fails where a trainer has it open; to be used in a `with`."""
        return self._open(read_only=False)

    def whole(self) -> damo.PyStorage:
        """Opens it with nothing left in a redo log: to write, but a checkpoint, which has none, to read."""
        return self.reading() if self.is_checkpoint() else self.writing()

    def is_checkpoint(self) -> bool:
        """Whether the directory holds a checkpoint, of the whole store or of changes."""
        return os.path.exists(os.path.join(self.directory, DESCRIPTION_FILE))

    def creating(self, seed: int, clock: str) -> damo.PyStorage:
        """Makes it, and opens it for writing."""
        return self._open(read_only=False, create_if_missing=True, seed=seed, clock=clock)

    def _open(
        self,
        *,
        read_only: bool,
        create_if_missing: bool = False,
        seed: int | None = None,
        clock: str | None = None,
    ) -> damo.PyStorage:
        return damo.PyStorage(
            self.directory,
            self.ttl_seconds,
            memory_budget=self.memory_budget,
            read_only=read_only,
            seed=seed,
            create_if_missing=create_if_missing,
            clock=clock,
        )


class NonEmptyPath(click.Path):
    """A path. An empty one, of a variable that is not set, would be the working directory to some."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """`value`, if it is not empty."""
        if not value:
            self.fail("it must be a path. Received: ''", param, ctx)
        return super().convert(value, param, ctx)


def with_store(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the argument STORE and its options; its function gets a `StoreOpener` first."""

    @click.argument("store", type=NonEmptyPath())
    @click.option(
        "--memory-budget",
        type=Integer(MIN_MEMORY_BUDGET),
        default=DEFAULT_MEMORY_BUDGET,
        show_default=True,
        metavar="BYTES",
        help="For the engine's caches and buffers.",
    )
    @click.option(
        "--ttl-seconds",
        type=Integer(1, (1 << 63) // 1000 - 1),
        metavar="N",
        help="Time to live of rows in groups that have none of their own. Default: for ever.",
    )
    @functools.wraps(function)
    def command(store: str, memory_budget: int, ttl_seconds: int | None, **arguments: object) -> None:
        function(StoreOpener(os.path.realpath(store), memory_budget, ttl_seconds), **arguments)

    return command
