# SPDX-License-Identifier: Apache-2.0
"""The embedding engine of damo_tf for NumPy: rows on disk, keyed by 64-bit hashes.

This module needs no TensorFlow. Stores opened here and in `damo_tf` are the same stores.

    import damo

    storage = damo.PyStorage("/data/rows")
    optimizer = damo.PyOptimizer({"name": "adam", "gamma": 1e-3})
    initializer = damo.PyInitializer({"name": "random_uniform", "min": -0.1, "max": 0.1})
    embedding = damo.PyEmbedding(storage, optimizer, initializer, 16)

    keys = numpy.array([1, 2, 3], dtype=numpy.uint64)
    weights = numpy.empty(3 * 16, dtype=numpy.float32)
    embedding.lookup(keys, weights)
    embedding.apply_gradients(keys, gradients)
"""

import atexit
import ctypes
import os
from pathlib import Path


def _preload_engine() -> None:
    """Loads libdamo_core.so so that its RocksDB uses the system's compression libraries.

    TensorFlow exports its own copies of them to the whole process; RTLD_DEEPBIND makes the engine
    look into its own dependencies first. AddressSanitizer's runtime refuses that flag.
    """
    mode = os.RTLD_NOW | os.RTLD_LOCAL
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):
        mode |= os.RTLD_DEEPBIND
    ctypes.CDLL(str(Path(__file__).with_name("libdamo_core.so")), mode=mode)


_preload_engine()

from damo._damo import (  # noqa: E402 - its dependency must be loaded first
    Parameters,
    PyEmbedding,
    PyFilter,
    PyInitializer,
    PyOptimizer,
    PyRowImport,
    PyStorage,
    build_id,
    close_all,
    feature_hash,
    simd_level,
    verify_checkpoint,
)

__all__ = [
    "Parameters",
    "PyEmbedding",
    "PyFilter",
    "PyInitializer",
    "PyOptimizer",
    "PyRowImport",
    "PyStorage",
    "build_id",
    "close_all",
    "feature_hash",
    "simd_level",
    "verify_checkpoint",
]

# RocksDB's threads must be gone before the interpreter takes the process apart.
atexit.register(close_all)
