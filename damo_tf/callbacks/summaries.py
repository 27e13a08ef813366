# SPDX-License-Identifier: Apache-2.0
"""Summaries that TensorBoard shows, written without it: `tf.summary.scalar` needs the package installed.

The form of the data is TensorBoard's: tensorboard/plugins/scalar/metadata.py and histogram/metadata.py.
"""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

_NUM_BUCKETS = 30
_SCALAR, _TENSOR = 1, 2  # tensorflow.DataClass


def write_scalar(name: str, value: float, step: int) -> None:
    """Writes one value of a curve to the default summary writer."""
    tf.summary.write(name, tf.constant(value, tf.float32), step, _metadata("scalars", _SCALAR))


def write_histogram(name: str, values: npt.NDArray[np.generic], step: int) -> None:
    """Writes the distribution of values, of which there is at least one, to the default summary writer."""
    counts, edges = np.histogram(values, _NUM_BUCKETS)
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)
    tf.summary.write(name, tf.constant(buckets, tf.float64), step, _metadata("histograms", _TENSOR))


def _metadata(plugin: str, data_class: int) -> tf.compat.v1.SummaryMetadata:
    metadata = tf.compat.v1.SummaryMetadata(data_class=data_class)
    metadata.plugin_data.plugin_name = plugin
    return metadata
