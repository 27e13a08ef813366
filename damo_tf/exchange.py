# SPDX-License-Identifier: Apache-2.0
"""Rows of a store to and from NumPy, Parquet and Keras: what the methods of `Store` of these names do.

Everything but `to_numpy` works in parts, so that memory use does not grow with the number of rows.
"""

from typing import Any, Literal

import damo
import numpy as np
import numpy.typing as npt

from damo_tf._arguments import as_keys
from damo_tf._aside import file_aside
from damo_tf._parts import rows_per_part

Mode = Literal["merge", "replace"]
Arrays = tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]


def to_numpy(storage: damo.PyStorage, group: int, min_count: int, expire_days: float | None) -> Arrays:
    """Keys and weights of a group's rows."""
    dim = storage.group_config(group)["dim"]
    keys = [np.empty(0, np.uint64)]
    weights = [np.empty((0, dim), np.float32)]

    def keep(part_keys: Any, part_weights: Any, *_states: Any) -> None:
        keys.append(part_keys)
        weights.append(part_weights.reshape(-1, dim))

    step = rows_per_part(storage, group)
    storage.read_rows(group, keep, min_count=min_count, expire_days=expire_days, rows_per_part=step)
    return np.concatenate(keys), np.concatenate(weights)


def from_numpy(
    storage: damo.PyStorage, group: int, keys: npt.ArrayLike, weights: npt.ArrayLike, mode: Mode
) -> int:
    """Puts rows into a group."""
    key_array = as_keys(keys)
    if key_array.ndim != 1:
        raise ValueError(f"`keys` must be one-dimensional. Received shape: {key_array.shape}")
    array = np.asarray(weights)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"`weights` must be numbers. Received dtype: {array.dtype}")
    expected = (len(key_array), storage.group_config(group)["dim"])
    if array.shape != expected:
        raise ValueError(
            f"`weights` must have shape (len(keys), dim) = {expected}. Received shape: {array.shape}"
        )
    rows = damo.PyRowImport(storage, group)
    step = rows_per_part(storage, group)
    for begin in range(0, len(key_array), step):
        part = slice(begin, begin + step)
        rows.add(key_array[part], _as_floats(array[part]))
    return rows.commit(mode=mode)


def matrix_of(layer: Any) -> npt.NDArray[np.float32]:
    """The matrix of a built Keras Embedding."""
    import keras

    matrix: npt.NDArray[np.float32]
    matrix = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(layer.embeddings, "float32")))
    return matrix


def from_keras(storage: damo.PyStorage, group: int, layer: Any, keys: npt.ArrayLike, mode: Mode) -> int:
    """Puts the rows of a Keras Embedding's matrix into a group."""
    import keras

    if not isinstance(layer, keras.layers.Embedding):
        raise TypeError(f"`embedding_layer` must be a keras.layers.Embedding. Received: {layer!r}")
    if not layer.built:
        raise ValueError(
            f"`embedding_layer` must be built: it has no weights before. Received: {layer.name!r}"
        )
    matrix = matrix_of(layer)
    key_array = as_keys(keys)
    if key_array.shape != matrix.shape[:1]:
        raise ValueError(
            f"`keys` must be one for each row of the layer, shape ({matrix.shape[0]},). "
            f"Received shape: {key_array.shape}"
        )
    dim = storage.group_config(group)["dim"]
    if matrix.shape[1] != dim:
        raise ValueError(
            f"`embedding_layer` must have output_dim {dim}, the dim of group {group}. "
            f"Received: output_dim={matrix.shape[1]}"
        )
    return from_numpy(storage, group, key_array, matrix, mode)


# ---- Parquet ----


def to_parquet(
    storage: damo.PyStorage,
    path: str,
    group: int,
    min_count: int,
    expire_days: float | None,
    slots: bool,
) -> int:
    """Writes a group's rows to a Parquet file."""
    pa, pq = _pyarrow()
    storage.check_outside(path)
    dim = storage.group_config(group)["dim"]
    names = _slot_names(storage, group) if slots else []
    vector = pa.list_(pa.field("element", pa.float32(), nullable=False), dim)
    columns = [("key", pa.uint64()), ("update_time", pa.timestamp("ms", "UTC")), ("update_num", pa.int64())]
    columns += [(name, vector) for name in ("weights", *map(_slot_column, names))]
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])
    num_rows = 0

    with (
        file_aside(path) as partial,
        # Floats and distinct keys neither compress nor repeat.
        pq.ParquetWriter(partial, schema, compression="none", use_dictionary=False) as writer,
    ):

        def write(keys: Any, weights: Any, times: Any, nums: Any, states: Any) -> None:
            nonlocal num_rows
            vectors = [weights.reshape(-1, dim)]
            if names:
                vectors += list(states.reshape(-1, len(names), dim).transpose(1, 0, 2))
            arrays = [pa.array(keys), pa.array(times).cast(schema.field("update_time").type), pa.array(nums)]
            arrays += [
                pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(v).reshape(-1), type=vector)
                for v in vectors
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            num_rows += len(keys)

        step = rows_per_part(storage, group)
        storage.read_rows(group, write, min_count=min_count, expire_days=expire_days, rows_per_part=step)
    return num_rows


def from_parquet(storage: damo.PyStorage, path: str, group: int, slots: bool, mode: Mode) -> int:
    """Puts the rows of a Parquet file into a group."""
    pa, pq = _pyarrow()
    dim = storage.group_config(group)["dim"]
    names = _slot_names(storage, group) if slots else []
    vectors = ["weights", *map(_slot_column, names)]
    columns = ["key", *vectors, *(("update_num", "update_time") if slots else ())]
    rows = damo.PyRowImport(storage, group)
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20) as file:
            absent = [name for name in columns if name not in file.schema_arrow.names]
            if absent:
                raise ValueError(
                    f"`path` must be of a Parquet file with the columns {columns}. "
                    f"Received: '{path}' without {absent}"
                )
            for batch in file.iter_batches(rows_per_part(storage, group), columns=columns):
                keys = as_keys(_integers(pa, path, batch, "key"))
                weights, *states = (_vectors(pa, path, batch, name, dim) for name in vectors)
                if not slots:
                    rows.add(keys, weights.reshape(-1))
                    continue
                rows.add(
                    keys,
                    weights.reshape(-1),
                    slots=np.stack(states, axis=1).reshape(-1) if states else np.empty(0, np.float32),
                    update_nums=_integers(pa, path, batch, "update_num"),
                    update_times=_integers(pa, path, batch, "update_time"),
                )
    except pa.ArrowInvalid as error:
        raise ValueError(f"`path` must be of a Parquet file. Received: '{path}': {error}") from error
    return rows.commit(mode=mode)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Parquet needs pyarrow, which is an extra of damo_tf: `pip install damo_tf[parquet]`"
        ) from error
    return pyarrow, pyarrow.parquet


def _slot_names(storage: damo.PyStorage, group: int) -> list[str]:
    return damo.PyOptimizer(storage.group_config(group)["optimizer"]).slot_names


def _slot_column(name: str) -> str:
    return f"slot_{name}"


def _column(path: str, batch: Any, name: str, rule: str, fits: bool) -> Any:
    column = batch.column(name)
    if not fits or column.null_count:
        raise ValueError(
            f"`path`: column `{name}` must be {rule}, without nulls. "
            f"Received: '{path}' with {column.type}, {column.null_count} nulls"
        )
    return column


def _integers(pa: Any, path: str, batch: Any, name: str) -> npt.NDArray[Any]:
    kind = batch.column(name).type
    is_time = name == "update_time" and pa.types.is_timestamp(kind)
    column = _column(path, batch, name, "of integers", pa.types.is_integer(kind) or is_time)
    if is_time:
        column = column.cast(pa.timestamp("ms", kind.tz)).cast(pa.int64())
    if name != "key":
        column = column.cast(pa.int64())
    return np.ascontiguousarray(column.to_numpy(zero_copy_only=False))


def _vectors(pa: Any, path: str, batch: Any, name: str, dim: int) -> npt.NDArray[np.float32]:
    kind = batch.column(name).type
    is_list = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    fits = is_list and pa.types.is_floating(kind.value_type)
    column = _column(path, batch, name, "of lists of floats", fits)
    values = column.flatten()
    lengths = pa.compute.list_value_length(column)
    if len(column) and (values.null_count or pa.compute.min_max(lengths).as_py() != {"min": dim, "max": dim}):
        raise ValueError(
            f"`path`: lists of column `{name}` must have {dim} floats each, the dim of the group. "
            f"Received: '{path}' with {pa.compute.min_max(lengths).as_py()}, "
            f"{values.null_count} nulls in them"
        )
    return _as_floats(values.to_numpy(zero_copy_only=False)).reshape(-1, dim)


def _as_floats(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """As contiguous float32, flat; what that cannot hold becomes infinite, which the engine refuses."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, np.float32).reshape(-1)
