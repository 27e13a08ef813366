# SPDX-License-Identifier: Apache-2.0
"""DeepFM on Criteo or MovieLens-100K logs, its embeddings in a damo_tf store.

    python -m models.deepfm --data train.tsv --store run     # three epochs
    python -m models.deepfm --data train.tsv --store run     # three more

Guo et al. 2017, "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction".
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import rich.box
import rich.console
import rich.table
import tensorflow as tf
from keras import ops

import damo_tf
from models import data
from models.data import batches, synthetic
from models.errors import CommandError
from models.run_directory import DenseCheckpoints, Recipe, RunDirectory, SaveEachEpoch

WEIGHTS_GROUP = 0
VECTORS_GROUP = 1

VALIDATION_SHARE = 0.1
VALIDATION_BATCH_SIZE = 4096
AUC_THRESHOLDS = 2000  # brings the metric within 0.001 of the exact area


class DeepFM(keras.Model):
    """Click probability from a factorization machine and a deep network on the same vectors.

    Each feature has a weight, a row in `WEIGHTS_GROUP`, and a vector, a row in `VECTORS_GROUP`; the
    vector of a field is the sum of those of its features. The logit is the sum of the weights, of
    the products of the fields' vectors in pairs, and of the deep network's output on all of them.

    Args:
        fields: the fields of an example, in the order of their slots.
        store: an open `damo_tf.Store`.
        dim: width of the vectors.
        hidden: units of each hidden layer.
        learning_rate: of the vectors.

    Call arguments:
        ids: integer `[batch, slots]`, feature ids; `data.PADDING` in unused slots.

    Output shape:
        float32 `[batch, 1]`, probabilities.
    """

    def __init__(
        self,
        fields: Sequence[data.Field],
        *,
        store: damo_tf.Store,
        dim: int,
        hidden: Sequence[int],
        learning_rate: float,
    ) -> None:
        super().__init__(name="deepfm")
        self.feature_weights = damo_tf.Embedding(
            1,
            store=store,
            group=WEIGHTS_GROUP,
            initializer=damo_tf.initializers.Zeros(),
            optimizer=damo_tf.optimizers.Ftrl(learning_rate=0.02),
            padding_key=data.PADDING,
        )
        self.feature_vectors = damo_tf.Embedding(
            dim,
            store=store,
            group=VECTORS_GROUP,
            initializer=damo_tf.initializers.RandomNormal(stddev=0.01),
            optimizer=damo_tf.optimizers.Adam(learning_rate=learning_rate),
            padding_key=data.PADDING,
        )
        layers = [keras.layers.Dense(units, activation="relu") for units in hidden]
        self.deep = keras.Sequential([keras.layers.Flatten(), *layers, keras.layers.Dense(1)])
        # [fields, slots]: 1 where the slot is one of the field's.
        self.slots_of_field = np.repeat(
            np.eye(len(fields), dtype=np.float32), [field.slots for field in fields], axis=1
        )

    def build(self, input_shape: tuple[int | None, int]) -> None:
        """Opens the groups of rows and makes the dense weights."""
        self.feature_weights.build(input_shape)
        self.feature_vectors.build(input_shape)
        self.deep.build((None, len(self.slots_of_field), self.feature_vectors.dim))
        super().build(input_shape)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the probabilities."""
        weights = self.feature_weights(ids)  # [batch, slots, 1]
        vectors = self.feature_vectors(ids)  # [batch, slots, dim]
        vectors = ops.matmul(self.slots_of_field, vectors)  # [batch, fields, dim]
        # The sum of <u, v> over all pairs is (|sum of v|^2 - sum of |v|^2) / 2.
        pairs = (ops.square(ops.sum(vectors, axis=1)) - ops.sum(ops.square(vectors), axis=1)) / 2
        linear = ops.sum(weights, axis=1)
        return ops.sigmoid(linear + ops.sum(pairs, axis=1, keepdims=True) + self.deep(vectors))


def build_model(examples: data.Examples, store: damo_tf.Store, options: Options) -> DeepFM:
    """A compiled model whose weights exist."""
    model = DeepFM(
        examples.fields,
        store=store,
        dim=options.dim,
        hidden=options.hidden,
        learning_rate=options.learning_rate,
    )
    model.compile(
        optimizer=keras.optimizers.Adam(options.learning_rate),
        loss="binary_crossentropy",
        metrics=[keras.metrics.AUC(num_thresholds=AUC_THRESHOLDS, name="auc")],
    )
    model.build((None, examples.ids.shape[1]))
    return model


def train(
    training: data.Examples,
    validation: data.Examples,
    directory: RunDirectory,
    recipe: Recipe,
    options: Options,
) -> None:
    """Trains from where the directory's last run ended, and reports.

    Raises:
        CommandError: the directory is damaged or of another model.
    """
    keras.utils.set_random_seed(options.seed)
    with contextlib.ExitStack() as stack:
        try:
            store = stack.enter_context(damo_tf.Store(directory.path, seed=options.seed))
            directory.keep(recipe)
            model = build_model(training, store, options)
        except ValueError as error:
            raise CommandError(one_line(error)) from error
        checkpoints = DenseCheckpoints(directory.dense, model)
        first = checkpoints.restore()
        epochs = range(first, first + options.epochs)
        print(f"{len(training):,} training and {len(validation):,} validation examples")
        started = time.perf_counter()
        history = model.fit(
            batches.shuffled(training, options.batch_size, epochs, options.seed),
            steps_per_epoch=batches.batches_per_epoch(training, options.batch_size),
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            shuffle=False,  # they come shuffled
            validation_data=batches.in_order(validation, VALIDATION_BATCH_SIZE),
            callbacks=[SaveEachEpoch(store, checkpoints)],
            verbose="auto" if sys.stdout.isatty() else 2,  # in a file: one line an epoch
        )
        report(store, time.perf_counter() - started, max(history.history["val_auc"]))


def report(store: damo_tf.Store, seconds: float, val_auc: float) -> None:
    """Prints what the store holds and the line of results."""
    stats = store.stats()
    table = rich.table.Table("group", "content", box=rich.box.SIMPLE, caption=f"trained in {seconds:.1f} s")
    for heading in ("rows", "bytes", "steps"):
        table.add_column(heading, justify="right")
    for group, content in {WEIGHTS_GROUP: "weights", VECTORS_GROUP: "vectors"}.items():
        numbers = stats["groups"][group]
        table.add_row(str(group), content, *(f"{numbers[name]:,}" for name in ("rows", "bytes", "step")))
    rich.console.Console().print(table)
    print(f"val_auc={val_auc:.4f} rows={store.size()} store_bytes={stats['disk_bytes']}")


class Options(argparse.Namespace):
    """The command line; `parser` documents its entries."""

    data: Path | None
    rows: int
    store: Path | None
    epochs: int
    batch_size: int
    dim: int
    hidden: list[int]
    learning_rate: float
    seed: int


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.deepfm",
        description="Trains DeepFM on a click log, its embeddings in a damo_tf store. Run again "
        "with the same --store, it goes on where it stopped. The last line printed is "
        "'val_auc=... rows=... store_bytes=...'; val_auc is that of the best epoch of this run.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, help="Criteo TSV file or MovieLens-100K folder; else a made-up log")
    add("--rows", type=_integer(100), default=20_000, help="lines of the made-up log")
    add("--store", type=Path, help="directory of rows and dense weights; else nothing is kept")
    add("--epochs", type=_integer(1), default=3, help="epochs of this run")
    add("--batch-size", type=_integer(1), default=512, help="examples in a step")
    add("--dim", type=_integer(1, 65_536), default=16, help="width of the feature vectors")
    add("--hidden", type=_integer(1), nargs="+", default=[128, 64], help="units of hidden layers")
    add("--learning-rate", type=_positive, default=1e-3, help="of vectors and dense weights")
    add("--seed", type=_integer(0), default=0, help="of split, order, initial values")
    return parser


def _integer(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be in [{least}, {most}]. Received: {value}")
        return value

    return integer


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number > 0. Received: {text!r}") from None
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be > 0 and finite. Received: {value}")
    return value


def read_examples(options: Options) -> data.Examples:
    """The examples of --data or, without it, of a made-up log.

    Raises:
        DataError: a file is unreadable or malformed.
    """
    if options.data is not None:
        return data.read(options.data)
    with tempfile.TemporaryDirectory(prefix="deepfm-") as folder:
        log = Path(folder) / "log.tsv"
        synthetic.write_log(log, rows=options.rows, seed=options.seed)
        return data.read(log)


def run(options: Options) -> None:
    """Reads the data, then opens the store and trains.

    Raises:
        CommandError: something is wrong that the user can put right.
    """
    examples = read_examples(options)
    training, validation = examples.split(validation=VALIDATION_SHARE, seed=options.seed)
    with contextlib.ExitStack() as stack:
        if options.store is None:
            options.store = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deepfm-")))
        directory = RunDirectory(options.store)
        fields = [field.name for field in examples.fields]
        recipe = Recipe(fields, options.dim, options.hidden, options.seed)
        directory.check(recipe)
        train(training, validation, directory, recipe, options)


def one_line(error: Exception) -> str:
    """The line that says what happened; TensorFlow tells the story of the graph around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    node = next((i for i, line in enumerate(lines) if line.startswith("[[{{node")), 1)
    return lines[node - 1] if lines else type(error).__name__


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, 1 after an error, 130 after Ctrl-C."""
    options = parser().parse_args(arguments, Options())
    try:
        run(options)
    except (CommandError, OSError, RuntimeError, tf.errors.OpError) as error:
        print(f"deepfm: error: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("deepfm: interrupted; finished epochs are saved", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
