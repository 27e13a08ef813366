# SPDX-License-Identifier: Apache-2.0
"""damo_tf.data.prefetch_rows: elements pass through, rows are there before the step, and no bit changes."""

import collections
import hashlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import damo
import keras
import numpy as np
import pytest
import tensorflow as tf

import damo_tf
from damo_tf.data import prefetch_rows

DIM = 4
NUM_ROWS = 100
Pair = collections.namedtuple("Pair", ["first", "second"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store: group 0 has rows 0 .. 99."""
    with damo_tf.Store(tmp_path / "rows") as store:
        store.add_group(0, DIM, initializer="zeros", optimizer="adam")
        store.apply_gradients(0, range(NUM_ROWS), np.ones((NUM_ROWS, DIM)))
    return tmp_path / "rows"


@pytest.fixture
def store(path):
    with damo_tf.Store(path) as opened:
        yield opened


@pytest.fixture
def layer(store):
    return damo_tf.Embedding(DIM, store=store, initializer="zeros", optimizer="adam", padding_key=5)


def cached_rows(store: damo_tf.Store, group: int = 0) -> int:
    return store.stats()["groups"][group]["cache_rows"]


def batches_of(*ids: list[int]) -> tf.data.Dataset:
    return tf.data.Dataset.from_generator(
        lambda: iter([np.array(batch, np.int64) for batch in ids]),
        output_signature=tf.TensorSpec([None], tf.int64),
    )


def as_lists(dataset: tf.data.Dataset) -> list:
    return [element.numpy().tolist() for element in dataset]


# ---- Elements ----

IDS = np.arange(12, dtype=np.int64).reshape(6, 2)
STRUCTURES = {
    "a tensor": IDS,
    "inputs, targets": (IDS, np.ones(6, np.float32)),
    "inputs, targets, weights": (IDS, np.ones((6, 3)), np.ones(6, np.float16)),
    "a tuple of one": (IDS,),
    "features": {"ids": IDS, "more": IDS.astype(np.uint64)},
    "features, targets": ({"ids": IDS, "more": {"deep": IDS}}, np.ones(6)),
    "a named tuple": Pair(IDS, IDS + 1),
    "others beside it": (
        IDS,
        {
            "text": np.array(list("abcdef")),
            "ragged": tf.ragged.constant([[1.0], [], [2.0, 3.0], [], [], [4.0]]),
            "sparse": tf.sparse.from_dense(np.eye(6)),
        },
    ),
}


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
def test_elements_pass_unchanged(layer, structure):
    dataset = tf.data.Dataset.from_tensor_slices(structure).batch(4)
    same = prefetch_rows(dataset, layer)
    assert same.element_spec == dataset.element_spec
    assert same.cardinality() == dataset.cardinality()
    for expected, actual in zip(dataset, same, strict=True):
        tf.nest.assert_same_structure(expected, actual, check_types=True)
        for a, b in zip(
            tf.nest.flatten(expected, expand_composites=True),
            tf.nest.flatten(actual, expand_composites=True),
            strict=True,
        ):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_datasets_may_be_finite_infinite_empty_and_iterated_again(layer):
    batches = [[1, 2], [], [3], [4, 4, 4]]
    finite = prefetch_rows(batches_of(*batches), layer)
    assert as_lists(finite) == as_lists(finite) == batches
    infinite = prefetch_rows(batches_of(*batches).repeat(), layer, depth=5)
    assert as_lists(infinite.take(10)) == (batches * 3)[:10]
    assert as_lists(prefetch_rows(batches_of(), layer)) == []


def test_order_and_shuffling_of_the_dataset_stay(layer):
    dataset = tf.data.Dataset.range(1000).shuffle(100, seed=3, reshuffle_each_iteration=False).batch(10)
    assert as_lists(prefetch_rows(dataset, layer, depth=7)) == as_lists(dataset)


# ---- Which rows ----


def first_of_b(features, targets):
    return features["b"][:, :1]


def nest_of_both(features, targets):
    return [features["b"], {"x": features["a"][0]}]


def all_or_some(features, targets):
    ids = features["a"]
    if tf.reduce_any(ids < 0):  # becomes tf.cond, as in any function of Dataset.map
        ids = ids[:1]
    return ids


@pytest.mark.parametrize(
    ("structure", "ids", "expected"),
    [
        (IDS, None, 12),
        ((IDS, IDS + 50), None, 12),
        (({"a": IDS, "b": IDS + 50}, IDS + 80), None, 24),
        ({"a": IDS, "b": IDS + 50}, "a", 12),
        (({"a": IDS, "b": np.ones(6)}, IDS + 50), "a", 12),
        (({"a": {"x": IDS, "y": IDS + 12}, "b": np.ones(6)}, IDS + 50), "a", 24),
        (({"a": IDS, "b": IDS + 50}, IDS), first_of_b, 6),
        (({"a": IDS, "b": IDS + 50}, IDS), nest_of_both, 14),
        (({"a": IDS}, IDS), all_or_some, 12),
        (({"a": np.array([[-7, 1], [-2, 3]])}, [0, 0]), all_or_some, 2),
        (IDS.astype(np.uint64), None, 12),
        (IDS.astype(np.uint8), None, 12),
        ({"a": IDS.astype(np.uint64), "b": IDS.astype(np.int32) + 50}, None, 24),
        ({"a": tf.RaggedTensor.from_tensor(IDS), "b": tf.sparse.from_dense(IDS + 50)}, None, 24),
    ],
)
def test_ids_tell_which_rows_are_read(store, layer, structure, ids, expected):
    layer.padding_key = None
    dataset = tf.data.Dataset.from_tensor_slices(structure).batch(6)
    assert cached_rows(store) == 0
    list(prefetch_rows(dataset, layer, ids=ids))
    assert cached_rows(store) == expected


def test_padding_is_not_read(store, layer):
    list(prefetch_rows(batches_of([5, 5], [5, 6]), layer))
    assert cached_rows(store) == 1


def test_a_store_reads_the_groups_that_the_function_names(store):
    store.add_group(7, 2, optimizer="sgd")
    dataset = tf.data.Dataset.from_tensor_slices(({"user": IDS, "item": IDS + 1}, np.ones(6))).batch(6)
    dataset = prefetch_rows(
        dataset, store, ids=lambda features, _: {0: features["user"], 7: [features["item"], features["user"]]}
    )
    list(dataset)
    assert (cached_rows(store, 0), cached_rows(store, 7)) == (12, 13)


def test_rows_are_read_before_their_batch_is_asked_for(store, layer):
    batches = [list(range(10 * i, 10 * i + 5)) for i in range(8)]
    asked_for_fourth = threading.Event()

    def generate():
        for number, batch in enumerate(batches):
            if number == 3:  # then the rows of batches 0 to 2 have been read
                asked_for_fourth.set()
            yield np.array(batch, np.int64)

    dataset = tf.data.Dataset.from_generator(generate, output_signature=tf.TensorSpec([5], tf.int64))
    iterator = iter(prefetch_rows(dataset, layer, depth=3))
    assert next(iterator).numpy().tolist() == batches[0]
    assert asked_for_fourth.wait(timeout=60)
    assert cached_rows(store) >= 15


def test_reading_ahead_makes_no_row_and_counts_no_lookup(store, layer):
    list(prefetch_rows(batches_of([1, 2, 1000], [1001]), layer))
    group = store.stats()["groups"][0]
    assert (group["rows"], group["lookups"], group["missing"], group["dirty"]) == (NUM_ROWS, 0, 0, 0)
    assert store.row(0, 1000) is None
    assert store.size() == NUM_ROWS


# ---- Training ----

LARGE = {"dim": 16, "num_rows": 30_000, "batch": 600, "steps": 15}


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A closed store that is several times its memory budget of 4 MiB: 30000 rows of 224 bytes."""
    path = tmp_path_factory.mktemp("large") / "rows"
    with damo_tf.Store(path, seed=2) as store:
        store.add_group(0, LARGE["dim"], initializer="random_normal", optimizer="adam")
        gradients = np.random.default_rng(0).standard_normal((LARGE["num_rows"], LARGE["dim"]), np.float32)
        store.apply_gradients(0, range(LARGE["num_rows"]), gradients)
    return path


def open_copy(large: Path, path: Path, row_cache: bool) -> damo_tf.Store:
    """A store of its own with the rows of `large`, open in 4 MiB."""
    shutil.copytree(large, path)
    storage = damo.PyStorage(path, memory_budget=4 << 20, row_cache=row_cache)  # noqa: F841 - kept open
    return damo_tf.Store(path, memory_budget=4 << 20, seed=2)


def click_batches() -> tf.data.Dataset:
    """Batches (ids, targets), some ids repeated, some without a row so far."""
    rng = np.random.default_rng(1)
    shape = (LARGE["steps"], LARGE["batch"] // 2, 2)
    ids = rng.integers(0, LARGE["num_rows"] + 2000, shape)
    return tf.data.Dataset.from_tensor_slices((ids, rng.standard_normal(shape[:2], np.float32)))


def large_layer(store: damo_tf.Store) -> damo_tf.Embedding:
    return damo_tf.Embedding(LARGE["dim"], store=store, initializer="random_normal", optimizer="adam")


def score(vectors: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(vectors, axis=(1, 2))


def train_with_fit(layer: damo_tf.Embedding, dataset: tf.data.Dataset) -> None:
    inputs = keras.Input((2,), dtype="int64")
    model = keras.Model(inputs, keras.layers.Lambda(score, output_shape=())(layer(inputs)))
    model.compile("sgd", "mse")
    model.fit(dataset, epochs=2, verbose=0)


def train_with_loop(layer: damo_tf.Embedding, dataset: tf.data.Dataset, step_wrapper: Callable) -> None:
    @step_wrapper
    def step(ids, targets):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(score(layer(ids)) - targets))
        tape.gradient(loss, layer.trainable_variables)

    layer.build(None)
    for _ in range(2):
        for ids, targets in dataset:
            step(ids, targets)


def train_inside_function(layer: damo_tf.Embedding, dataset: tf.data.Dataset) -> None:
    @tf.function
    def epoch():
        for ids, targets in dataset:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(score(layer(ids)) - targets))
            tape.gradient(loss, layer.trainable_variables)

    layer.build(None)
    epoch()
    epoch()


TRAINERS = {
    "fit": train_with_fit,
    "eager loop": lambda layer, dataset: train_with_loop(layer, dataset, lambda f: f),
    "loop of functions": lambda layer, dataset: train_with_loop(layer, dataset, tf.function),
    "function": train_inside_function,
}


def digest(store: damo_tf.Store) -> str:
    """Of all that training determines of every row: not the times."""
    result = hashlib.sha256()

    def add(keys, weights, _times, update_nums, slots):
        for part in (keys, weights, update_nums, slots):
            result.update(part.tobytes())

    store.storage.read_rows(0, add, rows_per_part=LARGE["num_rows"] + 2000)
    return f"{store.size()} rows, {store.stats()['groups'][0]['step']} steps: {result.hexdigest()}"


@pytest.mark.parametrize("train", TRAINERS.values(), ids=TRAINERS)
def test_what_is_trained_is_the_same_with_and_without_reading_ahead(large, tmp_path, train):
    results = {}
    for name, row_cache, depth in [
        ("rows from the disk", False, None),
        ("plain", True, None),
        ("reading ahead", True, 2),
        ("reading far ahead", True, 20),
        ("reading ahead, rows from the disk", False, 2),
    ]:
        with open_copy(large, tmp_path / name, row_cache) as store:
            layer = large_layer(store)
            dataset = click_batches()
            train(layer, dataset if depth is None else prefetch_rows(dataset, layer, depth=depth))
            group = store.stats()["groups"][0]
            assert (group["evicted"] > 0) == row_cache
            results[name] = digest(store)
    assert set(results.values()) == {results["plain"]}
    assert f"{2 * LARGE['steps'] + 1} steps" in results["plain"]


def test_lookups_find_the_rows_that_were_read_ahead(large, tmp_path):
    misses = {}
    for name in ("plain", "reading ahead"):
        with open_copy(large, tmp_path / name, row_cache=True) as store:
            layer = large_layer(store)
            dataset = click_batches()
            train_with_fit(layer, prefetch_rows(dataset, layer) if name == "reading ahead" else dataset)
            group = store.stats()["groups"][0]
            assert group["lookups"] == 2 * LARGE["steps"] * LARGE["batch"]
            assert group["cache_hits"] + group["cache_misses"] == group["lookups"]
            misses[name] = group["cache_misses"]
    assert misses["plain"] > 0.5 * 2 * LARGE["steps"] * LARGE["batch"]  # the table does not fit
    # Not none: what is read while a flush of rows ends is read again.
    assert misses["reading ahead"] < misses["plain"] / 2


# ---- Layers and stores that are not open yet, or no more ----


def test_a_layer_that_is_not_built_opens_its_store(path, tmp_path):
    layer = damo_tf.Embedding(DIM, store=path, initializer="zeros")
    list(prefetch_rows(batches_of([1, 2]), layer))
    assert cached_rows(layer.store) == 2
    assert not layer.built  # it makes its weights where the model is built
    layer.store.close()

    new = damo_tf.Embedding(DIM, store=tmp_path / "new")
    list(prefetch_rows(batches_of([1, 2]), new))
    assert new.store.size() == 0
    new.store.close()


def test_a_layer_from_a_config_makes_no_store(tmp_path):
    config = damo_tf.Embedding(DIM, store=tmp_path / "none").get_config()
    with pytest.raises(FileNotFoundError, match="there is no such directory"):
        prefetch_rows(batches_of([1]), damo_tf.Embedding.from_config(config))


def test_a_closed_store_is_refused(store, layer):
    store.close()
    for closed in (store, layer):
        with pytest.raises(
            ValueError, match=r"`layer_or_store` must be of an open store\. Received: Store\('.*', closed\)"
        ):
            prefetch_rows(batches_of([1]), closed, ids=lambda ids: {0: ids})


def test_a_store_closed_meanwhile_ends_the_iteration_with_an_error(store, layer):
    dataset = prefetch_rows(batches_of([1]), layer)
    store.close()
    with pytest.raises(
        tf.errors.FailedPreconditionError,
        match=f"prefetch rows of group 0 of store '{store.directory}': store '.*' is closed",
    ):
        list(dataset)


# ---- Arguments ----


@pytest.mark.parametrize(
    ("arguments", "exception", "message"),
    [
        ({"dataset": [[1, 2]]}, TypeError, r"`dataset` must be a tf\.data\.Dataset\. Received: dataset=\[\["),
        (
            {"layer_or_store": "store"},
            TypeError,
            r"`layer_or_store` must be a damo_tf\.Embedding or a damo_tf\.Store\. Received: .*='store'",
        ),
        ({"depth": 0}, ValueError, r"`depth` must be an integer >= 1\. Received: depth=0"),
        ({"depth": 2.0}, TypeError, r"`depth` must be an integer >= 1\. Received: depth=2\.0"),
        ({"depth": True}, TypeError, r"`depth` must be .* Received: depth=True"),
        (
            {"ids": 3},
            TypeError,
            r"`ids` must be None, a str or a function\. Received: ids=3 of <class 'int'>",
        ),
        ({"ids": "c"}, ValueError, r"`ids` must be one of the features, 'a', 'b'\. Received: ids='c'"),
        (
            {"ids": lambda features: {}},
            ValueError,
            r"`ids` must lead to at least one tensor of ids\. Received: \{\}",
        ),
        ({"ids": "b"}, TypeError, r"ids must be integers: floats .* Received dtype: float64"),
    ],
)
def test_a_bad_argument_is_named(layer, arguments, exception, message):
    dataset = tf.data.Dataset.from_tensors({"a": IDS, "b": np.ones(2)})
    call = {"dataset": dataset, "layer_or_store": layer, "ids": "a", **arguments}
    with pytest.raises(exception, match=message):
        prefetch_rows(call.pop("dataset"), call.pop("layer_or_store"), **call)


def test_a_name_needs_features(layer):
    for dataset in (batches_of([1]), batches_of([1]).map(lambda ids: (ids, 1.0))):
        with pytest.raises(
            ValueError, match=r"`ids` may be a str only where the features are a dict\. Received"
        ):
            prefetch_rows(dataset, layer, ids="a")


@pytest.mark.parametrize(
    ("ids", "exception", "message"),
    [
        (None, ValueError, "`ids` must be a function that returns a dict of group to ids .*: ids=None"),
        ("a", ValueError, "`ids` must be a function that returns a dict of group to ids .*: ids='a'"),
        (lambda ids: ids, TypeError, "`ids` must return a dict of group to ids .* It returned: <tf.Tensor"),
        (lambda ids: {"0": ids}, TypeError, r"`group` must be an integer in \[0, 256\)\. Received: .*'0'"),
        (lambda ids: {3: ids}, KeyError, "has no group 3; it has: 0"),
    ],
)
def test_the_ids_of_a_store_need_groups(store, ids, exception, message):
    with pytest.raises(exception, match=message):
        prefetch_rows(batches_of([1]), store, ids=ids)
