# SPDX-License-Identifier: Apache-2.0
"""Moving in: a model on `keras.layers.Embedding` becomes the same model on rows in a store."""

import os
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from damo_tf import initializers
from damo_tf._arguments import as_keys, check_int, check_path
from damo_tf.exchange import matrix_of
from damo_tf.layers import Embedding
from damo_tf.store import Store


def convert_embeddings(
    model: keras.Model,
    store: Store | str | os.PathLike[str],
    *,
    optimizer: Any = "adam",
    groups: Mapping[str, int] | None = None,
    keys: Mapping[str, npt.ArrayLike] | None = None,
) -> keras.Model:
    """A copy of a model with `damo_tf.Embedding` in place of `keras.layers.Embedding`, and the same weights.

    It predicts what `model` does, and takes any 64-bit id besides. All other layers are copied, too, so
    that `model` stays as it is. Compile the copy anew: optimizer states are not carried over.

    A new layer has the name, `output_dim` and dtype policy of the old one, and its initializer for new ids.
    With `mask_zero=True` id 0 is its padding: the layers behind it get the mask they got before, and id 0
    has no row, but reads as zeros. That makes a difference where a layer pays no heed to the mask, so it
    warns if row 0 of the matrix is not zero.

    Embeddings inside other layers, such as `TimeDistributed` or your own, and subclasses of
    `keras.layers.Embedding` stay what they are; a warning names them.

    Example:

    >>> old = keras.Sequential([keras.Input((2,), dtype="int64"), keras.layers.Embedding(100, 4)])
    >>> new = damo_tf.convert_embeddings(old, store)
    >>> ids = np.array([[1, 99]])
    >>> bool((new.predict(ids, verbose=0) == old.predict(ids, verbose=0)).all())
    True

    Args:
        model: a functional or sequential model, nested ones included, that is built.
        store: a `damo_tf.Store`, or the path of one.
        optimizer: of the rows, as `damo_tf.Embedding` takes it. Default `"adam"`.
        groups: name of an Embedding layer to the group of its rows, which the store must not have yet.
            Those that are not named, all by default, get the smallest free numbers, in order of layers.
        keys: name of an Embedding layer to integers `[input_dim]`, all different: the key of each row of its
            matrix, such as the hashes of a vocabulary that ids were looked up in before; with
            `mask_zero=True` 0 must be the first. By default row i has key i.

    Returns:
        The new model.

    Raises:
        ValueError: an argument breaks its rule; the model has no `keras.layers.Embedding`, or one with
            something that rows do not have: a regularizer, a constraint, an initializer without equivalent.
        TypeError: an argument is of the wrong type; a model that cannot be copied.
    """
    _check_model(model)
    store = store if isinstance(store, Store) else Store.attach(check_path("store", store))
    old_layers = _embeddings(model)
    out_of_reach = _embeddings_out_of_reach(model)
    if not old_layers:
        raise ValueError(
            f"`model` must have a keras.layers.Embedding. Received: model '{model.name}' without"
            + (f", but for what is inside {out_of_reach}" if out_of_reach else "")
        )
    if out_of_reach:
        warnings.warn(
            f"the keras.layers.Embedding inside {out_of_reach} of model '{model.name}' stays what it is: "
            "only layers of the model itself, and of models in it, are converted.",
            stacklevel=2,
        )
    for name, given in (("groups", groups), ("keys", keys)):
        _check_names(name, given or {}, old_layers)
    numbers = _groups(store, old_layers, groups or {})
    keys_of = {name: _keys(layer, (keys or {}).get(name)) for name, layer in old_layers.items()}
    new_layers = {
        name: _equivalent(layer, store, numbers[name], optimizer) for name, layer in old_layers.items()
    }
    converted = _copy(model, new_layers)
    for name, layer in old_layers.items():
        if layer.mask_zero:
            _bring_all_but_padding(store, numbers[name], layer, keys_of[name])
        else:
            store.from_keras(layer, keys_of[name], group=numbers[name])
    return converted


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model. Received: {model!r} of {type(model)}")
    if not getattr(model, "inputs", None):
        raise TypeError(
            "`model` must be functional, or sequential and built; in a subclassed one replace the layers "
            f"yourself and use `Store.from_keras`. Received: model '{model.name}' of {type(model)}"
        )


def _embeddings(model: keras.Model) -> dict[str, keras.layers.Embedding]:
    """The Embedding layers of a model and the models in it, by name."""
    found: dict[str, keras.layers.Embedding] = {}
    for layer in model.layers:
        inner = _embeddings(layer) if isinstance(layer, keras.Model) else {}
        if type(layer) is keras.layers.Embedding:
            inner = {layer.name: layer}
        for name, embedding in inner.items():
            if found.setdefault(name, embedding) is not embedding:
                raise ValueError(f"layers must have different names. Received: two Embeddings '{name}'")
    return found


def _embeddings_out_of_reach(model: keras.Model) -> list[str]:
    """Names of other layers that have a matrix as Keras's Embedding makes it."""
    names: list[str] = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            names += _embeddings_out_of_reach(layer)
        elif type(layer) is not keras.layers.Embedding:
            names += [layer.name for variable in layer.variables if variable.name == "embeddings"]
    return list(dict.fromkeys(names))


def _check_names(argument: str, given: Any, layers: Mapping[str, Any]) -> None:
    if not isinstance(given, Mapping):
        raise TypeError(f"`{argument}` must be a dict. Received: {argument}={given!r}")
    unknown = sorted(set(given) - set(layers))
    if unknown:
        raise ValueError(
            f"`{argument}` must have names of the Embedding layers {sorted(layers)}. Received: {unknown}"
        )


def _groups(store: Store, layers: Mapping[str, Any], given: Mapping[str, int]) -> dict[str, int]:
    """The group of each layer."""
    taken = set(store.stats()["groups"])
    for name, group in given.items():
        check_int(f"groups[{name!r}]", group, 0, 256)
        if group in taken:
            raise ValueError(
                "`groups` must be different groups that the store does not have. "
                f"Received: {group} for '{name}'"
            )
        taken.add(group)
    free = iter(sorted(set(range(256)) - taken))
    numbers = {name: given[name] if name in given else next(free, -1) for name in layers}
    if -1 in numbers.values():
        raise ValueError(
            f"the store must have a free group for each of {len(layers)} layers: it has {len(taken)}"
        )
    return numbers


def _keys(layer: keras.layers.Embedding, given: npt.ArrayLike | None) -> npt.NDArray[Any]:
    keys = as_keys(range(layer.input_dim) if given is None else given)
    if keys.shape != (layer.input_dim,):
        raise ValueError(
            f"`keys` must be one for each row of layer '{layer.name}', shape ({layer.input_dim},). "
            f"Received shape: {keys.shape}"
        )
    distinct, counts = np.unique(keys, return_counts=True)
    if len(distinct) < len(keys):
        raise ValueError(
            f"`keys` must be different for each row of layer '{layer.name}'. "
            f"Received several times: {distinct[counts > 1][0]}"
        )
    if layer.mask_zero and keys[0] != 0:
        raise ValueError(
            f"`keys` must begin with 0 for layer '{layer.name}', which has mask_zero=True: 0 is what is "
            f"masked. Received: {keys[0]}"
        )
    return keys


def _equivalent(layer: keras.layers.Embedding, store: Store, group: int, optimizer: Any) -> Embedding:
    """The layer that takes the place of one of Keras's."""
    for setting in ("embeddings_regularizer", "activity_regularizer", "embeddings_constraint"):
        if getattr(layer, setting, None) is not None:
            raise ValueError(
                f"layer '{layer.name}' must have no {setting}: rows have none. Set it to None, and see the "
                "`weight_decay` and clipping of row optimizers. "
                f"Received: {setting}={getattr(layer, setting)!r}"
            )
    return Embedding(
        layer.output_dim,
        store=store,
        group=group,
        initializer=initializers.get(layer.embeddings_initializer),
        optimizer=optimizer,
        padding_key=0 if layer.mask_zero else None,
        name=layer.name,
        dtype=layer.dtype_policy,
        trainable=layer.trainable,
    )


def _bring_all_but_padding(
    store: Store, group: int, layer: keras.layers.Embedding, keys: npt.NDArray[Any]
) -> None:
    matrix = matrix_of(layer)
    if matrix[0].any():
        warnings.warn(
            f"layer '{layer.name}' has mask_zero=True, and row 0 of its matrix is not zero: id 0 reads as "
            "zeros from now on. Layers that heed the mask predict the same, others do not.",
            stacklevel=3,
        )
    store.from_numpy(group, keys[1:], matrix[1:])


def _copy(model: keras.Model, replacements: Mapping[str, Embedding]) -> keras.Model:
    """A copy of a model, weights included, with other layers in the place of some."""
    copies: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        if type(layer) is keras.layers.Embedding:
            return replacements[layer.name]
        copied = type(layer).from_config(layer.get_config())
        copies.append((layer, copied))
        return copied

    converted = keras.models.clone_model(model, clone_function=copy, recursive=True)
    for layer, copied in copies:
        if isinstance(layer, keras.layers.Layer) and layer.weights:
            copied.set_weights(layer.get_weights())
    return converted
