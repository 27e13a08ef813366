# SPDX-License-Identifier: Apache-2.0
"""convert_embeddings: a model on Keras's Embedding goes on as the same model on rows."""

import re

import keras
import numpy as np
import pytest

import damo_tf


def id_input(name: str = "ids"):
    return keras.Input((3,), dtype="int64", name=name)


def small_model() -> keras.Model:
    ids = id_input()
    return keras.Model(ids, keras.layers.Dense(1)(keras.layers.Embedding(10, 4, name="items")(ids)))


def check_equal(new: keras.Model, old: keras.Model, *inputs: np.ndarray) -> None:
    """The same kernels run on the same weights: the same bits."""
    new_outputs, old_outputs = (keras.tree.flatten(m.predict(list(inputs), verbose=0)) for m in (new, old))
    for got, expected in zip(new_outputs, old_outputs, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_converted_model_predicts_the_same_and_trains_on(store, rng, keras_seed):
    first, second = id_input("first"), id_input("second")
    items = keras.layers.Embedding(10, 4, name="items")
    inner = id_input("inner")
    tower = keras.Model(
        inner, keras.layers.Dense(5)(keras.layers.Embedding(7, 2, name="users")(inner)), name="tower"
    )
    vectors = keras.layers.Concatenate()([items(first), items(second), tower(first)])
    normal = keras.layers.BatchNormalization()(keras.layers.Dropout(0.5)(vectors))
    old = keras.Model([first, second], {"score": keras.layers.Dense(1)(normal)})
    old.compile("adam", "mse")
    inputs = [rng.integers(7, size=(50, 3)) for _ in range(2)]
    old.fit(inputs, {"score": np.ones((50, 3, 1))}, verbose=0)
    before = [w.copy() for w in old.get_weights()]

    new = damo_tf.convert_embeddings(old, store)

    check_equal(new, old, *inputs)
    assert {group: store.size(group) for group in store.stats()["groups"]} == {0: 10, 1: 7}
    assert [type(layer) for layer in new.layers if layer.name == "items"] == [damo_tf.Embedding]
    new.compile("adam", "mse")
    new.fit([ids + 2**40 for ids in inputs], {"score": np.ones((50, 3, 1))}, verbose=0)
    assert store.size(0) > 10
    for now, then in zip(old.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_sequential_model_is_converted(store):
    old = keras.Sequential(
        [id_input(), keras.layers.Embedding(10, 4), keras.layers.Flatten(), keras.layers.Dense(2)]
    )

    new = damo_tf.convert_embeddings(old, store, optimizer={"name": "sgd", "gamma": 0.5})

    check_equal(new, old, np.arange(9).reshape(3, 3))
    assert store.stats()["groups"][0]["optimizer"]["name"] == "sgd"


def test_keys_are_those_of_a_vocabulary_and_groups_those_asked_for(store, rng):
    old = small_model()
    hashes = rng.integers(-(2**63), 2**63, size=10)

    new = damo_tf.convert_embeddings(old, store, groups={"items": 200}, keys={"items": hashes})

    places = rng.integers(10, size=(20, 3))
    np.testing.assert_array_equal(new.predict(hashes[places], verbose=0), old.predict(places, verbose=0))
    assert list(store.stats()["groups"]) == [200]


def test_ids_beyond_the_vocabulary_begin_as_the_layers_initializer_says(store):
    ids = id_input()
    layer = keras.layers.Embedding(10, 4, embeddings_initializer=keras.initializers.RandomUniform(0.5, 0.75))
    new = damo_tf.convert_embeddings(keras.Model(ids, layer(ids)), store)

    vectors = new.predict(np.array([[10, 11, -1]]), verbose=0)

    np.testing.assert_array_equal(vectors, store.lookup(0, [[10, 11, -1]]))
    assert vectors.min() >= 0.5 and vectors.max() <= 0.75


def test_dtype_policy_and_frozen_layers_stay(store):
    ids = id_input()
    layer = keras.layers.Embedding(10, 4, dtype="mixed_float16", trainable=False)
    old = keras.Model(ids, keras.layers.Flatten()(layer(ids)))

    new = damo_tf.convert_embeddings(old, store)

    check_equal(new, old, np.arange(9).reshape(3, 3))
    assert new.layers[1].compute_dtype == "float16" and not new.layers[1].trainable


def test_groups_that_stand_are_left_alone(store):
    store.add_group(0, 3)
    store.add_group(2, 3)
    ids = id_input()
    vectors = [keras.layers.Embedding(10, 4)(ids) for _ in range(2)]
    old = keras.Model(ids, keras.layers.Concatenate()(vectors))

    new = damo_tf.convert_embeddings(old, store)

    check_equal(new, old, np.arange(9).reshape(3, 3))
    assert [store.size(group) for group in range(4)] == [0, 10, 0, 10]


class Subclassed(keras.Model):
    def call(self, ids):
        return ids


def test_wrong_argument_is_refused_by_name_rule_and_value_and_changes_nothing(store):
    store.add_group(5, 3)
    model = small_model()
    ids = id_input()

    def with_layer(**settings):
        return keras.Model(ids, keras.layers.Embedding(10, 4, name="items", **settings)(ids))

    for arguments, kind, text in [
        ({"model": 42}, TypeError, "`model` must be a keras.Model. Received: 42"),
        ({"model": Subclassed(name="own")}, TypeError, "use `Store.from_keras`. Received: model 'own'"),
        ({"model": keras.Model(ids, keras.layers.Flatten()(ids), name="m")}, ValueError, "model 'm' without"),
        ({"store": 42}, TypeError, "`store` must be a path. Received: store=42"),
        ({"groups": [1]}, TypeError, "`groups` must be a dict. Received: groups=[1]"),
        ({"groups": {"x": 1}}, ValueError, "names of the Embedding layers ['items']. Received: ['x']"),
        ({"groups": {"items": 256}}, ValueError, "`groups['items']` must be an integer in [0, 256)"),
        ({"groups": {"items": 5}}, ValueError, "that the store does not have. Received: 5 for 'items'"),
        ({"keys": {"items": [1]}}, ValueError, "layer 'items', shape (10,). Received shape: (1,)"),
        ({"keys": {"items": [0.5] * 10}}, TypeError, "`keys` must be an integer in"),
        ({"optimizer": "nadam"}, ValueError, "nadam"),
        ({"model": with_layer(embeddings_constraint="non_neg")}, ValueError, "no embeddings_constraint"),
        ({"model": with_layer(mask_zero=True)}, ValueError, "no mask: layers behind it would get none"),
        ({"model": with_layer(embeddings_regularizer="l2")}, ValueError, "no embeddings_regularizer"),
        ({"model": with_layer(embeddings_initializer="orthogonal")}, ValueError, "no equivalent for rows"),
    ]:
        with pytest.raises(kind, match=re.escape(text)):
            damo_tf.convert_embeddings(**{"model": model, "store": store, **arguments})
    assert list(store.stats()["groups"]) == [5]
