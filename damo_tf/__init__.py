# SPDX-License-Identifier: Apache-2.0
"""Embedding tables on disk, at home in Keras.

    import damo_tf

    store = damo_tf.Store("/data/rows")
    layer = damo_tf.Embedding(16, store=store, optimizer="adam")

`Store` is a directory of rows, `Embedding` a Keras layer that looks them up and trains them; `optimizers`
and `initializers` configure groups of rows; `data` reads rows ahead in input pipelines.
"""

from damo_tf import _native  # noqa: F401 - first: checks what is installed  # isort: skip
from damo_tf import data, initializers, optimizers
from damo_tf.layers import Embedding
from damo_tf.store import Row, Store

__version__ = "0.1.0"

__all__ = ["Embedding", "Row", "Store", "__version__", "data", "initializers", "optimizers"]
