# SPDX-License-Identifier: Apache-2.0
"""The engine against the plain-NumPy table of oracles.py, bit for bit; and contract C5, determinism."""

import functools
import hashlib
import itertools
import tempfile
from pathlib import Path

import damo
import numpy as np
import oracles
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import OracleTable
from stored_rows import assert_rows_equal, bits

import damo_tf

# ---- What algorithms may be asked for ----


def powers_of_ten(low: int, high: int) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


POSITIVE = powers_of_ten(-6, 3)
NON_NEGATIVE = st.just(0.0) | powers_of_ten(-6, 1)
BETA = st.sampled_from([0.0, 0.5, 0.9, 0.999]) | st.floats(0, 0.9999)
FINITE = st.floats(-100, 100)

ADAM = {
    "gamma": POSITIVE,
    "beta1": BETA,
    "beta2": BETA,
    "lambda": NON_NEGATIVE,
    "epsilon": powers_of_ten(-12, 0),
}
OPTIMIZERS = {
    "sgd": {"gamma": POSITIVE, "lambda": NON_NEGATIVE},
    "ftrl": {"gamma": POSITIVE, "beta": NON_NEGATIVE, "lambda1": NON_NEGATIVE, "lambda2": NON_NEGATIVE},
    "adagrad": {
        "gamma": POSITIVE,
        "lambda": NON_NEGATIVE,
        "eta": NON_NEGATIVE,
        "epsilon": powers_of_ten(-12, 0),
    },
    "adam": ADAM,
    "adamw": ADAM,
    "lion": {"eta": POSITIVE, "beta1": BETA, "beta2": BETA, "lambda": NON_NEGATIVE},
}
INITIALIZERS = {
    "zeros": {},
    "ones": {},
    "random_uniform": {"min": st.floats(-100, 0), "max": st.floats(0, 100)},
    "random_normal": {"mean": FINITE, "stddev": st.floats(0, 100)},
    "truncate_normal": {"mean": FINITE, "stddev": st.floats(0, 100)},
    "xavier_uniform": {},
}


ROW_OPTIONS = {
    "clipnorm": powers_of_ten(-3, 3),
    "clipvalue": powers_of_ten(-3, 3),
    "weight_decay": NON_NEGATIVE,
}


def specs(algorithms: dict, name: str) -> st.SearchStrategy[dict]:
    return st.fixed_dictionaries({"name": st.just(name)}, optional=algorithms[name])


@st.composite
def optimizer_specs(draw, name: str):
    """An optimizer with any of its settings and row options, but one kind of clipping only."""
    spec = draw(specs(OPTIMIZERS, name))
    allowed = oracles.OPTIMIZERS[name].row_options
    options = draw(st.fixed_dictionaries({}, optional={option: ROW_OPTIONS[option] for option in allowed}))
    if "clipnorm" in options:
        options.pop("clipvalue", None)
    return {**spec, **options}


# Without pow, exp and cos, whose last bits are the machine's.
SCHEDULES = st.none() | st.fixed_dictionaries(
    {
        "name": st.just("inverse_time_decay"),
        "decay_steps": st.integers(1, 5),
        "decay_rate": st.floats(0, 2),
        "staircase": st.booleans(),
    }
)

# Ordinary numbers most often; also zeros, subnormals, numbers whose squares overflow or vanish, and the
# non-finite ones that make a row be skipped.
GRADIENTS = st.one_of(
    st.floats(-4, 4, width=32),
    st.floats(-4, 4, width=32),
    st.sampled_from([0.0, -0.0, 1e-45, -1e-40, 1e-30, 1e18, -3e38, 1e30]).map(np.float32).map(float),
    st.floats(width=32),
)
KEYS = st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)


@st.composite
def batches_of(draw, dim: int):
    """Some batches (keys, gradients) over a few keys, repeated inside and across batches."""
    pool = draw(st.lists(KEYS, min_size=1, max_size=6, unique=True))
    batches = []
    for _ in range(draw(st.integers(1, 6))):
        keys = np.array(draw(st.lists(st.sampled_from(pool), max_size=10)), np.uint64)
        gradients = draw(hnp.arrays(np.float32, (keys.size, dim), elements=GRADIENTS))
        batches.append((keys, gradients))
    return pool, batches


# ---- One table ----


def as_dict(spec: oracles.Spec) -> dict:
    return {"name": spec} if isinstance(spec, str) else dict(spec)


def make_embedding(store: damo_tf.Store, oracle: OracleTable) -> damo.PyEmbedding:
    """The group of `store` that `oracle` describes."""
    return damo.PyEmbedding(
        store.storage,
        damo.PyOptimizer(as_dict(oracle.optimizer), oracle.schedule),
        damo.PyInitializer(as_dict(oracle.initializer)),
        oracle.dim,
        oracle.group,
        min_count=oracle.min_count,
        filter_capacity=oracle.filter_capacity if oracle.min_count else None,
        filter_fpr=oracle.filter_fpr if oracle.min_count else None,
    )


def lookup(embedding: damo.PyEmbedding, keys: np.ndarray) -> np.ndarray:
    weights = np.full(keys.size * embedding.dimension, np.nan, np.float32)
    embedding.lookup(keys, weights)
    return weights.reshape(keys.size, -1)


def assert_table_equals_oracle(oracle: OracleTable, pool: list[int], batches: list) -> None:
    """Trains a new store and the oracle on `batches` and compares them after each."""
    keys_known = np.array(pool, np.uint64)
    with (
        tempfile.TemporaryDirectory() as directory,
        damo_tf.Store(directory, memory_budget=4 << 20, seed=oracle.seed) as store,
    ):
        embedding = make_embedding(store, oracle)
        np.testing.assert_array_equal(bits(lookup(embedding, keys_known)), bits(oracle.lookup(keys_known)))
        for keys, gradients in batches:
            embedding.apply_gradients(keys, gradients.reshape(-1))
            oracle.apply_gradients(keys, gradients)
            assert_rows_equal(store, oracle)
            np.testing.assert_array_equal(
                bits(lookup(embedding, keys_known)), bits(oracle.lookup(keys_known))
            )
        stats = store.stats()["groups"][oracle.group]
        assert stats["skipped"] == oracle.skipped
        assert stats["blocked"] == oracle.blocked
        set_counters = sum(count > 0 for count in oracle.filter.counters.values())
        assert stats["filter_fill"] == set_counters / (8192 * oracle.filter.num_pages)
    event("a row was skipped" if oracle.skipped else "every gradient was finite")
    event("a key was blocked" if oracle.blocked else "no key was blocked")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_training_of_a_table_equals_the_oracle(optimizer, data):
    initializer = data.draw(st.sampled_from(sorted(INITIALIZERS)), "initializer")
    oracle = OracleTable(
        data.draw(st.integers(1, 70), "dim"),
        optimizer=data.draw(optimizer_specs(optimizer), "optimizer"),
        initializer=data.draw(specs(INITIALIZERS, initializer), "initializer"),
        schedule=data.draw(SCHEDULES, "schedule"),
        seed=data.draw(st.integers(0, 2**64 - 1), "seed"),
        group=data.draw(st.integers(0, 255), "group"),
    )
    assert_table_equals_oracle(oracle, *data.draw(batches_of(oracle.dim), "batches"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_training_with_a_min_count_equals_the_oracle(data):
    oracle = OracleTable(
        data.draw(st.integers(1, 20), "dim"),
        optimizer=data.draw(st.sampled_from(sorted(OPTIMIZERS)), "optimizer"),
        initializer=data.draw(st.sampled_from(sorted(INITIALIZERS)), "initializer"),
        seed=data.draw(st.integers(0, 2**64 - 1), "seed"),
        group=data.draw(st.integers(0, 255), "group"),
        min_count=data.draw(st.integers(1, 15) | st.integers(1, 3), "min_count"),
        filter_capacity=data.draw(st.integers(1, 10_000), "filter_capacity"),
        # At a rate of a half there is one probe: keys are mistaken for each other.
        filter_fpr=data.draw(st.sampled_from([0.5, 0.1, 1e-3]), "filter_fpr"),
    )
    assert_table_equals_oracle(oracle, *data.draw(batches_of(oracle.dim), "batches"))


def test_a_crowded_filter_admits_the_same_keys_as_the_oracles(tmp_path, rng):
    """A filter for a tenth of the keys, batches larger than the memory budget, and a life in between."""
    oracle = OracleTable(40, optimizer="sgd", min_count=2, filter_capacity=1500, filter_fpr=0.05)
    for _ in range(2):
        with damo_tf.Store(tmp_path / "store", memory_budget=4 << 20) as store:
            embedding = make_embedding(store, oracle)
            for size in (15_000, 500, 3000):
                keys = rng.integers(0, 15_000, size).astype(np.uint64)
                gradients = rng.standard_normal((size, 40), np.float32)
                embedding.apply_gradients(keys, gradients.reshape(-1))
                oracle.apply_gradients(keys, gradients)
            everything = np.arange(15_000, dtype=np.uint64)
            np.testing.assert_array_equal(
                bits(lookup(embedding, everything)), bits(oracle.lookup(everything))
            )
            assert_rows_equal(store, oracle)
    assert oracle.blocked > 1000
    assert len(oracle.rows) > 1000


@pytest.mark.parametrize("initializer", INITIALIZERS)
@settings(max_examples=12, deadline=None)
@given(
    data=st.data(),
    dim=st.integers(1, 70),
    keys=hnp.arrays(np.uint64, st.integers(1, 20), elements=KEYS),
    seed=st.integers(0, 2**64 - 1),
    group=st.integers(0, 255),
)
def test_any_initial_rows_equal_the_oracle(initializer, data, dim, keys, seed, group):
    spec = data.draw(specs(INITIALIZERS, initializer))
    oracle = OracleTable(dim, optimizer="sgd", initializer=spec, seed=seed, group=group)
    first_step = (keys, np.ones((keys.size, dim), np.float32))
    assert_table_equals_oracle(oracle, keys.tolist(), [first_step])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_many_steps_equal_the_oracle(optimizer, store, rng):
    oracle = OracleTable(5, optimizer=optimizer)
    embedding = make_embedding(store, oracle)
    for _ in range(300):
        keys = rng.zipf(1.3, 12).astype(np.uint64) % np.uint64(50)  # some rows get 300 updates, some a few
        gradients = rng.standard_normal((keys.size, 5), np.float32)
        embedding.apply_gradients(keys, gradients.reshape(-1))
        oracle.apply_gradients(keys, gradients)
    assert max(row.update_num for row in oracle.rows.values()) > 250
    assert_rows_equal(store, oracle)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "options", [{"clipnorm": 1.5}, {"clipvalue": 0.5}, {"clipnorm": 2.0, "weight_decay": 0.1}]
)
def test_many_steps_with_row_options_equal_the_oracle(optimizer, options, store, rng):
    spec = {"name": optimizer, **options}
    if "weight_decay" not in oracles.OPTIMIZERS[optimizer].row_options:
        spec.pop("weight_decay", None)
    oracle = OracleTable(21, optimizer=spec)
    embedding = make_embedding(store, oracle)
    for step in range(60):
        keys = rng.zipf(1.3, 12).astype(np.uint64) % np.uint64(50)
        gradients = rng.standard_normal((keys.size, 21), np.float32)
        rate = None if step % 2 else float(np.float32(0.01 * step))
        embedding.apply_gradients(keys, gradients.reshape(-1), rate)
        oracle.apply_gradients(keys, gradients, rate)
    assert_rows_equal(store, oracle)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_batch_for_many_threads_equals_the_oracle(optimizer, store, rng):
    oracle = OracleTable(9, optimizer=optimizer, initializer="random_normal")
    embedding = make_embedding(store, oracle)
    for _ in range(2):
        keys = rng.integers(0, 3000, 4000).astype(np.uint64)
        gradients = rng.standard_normal((keys.size, 9), np.float32)
        embedding.apply_gradients(keys, gradients.reshape(-1))
        oracle.apply_gradients(keys, gradients)
    everything = np.arange(3000, dtype=np.uint64)
    np.testing.assert_array_equal(bits(lookup(embedding, everything)), bits(oracle.lookup(everything)))


@pytest.mark.parametrize("durability", ["wal", "checkpoint"])
def test_batches_larger_than_the_memory_budget_equal_the_oracle(tmp_path, rng, durability):
    budget = 4 << 20
    oracle = OracleTable(128, optimizer="adam", initializer="random_normal")
    with damo_tf.Store(tmp_path / "store", memory_budget=budget, durability=durability) as store:
        embedding = make_embedding(store, oracle)
        for _ in range(3):
            keys = rng.integers(0, 4500, 6000).astype(np.uint64)
            gradients = rng.standard_normal((keys.size, 128), np.float32)
            embedding.prefetch(keys)
            np.testing.assert_array_equal(bits(lookup(embedding, keys)), bits(oracle.lookup(keys)))
            embedding.apply_gradients(keys, gradients.reshape(-1))
            oracle.apply_gradients(keys, gradients)
            stats = store.stats()
            assert stats["cache_bytes"] + stats["block_cache_bytes"] <= budget
        assert stats["groups"][0]["bytes"] > budget  # at each moment most rows were on the disk only
        assert stats["groups"][0]["evicted"] > 0
        assert_rows_equal(store, oracle)
    with damo_tf.Store(tmp_path / "store") as store:
        assert_rows_equal(store, oracle)


def test_duplicates_are_summed_in_order_of_occurrence(store):
    oracle = OracleTable(1, optimizer={"name": "sgd", "gamma": 1.0}, initializer="zeros")
    embedding = make_embedding(store, oracle)
    # In float32 the order matters: (1e8 + 1) - 1e8 is 0, (1e8 - 1e8) + 1 is 1.
    orders = list(itertools.permutations([1e8, 1.0, -1e8]))
    for key, order in enumerate(orders):
        gradients = np.array(order, np.float32)
        embedding.apply_gradients(np.full(3, key, np.uint64), gradients)
        oracle.apply_gradients([key] * 3, gradients[:, None])
    rows = lookup(embedding, np.arange(len(orders), dtype=np.uint64))
    assert set(rows.reshape(-1).tolist()) == {0.0, -1.0}
    np.testing.assert_array_equal(rows, oracle.lookup(np.arange(len(orders))))


# ---- Contract C5 ----

TRAIN = """
import hashlib, os, sys
import numpy as np

directory, memory_budget, durability, num_cpus, steps_per_opening, row_cache, min_count = sys.argv[1:]
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(num_cpus)])

import damo

for first in range(0, STEPS, int(steps_per_opening)):
    storage = damo.PyStorage(
        directory,
        memory_budget=int(memory_budget),
        durability=durability,
        seed=5,
        row_cache=row_cache == "True",
    )
    embedding = damo.PyEmbedding(
        storage,
        damo.PyOptimizer({"name": "adam"}),
        damo.PyInitializer({"name": "random_normal"}),
        DIM,
        3,
        min_count=int(min_count),
        filter_capacity=FILTER_CAPACITY,
    )
    for step in range(first, min(first + int(steps_per_opening), STEPS)):
        rng = np.random.default_rng(step)
        keys = (NUM_KEYS * rng.random(BATCH) ** 2).astype(np.uint64)
        embedding.apply_gradients(keys, rng.standard_normal(BATCH * DIM, np.float32))
    if first + int(steps_per_opening) < STEPS:
        storage.close()

digest = hashlib.sha256()
for key in range(NUM_KEYS):
    row = storage.row(3, key)
    digest.update(b"-" if row is None else repr(row["update_num"]).encode())
    if row is not None:
        digest.update(row["weights"].tobytes() + row["slots"]["m"].tobytes() + row["slots"]["v"].tobytes())
print(storage.stats()["groups"][3]["step"], digest.hexdigest())
"""
# Rows of 32 + 3 * 4 * 64 bytes: some 12 MB, several times the smallest budget and a part of the others. A few
# keys come in every batch, most in one or two.
# The filter is too small for them.
SIZES = {"STEPS": 12, "DIM": 64, "BATCH": 3000, "NUM_KEYS": 20_000, "FILTER_CAPACITY": 2000}
MANY_CPUS = 64  # all there are


@functools.cache
def expected_training(min_count: int) -> str:
    """What TRAIN prints, by the oracle."""
    oracle = OracleTable(
        SIZES["DIM"],
        optimizer="adam",
        initializer="random_normal",
        seed=5,
        group=3,
        min_count=min_count,
        filter_capacity=SIZES["FILTER_CAPACITY"],
    )
    for step in range(SIZES["STEPS"]):
        rng = np.random.default_rng(step)
        keys = (SIZES["NUM_KEYS"] * rng.random(SIZES["BATCH"]) ** 2).astype(np.uint64)
        oracle.apply_gradients(keys, rng.standard_normal((SIZES["BATCH"], SIZES["DIM"]), np.float32))
    digest = hashlib.sha256()
    for key in range(SIZES["NUM_KEYS"]):
        row = oracle.rows.get(key)
        digest.update(b"-" if row is None else repr(row.update_num).encode())
        if row is not None:
            digest.update(row.weights.tobytes() + row.slots["m"].tobytes() + row.slots["v"].tobytes())
    return f"{oracle.global_step} {digest.hexdigest()}\n"


@pytest.mark.parametrize(
    ("memory_budget", "durability", "num_cpus", "steps_per_opening", "row_cache", "min_count"),
    [
        (1 << 30, "wal", MANY_CPUS, SIZES["STEPS"], True, 0),
        (64 << 20, "wal", MANY_CPUS, SIZES["STEPS"], True, 0),
        (4 << 20, "wal", MANY_CPUS, SIZES["STEPS"], True, 0),
        (4 << 20, "wal", 1, SIZES["STEPS"], True, 0),
        (1 << 30, "wal", 1, SIZES["STEPS"], True, 0),
        (1 << 30, "wal", MANY_CPUS, 1, True, 0),
        (4 << 20, "wal", MANY_CPUS, 1, True, 0),
        (1 << 30, "sync", MANY_CPUS, SIZES["STEPS"], True, 0),
        (1 << 30, "checkpoint", MANY_CPUS, SIZES["STEPS"], True, 0),
        (4 << 20, "checkpoint", 1, 5, True, 0),
        (64 << 20, "wal", MANY_CPUS, SIZES["STEPS"], False, 0),
        (4 << 20, "wal", 1, 5, False, 0),
        (1 << 30, "wal", MANY_CPUS, SIZES["STEPS"], True, 2),
        (4 << 20, "wal", 1, 5, True, 2),
        (4 << 20, "wal", MANY_CPUS, 1, True, 2),
        (4 << 20, "sync", MANY_CPUS, SIZES["STEPS"], True, 2),
        (4 << 20, "checkpoint", 1, 5, True, 2),
        (64 << 20, "wal", MANY_CPUS, 5, False, 2),
    ],
)
def test_training_is_the_same_under_all_settings(
    tmp_path: Path,
    run_python,
    memory_budget,
    durability,
    num_cpus,
    steps_per_opening,
    row_cache,
    min_count,
):
    program = "\n".join(f"{name} = {value}" for name, value in SIZES.items()) + TRAIN
    settings = (memory_budget, durability, num_cpus, steps_per_opening, row_cache, min_count)
    assert run_python(program, tmp_path / "store", *settings) == expected_training(min_count)


def test_every_algorithm_of_the_oracles_is_tested():
    assert OPTIMIZERS.keys() == oracles.OPTIMIZERS.keys()
    assert all(OPTIMIZERS[name].keys() == oracles.OPTIMIZERS[name].defaults.keys() for name in OPTIMIZERS)
    assert INITIALIZERS.keys() == oracles.INITIALIZERS.keys()
    assert all(INITIALIZERS[name].keys() == oracles.INITIALIZERS[name].keys() for name in INITIALIZERS)
