# SPDX-License-Identifier: Apache-2.0
"""Models for serving: written so that plain TensorFlow loads them."""

from damo_tf.export.dense import export_dense
from damo_tf.export.inline import export_inline
from damo_tf.export.loading import load_saved_model

__all__ = ["export_dense", "export_inline", "load_saved_model"]
