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


class OwnEmbedding(keras.layers.Embedding):
    """Might do anything."""


def test_embeddings_inside_other_layers_are_named(store):
    ids = keras.Input((2, 3), dtype="int64")
    inside = keras.layers.TimeDistributed(keras.layers.Embedding(10, 4), name="wrapped")(ids)
    own = OwnEmbedding(10, 4, name="own")(ids)
    only_these = keras.Model(ids, [inside, own])
    one_more = keras.Model(ids, [inside, own, keras.layers.Embedding(10, 4)(ids)])

    with pytest.raises(ValueError, match=re.escape("without, but for what is inside ['wrapped', 'own']")):
        damo_tf.convert_embeddings(only_these, store)
    with pytest.warns(UserWarning, match=re.escape("Embedding inside ['wrapped', 'own'] of model")):
        converted = damo_tf.convert_embeddings(one_more, store)

    check_equal(converted, one_more, np.zeros((1, 2, 3), np.int64))


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


def behind_other_layers(vectors):
    dense = keras.layers.TimeDistributed(keras.layers.Dense(5))(vectors)
    return keras.layers.GlobalAveragePooling1D()(keras.layers.Dropout(0.5)(dense))


def attention(vectors):
    attended = keras.layers.MultiHeadAttention(2, 3)(vectors, vectors)
    return keras.layers.GlobalAveragePooling1D()(attended)


def masked_model(heeding) -> keras.Model:
    """A model that skips id 0, whose row is not zero: without the mask it predicts something else."""
    ids = id_input()
    vectors = keras.layers.Embedding(10, 4, mask_zero=True, name="items")(ids)
    return keras.Model(ids, keras.layers.Dense(1)(heeding(vectors)))


PADDED = np.array([[3, 0, 0], [3, 7, 0], [0, 3, 7], [0, 0, 0], [1, 2, 3]])
NOT_ZERO = "layer 'items' has mask_zero=True, and row 0 of its matrix is not zero"


@pytest.mark.parametrize(
    "heeding",
    [keras.layers.LSTM(5), keras.layers.GlobalAveragePooling1D(), behind_other_layers, attention],
    ids=["lstm", "pooling", "behind_other_layers", "attention"],
)
def test_mask_of_id_0_flows_on(store, keras_seed, heeding):
    old = masked_model(heeding)

    with pytest.warns(UserWarning, match=NOT_ZERO):
        new = damo_tf.convert_embeddings(old, store)

    check_equal(new, old, PADDED)
    assert store.row(0, 0) is None and store.size(0) == 9


def test_mask_of_id_0_flows_on_in_a_sequential_model(store, keras_seed):
    old = keras.Sequential(
        [
            id_input(),
            keras.layers.Embedding(10, 4, mask_zero=True, name="items"),
            keras.layers.GRU(5),
            keras.layers.Dense(1),
        ]
    )

    with pytest.warns(UserWarning, match=NOT_ZERO):
        new = damo_tf.convert_embeddings(old, store)

    check_equal(new, old, PADDED)


def test_masked_model_trains_on_as_it_would_have(store, keras_seed):
    old = masked_model(keras.layers.LSTM(5))
    with pytest.warns(UserWarning, match=NOT_ZERO):
        new = damo_tf.convert_embeddings(old, store, optimizer=damo_tf.optimizers.SGD(0.1))

    for model in (old, new):
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(PADDED, np.arange(5.0), epochs=5, shuffle=False, verbose=0)

    # Sums of gradients are rounded in another order.
    np.testing.assert_allclose(new.predict(PADDED, verbose=0), old.predict(PADDED, verbose=0), rtol=1e-5)


def test_row_of_zeros_for_id_0_needs_no_mask_to_predict_the_same(store, recwarn):
    old = masked_model(lambda vectors: keras.ops.sum(vectors, axis=1))
    matrix = old.get_layer("items").embeddings
    matrix.assign(matrix.numpy() * (np.arange(10) > 0)[:, None])

    new = damo_tf.convert_embeddings(old, store)

    check_equal(new, old, PADDED)
    assert not [w for w in recwarn if "mask_zero" in str(w.message)]


@pytest.mark.parametrize("setting", ["embeddings_regularizer", "embeddings_constraint"])
def test_refused_setting_can_be_taken_off(store, setting):
    ids = id_input()
    value = {"embeddings_regularizer": "l2", "embeddings_constraint": "non_neg"}[setting]
    layer = keras.layers.Embedding(10, 4, name="items", **{setting: value})
    old = keras.Model(ids, layer(ids))
    with pytest.raises(ValueError, match=f"layer 'items' must have no {setting}: rows have none. Set it to"):
        damo_tf.convert_embeddings(old, store)

    setattr(layer, setting, None)

    check_equal(damo_tf.convert_embeddings(old, store), old, PADDED)


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
        (
            {"keys": {"items": [7, 7, *range(8)]}},
            ValueError,
            "`keys` must be different for each row of layer 'items'. Received several times: 7",
        ),
        ({"keys": {"items": [0.5] * 10}}, TypeError, "`keys` must be an integer in"),
        ({"optimizer": "nadam"}, ValueError, "nadam"),
        ({"model": with_layer(embeddings_constraint="non_neg")}, ValueError, "no embeddings_constraint"),
        (
            {"model": with_layer(mask_zero=True), "keys": {"items": range(1, 11)}},
            ValueError,
            "`keys` must begin with 0 for layer 'items', which has mask_zero=True: 0 is what is masked. "
            "Received: 1",
        ),
        ({"model": with_layer(embeddings_regularizer="l2")}, ValueError, "no embeddings_regularizer"),
        ({"model": with_layer(embeddings_initializer="orthogonal")}, ValueError, "no equivalent for rows"),
    ]:
        with pytest.raises(kind, match=re.escape(text)):
            damo_tf.convert_embeddings(**{"model": model, "store": store, **arguments})
    assert list(store.stats()["groups"]) == [5]
