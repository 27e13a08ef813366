# SPDX-License-Identifier: Apache-2.0
"""Trains a tiny model with the installed package. `make wheel` runs it where only the wheel is installed.

Run on purpose outside pytest: it needs nothing but damo_tf, TensorFlow and NumPy.
"""

import tempfile
from pathlib import Path

import damo
import keras
import numpy as np

import damo_tf

SITE_PACKAGES = Path(damo_tf.__file__).parent.parent


def check_libraries() -> None:
    """RocksDB comes with the wheel, TensorFlow does not, and the engine is in the process once."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    mapped = {Path(line.split()[-1]) for line in lines if ".so" in line}

    def folders(name: str) -> list[Path]:
        return [path.parent for path in mapped if path.name.startswith(name)]

    assert folders("librocksdb") == [SITE_PACKAGES / "damo_tf.libs"], folders("librocksdb")
    assert folders("libdamo_core") == [SITE_PACKAGES / "damo"], folders("libdamo_core")
    assert folders("libtensorflow_framework") == [SITE_PACKAGES / "tensorflow"]
    assert not list(SITE_PACKAGES.glob("damo_tf.libs/libtensorflow*"))


def check_feature_hash() -> None:
    """Ids of strings are those of docs/feature_hash.md."""
    assert damo_tf.feature_hash("user", "ann") == 0x5E57DA18CA5DCCC0
    assert damo_tf.FeatureHash(field="user")(np.array(["ann"])).numpy() == 0x5E57DA18CA5DCCC0


def train(store: damo_tf.Store) -> None:
    """Fits a click that depends on the id alone."""
    model = keras.Sequential(
        [
            keras.Input((1,), dtype="int64"),
            damo_tf.Embedding(4, store=store, optimizer={"name": "adam", "gamma": 0.1}),
            keras.layers.Flatten(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.1), "binary_crossentropy", metrics=["accuracy"])
    ids = np.arange(64, dtype=np.int64)[:, None] * 2**56  # hashes are large and sparse
    clicks = (np.arange(64) % 3 == 0).astype(np.float32)
    model.fit(ids, clicks, batch_size=16, epochs=30, verbose=0)
    accuracy = model.evaluate(ids, clicks, verbose=0)[1]
    assert accuracy == 1.0, accuracy


def check_rows(directory: str) -> None:
    """The rows outlive the store, and the module `damo` reads the same ones."""
    with damo_tf.Store(directory) as store:
        assert store.size() == 64, store.size()
        row = store.row(0, 2**56)
        assert row is not None
        assert row.update_num == 30, row
        embedding = damo.PyEmbedding(
            store.storage,
            damo.PyOptimizer({"name": "adam", "gamma": 0.1}),
            damo.PyInitializer({"name": "random_uniform"}),
            4,
        )
        weights = np.empty(4, dtype=np.float32)
        embedding.lookup(np.array([2**56], dtype=np.uint64), weights)
        np.testing.assert_array_equal(weights, row.weights)


with tempfile.TemporaryDirectory() as directory:
    with damo_tf.Store(directory) as store:
        train(store)
    check_rows(directory)
check_libraries()
check_feature_hash()
print(f"wheel of damo_tf {damo_tf.__version__}: 1 passed, 0 failed")
