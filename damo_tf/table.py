# SPDX-License-Identifier: Apache-2.0
"""Table handles: the tensors through which TensorFlow names a group of a store.

There is one eager handle per table per process. Two handles to one table would be two resources to
TensorFlow, which would then see no order between a lookup through one and an apply through the other.
"""

import threading
import weakref
from typing import Any

import damo
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import cpp_shape_inference_pb2

from damo_tf import ops


class Table(tf.saved_model.experimental.TrackableResource):
    """One group of an open store, as a TensorFlow resource.

    Use `get_table`; instances made otherwise do not share their handle.

    Args:
        storage: the open store.
        group: number of a group that exists.
    """

    def __init__(self, storage: damo.PyStorage, group: int) -> None:
        super().__init__(device="CPU")
        self._storage = storage
        self._group = group
        with tf.init_scope():  # never inside a tf.function, where it would be a handle per call
            self._handle = self.resource_handle
        _set_handle_data(self._handle)

    @property
    def handle(self) -> tf.Tensor:
        """Resource scalar. The same eager tensor each time."""
        return self._handle

    @property
    def closed(self) -> bool:
        """Whether the table's store has been closed."""
        return self._storage.closed

    def _create_resource(self) -> tf.Tensor:
        # In a graph it is traced for a SavedModel, in whose process the store may lie elsewhere.
        saved = not tf.executing_eagerly()
        return ops.table_handle(self._storage.directory, self._group, saved=saved)


def _set_handle_data(handle: tf.Tensor) -> None:
    """Gives an eager handle the shape-and-type record that TensorFlow copies along function boundaries.

    TensorFlow makes zeros of this shape as the handle's gradient where a persistent or nested tape
    surrounds a `tf.function`, or any tape a `tf.while_loop`; without a record, or with an unknown shape,
    it raises. There is no public way to set it; tests/test_gradient_modes.py pins this use of a private
    field.
    """
    handle_data = cpp_shape_inference_pb2.CppShapeInferenceResult.HandleData()
    handle_data.is_set = True
    scalar = handle_data.shape_and_type.add()  # its shape, left empty, is that of a scalar
    scalar.dtype = types_pb2.DT_FLOAT
    handle._handle_data = handle_data


_lock = threading.Lock()
_tables: "weakref.WeakValueDictionary[tuple[str, int], Any]" = weakref.WeakValueDictionary()


def get_table(storage: damo.PyStorage, group: int) -> Table:
    """The table of a group, the same object for everyone while the store stays open.

    Args:
        storage: an open store.
        group: number of a group that exists.

    Raises:
        tf.errors.NotFoundError: the store has no such group.
    """
    key = (storage.directory, group)
    with _lock:
        table: Table | None = _tables.get(key)
        if table is None or table.closed:
            table = Table(storage, group)
            _tables[key] = table
        return table
