# SPDX-License-Identifier: Apache-2.0
"""Commands that look and change nothing: info, row, top, verify."""

import json
from datetime import UTC, datetime
from typing import Any

import click
import damo

from damo_tf.command.keys import CommandOfKeys, Key
from damo_tf.command.numbers import Integer, group_number
from damo_tf.command.opening import StoreOpener, with_store
from damo_tf.command.output import Facts, Output, Table, json_option
from damo_tf.command.statistics import DAY, HOUR, MINUTE, Histograms, Ranking, scan

_UNITS = ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"))


@click.command(short_help="What is in a store.")
@with_store
@click.option(
    "--no-scan",
    is_flag=True,
    help="Leave out what takes a pass over all rows: the histograms, and to count where rows expire.",
)
@json_option
def info(store: StoreOpener, no_scan: bool, output: Output) -> None:
    """What is in STORE: groups, rows, bytes, settings, and histograms of ages and update counts."""
    with store.reading() as storage:
        stats = storage.stats()
        groups = [_describe(storage, number, figures) for number, figures in stats["groups"].items()]
        if not no_scan:
            _scan_groups(storage, stats, groups, output)
        options = storage.options
    rows, is_exact = sum(group["rows"] for group in groups), all(group["rows_exact"] for group in groups)
    facts = {"directory": stats["directory"], "seed": options["seed"], "clock": options["clock"]}
    bytes_used = {"disk_bytes": stats["disk_bytes"]}
    output.show(
        {**facts, "rows": rows, "rows_exact": is_exact, **bytes_used, "groups": groups},
        Facts({**facts, "rows": _bounded(rows, is_exact), **bytes_used}),
        *_group_tables(groups),
    )


def _bounded(number: int, is_exact: bool) -> str:
    return str(number) if is_exact else f"at most {number}"


def _describe(storage: damo.PyStorage, number: int, figures: dict[str, Any]) -> dict[str, Any]:
    counts = {name: figures[name] for name in ("rows", "rows_exact", "bytes", "step")}
    config = storage.group_config(number)
    fill = figures["filter_fill"] if config["min_count"] else None
    return {"group": number, **counts, "filter_fill": fill, "config": config}


def _scan_groups(
    storage: damo.PyStorage, stats: dict[str, Any], groups: list[dict[str, Any]], output: Output
) -> None:
    """Counts rows, and adds histograms, by one pass over them."""
    done = 0
    with output.progress("reading rows", sum(group["rows"] for group in groups)) as advance:
        for group in groups:
            histograms = Histograms(stats["now"])
            before = done

            def count(
                keys: Any, _weights: Any, times: Any, nums: Any, histograms: Histograms = histograms
            ) -> None:
                nonlocal done
                histograms.add(times, nums)
                done += len(keys)
                advance(done, None)

            scan(storage, group["group"], count)
            group["rows"], group["rows_exact"] = done - before, True
            group["bytes"] = group["rows"] * stats["groups"][group["group"]]["row_bytes"]
            group["ages"] = histograms.ages()
            group["update_counts"] = histograms.update_counts()


def _group_tables(groups: list[dict[str, Any]]) -> list[Table]:
    numbers = [
        (
            group["group"],
            group["config"]["dim"],
            _bounded(group["rows"], group["rows_exact"]),
            _bounded(group["bytes"], group["rows_exact"]),
            group["step"],
        )
        for group in groups
    ]
    filters = [
        (group["group"], group["config"]["filter_capacity"], group["filter_fill"])
        for group in groups
        if group["filter_fill"] is not None
    ]
    settings = [
        (group["group"], name, json.dumps(value))
        for group in groups
        for name, value in group["config"].items()
        if name != "dim" and value is not None
    ]
    ages = [
        (group["group"], age_class(entry), entry["rows"])
        for group in groups
        for entry in group.get("ages", ())
        if entry["rows"]
    ]
    counts = [
        (group["group"], _count_class(entry), entry["rows"])
        for group in groups
        for entry in group.get("update_counts", ())
    ]
    return [
        Table("groups", ("group", "dim", "rows", "bytes", "step"), numbers),
        Table("admission filters", ("group", "capacity", "fill"), filters),
        Table("settings", ("group", "setting", "value"), settings),
        Table("time since the last update", ("group", "age", "rows"), ages),
        Table("number of updates", ("group", "updates", "rows"), counts),
    ]


def _count_class(entry: dict[str, int]) -> str:
    return str(entry["from"]) if entry["from"] == entry["to"] else f"{entry['from']} to {entry['to']}"


def age_class(entry: dict[str, Any]) -> str:
    """A class of `Histograms.ages` for people."""
    begin, end = entry["from_seconds"], entry["to_seconds"]
    if end is None:
        return f"{_duration(begin)} or more"
    if begin == 0:
        return f"under {_duration(end)}"
    first, last = _duration(begin), _duration(end)
    if first.split()[1].rstrip("s") == last.split()[1].rstrip("s"):
        first = first.split()[0]
    return f"{first} to {last}"


def _duration(seconds: int) -> str:
    unit, name = next(entry for entry in _UNITS if seconds >= entry[0])
    return f"{seconds // unit} {name}{'s' if seconds >= 2 * unit else ''}"


def time_text(milliseconds: int) -> str:
    """A row's time for people; one that no calendar has stays a number."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError):
        return f"{milliseconds} ms"


@click.command(cls=CommandOfKeys, short_help="One row.")
@with_store
@click.argument("group", type=group_number)
@click.argument("key", type=Key())
@json_option
def row(store: StoreOpener, group: int, key: int, output: Output) -> None:
    """One row of STORE: KEY, decimal or 0x..., of GROUP. Status 1 if it has none."""
    with store.reading() as storage:
        fields = storage.row(group, key)
    if fields is None:
        raise click.ClickException(f"group {group} of '{store.directory}' has no row of key {key}")
    vectors = {"weights": fields["weights"], **{f"slot {n}": v for n, v in fields["slots"].items()}}
    output.show(
        {**fields, "key": str(key)},
        Facts(
            {
                "group": group,
                "key": key,
                "last update": time_text(fields["update_time"]),
                "updates": fields["update_num"],
                **{name: " ".join(f"{value:.6g}" for value in vector) for name, vector in vectors.items()},
            }
        ),
    )


@click.command(short_help="The rows with the largest weights or the most updates.")
@with_store
@click.option("--group", type=group_number, help="Rows of this group only.")
@click.option(
    "--by",
    type=click.Choice(["norm", "count"]),
    default="norm",
    show_default=True,
    help="Euclidean norm of the weights, or number of updates.",
)
@click.option("--limit", type=Integer(1, 100_000), default=10, show_default=True, help="So many rows.")
@json_option
def top(store: StoreOpener, group: int | None, by: str, limit: int, output: Output) -> None:
    """The rows of STORE with the largest weights or the most updates."""
    ranking = Ranking(by, limit)
    with store.reading() as storage:
        numbers = storage.groups if group is None else [group]
        most = {number: figures["rows"] for number, figures in storage.stats()["groups"].items()}
        with output.progress("reading rows", sum(most.get(number, 0) for number in numbers)) as advance:
            done = 0
            for number in numbers:

                def show(keys: Any, weights: Any, times: Any, nums: Any, number: int = number) -> None:
                    nonlocal done
                    ranking.add(number, keys, weights, times, nums)
                    done += len(keys)
                    advance(done, None)

                scan(storage, number, show)
    rows = [{**vars(found), "key": str(found.key)} for found in ranking.rows()]
    output.show(
        {"directory": store.directory, "by": by, "rows": rows},
        Table(
            f"by {by}",
            ("group", "key", "norm", "updates", "last update"),
            [
                (
                    entry["group"],
                    entry["key"],
                    entry["norm"],
                    entry["update_num"],
                    time_text(entry["update_time"]),
                )
                for entry in rows
            ],
        ),
    )


@click.command(short_help="Look for damage.")
@with_store
@json_option
def verify(store: StoreOpener, output: Output) -> None:
    """Look for damage in STORE: in checksums, rows, the manifest's counts. Status 1 if there is any.

    STORE may be a checkpoint. Of one that holds changes only, what it builds on is looked at, too.
    """
    found = _verify(store, output)
    problems, more = found["problems"], found["more_problems"]
    data = {"directory": store.directory, "ok": not problems, **found}
    lines = [(problem,) for problem in problems] + ([(f"and {more} more",)] if more else [])
    output.show(
        data,
        Facts({"files": found["files"], "rows": found["rows"], "problems": len(problems) + more}),
        Table("problems", ("what is wrong",), lines),
    )
    if problems:
        raise click.exceptions.Exit(1)


def _verify(store: StoreOpener, output: Output) -> dict[str, Any]:
    """What the engine finds; a store that cannot even be opened for its damage is one problem."""
    if store.is_checkpoint():
        with output.progress("reading files and rows") as advance:
            return damo.verify_checkpoint(store.directory, lambda rows, expected: advance(rows, expected))
    try:
        storage = store.reading()
    except RuntimeError as error:
        return {"files": 0, "rows": 0, "problems": [str(error)], "more_problems": 0}
    with storage, output.progress("reading files and rows") as advance:
        return storage.verify(lambda rows, expected: advance(rows, expected))
