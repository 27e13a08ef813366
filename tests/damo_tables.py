# SPDX-License-Identifier: Apache-2.0
"""Tables of the module `damo`, and what they are asked, as several files of its tests have them."""

import damo
import numpy as np

DIM = 3
SGD = {"name": "sgd", "gamma": 1.0}
ZEROS = {"name": "zeros"}
#: What the module says of an array that it refuses, between the array's name and dtype.
RULE = "must be a one-dimensional contiguous NumPy array of dtype"


def make_embedding(storage, optimizer=SGD, initializer=ZEROS, dimension=DIM, group=0, schedule=None):
    return damo.PyEmbedding(
        storage, damo.PyOptimizer(optimizer, schedule), damo.PyInitializer(initializer), dimension, group
    )


def keys_of(*keys):
    return np.array(keys, np.uint64)


def lookup(embedding, keys):
    """float32 [len(keys), dimension]."""
    weights = np.full(len(keys) * embedding.dimension, np.nan, np.float32)
    assert embedding.lookup(keys, weights) is None
    return weights.reshape(len(keys), -1)


#: Two keys, and as many floats as their rows have.
KEYS, FLOATS = keys_of(1, 2), np.zeros(2 * DIM, np.float32)
