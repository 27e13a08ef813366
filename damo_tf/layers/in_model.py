# SPDX-License-Identifier: Apache-2.0
"""The `Embedding` layers of a model, wherever in it they are."""

import weakref
from typing import Any

_built: weakref.WeakSet[Any] = weakref.WeakSet()


def note_built(layer: Any) -> None:
    """An `Embedding` layer says that it has its anchor now."""
    _built.add(layer)


def is_built(model: Any) -> bool:
    """Whether a model has its weights.

    One whose `train_step` calls its layers, and never itself, is not `built`: Keras sets that in `call`.
    """
    return model.built or (bool(model.layers) and all(layer.built for layer in model.layers))


def embeddings_of(model: Any) -> list[Any]:
    """The built `damo_tf.Embedding` layers of a model, in the order of their anchors in `model.variables`.

    They are found by their anchors: Keras has no public way to list layers within layers.
    """
    layers = {id(layer.anchor): layer for layer in _built}
    return [layers[id(variable)] for variable in model.variables if id(variable) in layers]


def stores_of(model: Any) -> list[Any]:
    """The stores of the layers that `embeddings_of` lists, in that order, each once."""
    return list({layer.store.directory: layer.store for layer in embeddings_of(model)}.values())
