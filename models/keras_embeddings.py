# SPDX-License-Identifier: Apache-2.0
"""`keras.layers.Embedding` in the place of `damo_tf.Embedding`, to compare models on either."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import damo_tf
from models import data
from models.data import batches

BATCH_SIZE = 4096


class _Rows(keras.layers.Layer):
    """What both layers here have in common: they take ids as `damo_tf.Embedding` does."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def call(self, inputs: Any) -> Any:
        """Looks up the vectors."""
        return tf.nest.map_structure(self._rows_in_place, inputs)

    def _rows_in_place(self, ids: Any) -> Any:
        if isinstance(ids, tf.RaggedTensor):
            return ids.with_flat_values(self._rows(ids.flat_values))
        return self._rows(ids)


class _Recorder(_Rows):
    """Calls `record(group, ids)` and returns zeros."""

    def __init__(self, dim: int, *, group: int, record: Callable[[int, tf.Tensor], None], **_: Any) -> None:
        super().__init__(dim)
        self._record = functools.partial(record, group)

    def _rows(self, ids: tf.Tensor) -> tf.Tensor:
        self._record(ids)
        return tf.zeros((*ids.shape, self.dim))


def on_vocabularies(
    make_model: Callable[..., keras.Model], examples: data.Examples
) -> Callable[..., VocabularyEmbedding]:
    """The `embedding` of a `FeatureModel` that is to be on `keras.layers.Embedding`.

    Args:
        make_model: makes the model, given `embedding`.
        examples: all that it will see: what it looks up for them are the vocabularies.
    """
    seen: dict[int, NDArray[np.int64]] = {}

    def record(group: int, ids: tf.Tensor) -> None:
        seen[group] = np.union1d(seen.get(group, np.array([], np.int64)), ids)

    model = make_model(embedding=functools.partial(_Recorder, record=record))
    for inputs, _ in batches.in_order(examples, BATCH_SIZE):
        model.call(inputs)
    return functools.partial(VocabularyEmbedding, vocabularies=seen)


class VocabularyEmbedding(_Rows):
    """What Keras itself has for ids: a vocabulary, fixed beforehand, and a `keras.layers.Embedding`.

    Args:
        dim: width of the vectors.
        group: which vocabulary.
        initializer: of the vectors, one of `damo_tf.initializers`: Keras has the same.
        vocabularies: int64 `[ids]` of each group, all that will ever be looked up.

    Call arguments:
        inputs: int64 ids, dense or ragged, or a dict or list of such; `data.PADDING` reads as zeros.

    Output shape:
        That of `inputs` with `dim` appended.
    """

    def __init__(
        self,
        dim: int,
        *,
        group: int,
        initializer: damo_tf.initializers.Initializer,
        vocabularies: dict[int, NDArray[np.int64]],
        **_: Any,
    ) -> None:
        super().__init__(dim)
        ids = vocabularies[group]
        self.lookup = keras.layers.IntegerLookup(
            vocabulary=ids[ids != data.PADDING],
            num_oov_indices=0,
            mask_token=data.PADDING,
            vocabulary_dtype="int64",
        )
        make_initializer = getattr(keras.initializers, type(initializer).__name__)
        self.table = keras.layers.Embedding(
            self.lookup.vocabulary_size(),
            dim,
            embeddings_initializer=make_initializer(**initializer.get_config()),
        )

    def build(self, input_shape: Any) -> None:
        """Makes the table."""
        self.table.build()

    def _rows(self, ids: tf.Tensor) -> tf.Tensor:
        indices = self.lookup(ids)
        return self.table(indices) * tf.cast(tf.not_equal(indices, 0), tf.float32)[..., tf.newaxis]
