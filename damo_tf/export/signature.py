# SPDX-License-Identifier: Apache-2.0
"""Models as functions from named tensors to named tensors, which is what a SavedModel's signature is."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

Tensors = dict[str, tf.Tensor]


class ModelSignature:
    """How a model is called with named dense tensors, and what it returns under which names.

    Inputs have the names of the model's `keras.Input`s. A ragged one is two tensors, `NAME_values` and
    `NAME_row_splits`; a sparse one three, `NAME_indices`, `NAME_values` and `NAME_dense_shape`.

    Args:
        model: a Keras model.
        input_signature: what a subclassed model is called with: a `tf.TensorSpec` with a name, or a dict or
            list of such. `None`: the inputs of a functional or sequential model.

    Raises:
        TypeError: `model` is no Keras model, or `input_signature` not of that kind.
        ValueError: the inputs are not known, or two of them have one name.
    """

    def __init__(self, model: keras.Model, input_signature: Any = None) -> None:
        if not isinstance(model, keras.Model):
            raise TypeError(f"`model` must be a keras.Model. Received: {model!r} of {type(model)}")
        self._model = model
        if input_signature is None:
            inputs = _inputs(model)
            names = [tensor.name for tensor in keras.tree.flatten(inputs)]
            self._structure = keras.tree.map_structure(_spec_of_input, inputs)
        else:
            names = _names_of_leaves(input_signature)
            self._structure = input_signature
        self.specs = self._flat_specs(names)
        self.composites = self._describe_composites(names)

    def call(self, tensors: Tensors) -> Tensors:
        """What the model predicts, in the order of its outputs."""
        flat = [tensors[name] for name in self.specs]
        inputs = tf.nest.pack_sequence_as(self._structure, flat, expand_composites=True)
        return _named_outputs(self._model, self._model(inputs, training=False))

    def _describe_composites(self, names: list[str]) -> dict[str, Any]:
        """Of each ragged or sparse input how it is given: as the values of JSON."""
        return {
            name: {
                "kind": "sparse" if isinstance(spec, tf.SparseTensorSpec) else "ragged",
                "dtype": spec.dtype.name,
                "tensors": [name + suffix for suffix in suffixes],
            }
            for name, spec in zip(names, tf.nest.flatten(self._structure), strict=True)
            if (suffixes := _suffixes(spec)) != [""]
        }

    def _flat_specs(self, names: list[str]) -> dict[str, tf.TensorSpec]:
        specs: dict[str, tf.TensorSpec] = {}
        for name, spec in zip(names, tf.nest.flatten(self._structure), strict=True):
            for suffix, part in zip(_suffixes(spec), _components(spec), strict=True):
                full = name + suffix
                if full in specs:
                    raise ValueError(f"inputs must have different names. Received: '{full}' twice")
                specs[full] = tf.TensorSpec(part.shape, part.dtype, full)
        return specs


class UniqueNames:
    """Hands out names, each once; one that is asked for again gets a number."""

    def __init__(self, taken: Any = ()) -> None:
        self._taken = set(taken)

    def take(self, wanted: str, suffixes: Iterable[str] = ("",)) -> str:
        """`wanted`, or `wanted_1` and so on, so that the names with all of `suffixes` are free and taken."""
        name = wanted
        number = 0
        while any(name + suffix in self._taken for suffix in suffixes):
            number += 1
            name = f"{wanted}_{number}"
        self._taken.update(name + suffix for suffix in suffixes)
        return name


def _inputs(model: keras.Model) -> Any:
    """The `keras.KerasTensor`s that a model was made from, in the structure that it takes."""
    if not getattr(model, "inputs", None):
        raise ValueError(
            "`input_signature` must be given for a subclassed model, or a sequential one that is not built: "
            "a `tf.TensorSpec` with a name, or a dict or list of them, as the model is called with. "
            f"Received: model '{model.name}' of {type(model)}"
        )
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _spec_of_input(tensor: keras.KerasTensor) -> tf.TypeSpec:
    if tensor.sparse:
        return tf.SparseTensorSpec(tensor.shape, tensor.dtype)
    if tensor.ragged:
        return tf.RaggedTensorSpec(tensor.shape, tensor.dtype)
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def _names_of_leaves(structure: Any) -> list[str]:
    """Of each spec the keys and numbers that lead to it, or its own name if it is alone."""
    names = []
    for path, spec in keras.tree.flatten_with_path(structure):
        if not isinstance(spec, tf.TypeSpec):
            raise TypeError(
                "`input_signature` must be a tf.TensorSpec, or a dict or list of them. "
                f"Received: {spec!r} of {type(spec)}"
            )
        own = getattr(spec, "name", None)
        names.append(own or "_".join(map(str, path)) or "inputs")
    return names


def _suffixes(spec: tf.TypeSpec) -> list[str]:
    """What the names of a tensor's components end with."""
    if isinstance(spec, tf.SparseTensorSpec):
        return ["_indices", "_values", "_dense_shape"]
    if isinstance(spec, tf.RaggedTensorSpec):
        splits = ["_row_splits", *(f"_row_splits_{i}" for i in range(1, spec.ragged_rank))]
        return ["_values", *splits[: spec.ragged_rank]]
    return [""]


def _components(spec: tf.TypeSpec) -> list[tf.TensorSpec]:
    components: list[tf.TensorSpec] = tf.nest.flatten(spec, expand_composites=True)
    return components


def _named_outputs(model: keras.Model, outputs: Any) -> Tensors:
    """Outputs by name: the keys of a dict, or the names of the layers that make them."""
    flat = tf.nest.flatten(outputs)
    names = getattr(model, "output_names", None)
    if isinstance(outputs, dict):
        names = ["_".join(map(str, path)) for path, _ in keras.tree.flatten_with_path(outputs)]
    elif names is None or len(names) != len(flat):
        names = ["output"] if len(flat) == 1 else [f"output_{i}" for i in range(len(flat))]
    unique = UniqueNames()
    return {unique.take(name): tf.identity(output) for name, output in zip(names, flat, strict=True)}
