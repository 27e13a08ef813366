# SPDX-License-Identifier: Apache-2.0
"""Keras callbacks for models whose rows are in stores."""

from damo_tf.callbacks.store_checkpoint import Position, StoreCheckpoint

__all__ = ["Position", "StoreCheckpoint"]
