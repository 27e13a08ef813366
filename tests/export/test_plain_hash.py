# SPDX-License-Identifier: Apache-2.0
"""The feature hash in plain TensorFlow is the engine's, for values of any length."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf
import xxhash

import damo_tf
from damo_tf.export.plain_hash import hash_of, xxh3

#: All lengths of the short kinds; of long ones those around the ends of stripes and blocks.
LENGTHS = [*range(300), 511, 512, 513, 1023, 1024, 1025, 1087, 1088, 1089, 2048, 2049, 5000]
EAGER_OR_FUNCTION = pytest.mark.parametrize("function", [lambda f: f, tf.function], ids=["eager", "function"])


@EAGER_OR_FUNCTION
@pytest.mark.parametrize("hash_seed", [0, 1, 2**64 - 1, 0x99E389D25C10AF32])
def test_xxh3_of_any_length_is_that_of_the_library(rng, hash_seed, function):
    values = [rng.bytes(int(length)) for length in rng.permutation(LENGTHS)]

    hashes = function(lambda strings: xxh3(strings, hash_seed))(tf.constant(values))

    expected = [xxhash.xxh3_64_intdigest(value, seed=hash_seed) for value in values]
    np.testing.assert_array_equal(hashes, np.array(expected, np.uint64))


@EAGER_OR_FUNCTION
@pytest.mark.parametrize(
    "values",
    [
        np.array([["ann", "Zoë"], ["", "a\0b"]], object),
        np.array([7, -7, 0, 2**63 - 1, -(2**63)]),
        np.array([7, 2**64 - 1], np.uint64),
        np.array([7, -128], np.int8),
        np.array("scalar", object),
        np.zeros((3, 0), object),
    ],
    ids=["text", "int64", "uint64", "int8", "scalar", "nothing"],
)
def test_ids_are_those_of_feature_hash(values, function):
    given = tf.constant(values, tf.string) if values.dtype == object else tf.constant(values)

    layer = damo_tf.FeatureHash(field="größe")

    ids = function(partial(hash_of, layer))(given)

    expected = np.asarray(damo_tf.feature_hash("größe", values), np.uint64).reshape(values.shape)
    assert ids.dtype == tf.int64
    np.testing.assert_array_equal(ids, expected.view(np.int64))


@EAGER_OR_FUNCTION
@pytest.mark.parametrize("padding_key", [0, 2**64 - 1, "that of ann"])
def test_padding_has_its_key_and_no_other_value_has_it(padding_key, function):
    key_of_ann = damo_tf.feature_hash("user", "ann")
    padding_key = key_of_ann if padding_key == "that of ann" else padding_key
    padding = {"padding_value": "-1", "padding_key": padding_key}

    layer = damo_tf.FeatureHash(field="user", dtype="uint64", **padding)

    of_text = function(partial(hash_of, layer))(tf.constant(["ann", "-1", "bob"]))
    of_integers = function(partial(hash_of, layer))(tf.constant([1, -1]))

    assert of_text.numpy().tolist() == damo_tf.feature_hash("user", ["ann", "-1", "bob"], **padding).tolist()
    assert of_text.numpy()[1] == of_integers.numpy()[1] == padding_key
    assert of_text.numpy()[0] == key_of_ann + (padding_key == key_of_ann)
