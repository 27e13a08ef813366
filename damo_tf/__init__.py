# SPDX-License-Identifier: Apache-2.0
"""Embedding tables on disk, at home in Keras.

    import damo_tf

    store = damo_tf.Store("/data/rows")
    layer = damo_tf.Embedding(16, store=store, optimizer="adam")

`Store` is a directory of rows, `Embedding` a Keras layer that looks them up and trains them, `FeatureHash`
one that makes ids of strings and numbers; `optimizers` and `initializers` configure groups of rows; `data`
reads rows ahead in input pipelines; `callbacks` are for `fit`; `ops` are what a layer of your own calls;
`CheckpointManager` keeps a store's last checkpoints; `export_dense` and `export_inline` write models for
serving with plain TensorFlow. For serving, even where there is no TensorFlow, `read_dump` reads what a store
dumped, and `feature_hash` makes the same ids.
"""

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from damo_tf.dump_file import DumpedGroup, read_dump
from damo_tf.hashing import feature_hash


def _runs_command() -> bool:
    """Whether Python was started for the `damo-tf` command, which must not wait for TensorFlow."""
    program = sys.argv[0] if sys.argv else ""
    # So it is while `python -m` looks for a module, which may be another one that imports this.
    if program == "-m":
        return ("-m", "damo_tf") in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    return program.rpartition("/")[2] == "damo-tf"


def _has_tensorflow() -> bool:
    """Whether TensorFlow is imported, or can be looked for with success."""
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"] is not None  # None: an import that was forbidden
    return importlib.util.find_spec("tensorflow") is not None


if not TYPE_CHECKING and (_runs_command() or not _has_tensorflow()):

    def __getattr__(name: str) -> Any:
        if name in __all__:
            from damo_tf import _native  # noqa: F401 - says what is missing
        raise AttributeError(f"module 'damo_tf' has no attribute {name!r}")

else:
    from damo_tf import _native  # noqa: F401 - first: checks what is installed  # isort: skip
    from damo_tf import callbacks, data, initializers, ops, optimizers
    from damo_tf.checkpoint_manager import CheckpointManager
    from damo_tf.export import export_dense, export_inline, load_saved_model
    from damo_tf.layers import Embedding, FeatureHash
    from damo_tf.migration import convert_embeddings
    from damo_tf.predictor import Predictor
    from damo_tf.saving import load_model
    from damo_tf.store import Row, Store
    from damo_tf.trackable_store import TrackableStore

__version__ = "0.1.0"

__all__ = [
    "CheckpointManager",
    "DumpedGroup",
    "Embedding",
    "FeatureHash",
    "Predictor",
    "Row",
    "Store",
    "TrackableStore",
    "__version__",
    "callbacks",
    "convert_embeddings",
    "data",
    "export_dense",
    "export_inline",
    "feature_hash",
    "initializers",
    "load_saved_model",
    "load_model",
    "ops",
    "optimizers",
    "read_dump",
]
