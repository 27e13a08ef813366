# SPDX-License-Identifier: Apache-2.0
"""Runnable examples. They use nothing but the public API of damo_tf."""

import os

# TensorFlow reads these when it is first imported; whoever has set them keeps what they set.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no notes between the lines of a command
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # the same sums on every CPU, and no note on it
