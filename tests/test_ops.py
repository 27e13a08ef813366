# SPDX-License-Identifier: Apache-2.0
"""The TensorFlow ops: shapes, refusals, and equality with the damo module, bit for bit."""

import damo
import numpy as np
import pytest
import tensorflow as tf
from stored_rows import bits, rows_of, step_of

import damo_tf
from damo_tf import ops
from damo_tf._native import ops as raw_ops
from damo_tf.table import get_table

DIM = 4
ANCHOR = tf.constant(0.0)
KEYS = tf.constant([1, 2], tf.int64)


@pytest.fixture
def handle(store) -> tf.Tensor:
    store.add_group(0, DIM, optimizer="sgd")
    return get_table(store.storage, 0).handle


def lookup(handle, keys=KEYS, anchor=ANCHOR, dim=DIM, **settings):
    return ops.lookup(handle, keys, anchor, dim=dim, **settings)


EAGER_OR_FUNCTION = pytest.mark.parametrize("function", [lambda f: f, tf.function], ids=["eager", "function"])


# ---- Shape functions ----


def traced_shapes(function, *specs):
    """Static shapes of a function's outputs, traced with TensorSpecs; None for unknown rank."""
    outputs = tf.function(function).get_concrete_function(*specs).structured_outputs
    shapes = tf.nest.map_structure(lambda t: t.shape, outputs)
    return [None if shape.rank is None else shape.as_list() for shape in tf.nest.flatten(shapes)]


@pytest.mark.parametrize("dtype", [tf.int64, tf.uint64])
@pytest.mark.parametrize(
    ("keys", "embeddings"),
    [
        ([], [DIM]),
        ([3], [3, DIM]),
        ([2, 3], [2, 3, DIM]),
        ([0, 3], [0, 3, DIM]),
        ([None, 3], [None, 3, DIM]),
        ([None, None], [None, None, DIM]),
        (None, None),
    ],
)
def test_lookup_appends_dim_to_the_shape_of_keys(handle, keys, embeddings, dtype):
    spec = tf.TensorSpec(keys, dtype)
    assert traced_shapes(lambda k: lookup(handle, k), spec) == [embeddings, []]


@pytest.mark.parametrize(
    ("keys", "gradients"),
    [
        ([3], [3, DIM]),
        ([None], [3, DIM]),
        ([3], [None, None]),
        ([None, 3], [2, None, DIM]),
        (None, None),
        (None, [3, DIM]),
        ([3], None),
    ],
)
def test_apply_gradients_takes_shapes_that_may_fit(handle, keys, gradients):
    specs = tf.TensorSpec(keys, tf.int64), tf.TensorSpec(gradients, tf.float32)
    assert traced_shapes(lambda k, g: ops.apply_gradients(handle, k, g), *specs) == [[]]


@pytest.mark.parametrize(
    ("keys", "gradients"),
    [([3], [4, DIM]), ([3], [3]), ([], [1, DIM]), ([2, 3], [2, DIM]), ([None, 3], [2, 4, DIM])],
)
def test_apply_gradients_refuses_shapes_that_cannot_fit_when_traced(handle, keys, gradients):
    specs = tf.TensorSpec(keys, tf.int64), tf.TensorSpec(gradients, tf.float32)
    with pytest.raises(
        ValueError, match=r"Dimension \d in both shapes must be equal|Shapes must be equal rank"
    ):
        traced_shapes(lambda k, g: ops.apply_gradients(handle, k, g), *specs)


@pytest.mark.parametrize("dtype", [tf.int64, tf.uint64])
@pytest.mark.parametrize("keys", [[], [3], [0, 3], [None, 3], None])
def test_prefetch_has_the_shape_of_keys(handle, keys, dtype):
    assert traced_shapes(lambda k: ops.prefetch(handle, k), tf.TensorSpec(keys, dtype)) == [keys]


def test_size_and_handle_are_scalars(store, handle):
    assert traced_shapes(lambda: ops.size(handle)) == [[]]
    assert traced_shapes(lambda: ops.step(handle)) == [[]]
    assert traced_shapes(lambda: ops.table_handle(store.directory, 0)) == [[]]
    unknown = tf.TensorSpec(None, tf.string)
    assert traced_shapes(lambda directory: ops.table_handle(directory, 0), unknown) == [[]]


@pytest.mark.parametrize(
    "call",
    [
        lambda handle, vector: lookup(vector),
        lambda handle, vector: lookup(handle, anchor=tf.zeros([1])),
        lambda handle, vector: ops.apply_gradients(vector, KEYS, tf.zeros([2, DIM])),
        lambda handle, vector: ops.apply_gradients(handle, KEYS, tf.zeros([2, DIM]), loss_scale=[1.0]),
        lambda handle, vector: ops.prefetch(vector, KEYS),
        lambda handle, vector: ops.table_handle(["a", "b"], 0),
        lambda handle, vector: lookup(handle, learning_rate=tf.zeros([1])),
        lambda handle, vector: ops.apply_gradients(handle, KEYS, tf.zeros([2, DIM]), learning_rate=[1.0]),
    ],
    ids=[
        "table",
        "anchor",
        "table of apply",
        "loss_scale",
        "table of prefetch",
        "directory",
        "rate",
        "apply's rate",
    ],
)
def test_scalars_are_checked_when_traced(handle, call):
    vector = tf.raw_ops.Pack(values=[handle, handle], axis=0)
    with pytest.raises(ValueError, match="Shape must be rank 0 but is rank 1"):
        tf.function(lambda: call(handle, vector))()


# ---- Refusals when run ----


def unknown_shape(value):
    """The value, with a shape that no shape function can see."""
    return tf.numpy_function(lambda: np.float32(value), [], tf.float32)


@EAGER_OR_FUNCTION
@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda h: lookup(h, dim=5),
            r"`dim` must be the table's, 4 in group 0 of damo store '.*'\. Received: dim=5",
        ),
        (
            lambda h: lookup(h, anchor=unknown_shape([0.0])),
            r"`anchor` must be a scalar\. Received shape: \[1\]",
        ),
        (
            lambda h: ops.apply_gradients(h, KEYS, unknown_shape(np.zeros([2, 5]))),
            r"`gradients` must have shape keys.shape \+ \[dim\] = \[2,4\]\. Received shape: \[2,5\]",
        ),
        (
            lambda h: ops.apply_gradients(h, KEYS, unknown_shape(np.zeros([3, DIM]))),
            r"`gradients` must have shape .* \[2,4\]\. Received shape: \[3,4\]",
        ),
        (
            lambda h: ops.apply_gradients(h, KEYS, unknown_shape(np.zeros([8]))),
            r"`gradients` must have shape .* \[2,4\]\. Received shape: \[8\]",
        ),
        (
            lambda h: ops.apply_gradients(h, KEYS, tf.zeros([2, DIM]), loss_scale=unknown_shape([1])),
            r"`loss_scale` must be a scalar\. Received shape: \[1\]",
        ),
        (
            lambda h: ops.apply_gradients(h, KEYS, tf.zeros([2, DIM]), loss_scale=np.inf),
            r"`loss_scale` must be finite and its reciprocal, too\. Received: inf",
        ),
        (
            lambda h: ops.apply_gradients(h, KEYS, tf.zeros([2, DIM]), loss_scale=np.nan),
            r"`loss_scale` must be finite and its reciprocal, too\. Received: -?nan",
        ),
        (
            lambda h: lookup(h, learning_rate=unknown_shape([1.0])),
            r"`learning_rate` must be a scalar\. Received shape: \[1\]",
        ),
        (
            lambda h: raw_ops.damo_embedding_lookup(h, KEYS, ANCHOR, [0.5, 0.5], dim=DIM),
            r"`learning_rate` must hold at most one rate\. Received: 2",
        ),
        (
            lambda h: lookup(h, learning_rate=-0.5),
            r"`learning_rate` must be >= 0 and finite in float32\. Received: learning_rate=-0\.5",
        ),
        (
            lambda h: ops.apply_gradients(h, KEYS, tf.zeros([2, DIM]), learning_rate=unknown_shape([1])),
            r"`learning_rate` must be a scalar\. Received shape: \[1\]",
        ),
        (
            lambda h: ops.apply_gradients(h, KEYS, tf.zeros([2, DIM]), learning_rate=np.inf),
            r"`learning_rate` must be >= 0 and finite in float32\. Received: learning_rate=inf",
        ),
        (
            lambda h: ops.table_handle("", 0),
            r"`directory` must be a path\. Received: directory=''",
        ),
    ],
)
def test_bad_input_is_an_invalid_argument(store, handle, function, call, text):
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        function(lambda: call(handle))()
    assert step_of(store) == 0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda h: lookup(h, dim=0), "attr 'dim' of 0 must be at least minimum 1"),
        (lambda h: lookup(h, missing="none"), "attr 'missing' of \"none\" is not in the list"),
        (lambda h: lookup(h, keys=tf.constant([1.0])), "attr 'Tkeys' of float is not in the list"),
        (lambda h: lookup(h, keys=tf.constant([1])), "attr 'Tkeys' of int32 is not in the list"),
        (lambda h: lookup(h, anchor=tf.constant(0.0, tf.float64)), "expected to be a float tensor"),
        (
            lambda h: ops.apply_gradients(h, KEYS, tf.zeros([2, DIM], tf.float64)),
            "expected to be a float tensor",
        ),
        (lambda h: ops.table_handle("x", -1), "attr 'group' of -1 must be at least minimum 0"),
        (lambda h: ops.table_handle("x", 256), r"`group` must be .*256.*Received: group=256"),
        (lambda h: ops.table_handle(["x"], 0), r"`directory` must be a scalar\. Received shape: \[1\]"),
        (
            lambda h: raw_ops.damo_embedding_lookup(
                h, KEYS, ANCHOR, [], dim=DIM, padding_key=[1, 2], missing="initial"
            ),
            "`padding_key` must hold at most one key. Received: 2",
        ),
        (
            lambda h: raw_ops.damo_embedding_prefetch(h, KEYS, padding_key=[1, 2]),
            "`padding_key` must hold at most one key. Received: 2",
        ),
        (lambda h: ops.prefetch(h, tf.constant([1.0])), "attr 'Tkeys' of float is not in the list"),
        (lambda h: ops.size(ANCHOR), "expected to be a resource tensor"),
        (lambda h: ops.size(tf.raw_ops.Pack(values=[h], axis=0)[:0]), "Empty resource handle"),
    ],
)
def test_bad_attribute_or_dtype_is_an_invalid_argument(handle, call, text):
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        call(handle)


def test_keys_of_too_many_dimensions_are_an_invalid_argument(handle):
    deepest = tf.zeros([1] * 254, tf.int64)  # embeddings would have 255: one too many
    with pytest.raises(tf.errors.InvalidArgumentError, match="Too many dimensions"):
        lookup(handle, keys=deepest)


@EAGER_OR_FUNCTION
@pytest.mark.parametrize(
    "use",
    [
        lookup,
        ops.size,
        ops.step,
        lambda h: ops.apply_gradients(h, KEYS, tf.zeros([2, DIM])),
        lambda h: ops.prefetch(h, KEYS),
    ],
    ids=["lookup", "size", "step", "apply", "prefetch"],
)
def test_handle_of_another_kind_is_an_invalid_argument(use, function):
    variable = tf.Variable(1.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`table` must be a table handle"):
        function(lambda: use(variable.handle))()
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="handle's resource using the wrong type"):
        function(lambda: use(table.resource_handle))()


def test_group_that_does_not_exist_is_not_found(store, handle):
    store.add_group(7, DIM)
    with pytest.raises(
        tf.errors.NotFoundError, match=f"store '{store.directory}' has no group 3; it has: 0, 7"
    ):
        ops.table_handle(store.directory, 3)


def test_handle_of_a_directory_without_a_store_is_not_found_and_makes_none(tmp_path):
    with pytest.raises(tf.errors.NotFoundError, match=r"open store '.*/none': there is no such directory"):
        ops.table_handle(str(tmp_path / "none"), 0)
    assert list(tmp_path.iterdir()) == []


@EAGER_OR_FUNCTION
@pytest.mark.parametrize(
    ("use", "action"),
    [
        (lookup, "lookup in"),
        (lambda h: ops.apply_gradients(h, KEYS, tf.zeros([2, DIM])), "apply gradients to"),
        (ops.size, "count the rows of"),
        (lambda h: ops.prefetch(h, KEYS), "prefetch rows of"),
    ],
    ids=["lookup", "apply", "size", "prefetch"],
)
def test_closed_store_is_a_failed_precondition(store, handle, use, action, function):
    store.close()
    text = f"{action} group 0 of store '{store.directory}': store '{store.directory}' is closed"
    with pytest.raises(tf.errors.FailedPreconditionError, match=text):
        function(lambda: use(handle))()


# ---- What they do ----


def test_size_counts_the_rows_of_the_group(store, handle):
    store.add_group(1, DIM)
    assert ops.size(handle) == 0
    store.apply_gradients(0, [1, 2, 1], np.ones((3, DIM)))
    store.apply_gradients(1, [5], np.ones((1, DIM)))
    assert ops.size(handle) == 2
    assert ops.size(get_table(store.storage, 1).handle) == 1
    assert ops.size(handle).dtype == tf.int64


def test_step_counts_apply_calls_in_this_process_and_before(tmp_path):
    for step in (0, 2):
        with damo_tf.Store(tmp_path) as store:
            store.add_group(0, DIM)
            handle = get_table(store.storage, 0).handle
            assert ops.step(handle) == step
            ops.apply_gradients(handle, KEYS, tf.ones([2, DIM]))
            store.apply_gradients(0, [1], np.ones((1, DIM)))
            assert ops.step(handle) == step + 2
            assert ops.step(handle).dtype == tf.int64


def test_step_in_a_function_is_ordered_with_apply_calls(handle):
    @tf.function
    def steps():
        before = ops.step(handle)
        ops.apply_gradients(handle, KEYS, tf.ones([2, DIM]))
        between = ops.step(handle)
        ops.apply_gradients(handle, KEYS, tf.ones([2, DIM]))
        return before, between, ops.step(handle)

    assert [int(step) for step in steps()] == [0, 1, 2]


def test_learning_rate_of_an_apply_call(store, handle):
    store.add_group(1, DIM, optimizer={"name": "sgd", "gamma": 1}, initializer="zeros")
    handle = get_table(store.storage, 1).handle
    for key, rate, expected in [(1, 0.5, -1.5), (2, 0.0, 0.0), (3, None, -3.0)]:
        keys = tf.constant([key], tf.int64)
        ops.apply_gradients(handle, keys, tf.fill([1, DIM], 3.0), learning_rate=rate)
        np.testing.assert_array_equal(store.row(1, key).weights, np.full(DIM, expected))


def test_handle_opens_a_store_that_is_closed(tmp_path):
    with damo_tf.Store(tmp_path, seed=5) as store:
        store.add_group(0, DIM)
        expected = store.lookup(0, [1, 2])
    handle = ops.table_handle(str(tmp_path), 0)
    np.testing.assert_array_equal(lookup(handle)[0], expected)


def test_store_stays_open_while_a_handle_lives(tmp_path):
    store = damo_tf.Store(tmp_path)
    store.add_group(0, DIM)
    handle = ops.table_handle(str(tmp_path), 0)
    del store
    assert ops.size(handle) == 0
    with pytest.raises(ValueError, match="already open in this process with seed=0, asked for seed=1"):
        damo_tf.Store(tmp_path, seed=1)
    del handle
    with damo_tf.Store(tmp_path, seed=0, durability="sync") as store:  # opened anew
        assert store.options["durability"] == "sync"


def test_probe_and_token_are_zero(handle):
    _, probe = lookup(handle)
    assert bits(probe.numpy()) == 0
    assert bits(ops.apply_gradients(handle, KEYS, tf.ones([2, DIM])).numpy()) == 0


def test_token_is_nan_only_if_a_scaled_gradient_is_not_finite(store, handle):
    bad = tf.constant([[np.inf] * DIM, [1.0] * DIM])
    for scale, is_nan in [(1.0, False), (0.0, False), (2.0, True), (0.5, True)]:
        token = ops.apply_gradients(handle, KEYS, bad, loss_scale=scale)
        assert np.isnan(token) == is_nan
    assert (store.row(0, 1), store.row(0, 2).update_num) == (None, 4)
    assert store.stats()["groups"][0]["skipped"] == 4
    assert not np.isnan(ops.apply_gradients(handle, KEYS, tf.ones([2, DIM]), loss_scale=2.0))


def test_loss_scale_divides_gradients_and_zero_stands_for_one(store, handle):
    store.add_group(1, DIM, optimizer={"name": "sgd", "gamma": 1}, initializer="zeros")
    handle = get_table(store.storage, 1).handle
    for key, scale, expected in [(1, 1.0, -3.0), (2, 0.0, -3.0), (3, 4.0, -0.75), (4, -2.0, 1.5)]:
        keys = tf.constant([key], tf.int64)
        ops.apply_gradients(handle, keys, tf.fill([1, DIM], 3.0), loss_scale=scale)
        np.testing.assert_array_equal(store.row(1, key).weights, np.full(DIM, expected))


@pytest.mark.parametrize("padding_key", [0, 2**63, 2**64 - 1])
def test_padding_key_of_the_full_range(store, handle, padding_key):
    keys = tf.constant([padding_key, 5], tf.uint64)
    embeddings, _ = lookup(handle, keys, padding_key=padding_key)
    assert (embeddings[0].numpy() == 0).all()
    assert (embeddings[1].numpy() != 0).all()
    ops.apply_gradients(handle, keys, tf.ones([2, DIM]), padding_key=padding_key)
    assert store.row(0, padding_key) is None
    assert store.size() == 1


@EAGER_OR_FUNCTION
@pytest.mark.parametrize("dtype", [tf.int64, tf.uint64])
def test_prefetch_brings_rows_into_memory_and_returns_the_keys(tmp_path, function, dtype):
    with damo_tf.Store(tmp_path) as store:
        store.add_group(0, DIM, optimizer="sgd")
        store.apply_gradients(0, [1, 2, 3], np.ones((3, DIM)))
    with damo_tf.Store(tmp_path) as store:
        handle = get_table(store.storage, 0).handle
        keys = tf.constant([[1, 2], [2, 7]], dtype)
        same = function(lambda k: ops.prefetch(handle, k, padding_key=7))(keys)
        assert same.dtype == dtype
        np.testing.assert_array_equal(same, keys)
        function(lambda: ops.prefetch(handle, keys[:0]))()
        lookup(handle, tf.constant([1, 2, 3], tf.int64), training=True)
        figures = store.stats()["groups"][0]
        assert (figures["cache_hits"], figures["cache_misses"], figures["cache_rows"]) == (2, 1, 3)
        assert store.size() == 3


def in_a_function(prefetch, keys):
    @tf.function
    def step():
        prefetch(keys)

    step()


def in_a_dataset(prefetch, keys):
    def read(batch):
        prefetch(batch)
        return tf.size(batch)

    assert [int(size) for size in tf.data.Dataset.from_tensors(keys).map(read)] == [3]


@pytest.mark.parametrize("run", [in_a_function, in_a_dataset])
def test_prefetch_runs_though_nobody_uses_its_output(tmp_path, run):
    with damo_tf.Store(tmp_path) as store:
        store.add_group(0, DIM, optimizer="sgd")
        store.apply_gradients(0, [1, 2, 3], np.ones((3, DIM)))
    with damo_tf.Store(tmp_path) as store:
        handle = get_table(store.storage, 0).handle
        run(lambda keys: ops.prefetch(handle, keys), tf.constant([1, 2, 3], tf.int64))
        assert store.stats()["groups"][0]["cache_rows"] == 3


def test_only_a_lookup_for_training_brings_rows_into_memory(tmp_path):
    with damo_tf.Store(tmp_path) as store:
        store.add_group(0, DIM)
        handle = get_table(store.storage, 0).handle
        for training, cached in [(False, 0), (True, 2)]:
            lookup(handle, training=training)
            assert store.stats()["groups"][0]["cache_rows"] == cached


def test_gradient_goes_to_the_anchor_alone(handle):
    keys = tf.constant([1, 2], tf.int64)
    with tf.GradientTape() as tape:
        tape.watch(ANCHOR)
        embeddings, probe = lookup(handle, keys, training=True)
        loss = tf.reduce_sum(embeddings) + probe
    anchor, of_keys, of_handle = tape.gradient(loss, [ANCHOR, keys, handle])
    assert bits(anchor.numpy()) == 0
    assert of_keys is None
    assert of_handle is None


def test_lookup_that_does_not_train_has_no_gradient(store, handle):
    with tf.GradientTape() as tape:
        tape.watch(ANCHOR)
        embeddings, probe = lookup(handle)
        loss = tf.reduce_sum(embeddings) + probe
    assert tape.gradient(loss, ANCHOR) is None
    assert step_of(store) == 0


def test_many_applies_at_once_lose_nothing(store):
    # No control edges: TensorFlow may run these applies, and lookups beside them, at the same time.
    store.add_group(0, DIM, optimizer={"name": "sgd", "gamma": 1}, initializer="zeros")
    handles = [ops.table_handle(store.directory, 0) for _ in range(8)]
    keys = tf.range(600, dtype=tf.int64)

    @tf.function
    def apply_all():
        tokens = [ops.apply_gradients(handle, keys, tf.ones([600, DIM])) for handle in handles]
        rows = [lookup(handle, keys)[0] for handle in handles]
        return tokens, rows

    for _ in range(5):
        apply_all()
    assert step_of(store) == 40
    np.testing.assert_array_equal(store.lookup(0, keys), np.full((600, DIM), -40.0))


# ---- The same as the damo module ----

OPTIMIZERS = ["sgd", "ftrl", "adagrad", "adam", "adamw", "lion"]


def both_paths(tmp_path, optimizer, initializer="random_normal"):
    """Two stores of one seed: a handle for the ops on the first, a PyEmbedding on the second."""
    stores = [damo_tf.Store(tmp_path / name, seed=11) for name in ("ops", "module")]
    stores[0].add_group(3, 5, optimizer=optimizer, initializer=initializer)
    module = damo.PyEmbedding(
        stores[1].storage, damo.PyOptimizer(optimizer), damo.PyInitializer({"name": initializer}), 5, 3
    )
    return stores, get_table(stores[0].storage, 3).handle, module


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ops_equal_the_module_bit_for_bit(tmp_path, rng, optimizer):
    stores, handle, module = both_paths(tmp_path, {"name": optimizer})
    vocabulary = rng.integers(0, 2**64, 50, np.uint64, endpoint=False)
    for _ in range(6):
        keys = rng.choice(vocabulary, 200)
        gradients = rng.normal(size=(200, 5)).astype(np.float32)
        # Some underflow to subnormals on their way, which TensorFlow's threads would flush to zero.
        gradients[:100] *= np.float32(10.0) ** rng.integers(-44, -18, (100, 1)).astype(np.float32)
        ops.apply_gradients(handle, tf.constant(keys), tf.constant(gradients))
        module.apply_gradients(keys, gradients.reshape(-1))

    weights = np.empty(50 * 5, np.float32)
    module.lookup(vocabulary, weights)
    embeddings, _ = lookup(handle, tf.constant(vocabulary), dim=5)
    np.testing.assert_array_equal(bits(embeddings), bits(weights).reshape(50, 5))
    rows = [
        {key: row and row[1:] for key, row in rows_of(store, 3, vocabulary.tolist()).items()}
        for store in stores
    ]
    assert rows[0] == rows[1]
    for store in stores:
        store.close()


def test_subnormal_numbers_survive(tmp_path):
    stores, handle, module = both_paths(tmp_path, {"name": "sgd", "gamma": 1.0}, "zeros")
    keys = np.arange(1000, dtype=np.uint64)  # enough for several threads
    smallest = np.full((1000, 5), 1e-45, np.float32)
    ops.apply_gradients(handle, tf.constant(keys), tf.constant(smallest))
    ops.apply_gradients(handle, tf.constant(keys), tf.constant(2 * smallest), loss_scale=2.0)
    for _ in range(2):
        module.apply_gradients(keys, smallest.reshape(-1))
    embeddings, _ = lookup(handle, tf.constant(keys), dim=5)
    np.testing.assert_array_equal(bits(embeddings), bits(-2 * smallest))
    for store in stores:
        np.testing.assert_array_equal(bits(store.lookup(3, keys)), bits(-2 * smallest))
        store.close()


LARGE_BATCH = """
import hashlib, sys
import numpy as np, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[2]))
tf.config.threading.set_inter_op_parallelism_threads(int(sys.argv[2]))
import damo_tf
from damo_tf import ops
from damo_tf.table import get_table
rng = np.random.default_rng(int(sys.argv[3]))
digest = hashlib.sha256()
with damo_tf.Store(sys.argv[1]) as store:
    store.add_group(0, 3, optimizer="adam", initializer="truncate_normal")
    handle = get_table(store.storage, 0).handle
    for _ in range(3):
        keys = rng.zipf(1.1, 100_000) % 2**40
        gradients = rng.normal(size=(100_000, 3)).astype(np.float32)
        ops.apply_gradients(handle, tf.constant(keys), tf.constant(gradients))
        embeddings, _ = ops.lookup(handle, tf.constant(keys), tf.constant(0.0), dim=3)
        digest.update(embeddings.numpy().tobytes())
    digest.update(repr(store.size()).encode())
    for key in keys[:200].tolist():
        row = store.row(0, key)
        digest.update(row.weights.tobytes() + row.slots["m"].tobytes() + row.slots["v"].tobytes())
print(digest.hexdigest())
"""


def test_number_of_threads_changes_no_bit_of_a_large_batch(tmp_path, run_with_tensorflow, seed):
    digests = [run_with_tensorflow(LARGE_BATCH, tmp_path / f"{n}", n, seed) for n in (1, 4)]
    assert digests[0] == digests[1]


def test_large_batch_equals_the_module(tmp_path, rng):
    stores, handle, module = both_paths(tmp_path, {"name": "adam"})
    keys = rng.integers(0, 60_000, 100_000).astype(np.uint64)
    gradients = rng.normal(size=(100_000, 5)).astype(np.float32)
    ops.apply_gradients(handle, tf.constant(keys), tf.constant(gradients))
    module.apply_gradients(keys, gradients.reshape(-1))
    weights = np.empty(gradients.size, np.float32)
    module.lookup(keys, weights)
    embeddings, _ = lookup(handle, tf.constant(keys), dim=5)
    np.testing.assert_array_equal(bits(embeddings).reshape(-1), bits(weights))
    assert stores[0].size() == stores[1].size() == np.unique(keys).size
    for store in stores:
        store.close()
