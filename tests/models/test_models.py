# SPDX-License-Identifier: Apache-2.0
"""The models beside DeepFM: what they compute, their command, and what compares them with Keras."""

import functools
import itertools
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import damo_tf
from models import (
    command,
    compare,
    data,
    dcn_v2,
    din,
    dlrm,
    keras_embeddings,
    two_tower,
    wide_and_deep,
)
from models.data import batches, synthetic
from models.errors import CommandError
from models.feature_model import VECTORS_GROUP, WEIGHTS_GROUP
from models.retrieval import RecallAtK, in_batch_softmax, recall_at_k
from models.run_directory import Recipe, RunDirectory

TINY = ["--dim", "4", "--hidden", "8", "--batch-size", "64"]

FIELDS = [data.Field("a"), data.Field("b", slots=2)]
IDS = np.array([[11, 12, 13], [11, 14, data.PADDING]], np.int64)
SLOTS = np.array([[1, 0, 0], [0, 1, 1]], np.float32)  # of the fields


def name_of(module) -> str:
    return module.PROGRAM.name


def main(module, *arguments: object) -> int:
    return module.PROGRAM.main([str(argument) for argument in arguments])


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def perceptron(layers: keras.Sequential, inputs: np.ndarray) -> np.ndarray:
    """The last layer's outputs before its activation; layers between are ReLUs."""
    outputs = inputs.reshape(len(inputs), -1)
    *hidden, last = (layer.get_weights() for layer in layers.layers[1:])
    for kernel, bias in hidden:
        outputs = np.maximum(outputs @ kernel + bias, 0)
    return outputs @ last[0] + last[1]


def made(model_class, fields, store, **initializers) -> keras.Model:
    return model_class(fields, store=store, dim=3, hidden=[5], learning_rate=0.1, **initializers)


def rows_of(layer: damo_tf.Embedding, ids: np.ndarray) -> np.ndarray:
    """The vectors of `ids` as the store has them, zeros for padding."""
    rows = layer.store.lookup(layer.group, ids.astype(np.int64).view(np.uint64).ravel())
    return np.where(ids[..., None] == data.PADDING, 0, rows.reshape(*ids.shape, -1))


def train_a_little(model: keras.Model, inputs, labels) -> None:
    """Moves rows and weights away from their initial values, which hide mistakes."""
    model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy", run_eagerly=True)
    model.train_on_batch(inputs, labels)


# ---- What they compute ----


def test_wide_and_deep_is_a_linear_model_with_crosses_and_a_deep_network(store):
    fields = [data.Field("gender"), data.Field("item"), data.Field("genre", slots=2)]
    ids = np.array([[11, 12, 13, 14], [-(2**62) - 5, 12, 15, data.PADDING]], np.int64)
    model = made(wide_and_deep.WideAndDeep, fields, store)
    train_a_little(model, ids, np.array([[1.0], [0.0]]))

    actual = model(ids, training=False)

    crosses = [[(0x9E3779B97F4A7C15 * int(a) + int(b)) % 2**64] for a, b in ids[:, :2]]
    ids_and_crosses = np.concatenate([ids, np.array(crosses, np.uint64).view(np.int64)], axis=1)
    weights = rows_of(model.feature_weights, ids_and_crosses)
    vectors = rows_of(model.feature_vectors, ids)
    pooled = np.stack([vectors[:, 0], vectors[:, 1], vectors[:, 2] + vectors[:, 3]], axis=1)
    expected = sigmoid(weights.sum(axis=1) + perceptron(model.deep, pooled))
    assert store.size(WEIGHTS_GROUP) == 8  # six features, two crosses
    assert np.all(weights[:, 4] != 0)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)  # float32 sums in another order


def test_wide_and_deep_without_fields_to_cross_has_features_only(store):
    model = made(wide_and_deep.WideAndDeep, FIELDS, store)

    np.testing.assert_array_equal(model.with_crosses(tf.constant(IDS)), IDS)


def test_dcn_v2_multiplies_the_inputs_into_each_cross_layer(store):
    model = made(dcn_v2.DCNV2, FIELDS, store)
    train_a_little(model, IDS, np.array([[1.0], [0.0]]))

    actual = model(IDS, training=False)

    x = x0 = (SLOTS @ rows_of(model.feature_vectors, IDS)).reshape(2, -1)
    for cross in model.crosses:
        (down,), (up, bias) = cross.down.get_weights(), cross.up.get_weights()
        assert down.shape == (6, 1)  # a quarter of the width
        x = x0 * (x @ down @ up + bias) + x
    np.testing.assert_allclose(actual, sigmoid(perceptron(model.deep, x)), rtol=1e-5)


def test_dlrm_takes_each_pair_of_vectors_once(store):
    inputs = {"ids": IDS, "numbers": np.array([[0.5, 2.0], [1.0, 0.0]], np.float32)}
    model = made(dlrm.DLRM, FIELDS, store)
    train_a_little(model, inputs, np.array([[1.0], [0.0]]))

    actual = model(inputs, training=False)

    numbers = np.maximum(perceptron(model.bottom, inputs["numbers"]), 0)
    a, b = np.moveaxis(SLOTS @ rows_of(model.feature_vectors, IDS), 1, 0)
    products = np.stack([(u * v).sum(axis=1) for u, v in ((a, numbers), (b, numbers), (b, a))], axis=1)
    expected = sigmoid(perceptron(model.top, np.concatenate([numbers, products], axis=1)))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_din_weighs_the_history_against_the_target(store):
    fields = [data.Field("user"), data.Field("item"), data.Field("genre", 2), data.Field("history", 3)]
    pad = data.PADDING
    ids = np.array(
        [[1, 21, 31, 32, 22, 23, 21], [2, 22, 31, pad, 23, pad, pad], [3, 23, pad, pad, pad, pad, pad]]
    )
    model = made(din.DIN, fields, store)
    train_a_little(model, ids, np.array([[1.0], [0.0], [1.0]]))

    actual = model(ids, training=False)

    vectors = rows_of(model.feature_vectors, ids)
    target = vectors[:, 1]
    present = np.concatenate([vectors[:, 0], target, vectors[:, 2] + vectors[:, 3]], axis=1)
    interest = np.zeros_like(target)
    for example, slot in itertools.product(range(3), range(4, 7)):
        if ids[example, slot] != pad:
            t, h = target[example], vectors[example, slot]
            weight = perceptron(model.activation_unit, np.concatenate([h, t, t - h, t * h])[None])
            interest[example] += weight[0] * h
    features = np.concatenate([present, interest], axis=1)
    assert np.all(interest[:2] != 0) and np.all(interest[2] == 0)
    np.testing.assert_allclose(actual, sigmoid(perceptron(model.deep, features)), rtol=1e-5)


def test_din_updates_an_item_of_history_and_target_once(store):
    fields = [data.Field("item"), data.Field("history", 2), data.Field("user")]
    model = made(din.DIN, fields, store)

    train_a_little(model, np.array([[21, 21, data.PADDING, 1]]), np.array([[1.0]]))

    assert store.row(VECTORS_GROUP, 21).update_num == 1


def retrieval_model(store) -> tuple[two_tower.TwoTower, np.ndarray]:
    names = ("user", "age", "gender", "occupation", "zip", "hour", "item")
    fields = [*map(data.Field, names), data.Field("genre", 2)]
    ids = np.arange(1, 37).reshape(4, 9)
    ids[2, 6:] = ids[0, 6:]  # the same item
    ids[:, 8] = data.PADDING
    return made(two_tower.TwoTower, fields, store), ids


def test_two_tower_corrects_for_frequency_and_masks_equal_items(store):
    model, ids = retrieval_model(store)
    model(ids, training=True)
    model(ids[:1], training=True)

    logits = model(ids, training=False).numpy()

    vectors = rows_of(model.feature_vectors, ids)
    users = perceptron(model.user_tower, vectors[:, :5])
    items = perceptron(model.item_tower, np.stack([vectors[:, 6], vectors[:, 7]], axis=1))
    users, items = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (users, items))
    counts = np.array([3, 1, 3, 1])  # of each example's item in the five that were trained on
    expected = users @ items.T / 0.1 - np.log(counts)
    expected[0, 2] = expected[2, 0] = np.finfo(np.float32).min
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_two_tower_predicts_for_items_that_were_never_counted(store):
    model, ids = retrieval_model(store)

    assert np.all(np.isfinite(model(ids, training=False)))


def test_in_batch_softmax_is_the_cross_entropy_of_the_diagonal(rng):
    logits = rng.normal(size=(5, 5)).astype(np.float32)

    loss = in_batch_softmax(np.ones((5, 1), np.float32), logits)

    expected = np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


# ---- Recall ----


def test_recall_is_the_share_of_wanted_items_among_the_best():
    scores = np.array([[0.9, 0.8, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4]])
    wanted = np.array([[True, False, True, False], [False, False, False, True]])

    assert recall_at_k(scores, wanted, 1) == (1 / 2 + 1) / 2
    assert recall_at_k(scores, wanted, 3) == (1 / 2 + 1) / 2
    assert recall_at_k(scores, wanted, 9) == 1.0


def test_recall_leaves_out_what_the_user_is_known_to_like():
    fields = (data.Field("user"), data.Field("item"))

    def examples(*pairs):
        return data.Examples(fields, np.array(pairs, np.uint64), np.ones(len(pairs), np.float32))

    class ByItem:
        """Ranks item 30 before 20 before 10, for all users."""

        def towers(self, ids, training):
            assert training is False
            return tf.ones((len(ids), 1)), tf.cast(ids[:, 1:], tf.float32)

    callback = RecallAtK(examples((1, 30), (2, 10), (3, 20)), examples((1, 20), (2, 10)), k=1)
    callback.set_model(ByItem())
    logs: dict[str, float] = {}
    callback.on_epoch_end(0, logs)

    # User 1 gets 20, as 30 is known. User 2 gets 30; that 10 is wanted again is of no use.
    assert logs == {"val_recall_at_1": 0.5}


# ---- Command ----


def test_resumed_training_is_the_uninterrupted_one(tmp_path):
    """Of the model that has state beside rows and weights: what it counted."""
    results = []
    for name, runs in {"whole": [2], "parts": [1, 1]}.items():
        for epochs in runs:
            arguments = ["--rows", 400, "--epochs", epochs, "--store", tmp_path / name]
            assert main(two_tower, *TINY, *arguments) == 0
        with damo_tf.Store(tmp_path / name) as store:
            results.append(store.to_numpy(VECTORS_GROUP))

    for whole, parts in zip(*results, strict=True):
        np.testing.assert_array_equal(whole, parts)


def run_directory(path: Path, **entries: object) -> RunDirectory:
    """One with these entries in its recipe, after an epoch."""
    (path / "dense").mkdir()
    (path / "dense" / "recipe.json").write_text(json.dumps(entries))
    (path / "dense" / "ckpt-1.index").touch()
    return RunDirectory(path)


def test_store_of_another_model_is_refused(tmp_path):
    directory = run_directory(tmp_path, model="dcn_v2", fields=["a"], dim=4, hidden=[8], seed=0)

    directory.check(Recipe("dcn_v2", ["a"], 4, [8], 0))
    with pytest.raises(CommandError) as error:
        directory.check(Recipe("deepfm", ["a"], 4, [8], 0))

    assert str(error.value) == f"store {tmp_path}: made for model=dcn_v2, asked for model=deepfm"


def test_run_directory_from_before_there_were_other_models_is_of_deepfm(tmp_path):
    directory = run_directory(tmp_path, fields=["a"], dim=4, hidden=[8], seed=0)

    directory.check(Recipe("deepfm", ["a"], 4, [8], 0))
    with pytest.raises(CommandError, match="made for model=deepfm, asked for model=din"):
        directory.check(Recipe("din", ["a"], 4, [8], 0))


@pytest.mark.parametrize("module", [two_tower, din], ids=name_of)
def test_models_of_users_and_items_refuse_a_click_log(module, tmp_path, capsys):
    log = tmp_path / "log.tsv"
    synthetic.write_log(log, rows=100, seed=0)

    assert main(module, "--data", log) == 1

    error = f"{name_of(module)}: error: {log}: must be a MovieLens-100K folder\n"
    assert capsys.readouterr().err == error


# ---- Beside Keras ----


@pytest.mark.parametrize("module", [wide_and_deep, din], ids=name_of)
def test_model_on_keras_embeddings_looks_up_what_it_is_asked_for(module, tmp_path):
    program = module.PROGRAM
    examples = program.task.read(program.task.write_log(tmp_path, 200, 0))
    options = command.parser(program).parse_args(TINY, command.Options())
    make = functools.partial(command.make_model, program, examples.fields, tmp_path / "none", options)

    model = make(embedding=keras_embeddings.on_vocabularies(make, examples))
    command.compile_and_build(model, program.task, examples, learning_rate=0.01)

    layer = model.feature_vectors
    ids = np.unique(examples.ids.view(np.int64))
    rows = layer(ids).numpy()
    assert not (tmp_path / "none").exists()
    assert len(np.unique(rows, axis=0)) == len(ids)  # each its own
    assert np.all(rows[ids == data.PADDING] == 0)
    assert 0.05 < rows.std() * {"din": 1, "wide_and_deep": 10}[program.name] < 0.15
    model.fit(batches.in_order(examples, 64), shuffle=False, verbose=0)
    assert np.all(np.any(layer(ids) != rows, axis=1) == (ids != data.PADDING))


def test_comparison_prints_means_over_the_seeds(tmp_path, capsys, monkeypatch):
    log = tmp_path / "log.tsv"
    synthetic.write_log(log, rows=10, seed=0)
    values = {(3, False): 0.5, (4, False): 0.7, (3, True): 0.25, (4, True): 0.75}
    monkeypatch.setattr(
        compare, "best_metric", lambda _, examples, options, *, on_keras: values[options.seed, on_keras]
    )

    assert compare.main(["--models", "deepfm", "dlrm", "din", "--seeds", "3", "4", "--criteo", str(log)]) == 0

    header, rule, *lines = capsys.readouterr().out.splitlines()
    cells = "log.tsv | auc | 0.6000 | 0.5000 | 0.5000 0.7000 | 0.2500 0.7500 |"
    assert lines == [f"| deepfm | {cells}", f"| dlrm | {cells}"]  # din takes ratings only
    assert header.count("|") == rule.count("|") == lines[0].count("|")


def test_comparison_trains_on_both(tmp_path, capsys):
    log = tmp_path / "log.tsv"
    synthetic.write_log(log, rows=300, seed=0)

    assert (
        compare.main(["--models", "dcn_v2", "--criteo", str(log), "--seeds", "1", "--epochs", "1", *TINY])
        == 0
    )

    ours, on_keras = (float(cell) for cell in capsys.readouterr().out.splitlines()[-1].split("|")[4:6])
    assert 0 < ours < 1 and 0 < on_keras < 1
    assert ours != on_keras  # they begin with other vectors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--criteo or --movielens must name data for one of the models. They take: deepfm: "),
        (
            ["--criteo", "log.tsv", "--models", "din"],
            "must name data for one of the models. They take: din: ",
        ),
        (
            ["--criteo", "log.tsv", "--epochs", "0"],
            "argument --epochs: must be in [1, 2147483647]. Received: 0",
        ),
        (["--criteo", "log.tsv", "--epoks", "1"], "unrecognized arguments: --epoks 1"),
    ],
)
def test_comparison_of_nothing_or_with_bad_arguments_is_refused_at_once(capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_status:
        compare.main(arguments)

    assert exit_status.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.splitlines()[-1].startswith("python -m models.compare: error: ")
    assert message in errors


def test_comparison_names_bad_data(tmp_path, capsys):
    assert compare.main(["--models", "din", "--movielens", str(tmp_path / "none")]) == 1

    problem = "must be a MovieLens-100K folder"
    assert capsys.readouterr().err == f"compare: error: {tmp_path / 'none'}: {problem}\n"
