# SPDX-License-Identifier: Apache-2.0
"""Tables of rows in plain TensorFlow: a static hash table from key to place, and a matrix."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from damo_tf.dump_file import DumpedGroup
from damo_tf.export.initial_values import initial_values
from damo_tf.export.vectors import is_padding

#: Rows that are copied at a time.
_BYTES_PER_PART = 1 << 24


class InlineTable(tf.Module):
    """The rows of a group, with what keys without a row read as.

    Keys lie in a text file, an asset of the SavedModel; rows in a variable, whose last one is zeros. Neither
    is a constant of the graph, which must not be larger than 2 GB.

    Args:
        rows: keys and weights, read in parts.
        keys_file: a path to write the keys to. The file must stand until the SavedModel is written.
        seed: of the store.
        group: number of the group.
        config: of the group, as the engine has it.
    """

    def __init__(
        self, rows: DumpedGroup, keys_file: Path, *, seed: int, group: int, config: dict[str, Any]
    ) -> None:
        super().__init__()
        self._seed = seed
        self._group = group
        self._dim = int(config["dim"])
        self._initializer = dict(config["initializer"])
        self._has_initial_values = not config["min_count"] and self._initializer["name"] != "zeros"
        self._num_rows = len(rows.keys)
        self._matrix = tf.Variable(tf.zeros([self._num_rows + 1, self._dim]), trainable=False)
        self._places = self._copy(rows, keys_file)

    def lookup(self, keys: tf.Tensor, *, padding_key: int | None, missing: str) -> tf.Tensor:
        """The weights of keys, as the engine's lookup has them.

        Args:
            keys: int64 or uint64, any shape.
            padding_key: a key that reads as zeros.
            missing: what a key without a row reads as, `"initial"` or `"zeros"`.

        Returns:
            float32, `keys.shape + [dim]`.
        """
        bits = tf.bitcast(keys, tf.int64) if keys.dtype == tf.uint64 else keys
        flat = tf.reshape(bits, [-1])
        places = self._place_of(flat)
        absent = tf.equal(places, self._num_rows)
        if padding_key is not None:
            padding = is_padding(flat, padding_key)
            places = tf.where(padding, tf.constant(self._num_rows, tf.int64), places)
            absent = tf.logical_and(absent, tf.logical_not(padding))
        weights = tf.gather(self._matrix, places)
        if missing == "initial" and self._has_initial_values:
            weights = self._with_initial_values(weights, flat, tf.where(absent))
        return tf.ensure_shape(
            tf.reshape(weights, tf.concat([tf.shape(keys), [self._dim]], axis=0)),
            keys.shape.concatenate([self._dim]),
        )

    def _copy(self, rows: DumpedGroup, keys_file: Path) -> tf.lookup.StaticHashTable | None:
        step = max(_BYTES_PER_PART // (4 * self._dim), 1)
        with keys_file.open("w", encoding="ascii") as file:
            for begin in range(0, self._num_rows, step):
                part = slice(begin, min(begin + step, self._num_rows))
                self._matrix[part].assign(np.ascontiguousarray(rows.weights[part]))
                keys = np.ascontiguousarray(rows.keys[part]).view(np.int64)
                file.writelines(f"{key}\n" for key in keys.tolist())
        if not self._num_rows:
            return None  # a file without lines makes no table
        initializer = tf.lookup.TextFileInitializer(
            str(keys_file),
            key_dtype=tf.int64,
            key_index=0,
            value_dtype=tf.int64,
            value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
            vocab_size=self._num_rows,
        )
        return tf.lookup.StaticHashTable(initializer, default_value=self._num_rows)

    def _place_of(self, keys: tf.Tensor) -> tf.Tensor:
        if self._places is None:
            return tf.zeros_like(keys)
        return self._places.lookup(keys)

    def _with_initial_values(self, weights: tf.Tensor, keys: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        values = initial_values(
            tf.gather_nd(keys, positions),
            seed=self._seed,
            group=self._group,
            dim=self._dim,
            initializer=self._initializer,
        )
        return tf.tensor_scatter_nd_update(weights, positions, values)
