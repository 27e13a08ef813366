# SPDX-License-Identifier: Apache-2.0
"""Lookups done otherwise: what an export puts in the place of the layers' own.

A model is exported by calling it once, while its graph is traced, with something else in the place of
each `Embedding.call`. So any model can be exported that can be called: functional, nested, subclassed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import tensorflow as tf

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


def check_one_vector_per_id(layer: Any, ids: Any) -> None:
    """Raises ValueError unless `layer` makes one vector of each id of a dense tensor, as exports do.

    Args:
        layer: an Embedding layer.
        ids: what it is called with.
    """
    if not isinstance(ids, tf.Tensor):
        raise ValueError(f"layer '{layer.name}' must have dense ids to be exported. Received: {ids!r}")
    shape = tuple(ids.shape)
    given, exported = layer.compute_output_shape(shape), (*shape, layer.dim)
    if tuple(given) != exported:
        raise ValueError(
            f"layer '{layer.name}' must make one vector of each id, {exported}, to be exported. "
            f"Received: outputs of shape {tuple(given)}"
        )
