# SPDX-License-Identifier: Apache-2.0
"""What commands print: JSON for scripts, tables and progress bars on a terminal, plain lines elsewhere."""

import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from damo_tf.command.application import INTERRUPTED

T = TypeVar("T")
#: Told how far a command has come: done so far, and, where it is known by now, of how many.
Advance = Callable[[int, int | None], None]


def _ignore(done: int, total: int | None = None) -> None:
    """The `Advance` of a command that nobody watches."""


@dataclass(frozen=True)
class Facts:
    """Lines of a name and a value each."""

    values: Mapping[str, object]


@dataclass(frozen=True)
class Table:
    """Rows of cells below a title; left out altogether where there are no rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


class Output:
    """Where a command's results go.

    Args:
        as_json: one JSON object on stdout and nothing else; no progress bar.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def show(self, data: Mapping[str, Any], *parts: Facts | Table) -> None:
        """Prints `data` where JSON was asked for, else `parts`."""
        if self._as_json:
            click.echo(json.dumps(_jsonable(data), allow_nan=False))
            return
        for part in parts:
            if isinstance(part, Facts):
                _print_cells([(f"{name}:", value) for name, value in part.values.items()])
            elif part.rows:
                _print_table(part)

    @contextmanager
    def progress(
        self, what: str, total: int | None = None, *, counts_bytes: bool = False
    ) -> Iterator[Advance]:
        """A bar on stderr while the block runs, if that is a terminal; call what it yields now and then.

        Args:
            what: is going on.
            total: how much there is to do, where it is known by now.
            counts_bytes: whether that is in bytes.
        """
        if self._as_json or not sys.stderr.isatty():
            yield _ignore
            return
        # Half of what it takes to start a command: only where there is something to see.
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

        count = DownloadColumn() if counts_bytes else TextColumn("{task.completed:,.0f}")
        columns = [TextColumn("{task.description}"), BarColumn(), count, TimeElapsedColumn()]
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total)

            def advance(done: int, total: int | None = None) -> None:
                if total is not None:
                    bar.update(task, total=total)
                bar.update(task, completed=done)

            yield advance

    def wait_for(self, what: str, call: Callable[[Advance], T], *, counts_bytes: bool = False) -> T:
        """Runs a call of the engine that looks for signals rarely, if at all, and returns its result.

        Ctrl-C ends the process there and then, which stores survive as they do a kill: the next one to open
        them finds what they were before, or what was done whole.

        Args:
            what: is going on.
            call: gets what `progress` yields.
            counts_bytes: as for `progress`.
        """
        results: list[T] = []
        failures: list[BaseException] = []

        def work(advance: Advance) -> None:
            try:
                results.append(call(advance))
            except BaseException as error:
                failures.append(error)

        try:
            with self.progress(what, counts_bytes=counts_bytes) as advance:
                worker = threading.Thread(target=work, args=[advance], daemon=True)
                worker.start()
                worker.join()
        except KeyboardInterrupt:
            click.echo("damo-tf: interrupted", err=True)
            os._exit(INTERRUPTED)
        if failures:
            raise failures[0]
        return results[0]


def json_option(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the option `--json`, and its function the argument `output`."""
    option = click.option(
        "--json",
        "output",
        is_flag=True,
        callback=lambda _context, _parameter, as_json: Output(as_json),
        help="Print one JSON object and nothing else.",
    )
    return option(function)


def _jsonable(value: Any) -> Any:
    """NumPy's numbers and arrays as JSON has them; what is not finite is null."""
    if isinstance(value, Mapping):
        return {str(name): _jsonable(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(entry) for entry in value]
    if hasattr(value, "tolist"):
        return _jsonable(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_table(table: Table) -> None:
    if not sys.stdout.isatty():
        click.echo(f"\n{table.title}")
        _print_cells([table.columns, *table.rows])
        return
    from rich.console import Console
    from rich.table import Table as RichTable

    shown = RichTable(title=table.title, title_justify="left")
    for name in table.columns:
        shown.add_column(name)
    for row in table.rows:
        shown.add_row(*(_text(cell) for cell in row))
    Console(highlight=False, markup=False).print(shown)


def _print_cells(rows: Sequence[Sequence[object]]) -> None:
    """Prints columns of equal width."""
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
