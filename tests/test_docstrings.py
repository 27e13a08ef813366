# SPDX-License-Identifier: Apache-2.0
"""The examples in docstrings do what they show."""

import doctest

import keras
import numpy as np
import pytest
import tensorflow as tf

import damo_tf

SYMBOLS = [
    damo_tf.Embedding,
    damo_tf.FeatureHash,
    damo_tf.TrackableStore,
    damo_tf.callbacks.RowLearningRate,
    damo_tf.callbacks.StoreCheckpoint,
    damo_tf.callbacks.StoreMetrics,
    damo_tf.feature_hash,
    damo_tf.load_model,
]


@pytest.fixture
def names(store, tmp_path) -> dict:
    """What examples may use without saying where it comes from."""
    ids = keras.Input((1,), dtype="int64")
    optimizer = damo_tf.optimizers.SGD(0.5)
    vectors = damo_tf.Embedding(2, store=store, group=9, optimizer=optimizer, name="rows")(ids)
    model = keras.Model(ids, keras.layers.Dense(1)(keras.layers.Flatten()(vectors)))
    model.compile("sgd", "mse")
    return {
        "damo_tf": damo_tf,
        "folder": tmp_path,
        "keras": keras,
        "np": np,
        "tf": tf,
        "store": store,
        "model": model,
        "x": np.arange(8)[:, None],
        "y": np.ones((8, 1), np.float32),
    }


@pytest.mark.parametrize("symbol", SYMBOLS, ids=lambda symbol: symbol.__name__)
def test_example_prints_what_it_shows(names, symbol):
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in doctest.DocTestFinder(recurse=False).find(symbol, symbol.__name__, globs=names):
        assert example.examples
        runner.run(example, out=report.append)
    assert runner.failures == 0, "".join(report)
