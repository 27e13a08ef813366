# SPDX-License-Identifier: Apache-2.0
"""Reading separated text line by line, with errors that name file and line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from models.errors import DataError

_SEPARATOR_NAMES = {b"\t": "tabs", b"|": "'|'"}


def bad_line(path: Path, line: int, problem: str) -> DataError:
    """The error for line number `line`, counted from 1."""
    return DataError(f"{path}, line {line}: {problem}")


def quoted(value: bytes) -> str:
    """`value` in quotes for a message, cut short if long."""
    text = value.decode(errors="replace")
    return repr(text if len(text) <= 40 else text[:40] + "...")


def read_columns(path: Path, separator: bytes, num_columns: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yields number and columns of each line.

    Raises:
        DataError: the file is unreadable or empty, or a line has another number of columns.
    """
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                columns = line.rstrip(b"\r\n").split(separator)
                if len(columns) != num_columns:
                    rule = f"must have {num_columns} columns separated by"
                    found = f"{_SEPARATOR_NAMES[separator]}. Found: {len(columns)}"
                    raise bad_line(path, number, f"{rule} {found}")
                yield number, columns
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if number == 0:
        raise DataError(f"{path}: the file is empty")


def parse_integer(path: Path, line: int, column: str, value: bytes) -> int:
    """`value` as an integer.

    Raises:
        DataError: it is none.
    """
    try:
        return int(value)
    except ValueError:
        problem = f"{column} must be an integer. Found: {quoted(value)}"
        raise bad_line(path, line, problem) from None
