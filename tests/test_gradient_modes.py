# SPDX-License-Identifier: Apache-2.0
"""Every way in which TensorFlow and Keras take gradients: rows get one step per batch, the right one."""

import warnings
from contextlib import nullcontext

import keras
import numpy as np
import pytest
import tensorflow as tf
from known_gradients import (
    DIM,
    IDS_SHAPE,
    KnownGradients,
    Subclassed,
    WeightedSum,
    eager_tape,
    functional,
    sequential,
    tape_around_function,
    tape_in_function,
    train_step,
    weighted_sum,
    while_loop_of_steps,
)
from oracles import OracleTable
from stored_rows import assert_rows_equal, bits, memory_of, rows_of, step_of

import damo_tf
from damo_tf import ops
from damo_tf.table import get_table

pytestmark = pytest.mark.usefixtures("keras_seed")

# Adam's rows show the number of steps and, by their moments, the order of steps.
ADAM = {"name": "adam", "gamma": 0.05}
EXACT_SGD = {"name": "sgd", "gamma": 0.5}
# With these every sum is exact: rows do not depend on the order of steps.
EXACT = {"optimizer": EXACT_SGD, "initializer": "ones"}


@pytest.fixture
def batches(rng) -> KnownGradients:
    return KnownGradients(rng)


def embedding(store, optimizer=ADAM, **settings) -> damo_tf.Embedding:
    return damo_tf.Embedding(DIM, store=store, optimizer=optimizer, **settings)


# ---- One step per batch ----


def tape_in_function_around_function(layer, batches):
    forward = tf.function(layer)

    @tf.function
    def step(ids, gradients):
        with tf.GradientTape() as tape:
            loss = weighted_sum(gradients, forward(ids))
        return tape.gradient(loss, layer.trainable_variables)

    for batch in batches:
        step(*batch)


def persistent_tape_around_function(layer, batches):
    forward = tf.function(layer)
    for ids, gradients in batches:
        with tf.GradientTape(persistent=True) as tape:
            loss = weighted_sum(gradients, forward(ids))
        tape.gradient(loss, layer.trainable_variables)


def outer_of_nested_tapes_around_function(layer, batches):
    forward = tf.function(layer)
    for ids, gradients in batches:
        with tf.GradientTape() as tape, tf.GradientTape():
            loss = weighted_sum(gradients, forward(ids))
        tape.gradient(loss, layer.trainable_variables)


def loop_over_dataset_in_function(layer, batches):
    dataset = tf.data.Dataset.from_tensor_slices((batches.ids, batches.gradients))

    @tf.function
    def train():
        for ids, gradients in dataset:
            train_step(layer, ids, gradients)

    train()


def eager_tape_with_recomputation(layer, batches):
    layer.build(IDS_SHAPE)
    forward = tf.recompute_grad(lambda ids: layer(ids))
    for ids, gradients in batches:
        with tf.GradientTape() as tape:
            loss = weighted_sum(gradients, forward(ids))
        tape.gradient(loss, layer.trainable_variables)


def fit(layer, batches):
    model = functional(layer)
    model.compile("adam", WeightedSum())
    batches.fit(model)


def fit_of_sequential_model(layer, batches):
    model = sequential(layer)
    model.compile("adam", WeightedSum())
    batches.fit(model)


def fit_of_sequential_model_without_input(layer, batches):
    model = keras.Sequential([layer])
    model.compile("adam", WeightedSum())
    batches.fit(model)


def fit_of_subclassed_model(layer, batches):
    model = Subclassed(layer)
    model.compile("adam", WeightedSum())
    batches.fit(model)


def fit_run_eagerly(layer, batches):
    model = functional(layer)
    model.compile("adam", WeightedSum(), run_eagerly=True)
    batches.fit(model)


def fit_with_several_steps_per_execution(layer, batches):
    model = functional(layer)
    model.compile("adam", WeightedSum(), steps_per_execution=2)  # of 3: the last one is partial
    batches.fit(model)


def train_on_batch(layer, batches):
    model = functional(layer)
    model.compile("adam", WeightedSum())
    for batch in batches:
        model.train_on_batch(*batch)


@pytest.mark.parametrize(
    "train",
    [
        eager_tape,
        tape_in_function,
        tape_around_function,
        tape_in_function_around_function,
        persistent_tape_around_function,
        outer_of_nested_tapes_around_function,
        while_loop_of_steps,
        loop_over_dataset_in_function,
        eager_tape_with_recomputation,
        fit,
        fit_of_sequential_model,
        fit_of_sequential_model_without_input,
        fit_of_subclassed_model,
        fit_run_eagerly,
        fit_with_several_steps_per_execution,
        train_on_batch,
    ],
)
def test_rows_take_one_step_per_batch(store, batches, train):
    layer = embedding(store)
    train(layer, batches)
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))
    assert layer.anchor.numpy() == 0


@pytest.mark.parametrize("steps_per_execution", [1, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_rows_take_one_step_per_batch_below_a_dense_part(store, batches, optimizer, steps_per_execution):
    ids = keras.Input(IDS_SHAPE[1:], dtype="int64")
    model = keras.Model(ids, keras.layers.Dense(DIM)(embedding(store)(ids)))
    model.compile(optimizer, "mse", steps_per_execution=steps_per_execution)
    batches.fit(model)
    assert step_of(store) == len(batches)
    assert store.size() == len(batches.keys)


def test_rows_take_one_step_per_batch_in_a_recomputed_part_of_a_fitted_model(store, batches):
    class Recomputed(Subclassed):
        def build(self, input_shape):
            self.embedding.build(input_shape)

        def call(self, ids):
            return tf.recompute_grad(lambda x: self.embedding(x))(ids)

    # One forward pass and its repetition are two lookups in one traced step.
    model = Recomputed(embedding(store, EXACT_SGD))
    model.compile("adam", WeightedSum())
    batches.fit(model)
    assert_rows_equal(store, batches.oracle(optimizer=EXACT_SGD))


def test_cond_trains_the_rows_of_the_branch_taken(store, batches):
    layer = embedding(store)

    @tf.function
    def step(taken, ids, gradients):
        with tf.GradientTape() as tape:
            embeddings = tf.cond(taken, lambda: layer(ids), lambda: tf.zeros([*IDS_SHAPE, DIM]))
            loss = weighted_sum(gradients, embeddings)
        return tape.gradient(loss, layer.trainable_variables)

    oracle = OracleTable(DIM, optimizer=ADAM)
    for taken, (ids, gradients) in zip([True, False, True], batches, strict=True):
        step(tf.constant(taken), ids, gradients)
        if taken:
            oracle.apply_gradients(ids, gradients)
    assert_rows_equal(store, oracle)


def losses_in_while_loop(layer, batches):
    def add_loss(i, loss):
        return i + 1, loss + weighted_sum(all_gradients[i], layer(all_ids[i]))

    all_ids, all_gradients = tf.constant(batches.ids), tf.constant(batches.gradients)
    return tf.while_loop(lambda i, _: i < len(batches), add_loss, [0, 0.0])[1]


def losses_in_map(layer, batches):
    losses = tf.map_fn(
        lambda batch: weighted_sum(batch[1], layer(batch[0])),
        (tf.constant(batches.ids), tf.constant(batches.gradients)),
        fn_output_signature=tf.float32,
    )
    return tf.reduce_sum(losses)


def losses_in_cond_of_functions(layer, batches):
    loss = tf.function(lambda ids, gradients: weighted_sum(gradients, layer(ids)))
    return tf.add_n(
        [tf.cond(batch[0][0, 0] > -9, lambda b=batch: loss(*b), lambda: 0.0) for batch in batches]
    )


@pytest.mark.parametrize("losses", [losses_in_while_loop, losses_in_map, losses_in_cond_of_functions])
@pytest.mark.parametrize("tape_is", ["inside", "outside", "outside and persistent"])
def test_tape_around_control_flow_takes_one_step_per_lookup(store, batches, losses, tape_is):
    layer = embedding(store, **EXACT)

    def gradient(loss_of, persistent=False):
        with tf.GradientTape(persistent) as tape:
            loss = loss_of()
        return tape.gradient(loss, layer.trainable_variables)

    forward = tf.function(lambda: losses(layer, batches))
    if tape_is == "inside":
        tf.function(lambda: gradient(forward))()
    else:
        gradient(forward, persistent=tape_is.endswith("persistent"))
    assert_rows_equal(store, batches.oracle(**EXACT))


def cond_in_call(layer, ids):
    return tf.cond(tf.shape(ids)[0] > 0, lambda: layer(ids), lambda: tf.zeros([*IDS_SHAPE, DIM]))


def while_loop_in_call(layer, ids):
    def look_up(i, embeddings):
        return i + 1, embeddings + layer(ids)

    return tf.while_loop(lambda i, _: i < 1, look_up, [0, tf.zeros([*IDS_SHAPE, DIM])])[1]


@pytest.mark.parametrize("call", [cond_in_call, while_loop_in_call])
def test_fit_of_a_model_with_the_layer_in_control_flow(store, batches, call):
    class WithControlFlow(Subclassed):
        def call(self, ids):
            return call(self.embedding, ids)

    layer = embedding(store)
    layer.loss_scale = 1.0
    model = WithControlFlow(layer)
    model.compile("adam", WeightedSum())
    batches.fit(model)
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))


def test_all_zero_gradients_are_steps(store, batches):
    batches.gradients[:] = 0
    model = functional(embedding(store))
    model.compile("adam", WeightedSum())
    batches.fit(model)
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))
    assert store.row(0, batches.keys[0]).update_num > 0


def test_samples_of_weight_zero_are_steps(store, batches):
    model = functional(embedding(store))
    model.compile("adam", WeightedSum())
    weights = np.zeros(IDS_SHAPE[0], np.float32)
    for ids, gradients in batches:
        model.train_on_batch(ids, gradients, sample_weight=weights)
    batches.gradients[:] = 0
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))


def test_no_step_without_a_gradient(store, batches):
    layer = embedding(store)
    for ids, _ in batches:
        layer(ids)
        with tf.GradientTape():
            layer(ids)
    assert step_of(store) == 0
    assert store.size() == 0


# ---- Steps that a loop asks for itself ----


def test_each_gradient_of_a_persistent_tape_is_a_step(store, batches):
    layer = embedding(store, EXACT_SGD)
    ids, gradients = next(iter(batches))
    with tf.GradientTape(persistent=True) as tape:
        loss = weighted_sum(gradients, tf.function(layer)(ids))
    tape.gradient(loss, layer.trainable_variables)
    tape.gradient(loss, layer.trainable_variables)
    oracle = OracleTable(DIM, optimizer=EXACT_SGD)
    oracle.apply_gradients(ids, gradients)
    oracle.apply_gradients(ids, gradients)
    assert_rows_equal(store, oracle)


def test_gradient_of_the_dense_part_of_a_function_is_a_step(store, batches):
    train_dense_part_only(embedding(store), batches)
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))


def gradient_penalty(layer, ids, weight):
    """A loss and its gradient, then the gradient of a loss that depends on that gradient."""
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            loss = tf.reduce_sum(tf.square(tf.function(layer)(ids)) * weight)
        gradient = inner.gradient(loss, [weight, *layer.trainable_variables])[0]
        penalised = loss + tf.square(gradient)
    outer.gradient(penalised, [weight, *layer.trainable_variables])


def test_each_gradient_of_nested_tapes_is_a_step(store, batches):
    layer = embedding(store)
    gradient_penalty(layer, tf.constant(batches.ids[0]), tf.Variable(2.0))
    assert step_of(store) == 2


def test_frozen_lets_no_gradient_of_nested_tapes_through(store, batches):
    layer = embedding(store)
    with layer.frozen():
        gradient_penalty(layer, tf.constant(batches.ids[0]), tf.Variable(2.0))
    assert step_of(store) == 0


# ---- Freezing ----


def train_dense_part_only(layer, batches):
    """Asks for the gradient of a dense variable in the function that looks up."""
    dense = tf.Variable(1.0)
    forward = tf.function(lambda ids: layer(ids) * dense)
    for ids, gradients in batches:
        with tf.GradientTape() as tape:
            loss = weighted_sum(gradients, forward(ids))
        tape.gradient(loss, dense)


def train_frozen_by_trainable(layer, batches):
    layer.trainable = False
    train_dense_part_only(layer, batches)
    fit(layer, batches)


def train_frozen_by_trainable_of_model(layer, batches):
    model = functional(layer)
    model.trainable = False
    model.compile("adam", WeightedSum())
    batches.fit(model)


def train_frozen_by_training_false(layer, batches):
    for forward in (layer, tf.function(layer)):
        for ids, gradients in batches:
            with tf.GradientTape() as tape:
                loss = weighted_sum(gradients, forward(ids, training=False))
            tape.gradient(loss, layer.trainable_variables)


def train_frozen_by_frozen(layer, batches):
    with layer.frozen():
        with layer.frozen():
            eager_tape(layer, batches)
        tape_in_function(layer, batches)


def predict_and_evaluate(layer, batches):
    model = functional(layer)
    model.compile("adam", WeightedSum())
    ids = batches.ids[0]
    model.predict(ids, verbose=0)
    model.evaluate(ids, batches.gradients[0], verbose=0)
    model.test_on_batch(ids, batches.gradients[0])


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
@pytest.mark.parametrize(
    "use",
    [
        train_frozen_by_trainable,
        train_frozen_by_trainable_of_model,
        train_frozen_by_training_false,
        train_frozen_by_frozen,
        predict_and_evaluate,
    ],
)
def test_frozen_rows_stay_as_they_are(store, batches, use):
    layer = embedding(store)
    tape_in_function(layer, batches)
    before = rows_of(store, 0, batches.keys)
    use(layer, batches)
    assert rows_of(store, 0, batches.keys) == before
    assert step_of(store) == len(batches)


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
@pytest.mark.parametrize(
    "use",
    [
        train_frozen_by_trainable,
        train_frozen_by_trainable_of_model,
        train_frozen_by_training_false,
        train_frozen_by_frozen,
        predict_and_evaluate,
    ],
)
def test_lookups_outside_training_bring_no_row_into_memory(tmp_path, batches, use):
    with damo_tf.Store(tmp_path / "store") as store:
        tape_in_function(embedding(store), batches)
    with damo_tf.Store(tmp_path / "store") as store:  # opened anew: no row is in memory
        layer = embedding(store)
        layer.build(None)
        use(layer, batches)
        assert store.stats()["groups"][0]["lookups"] > 0
        assert memory_of(store) == (0, 0, 0)
        layer.trainable = True
        eager_tape(layer, batches)
        assert memory_of(store)[:2] == (store.size(), store.size())


@pytest.mark.parametrize("losses", [losses_in_while_loop, losses_in_map, losses_in_cond_of_functions])
@pytest.mark.parametrize("frozen_by", ["training", "trainable", "frozen"])
@pytest.mark.parametrize("combiner", [None, "sum"])
def test_frozen_rows_stay_as_they_are_beside_a_weight_that_trains_in_control_flow(
    store, batches, losses, frozen_by, combiner
):
    # TensorFlow runs every op with state in a branch's or body's gradient, whether it is asked for or not.
    layer, weight = embedding(store, combiner=combiner), tf.Variable(2.0)
    layer.trainable = frozen_by != "trainable"
    training = False if frozen_by == "training" else None

    def forward(ids):
        vectors = layer(ids, training=training)
        return weight * (vectors if combiner is None else vectors[:, tf.newaxis])

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            loss = losses(forward, batches)
        return tape.gradient(loss, weight)

    with layer.frozen() if frozen_by == "frozen" else nullcontext():
        assert gradient() != 0
    assert (step_of(store), store.size()) == (0, 0)


def test_rows_train_again_after_frozen(store, batches):
    layer = embedding(store)
    with pytest.raises(ZeroDivisionError), layer.frozen():
        raise ZeroDivisionError
    eager_tape(layer, batches)
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))


# ---- Optimizers of the dense part ----

KERAS_OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.1),
    "adamw_clipnorm": lambda: keras.optimizers.AdamW(0.1, clipnorm=1.0),
    "global_clipnorm": lambda: keras.optimizers.Adam(0.1, global_clipnorm=0.01),
    "clipvalue": lambda: keras.optimizers.Adam(0.1, clipvalue=0.01),
    "ema": lambda: keras.optimizers.Adam(0.1, use_ema=True, ema_overwrite_frequency=1),
    "accumulation": lambda: keras.optimizers.Adam(0.1, gradient_accumulation_steps=2),
    "ftrl": lambda: keras.optimizers.Ftrl(0.1),
    "lamb": lambda: keras.optimizers.Lamb(0.1),
    "lion": lambda: keras.optimizers.Lion(0.1),
    "muon": lambda: keras.optimizers.Muon(0.1),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.1),
}


@pytest.mark.parametrize("name", KERAS_OPTIMIZERS)
def test_anchor_stays_zero_and_rows_step_whatever_trains_the_dense_part(store, batches, name):
    layer = embedding(store)
    model = functional(layer)
    model.compile(KERAS_OPTIMIZERS[name](), WeightedSum())
    batches.fit(model)
    assert bits(layer.anchor.numpy()) == 0
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))


# ---- Several lookups of one group ----


def test_lookup_after_apply_in_one_function_sees_the_update(store, batches):
    layer = embedding(store)

    @tf.function
    def step(ids, gradients):
        with tf.GradientTape() as tape:
            before = layer(ids)
            loss = weighted_sum(gradients, before)
        tape.gradient(loss, layer.trainable_variables)
        return before, layer(ids, training=False)

    oracle = OracleTable(DIM, optimizer=ADAM)
    for ids, gradients in batches:
        before, after = step(ids, gradients)
        np.testing.assert_array_equal(before, oracle.lookup(ids))
        oracle.apply_gradients(ids, gradients)
        np.testing.assert_array_equal(after, oracle.lookup(ids))


def test_equal_lookups_around_an_apply_are_not_merged(store):
    store.add_group(0, DIM, optimizer=EXACT_SGD, initializer="zeros")
    handle = get_table(store.storage, 0).handle

    @tf.function
    def step(keys, anchor):
        before, _ = ops.lookup(handle, keys, anchor, dim=DIM)
        ops.apply_gradients(handle, keys, tf.ones([1, DIM]))
        after, _ = ops.lookup(handle, keys, anchor, dim=DIM)
        return before, after

    before, after = step(tf.constant([1], tf.int64), tf.constant(0.0))
    np.testing.assert_array_equal(before, np.zeros((1, DIM)))
    np.testing.assert_array_equal(after, np.full((1, DIM), -0.5))


def test_two_layers_on_one_group_share_rows_and_order(store, batches):
    first, second = embedding(store), embedding(store, name="second")

    @tf.function
    def step(ids, gradients):
        train_step(first, ids, gradients)
        return second(ids, training=False)

    oracle = OracleTable(DIM, optimizer=ADAM)
    for ids, gradients in batches:
        after = step(ids, gradients)
        oracle.apply_gradients(ids, gradients)
        np.testing.assert_array_equal(after, oracle.lookup(ids))
    assert_rows_equal(store, oracle)


def test_two_layers_in_one_model_each_take_a_step(store, batches):
    left, right = embedding(store, EXACT_SGD), embedding(store, EXACT_SGD)
    ids = keras.Input(IDS_SHAPE[1:], dtype="int64")
    model = keras.Model(ids, keras.layers.Add()([left(ids), right(ids)]))
    model.compile("sgd", WeightedSum())
    batches.fit(model)
    oracle = OracleTable(DIM, optimizer=EXACT_SGD)
    for keys, gradients in batches:
        oracle.apply_gradients(keys, gradients)
        oracle.apply_gradients(keys, gradients)
    assert_rows_equal(store, oracle)


def sum_of_two_features(layer, separately):
    """A model that adds the embeddings of two features, looked up in one call or in two."""
    a = keras.Input(IDS_SHAPE[1:], dtype="int64", name="a")
    b = keras.Input(IDS_SHAPE[1:], dtype="int64", name="b")
    outputs = [layer(a), layer(b)] if separately else list(layer({"a": a, "b": b}).values())
    return keras.Model([a, b], keras.layers.Add()(outputs))


def train_two_features(model, batches):
    """Feature b is feature a in reverse order: every key occurs in both."""
    model.compile(keras.optimizers.SGD(EXACT_SGD["gamma"]), WeightedSum())
    for ids, gradients in batches:
        model.train_on_batch([ids, ids[::-1]], gradients)


@pytest.mark.parametrize("separately", [False, True])
def test_features_of_one_table_train_like_a_dense_embedding(store, batches, separately):
    layer = embedding(store, EXACT_SGD)
    dense = keras.layers.Embedding(11, DIM)
    model = sum_of_two_features(layer, separately)
    dense_model = sum_of_two_features(_Shifted(dense), separately)
    dense.set_weights([store.lookup(0, np.arange(-5, 6))])
    train_two_features(model, batches)
    train_two_features(dense_model, batches)
    # Same products, summed in another order.
    np.testing.assert_allclose(store.lookup(0, np.arange(-5, 6)), dense.get_weights()[0], rtol=0, atol=1e-5)


class _Shifted(keras.layers.Layer):
    """A dense embedding of the ids -5..5, called with a tensor or a dict of them."""

    def __init__(self, dense):
        super().__init__()
        self.dense = dense

    def call(self, ids):
        return tf.nest.map_structure(lambda x: self.dense(x + 5), ids)


def test_features_in_one_call_are_one_step(store, batches):
    train_two_features(sum_of_two_features(embedding(store), separately=False), batches)
    oracle = OracleTable(DIM, optimizer=ADAM)
    for ids, gradients in batches:
        both = tf.stack([ids, ids[::-1]])
        oracle.apply_gradients(both, tf.stack([gradients, gradients]))
    assert_rows_equal(store, oracle)


def test_features_in_two_calls_are_two_steps_and_warn_once(store, batches):
    model = sum_of_two_features(embedding(store), separately=True)
    with pytest.warns(UserWarning, match="is looked up by several calls in one step") as caught:
        train_two_features(model, batches)
        train_two_features(model, batches)  # traced anew
    assert len(caught) == 1
    assert "group 0 of store" in str(caught[0].message)
    assert step_of(store) == 4 * len(batches)


@pytest.mark.parametrize(
    ("optimizer", "separately"), [(EXACT_SGD, True), (ADAM, False)], ids=["sgd", "one call"]
)
def test_no_warning_where_several_lookups_are_exact(store, batches, optimizer, separately):
    model = sum_of_two_features(embedding(store, optimizer), separately)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_two_features(model, batches)


def test_no_warning_for_a_lookup_that_does_not_train(store, batches):
    layer = embedding(store)

    @tf.function
    def step(ids):
        return layer(ids) + layer(ids, training=False)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(next(iter(batches))[0])


# ---- Handles ----


def test_handle_is_one_tensor_per_group_and_store(store):
    first, second = embedding(store), embedding(store)
    other = embedding(store, group=1)
    for layer in (first, second, other):
        layer.build(IDS_SHAPE)
    assert get_table(store.storage, 0) is get_table(store.storage, 0)
    assert first._table.handle is second._table.handle
    assert other._table.handle is not first._table.handle


@pytest.mark.parametrize("make", [tf.function, lambda f: f], ids=["function", "eager"])
def test_handle_is_eager_wherever_the_layer_is_first_called(store, batches, make):
    layer = embedding(store)
    make(layer)(next(iter(batches))[0])
    assert isinstance(layer._table.handle, tf.__internal__.EagerTensor)
    assert layer._table.handle is get_table(store.storage, 0).handle


def test_handle_of_a_store_opened_again_is_new(tmp_path):
    handles = []
    for _ in range(2):
        with damo_tf.Store(tmp_path) as store:
            store.add_group(0, DIM)
            handle = get_table(store.storage, 0).handle
            assert ops.size(handle) == 0
            handles.append(handle)
    assert handles[0] is not handles[1]


def test_handle_data_is_that_of_a_float_scalar(store):
    # Table sets a private field of TensorFlow. What reads it are the tests above of persistent and nested
    # tapes and of control flow.
    store.add_group(0, DIM)
    handle_data = get_table(store.storage, 0).handle._handle_data
    assert handle_data.is_set
    (entry,) = handle_data.shape_and_type
    assert tf.dtypes.as_dtype(entry.dtype) == tf.float32
    assert tf.TensorShape(entry.shape) == tf.TensorShape([])
