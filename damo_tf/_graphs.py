# SPDX-License-Identifier: Apache-2.0
"""What can be told of a tensor from the graph that it is in."""

import tensorflow as tf

_OF_SHAPES = frozenset({"Shape", "ShapeN", "Size", "Rank", "BroadcastGradientArgs"})


def varies_between_runs(tensor: tf.Tensor) -> bool:
    """Whether a tensor of a graph may have another value each time that the graph runs.

    It may if it comes from a variable, from another op with state, or from an input of the graph; not
    if it comes from the shapes of those alone.

    Args:
        tensor: a symbolic one.
    """
    seen, pending = set(), [tensor.op]
    while pending:
        op = pending.pop()
        if op.type == "Placeholder" or op.op_def.is_stateful:
            return True
        seen.add(op)
        if op.type not in _OF_SHAPES:
            pending += [tensor.op for tensor in op.inputs if tensor.op not in seen]
    return False
