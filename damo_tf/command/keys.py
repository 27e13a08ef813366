# SPDX-License-Identifier: Apache-2.0
"""Keys as people and files write them."""

import codecs
import difflib
import io
import itertools
import sys
from typing import Any, BinaryIO

import click
import numpy as np
import numpy.typing as npt

_NPY_MAGIC = b"\x93NUMPY"
KEY_RULE = "an integer in [-2**63, 2**64), decimal or 0x and hexadecimal digits"
#: Shown of what is no key: a file that is not one of keys may have lines of any length.
_MAX_SHOWN = 60


def parse_key(text: str) -> int:
    """The key in [0, 2**64) that `text` says; a negative one stands for its bits.

    Raises:
        ValueError: it is none; the message names the rule.
    """
    digits = text.removeprefix("-")
    try:
        key = int(text, 16 if digits[:2] in ("0x", "0X") else 10)
    except ValueError:
        key = 1 << 64
    if not text.isascii() or not digits[:1].isdigit() or "_" in text or not -(1 << 63) <= key < 1 << 64:
        raise ValueError(f"a key must be {KEY_RULE}. Received: {_shortened(text)!r}")
    return key % (1 << 64)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."


class Key(click.ParamType[int]):
    """A key on the command line."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See `parse_key`."""
        try:
            return parse_key(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class CommandOfKeys(click.Command):
    """A command with keys among its arguments: `-5` is one, and no option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Takes unknown options for arguments, but not long ones, which are typing errors."""
        options = [name for parameter in self.get_params(ctx) for name in parameter.opts]
        for text in itertools.takewhile(lambda text: text != "--", args):
            name = text.partition("=")[0]
            if name.startswith("--") and name not in options:
                raise click.NoSuchOption(
                    name, possibilities=difflib.get_close_matches(name, options), ctx=ctx
                )
        ctx.ignore_unknown_options = True
        return super().parse_args(ctx, args)


def read_keys(path: str) -> npt.NDArray[np.uint64]:
    """All keys of a file: text, one a line, or a `.npy` array of 64-bit integers.

    Empty lines, what follows a `#` and a UTF-8 byte order mark at the beginning are left out.

    Args:
        path: of the file; `-` for stdin.

    Raises:
        ValueError: something in it is not a key; the message names file and line.
        OSError: it cannot be read.
    """
    if path != "-":
        with open(path, "rb") as file:
            return _read_keys(path, file)
    if sys.stdin is None:
        raise OSError("read keys from stdin: it is closed")
    if sys.stdin.isatty():
        click.echo("damo-tf: type keys, one a line, and Ctrl-D after the last", err=True)
    return _read_keys("stdin", sys.stdin.buffer)


def _read_keys(name: str, file: BinaryIO) -> npt.NDArray[np.uint64]:
    data = file.read()  # at once: of a terminal the end is not there to be read a second time
    if data.startswith(_NPY_MAGIC):
        return _read_npy(name, io.BytesIO(data))
    lines = io.BytesIO(data.removeprefix(codecs.BOM_UTF8))  # which Windows' editors write
    keys = (_parse_line(name, number, line) for number, line in enumerate(lines, 1) if _content(line))
    return np.fromiter(keys, np.uint64)


def _content(line: bytes) -> str:
    """A line without comment and space."""
    return line.split(b"#")[0].decode("utf-8", "replace").strip()


def _parse_line(name: str, number: int, line: bytes) -> int:
    try:
        return parse_key(_content(line))
    except ValueError as error:
        raise ValueError(f"{name}, line {number}: {error}") from None


def _read_npy(name: str, file: BinaryIO) -> npt.NDArray[np.uint64]:
    try:
        array = np.lib.format.read_array(file, allow_pickle=False)
    except (MemoryError, OverflowError, ValueError) as error:
        raise ValueError(f"{name} must be a .npy file of 64-bit integers. Received: {error}") from error
    if array.dtype.kind not in "iu" or array.dtype.itemsize != 8 or array.ndim != 1:
        raise ValueError(
            f"{name} must be a one-dimensional array of int64 or uint64. "
            f"Received: {array.dtype} of shape {array.shape}"
        )
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).view(np.uint64)
