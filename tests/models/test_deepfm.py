# SPDX-License-Identifier: Apache-2.0
"""The DeepFM model and its command, `python -m models.deepfm`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import damo_tf
from models import data, deepfm
from models.data import synthetic
from models.run_directory import SaveEachEpoch

REPOSITORY = Path(__file__).resolve().parents[2]
RESULT = re.compile(r"val_auc=(0\.\d{4}) rows=(\d+) store_bytes=(\d+)")

# Small enough for a second's training.
SMALL = ["--rows", "400", "--dim", "4", "--hidden", "8", "--batch-size", "64", "--epochs", "1"]


def command(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "models.deepfm", *map(str, arguments)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a script, SIGINT is ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def main(*arguments: object) -> int:
    return deepfm.PROGRAM.main([str(argument) for argument in arguments])


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def result(output: str) -> tuple[float, int, int]:
    """val_auc, rows and store_bytes of the last line."""
    match = RESULT.fullmatch(output.splitlines()[-1])
    assert match, output
    return float(match[1]), int(match[2]), int(match[3])


def validation_aucs(output: str) -> list[str]:
    return re.findall(r"val_auc: (0\.\d+)", output)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run directory after one epoch. Tests that write to it take a copy."""
    store = tmp_path_factory.mktemp("trained") / "run"
    assert main("--store", store, *SMALL) == 0
    return store


# ---- Model ----


def test_probability_is_that_of_the_formula(tmp_path):
    fields = [data.Field("a"), data.Field("b", slots=2)]
    ids = np.array([[11, 12, 13], [11, 14, data.PADDING]], np.int64)
    with damo_tf.Store(tmp_path / "rows") as store:
        model = deepfm.DeepFM(fields, store=store, dim=3, hidden=[5], learning_rate=0.1)
        model.compile("sgd", "binary_crossentropy")
        model.fit(ids, np.array([[1.0], [0.0]]), epochs=3, verbose=0)

        actual = model.predict(ids, verbose=0)
        weights = np.asarray(model.feature_weights(ids))[..., 0]
        vectors = np.asarray(model.feature_vectors(ids))
    fields = np.stack([vectors[:, 0], vectors[:, 1] + vectors[:, 2]], axis=1)
    pair = (fields[:, 0] * fields[:, 1]).sum(axis=1)
    hidden, output = (layer.get_weights() for layer in model.deep.layers[1:])
    relu = np.maximum(fields.reshape(2, -1) @ hidden[0] + hidden[1], 0)
    deep = (relu @ output[0] + output[1])[:, 0]
    logit = weights.sum(axis=1) + pair + deep

    assert np.all(weights[1, 2] == 0) and np.all(vectors[1, 2] == 0)
    assert np.all(weights[0] != 0) and np.all(vectors[0] != 0)
    # Float32 sums in another order.
    np.testing.assert_allclose(actual[:, 0], 1 / (1 + np.exp(-logit)), rtol=1e-5)


# ---- Command ----


def test_command_trains_without_data_and_goes_on_when_run_again(tmp_path, capsys):
    arguments = [*SMALL, "--store", tmp_path / "run"]

    process = command(*arguments)
    output, errors = process.communicate()

    assert process.returncode == 0, errors
    assert errors == ""
    auc, rows, num_bytes = result(output)
    assert validation_aucs(output) == [f"{auc:.4f}"]
    assert rows > 2000
    assert num_bytes > 0
    with damo_tf.Store(tmp_path / "run") as store:
        assert store.size() == rows
        assert set(store.stats()["groups"]) == {deepfm.WEIGHTS_GROUP, deepfm.VECTORS_GROUP}

    assert main(*arguments) == 0
    output = capsys.readouterr().out
    assert "Epoch 2/2" in output
    assert result(output)[1] == rows


def test_resumed_training_is_the_uninterrupted_one(tmp_path, capsys):
    assert main(*SMALL, "--epochs", 3, "--store", tmp_path / "whole") == 0
    whole = validation_aucs(capsys.readouterr().out)

    parts = []
    for epochs in (1, 2):
        assert main(*SMALL, "--epochs", epochs, "--store", tmp_path / "parts") == 0
        parts += validation_aucs(capsys.readouterr().out)

    assert len(whole) == 3
    assert parts == whole


def test_result_is_that_of_the_best_epoch(tmp_path, capsys, monkeypatch):
    history = keras.callbacks.History()
    history.history = {"val_auc": [0.61, 0.73, 0.72]}
    monkeypatch.setattr(deepfm.DeepFM, "fit", lambda *args, **kwargs: history)

    assert main(*SMALL, "--store", tmp_path / "run") == 0

    assert result(capsys.readouterr().out)[:2] == (0.73, 0)


def test_without_store_nothing_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert main(*SMALL) == 0

    assert result(capsys.readouterr().out)[1] > 0
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dim", 8], "made for dim=4, asked for dim=8"),
        (["--hidden", 8, 8], "made for hidden=[8], asked for hidden=[8, 8]"),
        (["--seed", 1], "made for seed=0, asked for seed=1"),
    ],
)
def test_store_of_another_shape_is_refused_and_untouched(trained, capsys, arguments, message):
    before = content(trained)

    assert main("--store", trained, *SMALL, *arguments) == 1

    assert capsys.readouterr().err == f"deepfm: error: store {trained}: {message}\n"
    assert content(trained) == before


def test_store_of_other_fields_is_refused(trained, tmp_path, capsys):
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n")
    (tmp_path / "u.item").write_text("|".join(["1", "", "", "", "", *["0"] * 19]) + "\n")
    (tmp_path / "u.data").write_text("1\t1\t1\t0\n1\t1\t5\t0\n" * 2)

    assert main("--store", trained, *SMALL, "--data", tmp_path) == 1

    assert re.fullmatch(
        r"deepfm: error: store .*: made for fields=\['I1', .*\], asked for fields=\['user', .*\]\n",
        capsys.readouterr().err,
    )


def test_rows_of_another_dim_are_refused(trained, tmp_path, capsys):
    store = shutil.copytree(trained, tmp_path / "run")
    recipe = json.loads((store / "dense" / "recipe.json").read_text())
    (store / "dense" / "recipe.json").write_text(json.dumps(recipe | {"dim": 8}))

    assert main("--store", store, *SMALL, "--dim", 8) == 1

    errors = capsys.readouterr().err
    assert re.fullmatch(r"deepfm: error: .*\bdim\b.*\n", errors)
    assert "4" in errors and "8" in errors


def test_bad_line_leaves_no_store(tmp_path, capsys):
    log = tmp_path / "log.tsv"
    synthetic.write_log(log, rows=100, seed=0)
    log.write_text(log.read_text() + "maybe\t1\n")

    assert main("--store", tmp_path / "run", "--data", log) == 1

    problem = "must have 40 columns separated by tabs. Found: 2"
    assert capsys.readouterr().err == f"deepfm: error: {log}, line 101: {problem}\n"
    assert not (tmp_path / "run").exists()


def test_first_run_that_fails_can_be_mended_and_repeated(tmp_path, capsys):
    arguments = [*SMALL, "--store", tmp_path / "run"]

    assert main(*arguments, "--learning-rate", 1e300) == 1
    assert "parameter 'gamma' must be a finite number in float32" in capsys.readouterr().err
    assert main(*arguments) == 0


def test_foreign_directory_is_refused_and_untouched(tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("Dear reader")

    assert main("--store", tmp_path, *SMALL) == 1

    assert "not empty and, having no dense/recipe.json" in capsys.readouterr().err
    assert content(tmp_path) == {"letter.txt": b"Dear reader"}


def test_directory_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()

    assert main("--store", tmp_path / "file" / "run", *SMALL) == 1

    errors = capsys.readouterr().err
    assert errors.startswith(f"deepfm: error: I/O error: open store '{tmp_path / 'file' / 'run'}': ")
    assert errors.count("\n") == 1


def test_too_few_examples_leave_no_store(tmp_path, capsys):
    log = tmp_path / "log.tsv"
    log.write_text("1" + "\t" * 39 + "\n")

    assert main("--store", tmp_path / "run", "--data", log) == 1

    assert "2 examples or more of each label" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def damage_recipe(store: Path) -> None:
    (store / "dense" / "recipe.json").write_text("{")


def damage_recipe_entries(store: Path) -> None:
    (store / "dense" / "recipe.json").write_text('{"dim": 4}')


def remove_rows(store: Path) -> None:
    for path in store.iterdir():
        if path.is_file():
            path.unlink()


def remove_checkpoint_state(store: Path) -> None:
    (store / "dense" / "checkpoint").unlink()


def truncate_checkpoint(store: Path) -> None:
    (path,) = (store / "dense").glob("*.data-*")
    path.write_bytes(path.read_bytes()[:100])


def damage_rows(store: Path) -> None:
    (store / "CURRENT").write_text("nonsense\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_recipe, "store {}: damaged: recipe.json is no JSON: "),
        (damage_recipe_entries, "store {}: damaged: recipe.json must have the entries model, fields, dim"),
        (remove_rows, "open store '{}': "),
        (remove_checkpoint_state, "{}/dense: damaged: it has no readable checkpoint"),
        (truncate_checkpoint, "{0}/dense: cannot restore {0}/dense/ckpt-1: "),
        (damage_rows, "data loss: open store '{}': "),
    ],
)
def test_damaged_store_is_named(trained, tmp_path, capsys, damage, message):
    store = shutil.copytree(trained, tmp_path / "run")
    damage(store)

    assert main("--store", store, *SMALL) == 1

    errors = capsys.readouterr().err
    assert errors.startswith("deepfm: error: " + message.format(store))
    assert errors.count("\n") == 1


def test_failing_store_ends_the_training_with_one_line(tmp_path, capsys, monkeypatch):
    def close_store(callback, batch, logs=None):
        callback._store.close()

    monkeypatch.setattr(SaveEachEpoch, "on_train_batch_end", close_store)

    assert main("--store", tmp_path / "run", *SMALL) == 1

    assert re.fullmatch(r"deepfm: error: .*store '.*/run' is closed\n", capsys.readouterr().err)


def test_store_in_use_by_another_process_is_refused(trained, tmp_path):
    store = shutil.copytree(trained, tmp_path / "run")
    with damo_tf.Store(store):
        process = command("--store", store, *SMALL)
        _, errors = process.communicate()

    assert process.returncode == 1
    assert re.fullmatch(r"deepfm: error: .*/run.*\n", errors)


def test_interrupted_command_closes_the_store_and_can_go_on(tmp_path, capsys):
    process = command(*SMALL, "--epochs", 10_000, "--store", tmp_path / "run")
    for line in process.stdout:
        if line.startswith("Epoch 2/"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()

    assert process.returncode == 130
    assert errors == "deepfm: interrupted; finished epochs are saved\n"
    assert main(*SMALL, "--store", tmp_path / "run") == 0
    assert int(re.search(r"Epoch (\d+)/", capsys.readouterr().out)[1]) >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: must be in [1, 2147483647]. Received: 0"),
        (["--dim", "65537"], "argument --dim: must be in [1, 65536]. Received: 65537"),
        (["--rows", "x"], "argument --rows: invalid integer value: 'x'"),
        (["--learning-rate", "nan"], "argument --learning-rate: must be > 0 and finite."),
    ],
)
def test_bad_argument_is_named(capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_status:
        main(*arguments)

    assert exit_status.value.code == 2
    assert message in capsys.readouterr().err
