# SPDX-License-Identifier: Apache-2.0
"""What each model reaches when it learns, and what it reaches when it is broken: a threshold lies between.

python -m tests.models.learning_cases NAME ...     # trains these (default: all) and prints what they reach
"""

import contextlib
import dataclasses
import functools
import io
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

import damo_tf
from models import command, data, dcn_v2, deepfm, din, dlrm, two_tower, wide_and_deep

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


class Case(NamedTuple):
    """A training, and the metric of its best epoch.

    module: of the model.
    data: what it is trained on, see `path_of`.
    arguments: of the command.
    whole: of the model as it is, with seeds 0, 1 and 2.
    frozen: with embeddings that keep their initial values, of which the dense layers still make something;
        seeds 0 and 1.
    shuffled: with what is to be learnt dealt out anew among the examples; seeds 0 and 1.
    at_least: what the test asks of seed 0.
    """

    module: ModuleType
    data: str
    arguments: str
    whole: tuple[float, float, float]
    frozen: tuple[float, float]
    shuffled: tuple[float, float]
    at_least: float

    @property
    def name(self) -> str:
        return f"{self.module.PROGRAM.name}-{self.data}"

    def command_line(self, folder: Path) -> list[str]:
        """The arguments; raises FileNotFoundError where the data are not. `folder` is for what they need."""
        path = path_of(self.data, folder)
        return [*self.arguments.split(), *([] if path is None else ["--data", str(path)])]

    def metric(self, output: str) -> float:
        """The metric in what the command printed."""
        metric = self.module.PROGRAM.task.metric
        found = re.search(rf"^val_{metric}=(0\.\d{{4}}) rows=\d+ store_bytes=\d+$", output, re.MULTILINE)
        assert found, output
        return float(found[1])


SMALL = "--epochs 1 --batch-size 128 --dim 8 --hidden 16"
#: Wider vectors say so much of a value without being trained that seeds differ by more than training does.
NARROW = "--epochs 2 --batch-size 256 --dim 2 --hidden 16 --learning-rate 0.005"
SHORT = "--epochs 1 --batch-size 256 --learning-rate 0.003"

CASES = (
    Case(
        deepfm,
        "made_up",
        "--epochs 2 --rows 8000",
        whole=(0.6791, 0.6771, 0.6757),
        frozen=(0.5691, 0.5884),
        shuffled=(0.5344, 0.4648),
        at_least=0.63,
    ),
    Case(
        wide_and_deep,
        "made_up",
        f"{SMALL} --rows 6000",
        whole=(0.7059, 0.7242, 0.6081),
        frozen=(0.5808, 0.5112),
        shuffled=(0.4820, 0.5277),
        at_least=0.6,
    ),
    Case(
        dcn_v2,
        "made_up",
        f"{SMALL} --rows 16000 --learning-rate 0.005 --epochs 2",
        whole=(0.7316, 0.7970, 0.7644),
        frozen=(0.6793, 0.6391),
        shuffled=(0.5022, 0.4885),
        at_least=0.705,
    ),
    Case(
        dlrm,
        "made_up",
        f"{SMALL} --rows 16000 --learning-rate 0.005 --epochs 2",
        whole=(0.7351, 0.7790, 0.7701),
        frozen=(0.5579, 0.6187),
        shuffled=(0.5097, 0.5031),
        at_least=0.68,
    ),
    Case(
        two_tower,
        "made_up",
        f"{SMALL} --rows 8000 --learning-rate 0.01 --epochs 4",
        whole=(0.2908, 0.2458, 0.2650),
        frozen=(0.1713, 0.1804),
        shuffled=(0.1854, 0.1483),
        at_least=0.22,
    ),
    Case(
        din,
        "made_up",
        f"{SMALL} --rows 16000 --learning-rate 0.005 --epochs 3",
        whole=(0.6280, 0.6204, 0.6209),
        frozen=(0.5537, 0.5648),
        shuffled=(0.5074, 0.5094),
        at_least=0.6,
    ),
    Case(
        deepfm,
        "criteo",
        "--epochs 3",
        whole=(0.7488, 0.7428, 0.7119),
        frozen=(0.6709, 0.6395),
        shuffled=(0.5412, 0.4789),
        at_least=0.69,
    ),
    Case(
        deepfm,
        "movielens",
        "--epochs 3",
        whole=(0.7837, 0.7864, 0.7828),
        frozen=(0.6600, 0.6582),
        shuffled=(0.4971, 0.5022),
        at_least=0.765,
    ),
    Case(
        wide_and_deep,
        "criteo",
        NARROW,
        whole=(0.7560, 0.7417, 0.7133),
        frozen=(0.6516, 0.5723),
        shuffled=(0.5257, 0.4740),
        at_least=0.68,
    ),
    Case(
        dcn_v2,
        "criteo",
        NARROW,
        whole=(0.7407, 0.7250, 0.6994),
        frozen=(0.6717, 0.5795),
        shuffled=(0.5158, 0.4707),
        at_least=0.685,
    ),
    Case(
        dlrm,
        "criteo",
        NARROW,
        whole=(0.7393, 0.6901, 0.6906),
        frozen=(0.6691, 0.6697),
        shuffled=(0.5336, 0.5365),
        at_least=0.68,
    ),
    Case(
        two_tower,
        "first_users",
        f"{SHORT} --learning-rate 0.005 --epochs 4",
        whole=(0.1728, 0.1642, 0.1487),
        frozen=(0.1250, 0.1271),
        shuffled=(0.0927, 0.0929),
        at_least=0.14,
    ),
    Case(
        din,
        "first_users",
        SHORT,
        whole=(0.7099, 0.7186, 0.7395),
        frozen=(0.6822, 0.6907),
        shuffled=(0.5245, 0.5097),
        at_least=0.7,
    ),
)


def path_of(name: str, folder: Path) -> Path | None:
    """The path of a data set; `None` for a made-up log.

    Args:
        name: `made_up`, `criteo`, `movielens`, or `first_users`, of MovieLens 20,000 ratings.
        folder: where the last is written.
    """
    if name == "made_up":
        return None
    path = SHARED_DATA / ("criteo_7200.tsv" if name == "criteo" else "ml-100k")
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: the data set is not part of the project")
    if name != "first_users":
        return path
    for file in ("u.user", "u.item"):
        (folder / file).write_bytes((path / file).read_bytes())
    lines = sorted((path / "u.data").read_bytes().splitlines(True), key=lambda line: int(line.split()[0]))
    (folder / "u.data").write_bytes(b"".join(lines[:20_000]))
    return folder


def frozen(program: command.Program) -> command.Program:
    """The program of a model whose embeddings are not trained."""
    embedding = functools.partial(damo_tf.Embedding, trainable=False)
    return dataclasses.replace(program, model=functools.partial(program.model, embedding=embedding))


def shuffled(program: command.Program) -> command.Program:
    """The program of a model whose examples have nothing in them to learn but how often things occur."""
    task = dataclasses.replace(program.task, read=lambda path: _dealt_out_anew(program.task.read(path)))
    return dataclasses.replace(program, task=task)


def _dealt_out_anew(examples: data.Examples) -> data.Examples:
    """The examples with one another's labels or, where these are all the same, with one another's items."""
    places = np.random.default_rng(0).permutation(len(examples))
    if len(np.unique(examples.labels)) > 1:
        return dataclasses.replace(examples, labels=examples.labels[places])
    ids, slots = examples.ids.copy(), data.field_slots(examples.fields)
    of_items = [*slots["item"], *slots["genre"]]
    ids[:, of_items] = ids[np.ix_(places, of_items)]
    return dataclasses.replace(examples, ids=ids)


#: What a case is trained as, and with how many seeds.
WAYS: dict[str, tuple[Callable[[command.Program], command.Program], int]] = {
    "whole": (lambda program: program, 3),
    "frozen": (frozen, 2),
    "shuffled": (shuffled, 2),
}


def reached(case: Case, way: str, seed: int) -> float:
    """Trains a case and returns the metric."""
    changed, _ = WAYS[way]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as output:
        status = changed(case.module.PROGRAM).main([*case.command_line(Path(folder)), "--seed", str(seed)])
    assert status == 0
    return case.metric(output.getvalue())


if __name__ == "__main__":
    for case in CASES:
        if case.name in sys.argv[1:] or not sys.argv[1:]:
            for way, (_, seeds) in WAYS.items():
                print(
                    case.name, way, *(f"{reached(case, way, seed):.4f}" for seed in range(seeds)), flush=True
                )
