# SPDX-License-Identifier: Apache-2.0
"""Predictor: what export_dense wrote, served with rows that may be newer than it."""

import json
import os
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from damo_tf._arguments import check_int, check_path, check_positive
from damo_tf._request import Lookup, flat_tensors, lookup_of, names_of
from damo_tf.export.combining import behind_combiners
from damo_tf.export.dense import DESCRIPTION, FORMAT
from damo_tf.row_sources import (
    CheckpointSource,
    DumpSource,
    FixedSource,
    Rows,
    Source,
    StoreRows,
    check_fit,
    has_checkpoints,
    has_training_checkpoints,
)
from damo_tf.store import DEFAULT_MEMORY_BUDGET, Store


@dataclass(frozen=True)
class _Serving:
    """The rows in service: of each store its version and its rows."""

    version: tuple[str, ...]
    rows: tuple[Rows, ...]


class Predictor:
    """Serves a dense part that `export_dense` wrote, with rows from a store, a dump or checkpoints.

    For tables that are too large for `export_inline`: rows stay on disk, and only those asked for are read.
    `refresh`, called or automatic, takes newer rows into service when there are any. A request sees one
    moment's rows from beginning to end; refreshing neither waits for requests nor makes them wait, and
    rows are let go when the last request that began with them has ended. Any number of threads may call
    `predict`.

    Example:

    >>> damo_tf.export_dense(model, "exported")
    >>> with damo_tf.Predictor("exported") as predictor:
    ...     predictor.predict({"ids": [[7]]})["score"].shape
    (1, 1)

    Args:
        directory: that `export_dense` wrote.
        store: where rows are read; of a model with several stores a list, in the order of `stores` in
            `embeddings.json`. Each is

            * a `damo_tf.Store`, which is not closed: rows as they are at each moment;
            * the path of a directory of a `CheckpointManager`: the newest checkpoint, full or delta;
            * the path of one checkpoint, or of a store that another process may be writing, which is opened
              read-only and seen as it is now for as long as the predictor lives;
            * the path of a dump.

            Default `None`: the dump that `export_dense` wrote.
        refresh_seconds: number > 0: look for newer rows so often, in a thread of its own, and take a newer
            checkpoint, or a dump that has taken the place of the former one, into service. `None` (default):
            only when `refresh` is called.
        memory_budget: bytes, for each store that is opened. Default 1 GiB.
        scratch: path of a directory for copies of checkpoints that are deltas; as large as the table, twice.
            `None` (default): the system's for temporary files.
        on_refresh: a function that is called after each refresh with the new `version`, in the thread that
            refreshed. Default `None`.

    Raises:
        FileNotFoundError: there is no export in `directory`, or nothing at `store`.
        ValueError: an argument breaks its rule; rows and dense part do not belong together.
        TypeError: an argument is of the wrong type.
        RuntimeError: a store or checkpoint is damaged or in use.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        store: Any = None,
        *,
        refresh_seconds: float | None = None,
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
        scratch: str | os.PathLike[str] | None = None,
        on_refresh: Callable[[tuple[str, ...]], object] | None = None,
    ) -> None:
        if refresh_seconds is not None:
            check_positive("refresh_seconds", refresh_seconds)
        check_int("memory_budget", memory_budget, 1, 1 << 63)
        if on_refresh is not None and not callable(on_refresh):
            raise TypeError(f"`on_refresh` must be callable or None. Received: on_refresh={on_refresh!r}")
        self._directory = Path(check_path("directory", directory)).absolute()
        self._description = _read_description(self._directory)
        self._model = tf.saved_model.load(str(self._directory))  # its signatures do not keep it alive
        self._signatures = dict(self._model.signatures.items())
        self._specs = self._signatures["serving_default"].structured_input_signature[1]
        self._embeddings = self._description["embeddings"]
        self._dense = behind_combiners(self._signatures["serving_default"], self._embeddings)
        self._other_inputs = self._description["other_inputs"]
        self._input_names = self._names_of_inputs()
        self._scratch = None if scratch is None else check_path("scratch", scratch)
        self._memory_budget = memory_budget
        self._on_refresh = on_refresh
        self._sources = [
            self._source(given, stored)
            for given, stored in zip(self._given(store), self._description["stores"], strict=True)
        ]
        self._refreshing = threading.Lock()  # one refresh at a time; requests do not take it
        self._closed = threading.Event()
        self._error: Exception | None = None
        # Assigned as one reference: a request reads it once and works with what it got.
        self._serving = _Serving((), ())
        self.refresh()
        self._thread = None if refresh_seconds is None else self._start_thread(refresh_seconds)

    @property
    def version(self) -> tuple[str, ...]:
        """What rows are in service: of each store a text that differs where the rows do."""
        return self._serving.version

    @property
    def refresh_error(self) -> Exception | None:
        """Why the last automatic refresh failed; `None` if it did not. The rows before stay in service."""
        return self._error

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """The model's predictions.

        Args:
            inputs: the inputs of the exported model, by name, as arrays; what a `FeatureHash` layer takes is
                text or integers, as there. A ragged input is a `tf.RaggedTensor` or lists of lists, a sparse
                one a `tf.SparseTensor`; both may be given as the tensors that they consist of, too, under the
                names that `composite_inputs` in `embeddings.json` has for them.

        Returns:
            Its outputs, by name.

        Raises:
            ValueError: an input is missing or unknown, of a wrong shape, or its parts do not fit together.
            TypeError: ids are not integers, or an input is of another wrong type.
            RuntimeError: the predictor, or the store it was given, is closed; a row is damaged.
        """
        serving = self._serving
        if self._closed.is_set():
            raise RuntimeError(f"{self!r} is closed")
        tensors = self._tensors(inputs)
        feeds = {name: _as_tensor(tensors[name], self._specs[name]) for name in self._other_inputs}
        tensors |= self._computed(tensors)
        for embedding in self._embeddings:
            feeds[embedding["input"]] = self._feed(embedding, tensors, serving.rows[embedding["store"]])
        outputs = self._dense(feeds)
        return {name: outputs[name].numpy() for name in self._description["outputs"]}

    def refresh(self) -> bool:
        """Takes the newest rows into service, if they are newer than those that are.

        Returns:
            Whether there were any.

        Raises:
            FileNotFoundError, ValueError, RuntimeError, OSError: they cannot be opened, or are of another
                model than the dense part; those before stay in service.
        """
        with self._refreshing:
            if self._closed.is_set():
                raise RuntimeError(f"{self!r} is closed")
            refreshed = self._refresh()
        if refreshed and self._on_refresh is not None:
            self._on_refresh(self.version)
        return refreshed

    def close(self) -> None:
        """Ends automatic refreshing and lets the rows go; requests under way may fail. May be repeated."""
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with self._refreshing:
            self._serving = _Serving((), ())
            for source in self._sources:
                source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Predictor({str(self._directory)!r})"

    def _names_of_inputs(self) -> set[str]:
        """Of the tensors that requests must have."""
        named = {name for embedding in self._embeddings for name in names_of(embedding)}
        if "ids" in self._signatures:
            signature = self._signatures["ids"]
            named = (named - set(signature.structured_outputs)) | set(signature.structured_input_signature[1])
        return named | set(self._other_inputs)

    def _given(self, store: Any) -> list[Any]:
        """What the argument `store` says about each store."""
        count = len(self._description["stores"])
        given = list(store) if isinstance(store, (list, tuple)) else [store] * count
        if len(given) != count or (count > 1 and store is not None and not isinstance(store, (list, tuple))):
            raise ValueError(f"`store` must be a list of {count}, one for each store. Received: {store!r}")
        return given

    def _source(self, given: Any, stored: dict[str, Any]) -> Source:
        if isinstance(given, Store):
            return FixedSource(StoreRows(given), given.directory)
        if given is None:
            return DumpSource(self._directory / stored["rows"], stored["seed"])
        path = Path(check_path("store", given)).absolute()
        if not path.exists():
            raise FileNotFoundError(
                f"`store` must be a store, a dump or checkpoints. There is nothing at '{path}'"
            )
        if path.is_file():
            return DumpSource(path, stored["seed"])
        if has_checkpoints(path):
            return CheckpointSource(path, stored["seed"], self._memory_budget, self._scratch)
        if has_training_checkpoints(path):
            raise ValueError(
                "`store` must be a store, a dump or checkpoints of one store. "
                f"Received: '{path}' of a StoreCheckpoint, which has them in 'ckpt-N/store-0' and so on"
            )
        opened = Store(path, read_only=True, memory_budget=self._memory_budget, seed=stored["seed"])
        return FixedSource(StoreRows(opened), opened.directory)

    def _refresh(self) -> bool:
        for is_last in (False, False, True):
            try:
                return self._refresh_once()
            except FileNotFoundError:  # a manager may have removed what was the newest a moment ago
                if is_last:
                    raise
        return False

    def _refresh_once(self) -> bool:
        newest = [source.newest() for source in self._sources]
        version = tuple(version.name for version in newest)
        now = self._serving
        if version == now.version:
            return False
        rows = tuple(
            now.rows[i] if now.version and now.version[i] == each.name else each.open()
            for i, each in enumerate(newest)
        )
        for i, of_store in enumerate(rows):
            embeddings = [embedding for embedding in self._embeddings if embedding["store"] == i]
            check_fit(of_store, embeddings, self._description["stores"][i]["seed"], version[i])
        self._serving = _Serving(version, rows)
        return True

    def _start_thread(self, seconds: float) -> threading.Thread:
        thread = threading.Thread(
            target=self._refresh_until_closed, args=(seconds,), name="damo-predictor", daemon=True
        )
        thread.start()
        return thread

    def _refresh_until_closed(self, seconds: float) -> None:
        while not self._closed.wait(seconds):
            try:
                self.refresh()
                self._error = None
            except Exception as error:
                if self._closed.is_set():
                    return
                is_new = str(error) != str(self._error)
                self._error = error
                if is_new:
                    warnings.warn(f"{self!r} goes on with the rows it has: {error}", stacklevel=2)

    def _tensors(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The tensors of a request, which are those there must be, or belong to them."""
        if not isinstance(inputs, Mapping):
            raise TypeError(f"`inputs` must be a dict. Received: {inputs!r}")
        composites = self._description["composite_inputs"]
        tensors = flat_tensors(inputs, composites)
        parts = {name: whole for whole in composites for name in composites[whole]["tensors"]}
        if not self._input_names <= set(tensors) <= self._input_names | set(parts):
            names = sorted({parts.get(name, name) for name in self._input_names})
            raise ValueError(f"`inputs` must have the names {names}. Received: {sorted(inputs)}")
        return tensors

    def _computed(self, tensors: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """What lookups need that the model computes from its inputs, by name."""
        if "ids" not in self._signatures:
            return {}
        signature = self._signatures["ids"]
        names = signature.structured_input_signature[1]
        computed = signature(**{name: _as_tensor(tensors[name], spec) for name, spec in names.items()})
        return {name: tensor.numpy() for name, tensor in computed.items()}

    def _feed(self, embedding: dict[str, Any], tensors: dict[str, Any], rows: Rows) -> Any:
        """What `behind_combiners` takes for an entry of `embeddings.json`."""
        lookup = lookup_of(embedding, tensors)
        _check_shape_of_ids(embedding, self._specs[embedding["input"]], lookup)
        vectors = tf.constant(rows.lookup(embedding, lookup.keys))
        if lookup.splits is None:
            return vectors
        return {
            "rows": vectors,
            "weights": tf.constant(lookup.weights),
            "splits": tf.constant(lookup.splits),
            "shape": tf.constant(lookup.shape, tf.int64),
        }


def _read_description(directory: Path) -> dict[str, Any]:
    path = directory / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f"`directory` must be one that export_dense wrote. There is no '{path}'")
    description: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if description["format"] not in (1, FORMAT):
        received = f"'{directory}' of format {description['format']}"
        raise ValueError(f"`directory` must be of format {FORMAT} or before. Received: {received}")
    return _as_of_now(description)


def _as_of_now(description: dict[str, Any]) -> dict[str, Any]:
    """A description with what format 1 did not have: it knew one vector for each id of dense inputs alone."""
    since_format_2: dict[str, Any] = {
        **{"row_splits": [], "indices": None, "dense_shape": None},
        **{"hash": None, "combiner": None, "weights": None, "mask": None},
    }
    embeddings = [since_format_2 | embedding for embedding in description["embeddings"]]
    return {"composite_inputs": {}} | description | {"embeddings": embeddings}


def _as_tensor(value: npt.ArrayLike, spec: tf.TensorSpec) -> tf.Tensor:
    """`value` as a signature takes it: numbers may be of another type of the same kind."""
    array = np.asarray(value)
    if spec.dtype == tf.string:
        return tf.constant(array)
    expected = spec.dtype.as_numpy_dtype
    if array.size and not np.can_cast(array.dtype, expected, "same_kind") and array.dtype.kind not in "iu":
        raise TypeError(f"input `{spec.name}` must be {spec.dtype.name}. Received dtype: {array.dtype}")
    _check_shape(spec, array.shape)
    return tf.constant(array.astype(expected))


def _check_shape(spec: tf.TensorSpec, shape: tuple[int, ...]) -> None:
    if not spec.shape.is_compatible_with(shape):
        raise ValueError(f"input `{spec.name}` must have shape {spec.shape}. Received shape: {shape}")


def _check_shape_of_ids(embedding: dict[str, Any], spec: tf.TensorSpec, lookup: Lookup) -> None:
    if not spec.shape[:-1].is_compatible_with(lookup.shape):
        what = "ids" if lookup.splits is None else "bags of ids"
        raise ValueError(
            f"`{embedding['field'] or embedding['input']}` must have {what} of shape {spec.shape[:-1]}. "
            f"Received shape: {lookup.shape}"
        )
