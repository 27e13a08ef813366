# SPDX-License-Identifier: Apache-2.0
"""Commands that change rows or files: expire, delete, convert, compact."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import damo

from damo_tf.command.keys import read_keys
from damo_tf.command.numbers import Integer, group_number
from damo_tf.command.opening import NonEmptyPath, StoreOpener, with_store
from damo_tf.command.output import Facts, Output, json_option

#: Keys that are deleted together; what waits meanwhile waits some hundredths of a second.
_KEYS_PER_PART = 1 << 16


@contextmanager
def _in_parts(done: Callable[[], str]) -> Iterator[None]:
    """For work whose parts stay done, however it ends: says then which those are.

    Args:
        done: tells what is done, or nothing if nothing is.
    """
    try:
        yield
    except BaseException as error:
        if text := done():
            error.add_note(f"{text}; repeat the command for the rest")
        raise


@click.command(short_help="Remove rows past their time to live.")
@with_store
@json_option
def expire(store: StoreOpener, output: Output) -> None:
    """Remove the rows of STORE that are past their time to live.

    A group's own time to live is kept with the store. One that a trainer gives to the whole store is not:
    it must be given here, too, as --ttl-seconds. Interrupted, it can be repeated.
    """
    scanned = removed = 0
    with store.writing() as storage, output.progress("looking at rows") as advance:

        def note(num_scanned: int, num_removed: int) -> None:
            nonlocal scanned, removed
            scanned, removed = num_scanned, num_removed
            advance(scanned, None)

        with _in_parts(lambda: f"{removed} rows are removed" if removed else ""):
            removed = storage.expire(note)
        groups = _groups_with_ttl(storage)
        # Where rows expire a size takes a pass over them, which they have just had.
        rows = scanned - removed + sum(storage.size(group) for group in storage.groups if group not in groups)
    facts: dict[str, object] = {"rows removed": removed, "rows left": rows}
    if not groups and store.ttl_seconds is None:
        facts["groups with a time to live"] = "none; --ttl-seconds gives one to all that have none"
    data = {"directory": store.directory, "groups_with_ttl": groups, "removed": removed, "rows": rows}
    output.show(data, Facts(facts))


def _groups_with_ttl(storage: damo.PyStorage) -> list[int]:
    forever = (None, "never") if storage.options["ttl_seconds"] is None else ("never",)
    return [number for number in storage.groups if storage.group_config(number)["ttl_seconds"] not in forever]


@click.command(short_help="Delete the rows of keys.")
@with_store
@click.argument("group", type=group_number)
@click.argument("keys", type=NonEmptyPath(dir_okay=False, allow_dash=True), default="-")
@json_option
def delete(store: StoreOpener, group: int, keys: str, output: Output) -> None:
    """Delete rows of GROUP of STORE, for good.

    KEYS is a file of keys, one a line, decimal or 0x...; or a .npy array of 64-bit integers; `-` (the
    default) is stdin. Keys without a row are passed over. Interrupted, it can be repeated.
    """
    numbers = read_keys(keys)  # all of them: a typing error in the last must not find others deleted
    deleted = done = 0
    with (
        store.writing() as storage,
        output.progress("deleting rows", len(numbers)) as advance,
        _in_parts(lambda: f"the first {done} of {len(numbers)} keys have no row any more" if done else ""),
    ):
        storage.group_config(group)  # before the first part, which may be none
        while done < len(numbers):
            deleted += storage.delete(group, numbers[done : done + _KEYS_PER_PART])
            done = min(done + _KEYS_PER_PART, len(numbers))
            advance(done, None)
    data = {"directory": store.directory, "group": group, "keys": len(numbers), "deleted": deleted}
    output.show(data, Facts({"keys given": len(numbers), "rows deleted": deleted}))


class OptimizerParameters(click.ParamType[dict[str, Any]]):
    """An optimizer's name, or a JSON object of its parameters."""

    name = "optimizer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """A dict of parameters with `"name"`."""
        if not str(value).lstrip().startswith("{"):
            return {"name": str(value)}
        try:
            parameters: dict[str, Any] = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is not a JSON object: {error}", param, ctx)
        return parameters


@click.command(short_help="Copy a store, with another dim or optimizer.")
@with_store
@click.argument("target", type=NonEmptyPath())
@click.argument("group", type=group_number)
@click.option("--dim", type=Integer(1, 65536), help="Weights per row; others are cut off or initial.")
@click.option(
    "--optimizer",
    type=OptimizerParameters(),
    metavar="NAME|JSON",
    help='Such as adagrad, or {"name": "adagrad", "gamma": 0.05}. Default: as it is.',
)
@json_option
def convert(
    store: StoreOpener,
    target: str,
    group: int,
    dim: int | None,
    optimizer: dict[str, Any] | None,
    output: Output,
) -> None:
    """Copy STORE into the new store TARGET, with another dim or optimizer for GROUP.

    Rows of GROUP keep their weights and start with fresh slots and an update count of 1; other groups are
    copied as they are. STORE itself is left alone.
    """
    if dim is None and optimizer is None:
        raise click.UsageError("at least one of --dim and --optimizer must be given")
    with store.whole() as storage, output.progress("copying rows", _most_rows(storage)) as advance:
        rows = storage.convert(
            target, group, dim=dim, optimizer=optimizer, progress=lambda done: advance(done, None)
        )
    data = {"directory": store.directory, "target": target, "group": group, "rows": rows}
    output.show(data, Facts({"new store": target, "rows": rows}))


def _most_rows(storage: damo.PyStorage) -> int:
    return sum(group["rows"] for group in storage.stats()["groups"].values())


@click.command(short_help="Give back the space of what was deleted.")
@with_store
@json_option
def compact(store: StoreOpener, output: Output) -> None:
    """Write the files of STORE anew, so that what was deleted or written over takes no more space.

    It goes group by group; interrupted, it can be repeated.
    """
    with store.writing() as storage:
        before = storage.stats()["disk_bytes"]
        output.wait_for("writing files", storage.compact, counts_bytes=True)
        after = storage.stats()["disk_bytes"]
    data = {"directory": store.directory, "disk_bytes_before": before, "disk_bytes_after": after}
    output.show(data, Facts({"bytes before": before, "bytes after": after}))
