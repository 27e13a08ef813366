# SPDX-License-Identifier: Apache-2.0
"""Keras layers on a store."""

from damo_tf.layers.embedding import Embedding

__all__ = ["Embedding"]
