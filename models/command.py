# SPDX-License-Identifier: Apache-2.0
"""The command line that all models share: its options, the training, the report."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import rich.box
import rich.console
import rich.table
import tensorflow as tf

import damo_tf
from models import data
from models.data import batches
from models.errors import CommandError
from models.run_directory import DenseCheckpoints, Recipe, RunDirectory, SaveEachEpoch
from models.tasks import Task

VALIDATION_SHARE = 0.1
VALIDATION_BATCH_SIZE = 4096


@dataclasses.dataclass(frozen=True)
class Program:
    """A model as the command line runs it.

    Attributes:
        name: of its module, `models.NAME`; run directories bear it, so never change it.
        title: its name in prose.
        model: its class, made as `model(fields, store=..., dim=..., hidden=..., learning_rate=...)`.
        task: what it is trained for.
        groups: what the rows of each group of its store are.
    """

    name: str
    title: str
    model: Callable[..., keras.Model]
    task: Task
    groups: dict[int, str]

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Runs the command and returns its exit status: 0, 1 after an error, 130 after Ctrl-C."""
        options = parser(self).parse_args(arguments, Options())
        try:
            run(self, options)
        except (CommandError, OSError, RuntimeError, tf.errors.OpError) as error:
            print(f"{self.name}: error: {one_line(error)}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"{self.name}: interrupted; finished epochs are saved", file=sys.stderr)
            return 130
        return 0


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


def parser(program: Program) -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m models.{program.name}",
        description=f"Trains {program.title} on a log, its embeddings in a damo_tf store. Run again "
        "with the same --store, it goes on where it stopped. The last line printed is "
        f"'val_{program.task.metric}=... rows=... store_bytes=...'; val_{program.task.metric} is that of the "
        "best epoch of this run.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, help=f"{program.task.data}; else a made-up log")
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


def make_model(
    program: Program, fields: Sequence[data.Field], store: damo_tf.Store, options: Options, **how: Any
) -> keras.Model:
    """A model that is neither compiled nor built; `how` are further arguments of its class."""
    return program.model(
        fields,
        store=store,
        dim=options.dim,
        hidden=options.hidden,
        learning_rate=options.learning_rate,
        **how,
    )


def compile_and_build(model: keras.Model, task: Task, training: data.Examples, learning_rate: float) -> None:
    """Compiles `model` for its task and makes its weights."""
    model.compile(keras.optimizers.Adam(learning_rate), task.loss, metrics=task.metrics())
    model(next(iter(batches.in_order(training, 1)))[0], training=False)


def fit(
    model: keras.Model,
    task: Task,
    training: data.Examples,
    validation: data.Examples,
    epochs: range,
    options: Options,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[float]:
    """Trains a compiled model for `epochs` and returns its validation metric after each."""
    history = model.fit(
        batches.shuffled(training, options.batch_size, epochs, options.seed),
        steps_per_epoch=batches.batches_per_epoch(training, options.batch_size),
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        shuffle=False,  # they come shuffled
        validation_data=batches.in_order(validation, VALIDATION_BATCH_SIZE),
        callbacks=[*task.callbacks(training, validation), *callbacks],
        verbose="auto" if sys.stdout.isatty() else 2,  # in a file: one line an epoch
    )
    values: list[float] = history.history[f"val_{task.metric}"]
    return values


def train(
    program: Program,
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
            model = make_model(program, training.fields, store, options)
            compile_and_build(model, program.task, training, options.learning_rate)
        except ValueError as error:
            raise CommandError(one_line(error)) from error
        checkpoints = DenseCheckpoints(directory.dense, model)
        first = checkpoints.restore()
        epochs = range(first, first + options.epochs)
        print(f"{len(training):,} training and {len(validation):,} validation examples")
        started = time.perf_counter()
        saving = [SaveEachEpoch(store, checkpoints)]
        metric = max(fit(model, program.task, training, validation, epochs, options, saving))
        report(program, store, time.perf_counter() - started, metric)


def report(program: Program, store: damo_tf.Store, seconds: float, metric: float) -> None:
    """Prints what the store holds and the line of results."""
    stats = store.stats()
    table = rich.table.Table("group", "content", box=rich.box.SIMPLE, caption=f"trained in {seconds:.1f} s")
    for heading in ("rows", "bytes", "steps"):
        table.add_column(heading, justify="right")
    for group, content in program.groups.items():
        numbers = stats["groups"][group]
        table.add_row(str(group), content, *(f"{numbers[name]:,}" for name in ("rows", "bytes", "step")))
    rich.console.Console().print(table)
    result = f"val_{program.task.metric}={metric:.4f}"
    print(f"{result} rows={store.size()} store_bytes={stats['disk_bytes']}")


def read_examples(program: Program, options: Options) -> data.Examples:
    """The examples of --data or, without it, of a made-up log.

    Raises:
        DataError: a file is unreadable or malformed.
    """
    if options.data is not None:
        return program.task.read(options.data)
    with tempfile.TemporaryDirectory(prefix=f"{program.name}-") as folder:
        return program.task.read(program.task.write_log(Path(folder), options.rows, options.seed))


def run(program: Program, options: Options) -> None:
    """Reads the data, then opens the store and trains.

    Raises:
        CommandError: something is wrong that the user can put right.
    """
    examples = read_examples(program, options)
    training, validation = program.task.split(examples, VALIDATION_SHARE, options.seed)
    with contextlib.ExitStack() as stack:
        if options.store is None:
            folder = tempfile.TemporaryDirectory(prefix=f"{program.name}-")
            options.store = Path(stack.enter_context(folder))
        directory = RunDirectory(options.store)
        fields = [field.name for field in examples.fields]
        recipe = Recipe(program.name, fields, options.dim, options.hidden, options.seed)
        directory.check(recipe)
        train(program, training, validation, directory, recipe, options)


def one_line(error: Exception) -> str:
    """The line that says what happened; TensorFlow tells the story of the graph around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    node = next((i for i, line in enumerate(lines) if line.startswith("[[{{node")), 1)
    return lines[node - 1] if lines else type(error).__name__
