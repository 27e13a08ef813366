# SPDX-License-Identifier: Apache-2.0
"""Mixed precision and scaled losses: rows get the gradients of the loss as it was before scaling."""

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
    functional,
    weighted_sum,
)
from oracles import OracleTable
from stored_rows import assert_rows_equal, bits, rows_of, step_of

import damo_tf

pytestmark = pytest.mark.usefixtures("keras_seed")

ADAM = {"name": "adam", "gamma": 0.05}
# An odd scale, so that scaling and unscaling are not exact.
ODD_SCALE = 1000.1


@pytest.fixture
def batches(rng) -> KnownGradients:
    return KnownGradients(rng)


@pytest.fixture
def layer(store) -> damo_tf.Embedding:
    return damo_tf.Embedding(DIM, store=store, optimizer=ADAM)


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16"])
def mixed_policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


mixed_float16 = pytest.mark.parametrize("mixed_policy", ["mixed_float16"], indirect=True)


def assert_rows_close(store, oracle, rtol):
    """Asserts steps and counts exactly, weights to `rtol` of the learning rate per step."""
    assert step_of(store) == oracle.global_step
    for key, expected in oracle.rows.items():
        row = store.row(0, key)
        assert row.update_num == expected.update_num
        np.testing.assert_allclose(row.weights, expected.weights, rtol=0, atol=rtol)
        np.testing.assert_allclose(row.slots["m"], expected.slots["m"], rtol=rtol, atol=rtol)


# ---- What undoes the scale by itself ----


def test_mixed_precision_trains_float32_rows(store, batches, mixed_policy):
    model = functional(damo_tf.Embedding(DIM, store=store, optimizer=ADAM))
    model.compile("adam", WeightedSum())  # mixed_float16: wrapped in a LossScaleOptimizer
    batches.fit(model)
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (mixed_policy == "mixed_float16")
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))


def test_output_has_the_compute_dtype_and_rows_are_float32(store, mixed_policy):
    layer = damo_tf.Embedding(DIM, store=store)
    output = layer(np.array([1, 2]))
    assert output.dtype == layer.compute_dtype == mixed_policy.removeprefix("mixed_")
    assert layer(keras.Input((2,), dtype="int64")).dtype == layer.compute_dtype
    assert layer.anchor.dtype == "float32"
    np.testing.assert_array_equal(output, tf.cast(store.lookup(0, [1, 2]), output.dtype))


# Scales that are powers of two change no bit of a gradient.
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), initial_scale=1024),
        lambda: keras.optimizers.SGD(loss_scale_factor=256),
        lambda: keras.optimizers.Adam(loss_scale_factor=0.125),
    ],
    ids=["LossScaleOptimizer", "loss_scale_factor", "factor below 1"],
)
def test_scale_that_is_a_power_of_two_changes_no_bit(store, layer, batches, optimizer):
    model = functional(layer)
    model.compile(optimizer(), WeightedSum())
    batches.fit(model)
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))
    assert bits(layer.anchor.numpy()) == 0


def test_any_other_scale_changes_rows_by_rounding_only(store, layer, batches):
    model = functional(layer)
    model.compile(keras.optimizers.SGD(loss_scale_factor=ODD_SCALE), WeightedSum())
    batches.fit(model)
    # Two float32 roundings per gradient: relative errors of about 1e-7 before Adam.
    assert_rows_close(store, batches.oracle(optimizer=ADAM), rtol=1e-5)


def test_weighted_loss_scales_nothing_but_itself(store, layer, batches):
    # Keras multiplies the loss of an output, not the layers' losses, by its weight.
    model = functional(layer)
    model.compile("sgd", WeightedSum(), loss_weights=[0.5])
    batches.fit(model)
    batches.gradients *= 0.5
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))


# ---- Loops of one's own ----


def train(layer, batches, scaled_loss, function=tf.function):
    @function
    def step(ids, gradients):
        with tf.GradientTape() as tape:
            loss = scaled_loss(weighted_sum(gradients, layer(ids)))
        return tape.gradient(loss, layer.trainable_variables)

    for batch in batches:
        step(*batch)


@pytest.mark.parametrize("function", [tf.function, lambda f: f], ids=["function", "eager"])
@pytest.mark.parametrize(
    "scaled_loss",
    [
        lambda layer, loss: loss,
        lambda layer, loss: loss + sum(layer.losses),
        lambda layer, loss: 512.0 * (loss + sum(layer.losses)),
    ],
    ids=["unscaled, no losses", "unscaled", "scaled"],
)
def test_loop_that_adds_the_losses_or_does_not_scale(store, layer, batches, scaled_loss, function):
    train(layer, batches, lambda loss: scaled_loss(layer, loss), function)
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))


@pytest.mark.parametrize("scale", [512.0, 512, lambda: tf.constant(512.0), lambda: 512])
def test_loop_that_scales_without_the_losses_says_by_what(store, layer, batches, scale):
    layer.loss_scale = scale
    train(layer, batches, lambda loss: 512.0 * loss)
    assert layer.losses == []
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))


def test_loss_scale_that_changes_is_read_at_each_step(store, layer, batches):
    scale = tf.Variable(1.0)
    layer.loss_scale = lambda: scale

    @tf.function
    def step(ids, gradients):
        with tf.GradientTape() as tape:
            loss = scale * weighted_sum(gradients, layer(ids))
        tape.gradient(loss, layer.trainable_variables)
        scale.assign(scale * 4)

    for batch in batches:
        step(*batch)
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))


def test_scale_of_a_recomputed_part_must_be_given(store, layer, batches):
    # Of a recomputed call TensorFlow keeps the outputs alone, not the layer's losses.
    layer.build(IDS_SHAPE)
    layer.loss_scale = 512.0
    forward = tf.recompute_grad(lambda ids: layer(ids))
    for ids, gradients in batches:
        with tf.GradientTape() as tape:
            loss = 512.0 * weighted_sum(gradients, forward(ids))
        tape.gradient(loss, layer.trainable_variables)
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1.0, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (True, TypeError),
        ("2", TypeError),
    ],
)
def test_loss_scale_is_a_positive_number_or_a_function(layer, value, error):
    with pytest.raises(error, match=r"`loss_scale` must be .* > 0\. Received: loss_scale="):
        layer.loss_scale = value
    assert layer.loss_scale is None


def test_loss_scale_of_none_finds_out_again(store, layer, batches):
    layer.loss_scale = 3.0
    layer.loss_scale = None
    train(layer, batches, lambda loss: 512.0 * (loss + sum(layer.losses)))
    assert_rows_equal(store, batches.oracle(optimizer=ADAM))


# ---- Overflow ----


class WithBias(Subclassed):
    """Embeddings plus a float32 weight, whose gradient does not overflow when theirs does."""

    def build(self, input_shape):
        self.bias = self.add_weight(shape=(), dtype="float32", autocast=False)

    def call(self, ids):
        return tf.cast(self.embedding(ids), tf.float32) + self.bias


@mixed_float16
def test_overflow_skips_rows_and_dense_step_and_lowers_the_scale(store, batches, mixed_policy):
    model = WithBias(damo_tf.Embedding(DIM, store=store, optimizer=ADAM))
    model.compile("adam", WeightedSum())
    ids, gradients = batches.ids[0], batches.gradients[0]
    model.train_on_batch(ids, gradients)
    scale = float(model.optimizer.dynamic_scale)
    weights = [w.numpy() for w in model.weights]
    rows = rows_of(store, 0, batches.keys)

    model.train_on_batch(ids, np.full_like(gradients, 3.0))  # 3 * 32768 is infinite in float16

    assert rows_of(store, 0, batches.keys) == rows
    assert store.stats()["groups"][0]["skipped"] == np.unique(ids).size
    assert step_of(store) == 2
    for after, before in zip(model.weights, weights, strict=True):
        np.testing.assert_array_equal(bits(after.numpy()), bits(before))
    assert float(model.optimizer.dynamic_scale) == scale / 2
    assert model.optimizer.inner_optimizer.iterations == 1


@mixed_float16
def test_training_goes_on_after_an_overflow(store, batches, mixed_policy):
    model = functional(damo_tf.Embedding(DIM, store=store, optimizer=ADAM))
    model.compile("adam", WeightedSum())
    oracle = OracleTable(DIM, optimizer=ADAM)
    ids, gradients = batches.ids[0], batches.gradients[0]
    for size, outcome in [(3.0, np.inf), (3.0, 3.0), (1.0, 1.0)]:
        model.train_on_batch(ids, size * gradients.round() + size * (gradients == 0))
        with np.errstate(invalid="ignore"):
            oracle.apply_gradients(ids, outcome * gradients.round() + outcome * (gradients == 0))
    assert_rows_equal(store, oracle)


def test_gradient_that_is_not_finite_skips_its_row_only(store, layer, batches):
    gradients = batches.gradients[0]
    gradients[0, 0, 0] = np.nan
    gradients[1, 0, 0] = np.inf
    model = functional(layer)
    model.compile("sgd", WeightedSum())
    batches.fit(model)
    oracle = batches.oracle(optimizer=ADAM)
    assert oracle.skipped > 0
    assert_rows_equal(store, oracle)
    assert store.stats()["groups"][0]["skipped"] == oracle.skipped
    assert bits(layer.anchor.numpy()) == 0  # without a scale the dense part must go on


def train_beside_a_dense_weight(layer, batches, optimizer, **settings) -> np.ndarray:
    """Trains rows, and beside them a weight whose gradient has nothing to do with theirs; returns it."""
    ids = keras.Input(IDS_SHAPE[1:], dtype="int64")
    dense = keras.layers.Dense(1, kernel_initializer="ones")
    model = keras.Model(ids, [layer(ids), dense(keras.ops.cast(ids, "float32"))])
    model.compile(optimizer, [WeightedSum(), "mse"], **settings)
    for keys, gradients in zip(batches.ids, batches.gradients, strict=True):
        model.train_on_batch(keys, [gradients, np.ones((IDS_SHAPE[0], 1))])
    return dense.kernel.numpy()


FIXED_SCALES = {
    "alone": lambda: keras.optimizers.SGD(loss_scale_factor=256),
    "global_clipnorm": lambda: keras.optimizers.SGD(loss_scale_factor=256, global_clipnorm=0.1),
    "averages": lambda: keras.optimizers.Adam(loss_scale_factor=256, use_ema=True, ema_overwrite_frequency=1),
    "accumulation": lambda: keras.optimizers.Adam(loss_scale_factor=256, gradient_accumulation_steps=2),
}


@pytest.mark.parametrize("name", FIXED_SCALES)
@pytest.mark.parametrize("combiner", [None, "sum"])
def test_gradient_that_is_not_finite_skips_its_row_only_under_a_fixed_scale(store, batches, name, combiner):
    def trained(group: int) -> tuple:
        layer = damo_tf.Embedding(DIM, store=store, group=group, optimizer=ADAM, combiner=combiner)
        if combiner is not None:
            call = layer.call
            layer.call = lambda ids, **options: call(ids[..., tf.newaxis], **options)
        kernel = train_beside_a_dense_weight(layer, batches, FIXED_SCALES[name]())
        return kernel, layer.anchor.numpy()

    expected, _ = trained(0)
    batches.gradients[0, 0, 0] = np.nan
    kernel, anchor = trained(1)
    assert store.stats()["groups"][1]["skipped"] > 0
    assert bits(anchor) == 0
    np.testing.assert_array_equal(kernel, expected)


def test_anchor_stays_zero_where_it_cannot_be_told_that_a_scale_is_fixed(store, layer, batches):
    batches.gradients[0, 0, 0] = np.nan
    kernel = train_beside_a_dense_weight(layer, batches, FIXED_SCALES["alone"](), run_eagerly=True)
    assert store.stats()["groups"][0]["skipped"] > 0
    assert bits(layer.anchor.numpy()) == 0
    assert np.isfinite(kernel).all()


@pytest.mark.parametrize(("scale", "is_nan"), [(512.0, False), (lambda: tf.Variable(512.0), True)])
def test_loop_of_ones_own_sees_the_overflow_of_a_scale_that_may_change(layer, batches, scale, is_nan):
    made = scale() if callable(scale) else None
    layer.loss_scale = scale if made is None else lambda: made

    @tf.function
    def anchor_gradient(ids, gradients):
        with tf.GradientTape() as tape:
            loss = 512.0 * weighted_sum(gradients, layer(ids))
        return tape.gradient(loss, layer.anchor.value)

    batches.gradients[0, 0, 0] = np.inf
    found = [float(anchor_gradient(*batch)) for batch in batches]
    assert [np.isnan(found[0]), *found[1:]] == [is_nan, 0, 0]


# ---- Replicas ----

TWO_REPLICAS = """
import sys
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import damo_tf
from known_gradients import DIM, IDS_SHAPE, KnownGradients, WeightedSum, functional, weighted_sum

batches = KnownGradients(np.random.default_rng(int(sys.argv[2])))
store = damo_tf.Store(sys.argv[1])
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2

def embedding(group):
    optimizer = {"name": "sgd", "gamma": 0.5}
    return damo_tf.Embedding(DIM, store=store, group=group, initializer="ones", optimizer=optimizer)

with strategy.scope():
    summed = functional(embedding(group=0))
    summed.compile(keras.optimizers.SGD(loss_scale_factor=32), WeightedSum())
    averaged = functional(embedding(group=1))
    averaged.compile("sgd", WeightedSum("sum_over_batch_size"))
    own_loop = embedding(group=2)
    own_loop.loss_scale = 64.0
    dynamic = functional(embedding(group=3))
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), initial_scale=1024)
    dynamic.compile(optimizer, WeightedSum())
batches.fit(summed)
batches.fit(dynamic)
assert [layer.anchor.numpy() for layer in (summed.layers[1], dynamic.layers[1])] == [0, 0]

@tf.function
def step(ids, gradients):
    with tf.GradientTape() as tape:
        loss = 64.0 * weighted_sum(gradients, own_loop(ids))
    return tape.gradient(loss, own_loop.trainable_variables)

dataset = tf.data.Dataset.from_tensor_slices((batches.ids, batches.gradients))
for batch in strategy.experimental_distribute_dataset(dataset.unbatch().batch(IDS_SHAPE[0])):
    strategy.run(step, args=batch)

batches.gradients *= IDS_SHAPE[0]  # what the average divides by
batches.fit(averaged)
store.close()
"""


def test_rows_get_the_sum_of_the_gradients_of_replicas(tmp_path, run_with_tensorflow, seed):
    run_with_tensorflow(TWO_REPLICAS, tmp_path / "store", seed)
    batches = KnownGradients(np.random.default_rng(seed))
    with damo_tf.Store(tmp_path / "store") as store:
        for group in (0, 1, 2, 3):
            expected = batches.oracle(
                group=group, initializer="ones", optimizer={"name": "sgd", "gamma": 0.5}
            )
            keys = list(expected.rows)
            np.testing.assert_array_equal(store.lookup(group, keys), expected.lookup(keys))
            assert step_of(store, group) == len(batches)
