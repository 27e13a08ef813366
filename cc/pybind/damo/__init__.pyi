# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, overload

import numpy as np
import numpy.typing as npt

_Value: TypeAlias = bool | int | float | str

_Keys: TypeAlias = npt.NDArray[np.uint64]
_Floats: TypeAlias = npt.NDArray[np.float32]
_Integers: TypeAlias = npt.NDArray[np.int64]

build_id: str
simd_level: Literal["baseline", "avx2", "avx512"]

def close_all() -> None: ...
@overload
def feature_hash(
    field: str,
    value: str | bytes | int,
    *,
    padding_value: str | bytes | int | None = None,
    padding_key: int = 0,
) -> int: ...
@overload
def feature_hash(
    field: str,
    value: list[Any] | _Integers | _Keys,
    *,
    padding_value: str | bytes | int | None = None,
    padding_key: int = 0,
) -> _Keys: ...
def verify_checkpoint(
    directory: str | os.PathLike[str], progress: Callable[[int, int], object] | None = None
) -> dict[str, Any]: ...

class Parameters:
    def __init__(self) -> None: ...
    def insert(self, key: str, value: _Value) -> None: ...
    def to_json(self) -> str: ...

class PyOptimizer:
    def __init__(
        self,
        parameters: Parameters | dict[str, _Value],
        schedule: Parameters | dict[str, _Value] | None = None,
    ) -> None: ...
    def call(self, weights: _Floats, gradients: _Floats, step: int) -> None: ...
    @property
    def parameters(self) -> dict[str, _Value]: ...
    @property
    def schedule(self) -> dict[str, _Value] | None: ...
    @property
    def slot_names(self) -> list[str]: ...

class PyInitializer:
    def __init__(self, parameters: Parameters | dict[str, _Value]) -> None: ...
    def call(self, values: _Floats, key: int = 0, group: int = 0, seed: int = 0) -> None: ...
    @property
    def parameters(self) -> dict[str, _Value]: ...

class PyFilter:
    def __init__(self, parameters: Parameters | dict[str, _Value]) -> None: ...
    @overload
    def add(self, key: int, n: int = 1) -> None: ...
    @overload
    def add(self, key: _Keys, n: int = 1) -> None: ...
    @overload
    def check(self, key: int) -> bool: ...
    @overload
    def check(self, key: _Keys) -> npt.NDArray[np.bool_]: ...
    @overload
    def count(self, key: int) -> int: ...
    @overload
    def count(self, key: _Keys) -> npt.NDArray[np.uint8]: ...
    @property
    def parameters(self) -> dict[str, _Value]: ...
    @property
    def num_bytes(self) -> int: ...
    @property
    def fill(self) -> float: ...

class PyStorage:
    def __init__(
        self,
        directory: str | os.PathLike[str],
        ttl_seconds: int | None = None,
        *,
        memory_budget: int | None = None,
        durability: str | None = None,
        read_only: bool | None = None,
        seed: int | None = None,
        create_if_missing: bool = True,
        row_cache: bool | None = None,
        clock: str | None = None,
    ) -> None: ...
    @property
    def directory(self) -> str: ...
    @property
    def options(self) -> dict[str, Any]: ...
    @property
    def groups(self) -> list[int]: ...
    @property
    def closed(self) -> bool: ...
    def add_group(
        self,
        group: int,
        dim: int,
        initializer: Parameters | dict[str, _Value],
        optimizer: Parameters | dict[str, _Value],
        schedule: Parameters | dict[str, _Value] | None = None,
        *,
        ttl_seconds: int | Literal["never"] | None = None,
        min_count: int = 0,
        filter_capacity: int | None = None,
        filter_fpr: float | None = None,
    ) -> None: ...
    def group_config(self, group: int) -> dict[str, Any]: ...
    def lookup(
        self,
        group: int,
        keys: _Keys,
        weights: _Floats,
        *,
        padding_key: int | None = None,
        missing: Literal["initial", "zeros"] = "initial",
    ) -> None: ...
    def apply_gradients(
        self,
        group: int,
        keys: _Keys,
        gradients: _Floats,
        *,
        padding_key: int | None = None,
        learning_rate: float | None = None,
    ) -> None: ...
    def row(self, group: int, key: int) -> dict[str, Any] | None: ...
    def size(self, group: int | None = None) -> int: ...
    def stats(self, *, count_rows: bool = False) -> dict[str, Any]: ...
    def dump(
        self,
        path: str | os.PathLike[str],
        *,
        group: int | None = None,
        min_count: int = 0,
        expire_days: float | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> int: ...
    def check_outside(self, path: str | os.PathLike[str]) -> None: ...
    def load(
        self,
        path: str | os.PathLike[str],
        *,
        mode: Literal["merge", "replace"] = "merge",
        progress: Callable[[int, int], object] | None = None,
    ) -> int: ...
    def delete(self, group: int, keys: _Keys) -> int: ...
    def read_rows(
        self,
        group: int,
        visit: Callable[[_Keys, _Floats, _Integers, _Integers, _Floats], None],
        *,
        min_count: int = 0,
        expire_days: float | None = None,
        rows_per_part: int = 65536,
    ) -> None: ...
    def advance_clock(self, milliseconds: int) -> None: ...
    def expire(self, progress: Callable[[int, int], object] | None = None) -> int: ...
    def verify(self, progress: Callable[[int, int], object] | None = None) -> dict[str, Any]: ...
    def compact(self, progress: Callable[[int, int], object] | None = None) -> None: ...
    def convert(
        self,
        directory: str | os.PathLike[str],
        group: int,
        *,
        dim: int | None = None,
        optimizer: Parameters | dict[str, _Value] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> int: ...
    def flush(self) -> None: ...
    def checkpoint(
        self,
        directory: str | os.PathLike[str],
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> None: ...
    def checkpoint_delta(
        self,
        directory: str | os.PathLike[str],
        since: str | os.PathLike[str],
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> None: ...
    def restore(
        self,
        chain: Sequence[str | os.PathLike[str]],
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

class PyEmbedding:
    def __init__(
        self,
        storage: PyStorage,
        optimizer: PyOptimizer,
        initializer: PyInitializer,
        dimension: int,
        group: int = 0,
        *,
        ttl_seconds: int | Literal["never"] | None = None,
        min_count: int = 0,
        filter_capacity: int | None = None,
        filter_fpr: float | None = None,
    ) -> None: ...
    @property
    def dimension(self) -> int: ...
    @property
    def group(self) -> int: ...
    def lookup(self, keys: _Keys, weights: _Floats) -> None: ...
    def prefetch(self, keys: _Keys) -> None: ...
    def apply_gradients(
        self, keys: _Keys, gradients: _Floats, learning_rate: float | None = None
    ) -> None: ...

class PyRowImport:
    def __init__(self, storage: PyStorage, group: int) -> None: ...
    def add(
        self,
        keys: _Keys,
        weights: _Floats,
        *,
        slots: _Floats | None = None,
        update_nums: _Integers | None = None,
        update_times: _Integers | None = None,
    ) -> None: ...
    def commit(self, *, mode: Literal["merge", "replace"] = "merge") -> int: ...
