# SPDX-License-Identifier: Apache-2.0
"""Dumps read with NumPy alone: neither the engine nor TensorFlow is needed where they are served.

The format is that of docs/dump_format.md.
"""

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from damo_tf._arguments import check_path

_GROUPS = 256
_HEADER = np.dtype([("dims", "<i4", _GROUPS), ("counts", "<u8", _GROUPS)])
_MAX_DIM = 65536
#: Records that are looked at together while a file is checked: some megabytes.
_CHECKED_BYTES = 1 << 23


@dataclass(frozen=True)
class DumpedGroup:
    """The rows of one group of a dump, in ascending order of keys.

    Both arrays are views of the file: what is not looked at is not read. Keys lie scattered in it, so copy
    them (`np.ascontiguousarray`) if you search in them more than once.

    Example:

    >>> store.add_group(0, dim=2)
    >>> store.from_numpy(0, keys=[5, 3], weights=[[1.0, 2.0], [3.0, 4.0]])
    2
    >>> store.dump("rows.dump", group=0)
    2
    >>> group = damo_tf.read_dump("rows.dump")[0]
    >>> group.keys
    array([3, 5], dtype=uint64)
    >>> group.weights.shape
    (2, 2)

    Attributes:
        keys: uint64 `[n]`.
        weights: float32 `[n, dim]`; `weights[i]` belongs to `keys[i]`.
    """

    keys: npt.NDArray[np.uint64]
    weights: npt.NDArray[np.float32]


def read_dump(path: str | os.PathLike[str], *, verify: bool = True) -> dict[int, DumpedGroup]:
    """The rows of a file that `Store.dump` wrote, as NumPy arrays on the mapped file.

    Needs no store, no engine and no TensorFlow. A dump that is replaced by a newer one stays as it was for
    whoever has it open, so a server opens it again when it wants the new one. Never write into a dump, or
    cut it short, while it is in use.

    Example:

    >>> store.add_group(0, dim=2)
    >>> store.from_numpy(0, keys=[7], weights=[[1.0, 2.0]])
    1
    >>> store.dump("rows.dump")
    1
    >>> group = damo_tf.read_dump("rows.dump")[0]
    >>> keys = np.ascontiguousarray(group.keys)
    >>> group.weights[np.searchsorted(keys, np.uint64(7))]
    array([1., 2.], dtype=float32)

    Args:
        path: of the file.
        verify: whether to read the file once from end to end, in constant memory, and check that each
            record is where the header says and keys ascend. `False`: header, size, and first and last record
            of each group are checked. Default `True`.

    Returns:
        A dict, number of each group in the file to its rows, groups without rows included.

    Raises:
        ValueError: the file is cut short, is no dump, or has its records in another order than `Store.dump`
            writes them (`Store.load` takes such a file).
        TypeError: `path` is no path.
        OSError: the file cannot be read.
    """
    name = check_path("path", path)
    # Opened once: by its name a part of it could be of the dump that takes its place meanwhile.
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < _HEADER.itemsize:
            raise ValueError(
                f"`path` must be of a dump. Received: '{name}' of {size} bytes, a header has "
                f"{_HEADER.itemsize}"
            )
        header = np.fromfile(file, _HEADER, 1)[0]
        counts = dict(enumerate(header["counts"].tolist()))
        records = _records(name, header["dims"].tolist(), counts, size)
        groups = {}
        begin = _HEADER.itemsize
        for group, record in records.items():
            count = counts[group]
            # An empty part of a file cannot be mapped.
            rows = np.memmap(file, record, "r", begin, (count,)) if count else np.empty(0, record)
            _check_rows(name, group, rows, begin, verify)
            groups[group] = DumpedGroup(rows["key"].view(np.ndarray), rows["weights"].view(np.ndarray))
            begin += count * record.itemsize
    return groups


def _records(name: str, dims: list[int], counts: dict[int, int], size: int) -> dict[int, np.dtype[np.void]]:
    """The dtype of each group's records. Raises unless the header says so many bytes as there are."""
    records = {}
    for group, dim in enumerate(dims):
        if not 0 <= dim <= _MAX_DIM or (dim == 0 and counts[group]):
            raise ValueError(
                f"`path` must be of a dump. Received: '{name}', which has group {group} with dim {dim} and "
                f"{counts[group]} rows; dim must be in [0, {_MAX_DIM}], 0 where there are none"
            )
        if dim:
            records[group] = np.dtype([("key", "<u8"), ("group", "<i4"), ("weights", "<f4", (dim,))])
    expected = _HEADER.itemsize + sum(counts[group] * record.itemsize for group, record in records.items())
    if size != expected:
        raise ValueError(
            f"`path` must be of a whole dump. Received: '{name}' of {size} bytes, by its header {expected}"
        )
    return records


def _check_rows(
    name: str, group: int, rows: np.ndarray[tuple[int], np.dtype[np.void]], begin: int, verify: bool
) -> None:
    """Raises unless rows are of the group, and their keys ascend."""
    step = max(_CHECKED_BYTES // rows.dtype.itemsize, 1)
    for first in range(0, len(rows), step) if verify else ():
        part = rows[first : first + step + 1]  # with the next part's first one
        _check_order(name, group, part, begin + first * rows.dtype.itemsize)
    if not verify and len(rows):
        _check_order(name, group, rows[[0, -1]] if len(rows) > 1 else rows, begin)


def _check_order(name: str, group: int, rows: np.ndarray[tuple[int], np.dtype[np.void]], offset: int) -> None:
    keys = rows["key"]
    if (rows["group"] != group).any() or (keys[1:] <= keys[:-1]).any():
        raise ValueError(
            f"`path` must be of a dump whose records are in order of group and key. Received: '{name}', "
            f"which is not so among the records of group {group} from offset {offset} on"
        )
