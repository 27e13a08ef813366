# SPDX-License-Identifier: Apache-2.0
"""Commands about files of weights: dump, load."""

import click

from damo_tf.command.numbers import Integer, Number, group_number
from damo_tf.command.opening import NonEmptyPath, StoreOpener, with_store
from damo_tf.command.output import Facts, Output, json_option


@click.command(short_help="Write all weights to a file, for serving.")
@with_store
@click.argument("path", type=NonEmptyPath(dir_okay=False))
@click.option("--group", type=group_number, help="Rows of this group only.")
@click.option("--min-count", type=Integer(0), default=0, help="Leave out rows with fewer updates.")
@click.option("--expire-days", type=Number(0), help="Leave out rows that were not updated for so long.")
@json_option
def dump(
    store: StoreOpener,
    path: str,
    group: int | None,
    min_count: int,
    expire_days: float | None,
    output: Output,
) -> None:
    """Write the weights of STORE, as of one moment, to the file PATH, for serving."""
    with store.reading() as storage, output.progress("writing rows") as advance:
        rows = storage.dump(path, group=group, min_count=min_count, expire_days=expire_days, progress=advance)
    data = {"directory": store.directory, "path": path, "rows": rows}
    output.show(data, Facts({"rows written": rows}))


@click.command(short_help="Bring the rows of a dump into a store.")
@with_store
@click.argument("path", type=NonEmptyPath(dir_okay=False))
@click.option(
    "--mode",
    type=click.Choice(["merge", "replace"]),
    default="merge",
    show_default=True,
    help="Whether rows of keys that the file lacks stay, or go.",
)
@json_option
def load(store: StoreOpener, path: str, mode: str, output: Output) -> None:
    """Bring the rows of the file PATH, which `dump` wrote, into STORE, all or none."""
    with store.writing() as storage, output.progress("loading rows") as advance:
        rows = storage.load(path, mode="merge" if mode == "merge" else "replace", progress=advance)
    data = {"directory": store.directory, "path": path, "mode": mode, "rows": rows}
    output.show(data, Facts({"rows loaded": rows}))
