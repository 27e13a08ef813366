# SPDX-License-Identifier: Apache-2.0
"""What both commands, `make bench` and `make bench-peers`, have in common: options, the run, its files."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import rich.console
import rich.markdown

from benchmarks import archive, machine, report
from benchmarks.archive import Record
from benchmarks.bench import FULL, QUICK, TINY, Bench, Sizes
from benchmarks.build import ROOT
from benchmarks.launcher import Launch
from benchmarks.results import Section

RESULTS = ROOT / "benchmarks" / "results"
Workload = Callable[[Bench], list[Section]]


class Options(argparse.Namespace):
    """The command line; `parser` documents its entries."""

    only: list[str] | None
    sizes: Sizes
    repetitions: int | None
    max_rows: int | None
    results: Path
    folder: Path


def parser(description: str, workloads: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of a command that runs `workloads`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=workloads, metavar="WORKLOAD", help=f"of {', '.join(workloads)}")
    add("--repetitions", type=_positive, help="turns of each contender; else 7, with --quick 3")
    add("--max-rows", type=_positive, help="of any table")
    add("--results", type=Path, default=RESULTS, help="folder for the page and the plots")
    add("--folder", type=Path, default=ROOT / "build", help="where stores are made; some 20 GB")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--quick", dest="sizes", action="store_const", const=QUICK, help="small tables, two minutes"
    )
    sizes.add_argument(
        "--tiny", dest="sizes", action="store_const", const=TINY, help="touches everything; not for numbers"
    )
    parser.set_defaults(sizes=FULL)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1. Received: {value}")
    return value


def sizes_of(options: Options) -> Sizes:
    """The sizes that the options ask for."""
    sizes = options.sizes
    if options.max_rows is not None:
        sizes = sizes.up_to(options.max_rows)
    if options.repetitions is not None:
        sizes = replace(sizes, plan=replace(sizes.plan, repetitions=options.repetitions))
    return sizes


@dataclass(frozen=True)
class Run:
    """A run of some workloads.

    Attributes:
        name: of its page and plots.
        title: heading of the page.
        workloads: name to function.
        contenders: who may take part; `None`: all.
        versions: of what the contenders use besides what `machine.describe` tells.
    """

    name: str
    title: str
    workloads: dict[str, Workload]
    contenders: frozenset[str] | None
    versions: dict[str, str]

    def __call__(self, options: Options, launch: Launch) -> list[Record]:
        """Measures; after each workload keeps what it found, and writes the page of all that is kept."""
        about = {**machine.describe(), **self.versions}  # as of the start: the tree may change meanwhile
        command = shlex.join(
            ["python", "-m", f"benchmarks{'.peers' * (self.name != 'bench')}", *sys.argv[1:]]
        )
        kept = options.results / self.name
        options.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder))
        try:
            bench = Bench(folder, launch, sizes_of(options), self.contenders)
            for name in options.only or self.workloads:
                started = time.perf_counter()
                print(f"{name} ...", end=" ", flush=True, file=sys.stderr)
                archive.keep(kept, Record(name, command, about, self.workloads[name](bench)))
                print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
                self._write(options.results)
        finally:
            shutil.rmtree(folder)
        records = archive.kept(kept, list(self.workloads))
        rich.console.Console().print(rich.markdown.Markdown(report.markdown(self.title, records)))
        print(f"Written: {options.results / self.name}.md and plots beside it")
        return records

    def _write(self, results: Path) -> None:
        records = archive.kept(results / self.name, list(self.workloads))
        sections = [section for record in records for section in record.sections]
        (results / f"{self.name}.md").write_text(report.markdown(self.title, records))
        report.plot_times(sections, results / f"{self.name}.png")
        report.plot_curves(sections, results / f"{self.name}-table-size.png")
