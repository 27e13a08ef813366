# SPDX-License-Identifier: Apache-2.0
"""Keras layers: on a store, and on the way to one."""

from damo_tf.layers.embedding import Embedding
from damo_tf.layers.feature_hash import FeatureHash

__all__ = ["Embedding", "FeatureHash"]
