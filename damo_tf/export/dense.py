# SPDX-License-Identifier: Apache-2.0
"""export_dense: the dense part of a model for plain TensorFlow, its rows in a file beside it."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from damo_tf.export.saved_model import Function, published, traced, write
from damo_tf.export.signature import ModelSignature, Tensors, UniqueNames
from damo_tf.layers import Embedding
from damo_tf.layers.substitution import check_one_vector_per_id, substituted_lookups
from damo_tf.store import Store

#: The file that says which ids belong to which input; docs/serving.md has its members.
DESCRIPTION = "embeddings.json"
_FORMAT = 1


def export_dense(
    model: keras.Model, directory: str | os.PathLike[str], *, input_signature: Any = None
) -> None:
    """Writes the dense part of a model as a SavedModel, and the rows beside it.

    The SavedModel needs nothing but TensorFlow. In its signature `serving_default` each output of an
    Embedding layer is a float32 input: named after the layer, with the feature's name or number where the
    layer takes several, and a number where it is called again. Inputs of the model that are more than ids, or
    no ids, are inputs there, too. Where ids are computed from the inputs in the model, the signature `ids`
    computes them.

    Beside it lie `embeddings.json`, which says for each of these inputs whose rows it takes and how ids
    without a row read, and a dump of the rows of each store, `rows.dump`. docs/serving.md shows how to serve
    from them where there is no damo_tf; `damo_tf.Predictor` does it where there is.

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
            list of them. Not needed for functional and sequential models. Default `None`.

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
    """One feature of one call of an Embedding layer: ids in, vectors out."""

    layer: Embedding
    name: str
    ids: tf.Tensor
    vectors: tf.Tensor


@dataclass
class _Recorder:
    """Puts a placeholder in the place of each lookup, and remembers both ends."""

    names: UniqueNames
    lookups: list[_Lookup] = field(default_factory=list)

    def substitute(self, layer: Embedding, inputs: Any) -> Any:
        outputs = [self._feed(layer, path, ids) for path, ids in keras.tree.flatten_with_path(inputs)]
        return tf.nest.pack_sequence_as(inputs, outputs)

    def _feed(self, layer: Embedding, path: tuple[Any, ...], ids: Any) -> tf.Tensor:
        ids = tf.convert_to_tensor(ids)
        name = self.names.take("_".join([layer.name, *map(str, path)]))
        check_one_vector_per_id(layer, ids)
        vectors = tf.compat.v1.placeholder(tf.float32, ids.shape.concatenate([layer.dim]), name)
        self.lookups.append(_Lookup(layer, name, ids, vectors))
        return tf.cast(vectors, layer.compute_dtype)


class _Parts:
    """A model's graph, cut at its lookups: what computes the ids, and what comes after the vectors."""

    def __init__(self, signature: ModelSignature) -> None:
        recorder = _Recorder(UniqueNames(signature.specs))
        inputs: Tensors = {}

        def run(*tensors: tf.Tensor) -> Tensors:
            inputs.update(zip(signature.specs, tensors, strict=True))
            with substituted_lookups(recorder.substitute):
                return signature.call(inputs)

        self._graph = tf.compat.v1.wrap_function(run, list(signature.specs.values()))
        self._inputs = inputs
        self._outputs: Tensors = self._graph.structured_outputs
        self.lookups = recorder.lookups
        self._directories = list(dict.fromkeys(lookup.layer.store.directory for lookup in self.lookups))
        self._check_ids()

    def dense(self) -> tuple[Function, dict[str, tf.TensorSpec]]:
        """What comes after the vectors, and its inputs."""
        vectors = {lookup.name: lookup.vectors for lookup in self.lookups}
        return self._part(vectors | self._needed_by(self._outputs), self._outputs)

    def ids(self) -> tuple[Function, dict[str, tf.TensorSpec]]:
        """What computes ids, under the names of the vectors that belong to them, and its inputs."""
        ids = {lookup.name: lookup.ids for lookup in self.lookups if self._field(lookup) is None}
        return self._part(self._needed_by(ids), ids)

    def has_computed_ids(self) -> bool:
        """Whether the ids of any lookup are not simply an input."""
        return any(self._field(lookup) is None for lookup in self.lookups)

    def dumps(self) -> dict[str, Store]:
        """The stores of the layers, each with the name of its dump."""
        stores = {lookup.layer.store.directory: lookup.layer.store for lookup in self.lookups}
        return {_dump_name(i): stores[directory] for i, directory in enumerate(self._directories)}

    def description(self) -> dict[str, Any]:
        """What is written as `embeddings.json`."""
        return {
            "format": _FORMAT,
            "stores": [{"rows": name, "seed": store.options["seed"]} for name, store in self.dumps().items()],
            "embeddings": [self._describe(lookup) for lookup in self.lookups],
            "other_inputs": list(self._needed_by(self._outputs)),
            "outputs": list(self._outputs),
        }

    def _describe(self, lookup: _Lookup) -> dict[str, Any]:
        layer = lookup.layer
        config = layer.store.storage.group_config(layer.group)
        return {
            "input": lookup.name,
            "shape": lookup.vectors.shape.as_list(),
            "field": self._field(lookup),
            "store": self._directories.index(layer.store.directory),
            "group": layer.group,
            "dim": layer.dim,
            "padding_key": layer.padding_key,
            # Where ids are admitted by their count, those without a row read as zeros whatever it says.
            "missing": "zeros" if config["min_count"] else layer.missing,
            "initializer": dict(config["initializer"]),
        }

    def _field(self, lookup: _Lookup) -> str | None:
        """The input of the model that ids are, if they are one."""
        tensor = lookup.ids
        while tensor.op.type == "Identity":
            tensor = tensor.op.inputs[0]
        return next((name for name, given in self._inputs.items() if given is tensor), None)

    def _check_ids(self) -> None:
        for lookup in self.lookups:
            above = {operation.name for operation in _operations_above([lookup.ids])}
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


def _dump_name(number: int) -> str:
    return f"rows_{number}.dump" if number else "rows.dump"
