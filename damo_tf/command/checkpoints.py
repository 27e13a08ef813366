# SPDX-License-Identifier: Apache-2.0
"""Commands about checkpoints: checkpoint, restore."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import damo

from damo_tf._aside import directory_aside
from damo_tf._description import read_description
from damo_tf.command.opening import NonEmptyPath, StoreOpener, with_store
from damo_tf.command.output import Facts, Output, json_option

#: Of a chain; a longer one goes in circles.
_MAX_LINKS = 100_000


@click.command(short_help="Write a store, or its changes, to a directory.")
@with_store
@click.argument("directory", type=NonEmptyPath())
@click.option(
    "--since",
    type=NonEmptyPath(),
    metavar="CHECKPOINT",
    help="Write only what has changed since this one, full or itself such a delta.",
)
@json_option
def checkpoint(store: StoreOpener, directory: str, since: str | None, output: Output) -> None:
    """Write STORE, as of one moment, into the new DIRECTORY."""
    with store.writing() as storage:
        if since is None:
            output.wait_for(
                "writing files",
                lambda advance: storage.checkpoint(directory, progress=advance),
                counts_bytes=True,
            )
        else:
            output.wait_for(
                "comparing rows",
                lambda advance: storage.checkpoint_delta(directory, since, progress=advance),
            )
    rows = read_description(directory).rows
    data = {"directory": store.directory, "checkpoint": directory, "since": since, "rows": rows}
    output.show(data, Facts({"checkpoint": directory, "rows": rows}))


@click.command(short_help="Make a store what it was at a checkpoint.")
@with_store
@click.argument("checkpoints", type=NonEmptyPath(), nargs=-1, required=True, metavar="CHECKPOINT...")
@json_option
def restore(store: StoreOpener, checkpoints: tuple[str, ...], output: Output) -> None:
    """Make STORE what it was at CHECKPOINT; where there is no store, make it.

    If CHECKPOINT is a delta, what it builds on is found by itself; or name all of them, the full one first.
    """
    with (
        _opened_or_made(store, checkpoints[0]) as storage,
        output.progress("comparing rows") as advance,
    ):
        storage.restore(list(checkpoints), progress=advance)
    rows = read_description(checkpoints[-1]).rows
    data = {"directory": store.directory, "checkpoints": list(checkpoints), "rows": rows}
    output.show(data, Facts({"restored from": checkpoints[-1], "rows": rows}))


@contextmanager
def _opened_or_made(store: StoreOpener, checkpoint: str) -> Iterator[damo.PyStorage]:
    """The store. If there is none, one like the checkpoint's is made, and is there if the block succeeds."""
    try:
        standing = store.writing()
    except FileNotFoundError:
        standing = None
    if standing is not None:
        with standing:
            yield standing
        return
    with StoreOpener(_full_checkpoint(checkpoint)).reading() as full:
        options = full.options
    with directory_aside(store.directory) as unfinished:
        aside = dataclasses.replace(store, directory=unfinished)
        with aside.creating(options["seed"], options["clock"]) as made:
            yield made


def _full_checkpoint(checkpoint: str) -> str:
    """The directory of the full checkpoint that this one builds on, or is; docs/checkpoint_format.md."""
    directory = Path(checkpoint)
    for _ in range(_MAX_LINKS):
        try:
            base = read_description(directory).base
        except (FileNotFoundError, RuntimeError) as error:
            raise type(error)(f"restore from '{checkpoint}': {error}") from None
        if base is None:
            return str(directory)
        directory /= base
    raise RuntimeError(f"restore from '{checkpoint}': more than {_MAX_LINKS} checkpoints build on each other")
