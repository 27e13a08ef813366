# SPDX-License-Identifier: Apache-2.0
"""The metric of every model beside that of the same model on `keras.layers.Embedding`.

    python -m models.compare --criteo train.tsv --movielens ml-100k > table.md

Data, split, order of examples, dense initial values and epochs are the same for both; the table is printed in
Markdown, progress on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

import damo_tf
from models import command, data, dcn_v2, deepfm, din, dlrm, two_tower, wide_and_deep
from models.errors import CommandError
from models.keras_embeddings import on_vocabularies

PROGRAMS = tuple(module.PROGRAM for module in (deepfm, wide_and_deep, dcn_v2, dlrm, two_tower, din))
PROG = "python -m models.compare"
HEADER = (
    "| model | data | metric | damo_tf | keras.layers.Embedding | damo_tf by seed | keras by seed |\n"
    "|---|---|---|---|---|---|---|"
)


def best_metric(
    program: command.Program, examples: data.Examples, options: command.Options, *, on_keras: bool
) -> float:
    """The validation metric of the best epoch of a training.

    Args:
        program: the model.
        examples: to split and train on.
        options: epochs, widths and seed.
        on_keras: with `keras.layers.Embedding` in place of `damo_tf.Embedding`.
    """
    training, validation = program.task.split(examples, command.VALIDATION_SHARE, options.seed)
    with (
        tempfile.TemporaryDirectory(prefix="compare-") as folder,
        damo_tf.Store(folder, seed=options.seed) as store,
        contextlib.redirect_stdout(sys.stderr),
    ):
        make = functools.partial(command.make_model, program, examples.fields, store, options)
        how = {"embedding": on_vocabularies(make, examples)} if on_keras else {}
        keras.utils.set_random_seed(options.seed)
        model = make(**how)
        command.compile_and_build(model, program.task, training, options.learning_rate)
        return max(command.fit(model, program.task, training, validation, range(options.epochs), options))


def line(program: command.Program, path: Path, seeds: Sequence[int], arguments: Sequence[str]) -> str:
    """The model's line of the table: means over the seeds, then each."""
    examples = program.task.read(path)
    cells = []
    for on_keras in (False, True):
        metrics = []
        for seed in seeds:
            started = time.perf_counter()
            options = _options(program, [*arguments, "--seed", str(seed)])
            metrics.append(best_metric(program, examples, options, on_keras=on_keras))
            kind = "keras" if on_keras else "damo_tf"
            seconds = time.perf_counter() - started
            print(
                f"{program.name} {path.name} {kind} seed {seed}: {metrics[-1]:.4f}, {seconds:.0f} s",
                file=sys.stderr,
            )
        cells.append(metrics)
    means = (f"{np.mean(metrics):.4f}" for metrics in cells)
    singles = (" ".join(f"{metric:.4f}" for metric in metrics) for metrics in cells)
    return " | ".join(["| " + program.name, path.name, program.task.metric, *means, *singles]) + " |"


def _options(program: command.Program, arguments: Sequence[str]) -> command.Options:
    """What the arguments that all models share say."""
    parser = command.parser(program)
    parser.prog = PROG  # in messages
    return parser.parse_args(arguments, command.Options())


def _data_of(program: command.Program, options: argparse.Namespace) -> list[Path]:
    """The data sets that a model is trained on."""
    paths = [options.movielens] if "TSV" not in program.task.data else [options.movielens, options.criteo]
    return [path for path in paths if path is not None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table and returns the exit status."""
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__.splitlines()[0])
    parser.add_argument("--criteo", type=Path, help="Criteo TSV file; else without")
    parser.add_argument("--movielens", type=Path, help="MovieLens-100K folder; else without")
    parser.add_argument("--models", nargs="+", choices=[p.name for p in PROGRAMS], help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    options, rest = parser.parse_known_args(arguments)
    programs = [program for program in PROGRAMS if not options.models or program.name in options.models]
    if not any(_data_of(program, options) for program in programs):
        wanted = "; ".join(f"{program.name}: {program.task.data}" for program in programs)
        parser.error(f"--criteo or --movielens must name data for one of the models. They take: {wanted}")
    _options(programs[0], rest)  # fails now, if they are bad
    print(HEADER)
    for program in programs:
        try:
            for path in _data_of(program, options):
                print(line(program, path, options.seeds, rest), flush=True)
        except CommandError as error:
            print(f"compare: error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
