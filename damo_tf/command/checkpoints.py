# SPDX-License-Identifier: Apache-2.0
"""Commands about checkpoints: checkpoint, restore."""

import json
from pathlib import Path

import click
import damo

from damo_tf.command.opening import CHECKPOINT_DESCRIPTION, StoreOpener, with_store
from damo_tf.command.output import Facts, Output, json_option

#: Of a chain; a longer one goes in circles.
_MAX_LINKS = 100_000


@click.command(short_help="Write a store, or its changes, to a directory.")
@with_store
@click.argument("directory", type=click.Path())
@click.option(
    "--since",
    type=click.Path(),
    metavar="CHECKPOINT",
    help="Write only what has changed since this one, full or itself such a delta.",
)
@json_option
def checkpoint(store: StoreOpener, directory: str, since: str | None, output: Output) -> None:
    """Write STORE, as of one moment, into the new DIRECTORY."""
    with store.writing() as storage:
        if since is None:
            output.wait_for("writing", lambda: storage.checkpoint(directory))
        else:
            output.wait_for("comparing rows", lambda: storage.checkpoint_delta(directory, since))
        rows = storage.size()
    data = {"directory": store.directory, "checkpoint": directory, "since": since, "rows": rows}
    output.show(data, Facts({"checkpoint": directory, "rows of the store": rows}))


@click.command(short_help="Make a store what it was at a checkpoint.")
@with_store
@click.argument("checkpoints", type=click.Path(), nargs=-1, required=True, metavar="CHECKPOINT...")
@json_option
def restore(store: StoreOpener, checkpoints: tuple[str, ...], output: Output) -> None:
    """Make STORE what it was at CHECKPOINT; where there is no store, make it.

    If CHECKPOINT is a delta, what it builds on is found by itself; or name all of them, the full one first.
    """
    with _open_or_make(store, checkpoints[0]) as storage:
        output.wait_for("comparing rows", lambda: storage.restore(list(checkpoints)))
        rows = storage.size()
    data = {"directory": store.directory, "checkpoints": list(checkpoints), "rows": rows}
    output.show(data, Facts({"restored from": checkpoints[-1], "rows": rows}))


def _open_or_make(store: StoreOpener, checkpoint: str) -> damo.PyStorage:
    """The store, which is made like the checkpoint's if there is none."""
    try:
        return store.writing()
    except FileNotFoundError:
        with StoreOpener(_full_checkpoint(checkpoint)).reading() as full:
            options = full.options
        return store.creating(options["seed"], options["clock"])


def _full_checkpoint(checkpoint: str) -> str:
    """The directory of the full checkpoint that this one builds on, or is; docs/checkpoint_format.md."""
    directory = Path(checkpoint)
    for _ in range(_MAX_LINKS):
        try:
            description = json.loads((directory / CHECKPOINT_DESCRIPTION).read_text("utf-8"))
            if "base" not in description:
                return str(directory)
            directory /= description["base"]["path"]
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"restore from '{checkpoint}': '{directory}' is no checkpoint") from None
        except (KeyError, TypeError, ValueError):
            raise RuntimeError(
                f"restore from '{checkpoint}': the description of '{directory}' is damaged"
            ) from None
    raise RuntimeError(f"restore from '{checkpoint}': more than {_MAX_LINKS} checkpoints build on each other")
