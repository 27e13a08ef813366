# SPDX-License-Identifier: Apache-2.0
"""Keras callbacks for models whose rows are in stores."""

from damo_tf.callbacks.row_learning_rate import RowLearningRate
from damo_tf.callbacks.store_checkpoint import Position, StoreCheckpoint
from damo_tf.callbacks.store_metrics import StoreMetrics

__all__ = ["Position", "RowLearningRate", "StoreCheckpoint", "StoreMetrics"]
