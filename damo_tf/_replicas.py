# SPDX-License-Identifier: Apache-2.0
"""One step for all replicas of a `tf.distribute` strategy that trains them in step."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def once_for_all(function: Callable[[list[Any]], Any], arguments: tuple[Any, ...]) -> Any:
    """Calls `function` once with the arguments of all replicas, where each of them gets here.

    Without this, what one replica applies to the rows would be seen by the next one's lookup, which
    TensorFlow runs after it, and a batch would be as many optimizer steps as there are replicas.

    Replicas can only wait for each other in the function that the strategy runs, not inside a `tf.cond`, a
    `tf.while_loop` or a `tf.function` called from there: then, and where there is one replica, `function`
    is called with the own arguments alone.

    Args:
        function: called with a list of arguments, each as given here; in order of the replicas.
        arguments: tensors, or lists of them; as many in each replica.

    Returns:
        What `function` returned, a tensor.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return function([arguments])
    # Of one object that all replicas passed there would be one for all.
    own = tf.nest.map_structure(tf.identity, arguments)

    def merge(strategy: tf.distribute.Strategy, *flat: Any) -> Any:
        by_replica = zip(*[strategy.experimental_local_results(value) for value in flat], strict=True)
        return function([tf.nest.pack_sequence_as(own, values) for values in by_replica])

    try:
        # A copy for each: a strategy's reductions want one object of each replica.
        return tf.identity(context.merge_call(merge, args=tuple(tf.nest.flatten(own))))
    except RuntimeError:  # raised before anything is called: this graph is not the one the strategy runs
        return function([arguments])
