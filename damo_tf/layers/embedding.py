# SPDX-License-Identifier: Apache-2.0
"""The Embedding layer: Keras on one side, the ops of one table on the other."""

import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import keras
import tensorflow as tf

from damo_tf import initializers, ops, optimizers
from damo_tf._arguments import (
    check_admission,
    check_bool,
    check_group_ttl,
    check_int,
    check_missing,
    check_padding_key,
    check_path,
    check_positive,
    is_number,
)
from damo_tf._bags import Bags, Feature, as_bags, check_combinable, check_combiner, of_each, with_rows
from damo_tf._ids import Ids, as_keys, as_one_vector, check_ids, flat_values
from damo_tf._learning_rate import LearningRate, deserialize, is_variable, serialize
from damo_tf.layers import in_model, saved_rows
from damo_tf.layers.not_padding import NotPadding
from damo_tf.layers.substitution import current_substitute
from damo_tf.store import Store
from damo_tf.table import Table, get_table


@keras.saving.register_keras_serializable("damo_tf")
class Embedding(keras.layers.Layer):
    """Turns 64-bit ids into dense vectors that live in a store on disk.

    Unlike `keras.layers.Embedding` it has no vocabulary: every id works, and its row comes into being
    with its first gradient. The rows are trained by an optimizer of their own, one step per distinct id
    and batch, while the model's optimizer trains the dense part; they are not part of `model.weights`.

    Rows train whenever gradients flow, in `fit` as in your own loops, unless the layer is called with
    `training=False`, is not `trainable`, or is called inside `with layer.frozen():`.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((3,), dtype="int64"),
    ...     damo_tf.Embedding(8, store=store, optimizer="adam"),
    ...     keras.layers.Flatten(),
    ...     keras.layers.Dense(1),
    ... ])
    >>> model.compile("adam", "mse")
    >>> model.predict(np.array([[1, 2, -3]]), verbose=0).shape
    (1, 1)

    Bags of ids, such as the items that a user has seen, become one vector each:

    >>> layer = damo_tf.Embedding(8, store=store, group=1, combiner="mean")
    >>> layer(tf.ragged.constant([[5, 7, 9], [], [5]], tf.int64)).shape.as_list()
    [3, 8]

    Args:
        dim: integer in [1, 65536]. Length of the vectors.
        store: a `damo_tf.Store`, or the path of one, which is opened when the layer is built: as it is
            open in this process, else as it stands, else new with the defaults of `Store`. A layer made
            from a config, as in a loaded model, takes the store that the environment variable `DAMO_STORE`
            names, if it is set, or that `damo_tf.load_model` was given; it makes no new store: where the
            path leads to none, it raises. Open a store beside its writer (`read_only=True`) first.
        group: integer in [0, 256). Layers on one group of one store share its rows; their settings must
            agree. Default 0.
        initializer: what rows begin with: a name, a dict, an object of `damo_tf.initializers`, or a
            Keras initializer that has an equivalent. Default `"random_uniform"`, between -1 and 1.
        optimizer: how rows are trained: a name, a dict, an object of `damo_tf.optimizers`, or a Keras
            optimizer that has an equivalent. Default `"adam"`. A learning rate that is a number or a schedule
            of the engine's belongs to the group; Keras schedules, variables and functions are evaluated at
            each step of this layer, with the table's global step: see `damo_tf.optimizers`. In configs a
            variable is its present value, and a function what `keras.saving` makes of it.
        combiner: what becomes of the rows along the last axis of the ids, weighed by the call's `weights`:
            `"sum"`; `"mean"`, their sum divided by that of the weights; or `"sqrtn"`, divided by the square
            root of the sum of the weights' squares. As `tf.nn.safe_embedding_lookup_sparse` has them: bags
            without ids, and those whose divisor is 0, are zeros. It is done in the op: there never is a
            tensor of one row, or of one gradient, per id. For several features in one call one for all, or
            a dict or list like theirs. Default `None`: each id's row is an output.
        padding_key: an id that stands for nothing: it reads as zeros, has no row, gets no gradient and is
            in no sum and no divisor. As with Keras's `mask_zero`, the layers that follow get a mask that
            hides it. Default `None`: every id is an ordinary one, 0 too.
        missing: what an id without a row reads as: `"initial"` (default), the value its training will
            start from, or `"zeros"`.
        ttl_seconds: integer > 0. A row not updated for this many seconds reads as missing, and begins anew
            with its next gradient. `"never"`: no row does, whatever the store's `ttl_seconds`. `None`
            (default): as the store has it.
        min_count: integer in [0, 15]. An id gets a row in the training step with its `min_count`-th
            occurrence, repetitions within a batch included; until then it reads as zeros, whatever `missing`
            says, and its gradients are dropped. Most ids of a stream never come again, and cost no row then.
            Ids that have a row are not counted. Default 0: a row with the first gradient.
        filter_capacity: integer in [1, 2**32]: how many ids without a row the filter that counts occurrences
            is made for, at some 7 bytes each. Beyond, more and more ids get a row too early; `filter_fill` in
            `store.stats()` tells. Fixed when the group first has a `min_count`. Default `None`: as it stands,
            else 2**20, less in a `memory_budget` below 93 MiB, which fits into any store. For a stream
            name how many distinct ids stay below `min_count`: 2**28, say, which takes 1.9 GB, in a
            `memory_budget` of 5.2 GB or more.
        filter_fpr: number in [1e-9, 0.5]: the share of ids that get a row too early once the filter has
            counted `filter_capacity` ids. Fixed as well. Default `None`: as it stands, else 1e-3.
        save_rows: whether `.keras` files that hold the layer hold its store, too, with all its groups, as it
            is when the model is saved; layers that share a store need the same. See `damo_tf.load_model`. It
            is an attribute as well. Default `False`: they hold the store's path.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`. Rows are float32 whatever `dtype`
            is; the output is cast to its compute dtype.

    Call arguments:
        inputs: ids: an int64 or uint64 tensor of any shape (smaller integers are cast): dense, a
            `tf.RaggedTensor` or, with a combiner, a `tf.SparseTensor` in row-major order; or a dict or list
            of such tensors. Negative ids stand for their bits as uint64. Floats are refused; but a functional
            model casts what it is given to the dtype of its `keras.Input` before this layer sees it. Several
            features in one call are one optimizer step: an id that occurs in two of them gets the sum of its
            gradients.
        weights: floats, one for each of the ids and laid out like them (dense, ragged or sparse with the
            same rows and indices), which rows are multiplied by before they are combined; or a structure of
            such like the inputs, with `None` for inputs without. They get gradients, too, of the rows as
            they are at the time, before this step; second derivatives there are none. Default `None`: 1.
        training: `False` lets no gradient reach the rows. `None` and `True` do.
        mask: bools in the shape of dense ids; those that are `False` are left out of what is combined.
            Keras passes on the mask that the ids have, if any. Default `None`: all count.

    Input shape:
        Any.

    Output shape:
        The input's shape with `dim` appended; with a combiner, `dim` in place of its last axis. Ragged axes
        stay ragged, so ragged ids of two axes give a ragged tensor or, combined, a dense one. For a dict or
        list, the same structure of outputs.

    Raises:
        ValueError: an argument breaks its rule, or, when the layer is built, the group stands with other
            settings; the message has both values.
        TypeError: an argument or input is of the wrong type; ids that are floats are never rounded.
        tf.errors.InvalidArgumentError: when it runs: sparse ids are not in order, or weights are not laid
            out like the ids.
    """

    def __init__(
        self,
        dim: int,
        *,
        store: Store | str | os.PathLike[str],
        group: int = 0,
        initializer: Any = "random_uniform",
        optimizer: Any = "adam",
        combiner: Any = None,
        padding_key: int | None = None,
        missing: str = "initial",
        ttl_seconds: int | Literal["never"] | None = None,
        min_count: int = 0,
        filter_capacity: int | None = None,
        filter_fpr: float | None = None,
        save_rows: bool = False,
        **kwargs: Any,
    ) -> None:
        check_int("dim", dim, 1, 65537)
        check_int("group", group, 0, 256)
        check_admission(min_count, filter_capacity, filter_fpr)
        kwargs.setdefault("autocast", False)  # weights of ids are float32, as the rows are
        super().__init__(**kwargs)
        if not keras.backend.is_float_dtype(self.compute_dtype):
            raise ValueError(
                "`dtype` must be of floats, or a policy that computes in floats: it is that of the vectors. "
                f"Received: dtype={kwargs.get('dtype')!r}"
            )
        self.supports_jit = False  # XLA cannot call back into a store
        self.dim = int(dim)
        self.group = int(group)
        self.initializer = initializers.get(initializer)
        parameters = optimizers.get(optimizer)
        rate = parameters.pop("learning_rate", None)
        self._learning_rate = None if rate is None else LearningRate(rate)
        self.optimizer = parameters
        self.combiner = check_combiner(combiner)
        self.padding_key = check_padding_key(padding_key)
        self._not_padding = None if self.padding_key is None else NotPadding(self.padding_key)
        self.missing = check_missing(missing)
        self.ttl_seconds = check_group_ttl(ttl_seconds)
        self.min_count = int(min_count)
        self.filter_capacity = None if filter_capacity is None else int(filter_capacity)
        self.filter_fpr = None if filter_fpr is None else float(filter_fpr)
        self._store: Store | None = store if isinstance(store, Store) else None
        self._directory = store.directory if isinstance(store, Store) else check_path("store", store)
        self.save_rows = check_bool("save_rows", save_rows)
        self._may_create_store = True
        self._opened_table: Table | None = None
        self._frozen_depth = 0
        self._loss_scale: float | Callable[[], Any] | None = None

    @property
    def store(self) -> Store:
        """The store that holds the rows; opened now if the layer was given a path."""
        if self._store is None:
            self._store = Store.attach(self._directory, create_if_missing=self._may_create_store)
        return self._store

    @property
    def loss_scale(self) -> float | Callable[[], Any] | None:
        """What the loss is multiplied by before gradients are taken; rows get them divided by it.

        `None`, the default: the layer finds out by itself, through `model.losses`, which `fit` adds to
        the loss. Set it for a loop of your own that scales the loss and leaves `model.losses` out, and
        for a model that calls the layer inside `tf.cond`, `tf.while_loop` or `tf.recompute_grad`, from
        where `model.losses` cannot take anything. A number > 0, or a function without arguments that is
        called with the layer: `layer.loss_scale = lambda: optimizer.dynamic_scale`.
        """
        return self._loss_scale

    @loss_scale.setter
    def loss_scale(self, loss_scale: float | Callable[[], Any] | None) -> None:
        if loss_scale is not None and not callable(loss_scale):
            check_positive("loss_scale", loss_scale)
        self._loss_scale = loss_scale

    @property
    def learning_rate(self) -> Any:
        """Where the rows' learning rate comes from.

        A float, or a dict of the engine's parameters of a schedule: the group's. Else a Keras schedule, a
        variable or a function, which this layer evaluates at each step.
        """
        if self._learning_rate is not None:
            return self._learning_rate.rate
        return self.optimizer.get("schedule") or optimizers.base_rate(self.optimizer)

    def learning_rate_variable(self) -> keras.Variable | tf.Variable:
        """The variable that holds the rows' learning rate, to be assigned to: float32, a scalar.

        It is the one that the optimizer was given. A rate that is a number becomes a variable of that value
        now: from then on it belongs to the calls of this layer, and the group's own rate stays what it is.
        Functions traced before do not know it: `model.make_train_function(force=True)`.
        `damo_tf.callbacks.RowLearningRate` does all this.

        Raises:
            ValueError: the learning rate is a schedule or a function.
        """
        rate = self.learning_rate
        if is_variable(rate):
            return rate
        if not is_number(rate):
            raise ValueError(
                f"`learning_rate` of layer '{self.name}' must be a number or a variable to be assigned to. "
                f"Received: learning_rate={rate!r}"
            )
        variable = keras.Variable(rate, dtype="float32", trainable=False, name="row_learning_rate")
        self._learning_rate = LearningRate(variable)
        return variable

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Calls of the layer inside this context let no gradient reach the rows.

        For loops that ask for gradients more than once per step (persistent or nested tapes, gradient
        penalties, Jacobians), where the rows would otherwise be updated each time. It acts when Python
        runs the call, so inside a `tf.function` when it is traced.
        """
        self._frozen_depth += 1
        try:
            yield
        finally:
            self._frozen_depth -= 1

    def open_table(self) -> Table:
        """The group's table, opened now if it is not open yet; what `build` does apart from its weights.

        The same object for everyone while the store stays open; an internal one, for `damo_tf.ops`.
        """
        self.store.add_group(
            self.group,
            self.dim,
            initializer=self.initializer,
            optimizer=self.optimizer,
            ttl_seconds=self.ttl_seconds,
            min_count=self.min_count,
            filter_capacity=self.filter_capacity,
            filter_fpr=self.filter_fpr,
        )
        return get_table(self.store.storage, self.group)

    def build(self, input_shape: Any) -> None:
        """Opens the table and makes the anchor."""
        try:
            self._opened_table = self.open_table()
        except FileNotFoundError:
            if self._may_create_store or not self.save_rows:
                raise
            # `load_assets` is to bring the store; if it does not, calls raise.
        # Trainable, or tapes would not ask for its gradient; its value is 0 for ever. See damo_tf/ops.py.
        self.anchor = self.add_weight(
            name="anchor",
            shape=(),
            initializer="zeros",
            dtype="float32",
            trainable=True,
            autocast=False,
            constraint=keras.ops.zeros_like,  # an optimizer that does not look for NaN would apply it
            aggregation="only_first_replica",  # so that a replica may apply the constraint
        )
        self.built = True
        in_model.note_built(self)

    def call(self, inputs: Any, weights: Any = None, training: bool | None = None, mask: Any = None) -> Any:
        """Looks up the rows of `inputs`, and combines them; see the class."""
        trains = self.trainable and training is not False and self._frozen_depth == 0
        features = self._features(inputs, weights, mask)
        keys = [feature.ids for feature in features]
        if (substitute := current_substitute()) is not None:
            outputs = substitute.lookup(self, inputs, features)
        elif any(feature.combiner for feature in features):
            outputs = self._lookup_bags([as_bags(feature) for feature in features], trains)
        elif len(keys) > 1 or isinstance(keys[0], tf.RaggedTensor):
            outputs = self._lookup_together(keys, trains)
        else:
            outputs = [self._lookup(partial(ops.lookup, keys=keys[0]), trains)]
        outputs = [tf.cast(output, self.compute_dtype) for output in outputs]
        return tf.nest.pack_sequence_as(inputs, outputs)

    def save_own_variables(self, store: Any) -> None:
        """Keras calls it to save weights; `store` is its file's."""
        super().save_own_variables(store)
        saved_rows.note_step(self, self._table, store)

    def load_own_variables(self, store: Any) -> None:
        """Keras calls it to load weights; `store` is its file's."""
        super().load_own_variables(saved_rows.weights_without_step(self, self._opened_table, store))

    def save_assets(self, inner_path: str) -> None:
        """Keras calls it to save a model to a `.keras` file."""
        if self.save_rows:
            saved_rows.write_rows(self, inner_path)

    def load_assets(self, inner_path: str | None) -> None:
        """Keras calls it to load a model from a `.keras` file."""
        store = saved_rows.read_rows(self._directory, inner_path)
        self._store = self._store or store

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Which outputs stand for something, for the layers that follow: those whose ids do.

        An id does unless it is `padding_key` or masked itself; where the last axis is combined, a bag does if
        one of its ids does.

        Args:
            inputs: as `call` takes them.
            previous_mask: bools, as the inputs' structure and shape; `None` where nothing is masked.

        Returns:
            Bools, `[..., length]` for ids of that shape or, combined, `[...]`; a structure of them like the
            inputs'. `None` for an input without padding and mask, for ragged and sparse ones, and for a
            combined one whose output has no axis besides the batch's.
        """
        combiners = of_each("combiner", self.combiner, inputs)
        previous = of_each("mask", previous_mask, inputs)
        features = zip(tf.nest.flatten(inputs), combiners, previous, strict=True)
        masks = [self._mask_of(*feature) for feature in features]
        return tf.nest.pack_sequence_as(inputs, masks) if any(m is not None for m in masks) else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of each input with `dim` appended, in place of the last axis where that is combined."""
        shapes = _as_tensor_shapes(input_shape)
        combiners = of_each("combiner", self.combiner, shapes)
        outputs = [
            (*(shape if combiner is None else shape[:-1]), self.dim)
            for shape, combiner in zip(tf.nest.flatten(shapes), combiners, strict=True)
        ]
        return tf.nest.pack_sequence_as(shapes, outputs)

    def compute_output_spec(
        self, inputs: Any, weights: Any = None, training: bool | None = None, mask: Any = None
    ) -> Any:
        """The outputs as `keras.KerasTensor`s."""
        combiners = of_each("combiner", self.combiner, inputs)
        weights = of_each("weights", weights, inputs)
        specs = []
        for ids, combiner, of_ids in zip(tf.nest.flatten(inputs), combiners, weights, strict=True):
            check_ids(ids)
            check_combinable(ids, combiner, of_ids)
            shape = ids.shape if combiner is None else ids.shape[:-1]
            ragged = ids.ragged and len(shape) > 1
            specs.append(keras.KerasTensor((*shape, self.dim), self.compute_dtype, ragged=ragged))
        return tf.nest.pack_sequence_as(inputs, specs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; the store as its path."""
        return {
            **super().get_config(),
            "dim": self.dim,
            "store": self._directory,
            "group": self.group,
            "initializer": dict(self.initializer),
            "optimizer": self._optimizer_config(),
            "combiner": check_combiner(self.combiner),
            "padding_key": self.padding_key,
            "missing": self.missing,
            "ttl_seconds": self.ttl_seconds,
            "min_count": self.min_count,
            "filter_capacity": self.filter_capacity,
            "filter_fpr": self.filter_fpr,
            "save_rows": self.save_rows,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Embedding":
        """The layer that `get_config` described; see the class for its store. No new one is made."""
        config = {**config, "store": saved_rows.store_of_config(config["store"])}
        optimizer = config.get("optimizer")
        if isinstance(optimizer, dict) and "learning_rate" in optimizer:
            rate = deserialize(optimizer["learning_rate"])
            config = {**config, "optimizer": {**optimizer, "learning_rate": rate}}
        layer: Embedding = super().from_config(config)
        layer._may_create_store = False
        return layer

    def _optimizer_config(self) -> dict[str, Any]:
        optimizer = dict(self.optimizer)
        if "schedule" in optimizer:
            optimizer["schedule"] = dict(optimizer["schedule"])
        if self._learning_rate is not None:
            optimizer["learning_rate"] = serialize(self._learning_rate.rate)
        return optimizer

    @property
    def _table(self) -> Table:
        if self._opened_table is None:
            self._opened_table = self.open_table()
        return self._opened_table

    def _features(self, inputs: Any, weights: Any, mask: Any) -> list[Feature]:
        """What a call is for, checked."""
        keys = [as_keys(ids) for ids in tf.nest.flatten(inputs)]
        if not keys:
            raise ValueError(f"`inputs` must hold at least one tensor of ids. Received: inputs={inputs!r}")
        combiners = of_each("combiner", self.combiner, inputs)
        weights = of_each("weights", weights, inputs)
        for of_feature in zip(keys, combiners, weights, strict=True):
            check_combinable(*of_feature)
        masks = of_each("mask", mask, inputs) if any(combiners) else [None] * len(keys)
        return [Feature(*of_feature) for of_feature in zip(keys, combiners, weights, masks, strict=True)]

    def _lookup(self, lookup: Callable[..., tuple[tf.Tensor, tf.Tensor]], trains: bool) -> tf.Tensor:
        """What `lookup`, an op that still lacks what all lookups of the layer have in common, returns."""
        rate = None
        if trains:
            self._warn_of_second_lookup()
            rate = self._learning_rate and self._learning_rate.of_next_step(self._table.handle)
        embeddings, probe = lookup(
            table=self._table.handle,
            anchor=tf.convert_to_tensor(self.anchor) if trains else tf.constant(0.0),
            dim=self.dim,
            padding_key=self.padding_key,
            missing=self.missing,
            training=trains,
            learning_rate=rate,
        )
        if trains and self._loss_scale is None:
            self.add_loss(probe)
        elif trains:
            scale = self._loss_scale() if callable(self._loss_scale) else self._loss_scale
            embeddings = ops.with_loss_scale(embeddings, probe, tf.cast(scale, tf.float32))
        return embeddings

    def _lookup_together(self, keys: list[Ids], trains: bool) -> list[Any]:
        """Looks up several features with one op, so that an id in two of them takes one step."""
        rows = self._lookup(partial(ops.lookup, keys=as_one_vector(keys)), trains)
        parts = tf.split(rows, [tf.size(flat_values(k)) for k in keys], num=len(keys))
        return [with_rows(k, part) for k, part in zip(keys, parts, strict=True)]

    def _lookup_bags(self, bags: list[Bags], trains: bool) -> list[Any]:
        """Likewise, with the rows of each bag combined."""
        num_keys = [tf.size(of_feature.keys, tf.int64) for of_feature in bags]
        num_bags = tf.stack([tf.size(of_feature.splits, tf.int64) - 1 for of_feature in bags])
        weights = None
        if any(of_feature.weights is not None for of_feature in bags):
            ones = (tf.ones_like(b.keys, tf.float32) if b.weights is None else b.weights for b in bags)
            weights = tf.concat(list(ones), axis=0)
        ends = tf.cumsum(tf.stack(num_keys))
        splits = [bags[0].splits]
        splits += [of_feature.splits[1:] + ends[i] for i, of_feature in enumerate(bags[1:])]
        lookup = partial(
            ops.lookup_combined,
            keys=tf.concat([of_feature.keys for of_feature in bags], axis=0),
            splits=tf.concat(splits, axis=0),
            num_bags=num_bags,
            combiners=[of_feature.combiner for of_feature in bags],
            weights=weights,
        )
        parts = tf.split(self._lookup(lookup, trains), num_bags, num=len(bags))
        return [of_feature.shaped(part) for of_feature, part in zip(bags, parts, strict=True)]

    def _mask_of(self, ids: Any, combiner: str | None, mask: Any) -> Any:
        is_dense = not isinstance(ids, (tf.SparseTensor, tf.RaggedTensor))
        if not is_dense or (isinstance(ids, keras.KerasTensor) and (ids.sparse or ids.ragged)):
            return None
        if self._not_padding is not None:
            not_padding = self._not_padding(ids)
            mask = not_padding if mask is None else keras.ops.logical_and(not_padding, mask)
        if combiner is None or mask is None:
            return mask
        rank = tf.TensorShape(ids.shape).rank
        return keras.ops.any(mask, axis=-1) if rank is not None and rank > 2 else None

    def _warn_of_second_lookup(self) -> None:
        """Warns once if one traced graph looks this table up for training in two calls.

        Each call's gradient is then a step of its own, which is the same as one step on the sum for plain
        gradient descent only.
        """
        if tf.executing_eagerly() or self.optimizer["name"] == "sgd":
            return
        graph = tf.compat.v1.get_default_graph()
        # Replicas of a strategy, each of them a thread, share a graph; together they take one step.
        tables = _tables_by_graph.setdefault(graph, {}).setdefault(threading.get_ident(), weakref.WeakSet())
        if self._table in tables and self._table not in _warned_tables:
            _warned_tables.add(self._table)
            warnings.warn(
                f"group {self.group} of store '{self._directory}' is looked up by several calls in one "
                f"step, last by layer '{self.name}': each updates its rows separately. Pass the features "
                "to one call as a dict or list to update each row once.",
                stacklevel=2,
            )
        tables.add(self._table)


#: Tables looked up for training in each traced graph, by thread; and those warned of.
_tables_by_graph: weakref.WeakKeyDictionary[Any, dict[int, weakref.WeakSet[Table]]] = (
    weakref.WeakKeyDictionary()
)
_warned_tables: weakref.WeakSet[Table] = weakref.WeakSet()


def _as_tensor_shapes(shapes: Any) -> Any:
    """A structure of shapes in which it is plain what is structure and what is shape."""
    if isinstance(shapes, dict):
        return {name: _as_tensor_shapes(shape) for name, shape in shapes.items()}
    if all(d is None or isinstance(d, int) for d in shapes):
        return tf.TensorShape(shapes)
    return type(shapes)(_as_tensor_shapes(shape) for shape in shapes)
