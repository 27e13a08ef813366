# SPDX-License-Identifier: Apache-2.0
"""Loads the native libraries, once, in the order BUILD_NOTES.md explains.

First `damo`, which preloads the engine; then the op library, after checking that it was compiled for
the TensorFlow that is installed.
"""

from pathlib import Path
from typing import Any

import damo  # noqa: F401 - preloads libdamo_core.so, which the op library needs

from damo_tf import _build_info

try:
    import tensorflow as tf
except ModuleNotFoundError as error:
    raise ImportError(
        f"damo_tf needs TensorFlow {_build_info.TENSORFLOW_VERSION}, for which it was built: "
        f"`pip install tensorflow-cpu=={_build_info.TENSORFLOW_VERSION}` (or `tensorflow`)."
    ) from error


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def check_tensorflow_version(built: str, installed: str) -> None:
    """Raises ImportError unless both versions agree in their first two numbers.

    Args:
        built: version that the op library was compiled against.
        installed: version that is running.
    """
    if _minor(built) != _minor(installed):
        raise ImportError(
            f"damo_tf was built for TensorFlow {_minor(built)}, but TensorFlow {installed} is "
            f"installed. Install `tensorflow=={_minor(built)}.*` (or `tensorflow-cpu`), or rebuild "
            "damo_tf against the installed version: `pip install --no-build-isolation .` in its "
            "source folder."
        )


def _load_ops() -> Any:
    check_tensorflow_version(_build_info.TENSORFLOW_VERSION, tf.__version__)
    return tf.load_op_library(str(Path(__file__).with_name("_damo_ops.so")))


#: The generated wrappers of the ops, snake_case: `damo_embedding_lookup`, ...
ops: Any = _load_ops()
