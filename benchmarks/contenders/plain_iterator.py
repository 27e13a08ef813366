# SPDX-License-Identifier: Apache-2.0
"""A bare RocksDB iterator over the rows of a store of damo_tf's: what tools that read all rows compare to."""

from __future__ import annotations

from benchmarks.contenders import Settings
from benchmarks.contenders.plain_rocksdb import load_module


class PlainIterator:
    """The database in `settings.directory`, which is there."""

    def __init__(self, settings: Settings) -> None:
        self._rows = load_module().Rows(settings.directory)

    def tool(self, name: str) -> int:
        """Passes over all rows: the only tool is "iterate"."""
        if name != "iterate":
            raise ValueError(f"`name` must be 'iterate'. Received: name={name!r}")
        num_rows: int = self._rows.iterate()
        return num_rows

    def figures(self) -> dict[str, float]:
        """None."""
        return {}

    def close(self) -> None:
        """Closes the database."""
        self._rows.close()


def make(settings: Settings) -> PlainIterator:
    """Opens the database."""
    return PlainIterator(settings)
