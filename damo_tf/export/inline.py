# SPDX-License-Identifier: Apache-2.0
"""export_inline: a SavedModel for stock TensorFlow, with the rows inside."""

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from damo_tf._arguments import check_int
from damo_tf._bags import Feature
from damo_tf.dump_file import DumpedGroup, read_dump
from damo_tf.export.inline_tables import InlineTable
from damo_tf.export.plain_hash import hash_of
from damo_tf.export.saved_model import published, traced, write
from damo_tf.export.signature import ModelSignature, Tensors
from damo_tf.export.vectors import vectors_of
from damo_tf.layers import Embedding, FeatureHash
from damo_tf.layers.in_model import embeddings_of
from damo_tf.layers.substitution import substituted_ops
from damo_tf.store import Store


def export_inline(
    model: keras.Model,
    directory: str | os.PathLike[str],
    *,
    min_count: int = 0,
    input_signature: Any = None,
) -> None:
    """Writes a SavedModel that has the rows inside: ids in, predictions out.

    It needs nothing but TensorFlow: TensorFlow Serving, or `tf.saved_model.load` where damo_tf is not
    installed. Its signature `serving_default` takes the model's inputs and gives its outputs, by name. What
    an id reads as is what it reads as in the layer: its row, zeros if it is padding, else its initial value,
    computed in the graph, or zeros with `missing="zeros"` or in a group with a `min_count`. Ids may be dense,
    ragged or sparse, combined, and hashed by a `damo_tf.FeatureHash`, which is written in TensorFlow's ops.
    In the signature a ragged input is two tensors, `NAME_values` and `NAME_row_splits`, a sparse one three,
    `NAME_indices`, `NAME_values` and `NAME_dense_shape`.

    Each group that the model looks up is a static hash table, whose keys are a text file in `assets/`, and a
    matrix, a variable. The rows of a store are those of one moment. They take the memory of the matrix, here
    and where it is loaded. For tables that are too large for that: `export_dense`.

    Example:

    >>> damo_tf.export_inline(model, "exported", min_count=2)
    >>> loaded = tf.saved_model.load("exported")
    >>> loaded.signatures["serving_default"](ids=tf.constant([[7]], tf.int64))["score"].shape
    TensorShape([1, 1])

    Args:
        model: a built Keras model with `damo_tf.Embedding` layers.
        directory: path that does not exist, or is empty. It appears when all of it is written.
        min_count: integer >= 0. Rows with fewer updates are left out; their ids read as those without a row.
            Default 0: all rows.
        input_signature: what a subclassed model is called with: a `tf.TensorSpec` with a name, or a dict or
            list of such, ragged and sparse ones among them. Not needed for functional and sequential
            models. Default `None`.

    Raises:
        ValueError: an argument breaks its rule; the model has no `damo_tf.Embedding`, or something else in
            it needs damo_tf.
        TypeError: an argument is of the wrong type.
        FileExistsError: there is something in `directory`.
        OSError: `directory` cannot be written.
    """
    check_int("min_count", min_count, 0, 1 << 63)
    signature = ModelSignature(model, input_signature)
    with published(directory) as unfinished, tempfile.TemporaryDirectory(dir=unfinished.parent) as scratch:
        tables = _InlineTables(Path(scratch), min_count)
        tables.prepare(model)

        def serve(tensors: Tensors) -> Tensors:
            with substituted_ops(tables):
                return signature.call(tensors)

        function = traced(serve, signature.specs)
        tables.check_used(model)
        write(unfinished, model, {"serving_default": function}, tables.used())


class _InlineTables:
    """A substitute with the tables of the groups that a model turns out to look up."""

    def __init__(self, folder: Path, min_count: int) -> None:
        self._folder = folder
        self._min_count = min_count
        self._dumps: dict[str, dict[int, DumpedGroup]] = {}
        self._tables: dict[tuple[str, int], InlineTable] = {}
        self._used: dict[tuple[str, int], InlineTable] = {}

    def prepare(self, model: keras.Model) -> None:
        """Makes the tables of a model's layers: TensorFlow traces twice a function that makes variables."""
        for layer in embeddings_of(model):
            self._table(layer)

    def lookup(self, layer: Embedding, inputs: Any, features: list[Feature]) -> list[Any]:
        """What the layer's call returns, looked up in a table of plain TensorFlow."""
        with tf.init_scope():
            table = self._table(layer)
        self._used[_place(layer)] = table
        lookup = partial(table.lookup, padding_key=layer.padding_key, missing=layer.missing)
        return [vectors_of(feature, lookup, layer.padding_key) for feature in features]

    def hash(self, layer: FeatureHash, values: tf.Tensor) -> tf.Tensor:
        """What the layer's call returns."""
        return hash_of(layer, values)

    def check_used(self, model: keras.Model) -> None:
        """Raises ValueError if nothing has been looked up."""
        if not self._used:
            raise ValueError(f"`model` must have a damo_tf.Embedding. Received: model '{model.name}' without")

    def used(self) -> list[InlineTable]:
        """The tables in which something has been looked up."""
        return list(self._used.values())

    def _table(self, layer: Embedding) -> InlineTable:
        """The table of a layer's group, made when it is first asked for."""
        place = _place(layer)
        if place not in self._tables:
            self._tables[place] = InlineTable(
                self._rows(layer.store)[layer.group],
                self._folder / f"keys_{len(self._tables)}_of_group_{layer.group}.txt",
                seed=layer.store.options["seed"],
                group=layer.group,
                config=layer.store.storage.group_config(layer.group),
            )
        return self._tables[place]

    def _rows(self, store: Store) -> dict[int, DumpedGroup]:
        """All rows of a store, as of when it was first met."""
        if store.directory not in self._dumps:
            dump = self._folder / f"{len(self._dumps)}.dump"
            store.dump(dump, min_count=self._min_count)
            self._dumps[store.directory] = read_dump(dump, verify=False)
        return self._dumps[store.directory]


def _place(layer: Embedding) -> tuple[str, int]:
    """Where the rows of a layer are: store and group."""
    return layer.store.directory, layer.group
