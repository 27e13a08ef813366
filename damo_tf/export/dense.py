# SPDX-License-Identifier: Apache-2.0
"""export_dense: the dense part of a model for plain TensorFlow, its rows in a file beside it."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from damo_tf._bags import Feature, in_place
from damo_tf._ids import flat_values
from damo_tf.export.plain_hash import hash_of
from damo_tf.export.saved_model import Function, published, traced, write
from damo_tf.export.signature import ModelSignature, Tensors, UniqueNames
from damo_tf.layers import Embedding, FeatureHash
from damo_tf.layers.substitution import substituted_ops
from damo_tf.store import Store

#: The file that says which ids belong to which input; docs/serving.md has its members.
DESCRIPTION = "embeddings.json"
FORMAT = 2


def export_dense(
    model: keras.Model, directory: str | os.PathLike[str], *, input_signature: Any = None
) -> None:
    """Writes the dense part of a model as a SavedModel, and the rows beside it.

    The SavedModel needs nothing but TensorFlow. In its signature `serving_default` each output of an
    Embedding layer is a float32 input: named after the layer, with the feature's name or number where the
    layer takes several, and a number where it is called again. It is what the layer makes of ids: combined
    vectors, where it has a combiner; of ragged ids without one the vectors of their values. Inputs of the
    model that are more than ids, or no ids, are inputs there, too. Where ids, or weights, are computed from
    the inputs in the model, the signature `ids` computes them.

    Beside it lie `embeddings.json`, which says for each of these inputs whose rows it takes, how values are
    hashed, what is combined how, and how ids without a row read, and a dump of the rows of each store,
    `rows.dump`. docs/serving.md shows how to serve from them where there is no damo_tf; `damo_tf.Predictor`
    does it where there is.

    Example:

    >>> damo_tf.export_dense(model, "exported")
    >>> loaded = tf.saved_model.load("exported")
    >>> vectors = store.lookup(9, [[7]])  # of the ids of one example, for the layer "rows"
    >>> loaded.signatures["serving_default"](rows=vectors)["score"].shape
    TensorShape([1, 1])

    Args:
        model: a built Keras model with `damo_tf.Embedding` layers.
        directory: path that does not exist, or is empty. It appears when all of it is written.
        input_signature: what a subclassed model is called with: a `tf.TensorSpec` with a name, or a dict or
            list of such, ragged and sparse ones among them. Not needed for functional and sequential
            models. Default `None`.

    Raises:
        ValueError: an argument breaks its rule; the model has no `damo_tf.Embedding`, or something else in
            it needs damo_tf; ids of a layer depend on what another has looked up.
        TypeError: an argument is of the wrong type.
        FileExistsError: there is something in `directory`.
        OSError: `directory` cannot be written.
    """
    parts = _Parts(ModelSignature(model, input_signature))
    if not parts.lookups:
        raise ValueError(f"`model` must have a damo_tf.Embedding. Received: model '{model.name}' without")
    with published(directory) as unfinished:
        signatures = {"serving_default": traced(*parts.dense())}
        if parts.has_computed_ids():
            signatures["ids"] = traced(*parts.ids())
        write(unfinished, model, signatures)
        for name, store in parts.dumps().items():
            store.dump(unfinished / name)
        (unfinished / DESCRIPTION).write_text(json.dumps(parts.description(), indent=1), "utf-8")


@dataclass
class _Lookup:
    """One feature of one call of an Embedding layer: ids in, vectors out.

    layer: the layer.
    name: of the dense part's input.
    feature: what is looked up.
    vectors: the placeholder in the place of the output or, where that is ragged, of its flat values.
    """

    layer: Embedding
    name: str
    feature: Feature
    vectors: tf.Tensor

    def tensors(self) -> Tensors:
        """What the vectors are made from, by the name that each has if it is computed in the model."""
        return {self.name + suffix: tensor for suffix, tensor in _tensors_of(self.feature).items()}


@dataclass
class _Recorder:
    """A substitute that puts a placeholder in the place of each lookup, and remembers both ends.

    names: of the model's inputs.
    lookups: those that were done.
    hashes: of each dense tensor of ids that a layer hashed the layer, and the values.
    """

    names: UniqueNames
    lookups: list[_Lookup] = field(default_factory=list)
    hashes: dict[Any, tuple[FeatureHash, tf.Tensor]] = field(default_factory=dict)

    def lookup(self, layer: Embedding, inputs: Any, features: list[Feature]) -> list[Any]:
        """Placeholders, in the layout of what the layer's call returns."""
        paths = [path for path, _ in keras.tree.flatten_with_path(inputs)]
        return [self._feed(layer, path, feature) for path, feature in zip(paths, features, strict=True)]

    def hash(self, layer: FeatureHash, values: tf.Tensor) -> tf.Tensor:
        """What the layer's call returns."""
        ids = hash_of(layer, values)
        self.hashes[ids.ref()] = (layer, values)
        return ids

    def _feed(self, layer: Embedding, path: tuple[Any, ...], feature: Feature) -> Any:
        name = self.names.take("_".join([layer.name, *map(str, path)]), _tensors_of(feature))
        shape, laid_out = in_place(feature)
        vectors = tf.compat.v1.placeholder(tf.float32, shape.concatenate([layer.dim]), name)
        self.lookups.append(_Lookup(layer, name, feature, vectors))
        return laid_out(vectors)


class _Parts:
    """A model's graph, cut at its lookups: what computes the ids, and what comes after the vectors."""

    def __init__(self, signature: ModelSignature) -> None:
        recorder = _Recorder(UniqueNames(signature.specs))
        inputs: Tensors = {}

        def run(*tensors: tf.Tensor) -> Tensors:
            inputs.update(zip(signature.specs, tensors, strict=True))
            with substituted_ops(recorder):
                return signature.call(inputs)

        self._graph = tf.compat.v1.wrap_function(run, list(signature.specs.values()))
        self._inputs = inputs
        self._outputs: Tensors = self._graph.structured_outputs
        self.lookups = recorder.lookups
        self._hashes = recorder.hashes
        self._composites = signature.composites
        self._directories = list(dict.fromkeys(lookup.layer.store.directory for lookup in self.lookups))
        self._check_ids()

    def dense(self) -> tuple[Function, dict[str, tf.TensorSpec]]:
        """What comes after the vectors, and its inputs."""
        vectors = {lookup.name: lookup.vectors for lookup in self.lookups}
        return self._part(vectors | self._needed_by(self._outputs), self._outputs)

    def ids(self) -> tuple[Function, dict[str, tf.TensorSpec]]:
        """What computes ids and what belongs to them, and its inputs."""
        computed = self._computed()
        return self._part(self._needed_by(computed), computed)

    def has_computed_ids(self) -> bool:
        """Whether any lookup needs something that is not simply an input."""
        return bool(self._computed())

    def dumps(self) -> dict[str, Store]:
        """The stores of the layers, each with the name of its dump."""
        stores = {lookup.layer.store.directory: lookup.layer.store for lookup in self.lookups}
        return {_dump_name(i): stores[directory] for i, directory in enumerate(self._directories)}

    def description(self) -> dict[str, Any]:
        """What is written as `embeddings.json`."""
        return {
            "format": FORMAT,
            "stores": [{"rows": name, "seed": store.options["seed"]} for name, store in self.dumps().items()],
            "embeddings": [self._describe(lookup) for lookup in self.lookups],
            "composite_inputs": self._composites,
            "other_inputs": list(self._needed_by(self._outputs)),
            "outputs": list(self._outputs),
        }

    def _describe(self, lookup: _Lookup) -> dict[str, Any]:
        layer = lookup.layer
        config = layer.store.storage.group_config(layer.group)
        return {
            "input": lookup.name,
            "shape": lookup.vectors.shape.as_list(),
            **self._describe_feature(lookup),
            "store": self._directories.index(layer.store.directory),
            "group": layer.group,
            "dim": layer.dim,
            "padding_key": layer.padding_key,
            # Where ids are admitted by their count, those without a row read as zeros whatever it says.
            "missing": "zeros" if config["min_count"] else layer.missing,
            "initializer": dict(config["initializer"]),
        }

    def _describe_feature(self, lookup: _Lookup) -> dict[str, Any]:
        feature, hashed = lookup.feature, self._hash_of(lookup)
        names = {name: self._input(tensor) or name for name, tensor in lookup.tensors().items()}
        field = self._input(flat_values(feature.ids)) if hashed is None else self._input(hashed[1])
        weights = None
        if feature.weights is not None:
            prefix = f"{lookup.name}_weights"
            weights = {"values": names[prefix], **_layout(feature.weights, names, prefix)}
        return {
            "field": field,
            **_layout(feature.ids, names, lookup.name),
            "hash": None if hashed is None else _describe_hash(hashed[0]),
            "combiner": feature.combiner,
            "weights": weights,
            "mask": names.get(f"{lookup.name}_mask"),
        }

    def _computed(self) -> Tensors:
        """What lookups need that the model computes, by name."""
        computed: Tensors = {}
        for lookup in self.lookups:
            tensors = lookup.tensors()
            if self._hash_of(lookup) is not None:
                del tensors[lookup.name]
            computed |= {name: t for name, t in tensors.items() if self._input(t) is None}
        return computed

    def _hash_of(self, lookup: _Lookup) -> tuple[FeatureHash, tf.Tensor] | None:
        """The layer that hashes an input of the model to the ids, and that input, if it is so."""
        layer_and_values = self._hashes.get(_origin(flat_values(lookup.feature.ids)).ref())
        if layer_and_values is None or self._input(layer_and_values[1]) is None:
            return None
        return layer_and_values

    def _input(self, tensor: tf.Tensor) -> str | None:
        """The input of the model that a tensor is, if it is one."""
        origin = _origin(tensor)
        return next((name for name, given in self._inputs.items() if given is origin), None)

    def _check_ids(self) -> None:
        for lookup in self.lookups:
            above = {operation.name for operation in _operations_above(lookup.tensors().values())}
            fed = [other.name for other in self.lookups if other.vectors.op.name in above]
            if fed:
                raise ValueError(
                    f"the ids of layer '{lookup.layer.name}' must not depend on what another looked up. "
                    f"Received: ids computed from '{fed[0]}'; export the two parts as models of their own"
                )

    def _needed_by(self, outputs: Tensors) -> Tensors:
        """The inputs of the model that some of `outputs` depend on; not by way of a lookup."""
        above = {operation.name for operation in _operations_above(outputs.values())}
        return {name: tensor for name, tensor in self._inputs.items() if tensor.op.name in above}

    def _part(self, inputs: Tensors, outputs: Tensors) -> tuple[Function, dict[str, tf.TensorSpec]]:
        """The function between tensors of the graph."""
        pruned = self._graph.prune(list(inputs.values()), list(outputs.values()))

        def run(tensors: Tensors) -> Tensors:
            return dict(zip(outputs, pruned(*(tensors[name] for name in inputs)), strict=True))

        return run, {name: tf.TensorSpec(t.shape, t.dtype, name) for name, t in inputs.items()}


def _operations_above(tensors: Iterable[tf.Tensor]) -> Iterator[tf.Operation]:
    """The operations that tensors are computed by, and those that these depend on."""
    seen: set[str] = set()
    waiting = [tensor.op for tensor in tensors]
    while waiting:
        operation = waiting.pop()
        if operation.name not in seen:
            seen.add(operation.name)
            yield operation
            waiting += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]


def _origin(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor that another merely repeats, as it is or as integers of another width."""
    while tensor.op.type in ("Identity", "Cast"):
        given = tensor.op.inputs[0]
        if tensor.op.type == "Cast" and not (given.dtype.is_integer and tensor.dtype.is_integer):
            break
        tensor = given
    return tensor


def _tensors_of(feature: Feature) -> Tensors:
    """What vectors of a feature are made from, by what the names of these tensors end with."""
    tensors = _parts_of(feature.ids)
    if feature.weights is not None:
        tensors |= {f"_weights{suffix}": part for suffix, part in _parts_of(feature.weights).items()}
    if feature.combiner is not None and feature.mask is not None:
        tensors["_mask"] = feature.mask
    return tensors


def _parts_of(ids: Any) -> Tensors:
    """The tensors that ids or weights consist of, by what their names end with."""
    if isinstance(ids, tf.SparseTensor):
        return {"": ids.values, "_indices": ids.indices, "_dense_shape": ids.dense_shape}
    if isinstance(ids, tf.RaggedTensor):
        splits = {_splits_suffix(i): part for i, part in enumerate(ids.nested_row_splits)}
        return {"": ids.flat_values, **splits}
    return {"": tf.convert_to_tensor(ids)}


def _layout(ids: Any, names: dict[str, str], prefix: str) -> dict[str, Any]:
    """How ids or weights are laid out: the names of the tensors that say so."""
    is_sparse = isinstance(ids, tf.SparseTensor)
    ragged_rank = ids.ragged_rank if isinstance(ids, tf.RaggedTensor) else 0
    return {
        "row_splits": [names[prefix + _splits_suffix(i)] for i in range(ragged_rank)],
        "indices": names[f"{prefix}_indices"] if is_sparse else None,
        "dense_shape": names[f"{prefix}_dense_shape"] if is_sparse else None,
    }


def _splits_suffix(number: int) -> str:
    return f"_row_splits_{number}" if number else "_row_splits"


def _describe_hash(layer: FeatureHash) -> dict[str, Any]:
    return {
        "field": layer.field,
        "padding_value": layer.padding_value,
        "padding_key": layer.padding_key,
    }


def _dump_name(number: int) -> str:
    return f"rows_{number}.dump" if number else "rows.dump"
