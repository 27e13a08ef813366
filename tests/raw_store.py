# SPDX-License-Identifier: Apache-2.0
"""A closed store as docs/row_format.md describes it, through rocksdict, a RocksDB client that is not ours."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rocksdict import AccessType, BlockBasedOptions, DBCompressionType, Options, Rdict

_HEADER = struct.Struct("<iIqqq")  # group, reserved, key, update_time, update_num


@dataclass(frozen=True)
class RawStore:
    """The two column families, from bytes to bytes."""

    rows: Rdict
    manifest: Rdict


@contextmanager
def raw_store(directory: str | Path, *, create: bool = False, write: bool = False) -> Iterator[RawStore]:
    """Opens a store that nobody has open; with `create` a new database with the two column families."""
    access = AccessType.read_write() if create or write else AccessType.read_only()
    rows = Rdict(str(directory), _options(create), {"manifest": _options(create)}, access)
    manifest = rows.get_column_family("manifest")
    try:
        yield RawStore(rows, manifest)
    finally:
        manifest.close()
        rows.close()


def row_key(group: int, key: int) -> bytes:
    return struct.pack(">BQ", group, key)


def row_value(
    group: int, key: int, update_time: int, update_num: int, *floats: Sequence[float], reserved: int = 0
) -> bytes:
    """`floats`: the weights, then each slot."""
    signed = key - (1 << 64) if key >= 1 << 63 else key
    header = _HEADER.pack(group, reserved, signed, update_time, update_num)
    return header + np.concatenate([np.asarray(part, "<f4") for part in floats]).tobytes()


def with_update_time(value: bytes, update_time: int) -> bytes:
    """A row's value with another time of update."""
    return value[:16] + struct.pack("<q", update_time) + value[24:]


def _options(create: bool) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(create)
    options.create_missing_column_families(create)
    # As the engine writes, so that the RocksDB that is linked to it reads what rocksdict's newer one wrote.
    table = BlockBasedOptions()
    table.set_format_version(5)
    options.set_block_based_table_factory(table)
    options.set_compression_type(DBCompressionType.none())
    return options
