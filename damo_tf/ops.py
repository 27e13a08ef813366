# SPDX-License-Identifier: Apache-2.0
"""The TensorFlow ops of a table, and the gradients of the lookups.

How a gradient reaches the rows: integer keys have no gradient, so the lookup takes a float scalar, the
*anchor*. The registered gradient runs the apply op and returns its output, the *token*, as the anchor's
gradient: whoever asks for the anchor's gradient makes TensorFlow run the apply op, in every mode. The
token is 0, so the anchor never moves; or it is NaN, for a `LossScaleOptimizer` to see that a scaled gradient
has overflowed.

A second scalar output, the *probe*, is 0 and is added to the loss. Its gradient is whatever factor the
loss was multiplied by (mixed precision multiplies by thousands); the gradients of rows are divided by it.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from damo_tf._arguments import (
    check_feature_dtype,
    check_field,
    check_key_of_padding,
    check_padding_value,
)
from damo_tf._graphs import varies_between_runs
from damo_tf._native import ops as _ops
from damo_tf._replicas import once_for_all

__all__ = [
    "apply_gradients",
    "feature_hash",
    "lookup",
    "lookup_combined",
    "prefetch",
    "size",
    "step",
    "table_handle",
    "with_loss_scale",
]


def lookup(
    table: tf.Tensor,
    keys: tf.Tensor,
    anchor: tf.Tensor,
    *,
    dim: int,
    padding_key: int | None = None,
    missing: str = "initial",
    training: bool = False,
    learning_rate: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads the weights of rows.

    Example:

    >>> store.add_group(0, dim=2, initializer="ones", optimizer=damo_tf.optimizers.SGD(0.5))
    >>> table = damo_tf.ops.table_handle(store.directory, 0)
    >>> keys, anchor = tf.constant([7], tf.int64), tf.Variable(0.0)
    >>> with tf.GradientTape() as tape:
    ...     vectors, probe = damo_tf.ops.lookup(table, keys, anchor, dim=2, training=True)
    ...     loss = tf.reduce_sum(vectors) + probe
    >>> token = tape.gradient(loss, anchor)  # the rows take their step
    >>> damo_tf.ops.lookup(table, keys, anchor, dim=2)[0].numpy()
    array([[0.5, 0.5]], dtype=float32)

    Args:
        table: resource scalar, a table handle.
        keys: int64 or uint64, any shape.
        anchor: float32 scalar; its gradient is what makes the rows train.
        dim: weights per row; must be the table's.
        padding_key: a key in [0, 2**64) that reads as zeros and gets no gradient.
        missing: `"initial"` or `"zeros"`: what a key without a row reads as.
        training: whether the rows are to get the gradients. Rows are then brought into memory; else nothing
            there changes, and the anchor has no gradient.
        learning_rate: float32 scalar, >= 0: of the step that the gradient will take. `None`: the group's own.

    Returns:
        embeddings, float32 `keys.shape + [dim]`; and the probe, a float32 scalar 0.
    """
    embeddings, probe = _ops.damo_embedding_lookup(
        table,
        keys,
        anchor,
        _rates_input(learning_rate),
        dim=dim,
        padding_key=_padding_attr(padding_key),
        missing=missing,
        training=training,
    )
    return embeddings, probe


def lookup_combined(
    table: tf.Tensor,
    keys: tf.Tensor,
    splits: tf.Tensor,
    num_bags: Any,
    anchor: tf.Tensor,
    *,
    dim: int,
    combiners: Sequence[str],
    weights: tf.Tensor | None = None,
    padding_key: int | None = None,
    missing: str = "initial",
    training: bool = False,
    learning_rate: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Combines the rows of each bag of keys into one vector; there never is a tensor of one row per key.

    Example:

    >>> store.add_group(0, dim=2, initializer="ones")
    >>> table = damo_tf.ops.table_handle(store.directory, 0)
    >>> sums, probe = damo_tf.ops.lookup_combined(
    ...     table, [7, 8, 9], [0, 2, 2, 3], [3], tf.constant(0.0), dim=2, combiners=["sum"]
    ... )
    >>> sums.numpy()
    array([[2., 2.],
           [0., 0.],
           [1., 1.]], dtype=float32)

    Args:
        table: resource scalar, a table handle.
        keys: int64 `[n]`; the bits of uint64 keys.
        splits: int64 `[m + 1]`; bag b has the keys from `splits[b]` to `splits[b + 1]`.
        num_bags: int64 `[len(combiners)]`, together m: how many bags, in order, each combiner is for.
        anchor: float32 scalar; its gradient is what makes the rows train.
        dim: weights per row; must be the table's.
        combiners: `"sum"`, `"mean"` or `"sqrtn"`: what the weighted sum of a bag's rows is divided by: 1, the
            sum of the weights, or the square root of the sum of their squares.
        weights: float32 `[n]`, which get a gradient, too, of the rows as they are before their step. `None`:
            all are 1.
        padding_key: a key in [0, 2**64) that is left out of all sums.
        missing: `"initial"` or `"zeros"`: what a key without a row reads as.
        training: as for `lookup`.
        learning_rate: float32 scalar, >= 0: of the step that the gradient will take. `None`: the group's own.

    Returns:
        combined, float32 `[m, dim]`, zeros for bags without keys; and the probe, a float32 scalar 0.
    """
    combined, probe = _ops.damo_embedding_lookup_combined(
        table,
        keys,
        splits,
        num_bags,
        anchor,
        [] if weights is None else [weights],
        _rates_input(learning_rate),
        dim=dim,
        combiners=list(combiners),
        padding_key=_padding_attr(padding_key),
        missing=missing,
        training=training,
    )
    return combined, probe


@tf.custom_gradient
def with_loss_scale(embeddings: tf.Tensor, probe: tf.Tensor, loss_scale: tf.Tensor) -> Any:
    """`embeddings`, and `loss_scale` as the gradient of the probe, which then needs no other.

    Example:

    >>> store.add_group(0, dim=1, initializer="zeros", optimizer=damo_tf.optimizers.SGD(0.5))
    >>> table = damo_tf.ops.table_handle(store.directory, 0)
    >>> keys, anchor, scale = tf.constant([7], tf.int64), tf.Variable(0.0), tf.constant(1024.0)
    >>> with tf.GradientTape() as tape:
    ...     vectors, probe = damo_tf.ops.lookup(table, keys, anchor, dim=1, training=True)
    ...     loss = scale * tf.reduce_sum(damo_tf.ops.with_loss_scale(vectors, probe, scale))
    >>> token = tape.gradient(loss, anchor)
    >>> store.lookup(0, 7)
    array([-0.5], dtype=float32)

    Args:
        embeddings: as `lookup` returned them.
        probe: likewise.
        loss_scale: float32 scalar, what the loss is multiplied by; the number of replicas left aside.
    """

    def gradient(embeddings_gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, None]:
        num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return embeddings_gradient, loss_scale / float(num_replicas), None

    return tf.identity(embeddings), gradient


def apply_gradients(
    table: tf.Tensor,
    keys: tf.Tensor,
    gradients: tf.Tensor,
    *,
    loss_scale: Any = 1.0,
    learning_rate: Any = None,
    padding_key: int | None = None,
) -> tf.Tensor:
    """Takes one optimizer step on the row of each distinct key.

    Example:

    >>> store.add_group(0, dim=2, initializer="zeros", optimizer=damo_tf.optimizers.SGD(0.5))
    >>> table = damo_tf.ops.table_handle(store.directory, 0)
    >>> keys = tf.constant([7, 7], tf.int64)
    >>> token = damo_tf.ops.apply_gradients(table, keys, [[1.0, 2.0], [3.0, 2.0]])
    >>> store.lookup(0, 7)
    array([-2., -2.], dtype=float32)

    Args:
        table: resource scalar, a table handle.
        keys: int64 or uint64, any shape.
        gradients: float32, `keys.shape + [dim]`; those of equal keys are summed first.
        loss_scale: float32 scalar that gradients are divided by.
        learning_rate: float32 scalar, >= 0: of this step. `None`: the group's own.
        padding_key: a key in [0, 2**64) that is left out.

    Returns:
        The token, a float32 scalar: 0, or NaN if a scaled gradient overflowed.
    """
    return _ops.damo_embedding_apply_gradients(
        table,
        keys,
        gradients,
        loss_scale,
        _rates_input(learning_rate),
        padding_key=_padding_attr(padding_key),
    )


def prefetch(table: tf.Tensor, keys: tf.Tensor, *, padding_key: int | None = None) -> tf.Tensor:
    """Brings the rows of keys into memory, for a lookup that is to come. Changes no value.

    Example:

    >>> store.add_group(0, dim=2)
    >>> table = damo_tf.ops.table_handle(store.directory, 0)
    >>> damo_tf.ops.prefetch(table, tf.constant([7, 8], tf.int64)).numpy()
    array([7, 8])

    Args:
        table: resource scalar, a table handle.
        keys: int64 or uint64, any shape.
        padding_key: a key in [0, 2**64) that is left out.

    Returns:
        `keys`. In a `tf.function`, or a function of `Dataset.map`, the op runs whether or not its output is
        used.
    """
    return _ops.damo_embedding_prefetch(table, keys, padding_key=_padding_attr(padding_key))


def size(table: tf.Tensor) -> tf.Tensor:
    """The number of rows of a table, as an int64 scalar.

    Example:

    >>> store.add_group(0, dim=1)
    >>> store.apply_gradients(0, [7, 8, 7], [[1.0], [1.0], [1.0]])
    >>> int(damo_tf.ops.size(damo_tf.ops.table_handle(store.directory, 0)))
    2
    """
    return _ops.damo_table_size(table)


def step(table: tf.Tensor) -> tf.Tensor:
    """The global step of a table, an int64 scalar: apply calls so far, in this process and before.

    Example:

    >>> store.add_group(0, dim=1)
    >>> store.apply_gradients(0, [7, 8, 7], [[1.0], [1.0], [1.0]])
    >>> int(damo_tf.ops.step(damo_tf.ops.table_handle(store.directory, 0)))
    1
    """
    return _ops.damo_table_step(table)


def table_handle(directory: str, group: int, *, saved: bool = False) -> tf.Tensor:
    """A new handle, a resource scalar, to one group of a store.

    Example:

    >>> store.add_group(0, dim=2)
    >>> damo_tf.ops.table_handle(store.directory, 0).dtype
    tf.resource

    Args:
        directory: path of the store.
        group: number of the group, which must exist.
        saved: whether the op will be loaded with a SavedModel; the environment variable `DAMO_STORE`, if it
            is set, is then the path.
    """
    return _ops.damo_table_handle(directory, group=group, saved=saved)


def feature_hash(
    values: tf.Tensor,
    field: str,
    *,
    padding_value: str | bytes | int | None = None,
    padding_key: int = 0,
    dtype: str = "int64",
) -> tf.Tensor:
    """Hashes the values of one field to 64-bit keys, as docs/feature_hash.md says.

    Example:

    >>> damo_tf.ops.feature_hash(tf.constant(["ann", ""]), "user", padding_value="").numpy()
    array([6798141962548268224,                   0])

    Args:
        values: strings or integers, any shape; floats are never rounded.
        field: name of the field, not empty.
        padding_value: the value whose key is `padding_key`, which no other value gets. `None`: none.
        padding_key: a key in [0, 2**64).
        dtype: `"int64"` or `"uint64"`.

    Returns:
        The keys, of the values' shape.

    Raises:
        TypeError: an argument is of the wrong type; values that are ragged or sparse among them.
        ValueError: an argument breaks its rule.
    """
    if not isinstance(padding_value, bytes):  # which need not be UTF-8 here
        check_padding_value(padding_value)
    text = padding_value if isinstance(padding_value, (str, bytes)) else str(padding_value)
    return _ops.damo_feature_hash(
        _hashable(values),
        Tkeys=dtype,
        field=check_field(field),
        padding_value=[] if padding_value is None else [text],
        padding_key=_as_int64_bits(check_key_of_padding(padding_key)),
    )


def _hashable(values: Any) -> tf.Tensor:
    """Values of features as the op takes them."""
    try:
        values = tf.convert_to_tensor(values)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`values` must be a dense tensor of strings or integers. Received: values={values!r}"
        ) from error
    check_feature_dtype("values", values.dtype.name)
    return values if values.dtype in (tf.string, tf.uint64) else tf.cast(values, tf.int64)


def _rates_input(learning_rate: Any) -> list[Any]:
    """The input form of a learning rate: at most one."""
    return [] if learning_rate is None else [learning_rate]


def _padding_attr(padding_key: int | None) -> list[int]:
    """The attribute form of a padding key: at most one int64 with the key's bits."""
    if padding_key is None:
        return []
    return [_as_int64_bits(padding_key)]


def _as_int64_bits(key: int) -> int:
    return key - (1 << 64) if key >= 1 << 63 else key


@tf.RegisterGradient("DamoEmbeddingLookup")
def _lookup_gradient(
    op: tf.Operation, embeddings_gradient: Any, probe_gradient: tf.Tensor
) -> list[tf.Tensor | None]:
    if not op.get_attr("training"):
        # An apply op would run here even if nobody asked for its token: in the gradient of a `tf.cond` or a
        # `tf.while_loop` TensorFlow runs every op that has state.
        return [None for _ in op.inputs]
    table, keys, _, *rates = op.inputs
    dim, padding_key = op.get_attr("dim"), op.get_attr("padding_key")

    def apply(replicas: list[Any]) -> tf.Tensor:
        if len(replicas) == 1:
            keys, gradients, loss_scale, rates = replicas[0]
        else:
            # Scale and rate are the same in all.
            all_keys, all_gradients, (loss_scale, *_), (rates, *_) = zip(*replicas, strict=True)
            keys = tf.concat([tf.reshape(k, [-1]) for k in all_keys], axis=0)
            gradients = tf.concat([tf.reshape(g, [-1, dim]) for g in all_gradients], axis=0)
        return _ops.damo_embedding_apply_gradients(
            table, keys, gradients, loss_scale, rates, padding_key=padding_key
        )

    loss_scale = _loss_scale(probe_gradient)
    token = once_for_all(apply, (keys, tf.convert_to_tensor(embeddings_gradient), loss_scale, rates))
    return [None, None, _anchor_gradient(token, probe_gradient), *[None for _ in rates]]


@tf.RegisterGradient("DamoEmbeddingLookupCombined")
def _lookup_combined_gradient(
    op: tf.Operation, combined_gradient: Any, probe_gradient: tf.Tensor
) -> list[tf.Tensor | None]:
    table, keys, splits, num_bags, _, *lists = op.inputs
    num_weights = op.get_attr("num_weights")
    weights, rates = lists[:num_weights], lists[num_weights:]
    bags = (keys, splits, num_bags, tf.convert_to_tensor(combined_gradient))
    combiners, padding_key = op.get_attr("combiners"), op.get_attr("padding_key")
    of_weights = [
        _ops.damo_embedding_weights_gradient(
            table,
            *bags,
            weights,
            combiners=combiners,
            padding_key=padding_key,
            missing=op.get_attr("missing"),
            training=op.get_attr("training"),
        )
        for _ in weights
    ]

    def apply(replicas: list[Any]) -> tf.Tensor:
        all_bags, all_weights, all_of_weights, (loss_scale, *_), (rates, *_) = zip(*replicas, strict=True)
        # Nothing else orders the two in a backward function, and the rows are not to have stepped before.
        with tf.control_dependencies(tf.nest.flatten(all_of_weights)):
            return _ops.damo_embedding_apply_combined_gradients(
                table,
                *_joined_bags(all_bags),
                loss_scale,
                [tf.concat(of_replicas, axis=0) for of_replicas in zip(*all_weights, strict=True)],
                rates,
                combiners=combiners * len(replicas),
                padding_key=padding_key,
            )

    token = None
    if op.get_attr("training"):
        arguments = (bags, weights, of_weights, _loss_scale(probe_gradient), rates)
        token = _anchor_gradient(once_for_all(apply, arguments), probe_gradient)
    return [None, None, None, None, token, *of_weights, *[None for _ in rates]]


def _joined_bags(of_replicas: Sequence[Any]) -> list[tf.Tensor]:
    """The keys, splits, numbers of bags and gradients of all replicas, as of one call with all their bags."""
    if len(of_replicas) == 1:
        return list(of_replicas[0])
    keys, splits, num_bags, gradients = zip(*of_replicas, strict=True)
    ends = tf.cumsum([tf.size(k, tf.int64) for k in keys])
    later_splits = [s[1:] + ends[i] for i, s in enumerate(splits[1:])]
    joined = (keys, [splits[0], *later_splits], num_bags, gradients)
    return [tf.concat(parts, axis=0) for parts in joined]


def _loss_scale(probe_gradient: tf.Tensor) -> tf.Tensor:
    """What gradients of rows are to be divided by.

    Each replica's loss is divided by the number of replicas. That factor reaches the probe too, but belongs
    to the gradients: the rows see the sum over replicas, like a mirrored variable.
    """
    return probe_gradient * float(tf.distribute.get_strategy().num_replicas_in_sync)


def _anchor_gradient(token: tf.Tensor, probe_gradient: tf.Tensor) -> tf.Tensor:
    """The token; but 0 where the loss scale is a constant: no optimizer looks out for NaN then."""
    if not tf.is_symbolic_tensor(probe_gradient) or varies_between_runs(probe_gradient):
        return token
    # Made of the token: TensorFlow may drop a control edge to it and, with that, the apply op.
    return tf.where(tf.math.is_nan(token), 0.0, token)


tf.no_gradient("DamoEmbeddingApplyCombinedGradients")
tf.no_gradient("DamoEmbeddingApplyGradients")
tf.no_gradient("DamoEmbeddingPrefetch")
tf.no_gradient("DamoFeatureHash")
tf.no_gradient("DamoTableHandle")
tf.no_gradient("DamoTableSize")
tf.no_gradient("DamoTableStep")
