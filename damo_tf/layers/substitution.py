# SPDX-License-Identifier: Apache-2.0
"""Ops done otherwise: what an export puts in the place of the layers' own.

A model is exported by calling it once, while its graph is traced, with something else in the place of
damo_tf's ops in each layer's call. So any model can be exported that can be called: functional, nested,
subclassed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import tensorflow as tf

from damo_tf._bags import Feature


class Substitute(Protocol):
    """What is done in the place of damo_tf's ops."""

    def lookup(self, layer: Any, inputs: Any, features: list[Feature]) -> list[Any]:
        """The vectors of features, float32, as `layer`, an `Embedding`, makes them.

        Args:
            layer: the layer.
            inputs: of its call, in whose order, that of `tf.nest.flatten`, the features are.
            features: what is looked up.
        """

    def hash(self, layer: Any, values: tf.Tensor) -> tf.Tensor:
        """The ids of dense values, of the same shape, as `layer`, a `FeatureHash`, makes them."""


_substitute: ContextVar[Substitute | None] = ContextVar("substitute", default=None)


@contextmanager
def substituted_ops(substitute: Substitute) -> Iterator[None]:
    """Layers of damo_tf called inside this context, in this thread, call `substitute` for their ops."""
    token = _substitute.set(substitute)
    try:
        yield
    finally:
        _substitute.reset(token)


def current_substitute() -> Substitute | None:
    """What stands in the place of ops now, if anything does."""
    return _substitute.get()
