# SPDX-License-Identifier: Apache-2.0
"""Writing SavedModels that plain TensorFlow loads."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from damo_tf._arguments import check_path
from damo_tf._aside import directory_aside, sync

Function = Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]


def traced(function: Function, specs: dict[str, tf.TensorSpec]) -> tf.types.experimental.PolymorphicFunction:
    """A `tf.function` of one dict of tensors, traced now.

    Raises:
        ValueError: its graph has ops of damo_tf, which plain TensorFlow does not know.
    """
    concrete = tf.function(function, input_signature=[specs], autograph=False).get_concrete_function()
    own = _own_ops(concrete.graph)
    if own:
        raise ValueError(
            f"the model cannot be exported for plain TensorFlow: its graph still has the ops {own}. A "
            "`tf.function` inside the model, traced before, or a call of `damo_tf` other than that of an "
            "Embedding layer brings them; call layers directly, or use `tf.saved_model.save`."
        )
    # Saving traces again what it is given: so no more than a call.
    return tf.function(lambda tensors: concrete(tensors), input_signature=[specs], autograph=False)


def write(
    directory: Path, model: keras.Model, signatures: dict[str, Any], resources: Iterable[tf.Module] = ()
) -> None:
    """Writes a SavedModel.

    Args:
        directory: of it.
        model: whose variables the functions use.
        signatures: name to function, as `traced` returned it; each is an attribute of what
            `tf.saved_model.load` returns, too.
        resources: what else they use.
    """
    module = tf.Module()
    module.model_variables = [variable.value for variable in model.variables]
    module.resources = list(resources)
    for name, function in signatures.items():
        setattr(module, name, function)
    tf.saved_model.save(
        module, str(directory), {name: f.get_concrete_function() for name, f in signatures.items()}
    )


@contextmanager
def published(directory: str | os.PathLike[str]) -> Iterator[Path]:
    """A directory to write into, which gets the name `directory` when all that is in it is on disk.

    Raises:
        FileExistsError: there is something at `directory` other than an empty directory.
    """
    with directory_aside(os.path.abspath(check_path("directory", directory))) as unfinished:
        yield Path(unfinished)
        for path in Path(unfinished).rglob("*"):
            sync(path)


def _own_ops(graph: tf.Graph) -> list[str]:
    """The types of damo_tf's ops in a graph and the functions that it calls."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(node for f in definition.library.function for node in f.node_def)]
    return sorted({node.op for node in nodes if node.op.startswith("Damo")})
