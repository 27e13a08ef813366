# SPDX-License-Identifier: Apache-2.0
"""Lookups done otherwise: what an export puts in the place of the layers' own.

A model is exported by calling it once, while its graph is traced, with something else in the place of
each `Embedding.call`. So any model can be exported that can be called: functional, nested, subclassed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

#: Takes a layer and the inputs of its call; returns the outputs, as the layer would.
Substitute: TypeAlias = Callable[[Any, Any], Any]

_substitute: ContextVar[Substitute | None] = ContextVar("substitute", default=None)


@contextmanager
def substituted_lookups(substitute: Substitute) -> Iterator[None]:
    """Calls of `damo_tf.Embedding` layers inside this context, in this thread, are calls of `substitute`."""
    token = _substitute.set(substitute)
    try:
        yield
    finally:
        _substitute.reset(token)


def current_substitute() -> Substitute | None:
    """What stands in the place of lookups now, if anything does."""
    return _substitute.get()
