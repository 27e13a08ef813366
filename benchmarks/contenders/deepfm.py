# SPDX-License-Identifier: Apache-2.0
"""The model of `models.deepfm` in `fit`, its embeddings in damo_tf, in Keras, or left out altogether."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import damo_tf
from benchmarks.contenders import LEARNING_RATE, Settings
from benchmarks.ids import scatter
from models.data import Field
from models.deepfm import DeepFM

HIDDEN = (256, 128)
PREFILL_BATCH = 1 << 16


class NoEmbedding(keras.layers.Layer):
    """Stands where embeddings would be looked up: equal vectors for all ids, at no cost.

    A variable value has a gradient: the model then computes those of all vectors, as it does for embeddings.
    """

    def __init__(self, dim: int, *, trainable: bool) -> None:
        super().__init__()
        self.dim = dim
        self._value = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(0.01), trainable=trainable
        )

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """A tensor of the right shape."""
        return tf.fill(tf.concat([tf.shape(ids), [self.dim]], axis=0), tf.convert_to_tensor(self._value))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's with `dim` appended."""
        return (*input_shape, self.dim)


class KerasEmbedding(keras.layers.Embedding):
    """A stock embedding that knows its width as `dim`."""

    @property
    def dim(self) -> int:
        """Width of a vector."""
        width: int = self.output_dim
        return width


class DeepFmFit:
    """A compiled model and its store."""

    def __init__(self, settings: Settings) -> None:
        self._scatter = settings.embedding == "damo_tf"
        self._store = damo_tf.Store(settings.directory, memory_budget=settings.memory_budget)
        fields = [Field(f"C{number}") for number in range(settings.fields)]
        self._model = DeepFM(
            fields, store=self._store, dim=settings.dim, hidden=HIDDEN, learning_rate=LEARNING_RATE
        )
        if settings.embedding == "keras":
            self._model.feature_weights = KerasEmbedding(settings.rows, 1)
            self._model.feature_vectors = KerasEmbedding(settings.rows, settings.dim)
        elif settings.embedding in ("none", "gradients"):
            trainable = settings.embedding == "gradients"
            self._model.feature_weights = NoEmbedding(1, trainable=trainable)
            self._model.feature_vectors = NoEmbedding(settings.dim, trainable=trainable)
        self._model.compile(keras.optimizers.Adam(LEARNING_RATE), "binary_crossentropy")
        self._model.build((None, settings.fields))

    def prefill(self, first: int, last: int) -> None:
        """Brings rows into memory; `damo_module` has made them, which it does sooner."""
        for begin in range(first, last, PREFILL_BATCH):
            ids = tf.constant(scatter(np.arange(begin, min(begin + PREFILL_BATCH, last))))
            self._model.feature_weights(ids, training=True)
            self._model.feature_vectors(ids, training=True)

    def prepare(self, batches: NDArray[np.int64]) -> Any:
        """A dataset of `[batch, fields]` ids with labels."""
        ids = scatter(batches) if self._scatter else batches
        labels = (batches[..., :1] % 3 == 0).astype(np.float32)
        # Without autotuning, whose thread looks in after 10, 20, 40, ... ms; an epoch ends when it has. Turns
        # of a second and a bit would all take 1.28 s or 2.56 s.
        options = tf.data.Options()
        options.autotune.enabled = False
        return tf.data.Dataset.from_tensor_slices((ids, labels)).prefetch(2).with_options(options)

    def run(self, prepared: Any) -> None:
        """Fits one epoch."""
        self._model.fit(prepared, epochs=1, shuffle=False, verbose=0)

    def settle(self) -> None:
        """Flushes the store."""
        self._store.flush()

    def figures(self) -> dict[str, float]:
        """Rows in the store."""
        return {"rows": float(self._store.size())}

    def close(self) -> None:
        """Closes the store."""
        self._store.close()


def make(settings: Settings) -> DeepFmFit:
    """Builds the model."""
    return DeepFmFit(settings)
