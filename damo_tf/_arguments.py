# SPDX-License-Identifier: Apache-2.0
"""Checks of arguments that several public functions take. Messages name argument, rule and value."""

import os
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt


def check_int(name: str, value: Any, low: int, high: int | None, *, optional: bool = False) -> None:
    """Raises unless `value` is an integer in [low, high), or `None` where that is allowed.

    Args:
        name: of the argument, for the message.
        value: the argument.
        low: least value allowed.
        high: least value that is too large; `None`: no bound.
        optional: whether `None` is allowed.
    """
    if optional and value is None:
        return
    rule = f"an integer >= {low}" if high is None else f"an integer in [{low}, {high})"
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` must be {rule}. Received: {name}={value!r} of {type(value)}")
    if value < low or (high is not None and value >= high):
        raise ValueError(f"`{name}` must be {rule}. Received: {name}={value}")


def check_bool(name: str, value: Any) -> bool:
    """`value`, if it is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be a bool. Received: {name}={value!r}")
    return value


def check_freq(name: str, freq: Any) -> int | None:
    """How many batches there are between two events, if `freq` is an integer >= 1; `None` for `"epoch"`."""
    if isinstance(freq, str):
        if freq != "epoch":
            raise ValueError(f"`{name}` must be 'epoch' or an integer >= 1. Received: {name}={freq!r}")
        return None
    check_int(name, freq, 1, None)
    return int(freq)


def is_number(value: Any) -> bool:
    """Whether `value` is a plain number, and no boolean."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def check_positive(name: str, value: Any) -> None:
    """Raises unless `value` is a finite number > 0."""
    if not is_number(value):
        raise TypeError(f"`{name}` must be a number > 0. Received: {name}={value!r} of {type(value)}")
    if not 0 < value < float("inf"):
        raise ValueError(f"`{name}` must be a finite number > 0. Received: {name}={value}")


def check_mode(mode: Any) -> Literal["merge", "replace"]:
    """`mode`, if it is one of the two words it may be."""
    if not isinstance(mode, str):
        raise TypeError(f"`mode` must be 'merge' or 'replace'. Received: mode={mode!r} of {type(mode)}")
    if mode not in ("merge", "replace"):
        raise ValueError(f"`mode` must be 'merge' or 'replace'. Received: mode={mode!r}")
    return cast(Literal["merge", "replace"], mode)


def check_expire_days(expire_days: Any) -> float | None:
    """`expire_days`, if it is `None` or a finite number >= 0."""
    if expire_days is None:
        return None
    if not is_number(expire_days):
        raise TypeError(
            f"`expire_days` must be a number >= 0. Received: expire_days={expire_days!r} of "
            f"{type(expire_days)}"
        )
    if not 0 <= expire_days < float("inf"):
        raise ValueError(f"`expire_days` must be a finite number >= 0. Received: expire_days={expire_days}")
    return float(expire_days)


def check_admission(min_count: Any, filter_capacity: Any, filter_fpr: Any) -> None:
    """Raises unless these may say when ids get rows; see `damo_tf.Embedding`."""
    check_int("min_count", min_count, 0, 16)
    check_int("filter_capacity", filter_capacity, 1, (1 << 32) + 1, optional=True)
    if filter_fpr is None:
        return
    check_positive("filter_fpr", filter_fpr)
    if not 1e-9 <= filter_fpr <= 0.5:
        raise ValueError(f"`filter_fpr` must be in [1e-09, 0.5]. Received: filter_fpr={filter_fpr}")


def check_padding_key(padding_key: Any) -> int | None:
    """`padding_key` in [0, 2**64), or `None`; a negative one stands for its bits."""
    return None if padding_key is None else check_key_of_padding(padding_key)


def check_key_of_padding(padding_key: Any) -> int:
    """`padding_key` in [0, 2**64), where there must be one; a negative one stands for its bits."""
    check_int("padding_key", padding_key, -(1 << 63), 1 << 64)
    return int(padding_key) % (1 << 64)


def check_field(field: Any) -> str:
    """`field`, if it names a field: a str that is not empty and has a form in UTF-8."""
    if not isinstance(field, str):
        raise TypeError(f"`field` must be a str. Received: field={field!r} of {type(field)}")
    if not field:
        raise ValueError("`field` must be the name of a field. Received: field=''")
    field.encode()
    return field


def check_padding_value(padding_value: Any) -> str | int | None:
    """`padding_value`, if it can be the value of a feature, or is `None`; bytes as the str they stand for."""
    if padding_value is None:
        return None
    if isinstance(padding_value, bytes):
        return padding_value.decode()  # only text can be in a config
    if isinstance(padding_value, str):
        padding_value.encode()
        return padding_value
    if isinstance(padding_value, bool) or not isinstance(padding_value, (int, np.integer)):
        raise TypeError(
            "`padding_value` must be str, bytes or int. "
            f"Received: padding_value={padding_value!r} of {type(padding_value)}"
        )
    check_int("padding_value", padding_value, -(1 << 63), 1 << 64)
    return int(padding_value)


def check_feature_dtype(name: str, dtype: str) -> None:
    """Raises unless `dtype`, TensorFlow's name of one, is of values that have one text each.

    Args:
        name: of the argument whose values they are, for the message.
        dtype: the name.
    """
    if dtype != "string" and not dtype.removeprefix("u").startswith("int"):
        raise TypeError(f"`{name}` must be strings or integers. Received dtype: {dtype}")


def check_missing(missing: Any) -> Literal["initial", "zeros"]:
    """`missing`, if it is one of the two words it may be."""
    if not isinstance(missing, str) or missing not in ("initial", "zeros"):
        raise ValueError(f"`missing` must be 'initial' or 'zeros'. Received: missing={missing!r}")
    return cast(Literal["initial", "zeros"], missing)


def check_group_ttl(ttl_seconds: Any) -> int | Literal["never"] | None:
    """`ttl_seconds` of a group, if it is an integer > 0, `"never"` or `None`."""
    if isinstance(ttl_seconds, str):
        if ttl_seconds != "never":
            raise ValueError(
                "`ttl_seconds` must be an integer > 0, 'never' or None. "
                f"Received: ttl_seconds={ttl_seconds!r}"
            )
        return "never"
    check_int("ttl_seconds", ttl_seconds, 1, 1 << 63, optional=True)
    return None if ttl_seconds is None else int(ttl_seconds)


def check_path(name: str, path: Any) -> str:
    """`path` as a str. Raises if it is not a path, or an empty one."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`{name}` must be a path. Received: {name}={path!r} of {type(path)}")
    text = os.fsdecode(cast("str | os.PathLike[str]", path))
    if not text:
        raise ValueError(f"`{name}` must be a path. Received: {name}={path!r}")
    if "\0" in text:
        raise ValueError(f"`{name}` must be a path without zero bytes. Received: {name}={text!r}")
    return text


def check_progress(progress: Any) -> Any:
    """`progress`. Raises unless it is callable or None."""
    if progress is not None and not callable(progress):
        raise TypeError(f"`progress` must be callable or None. Received: progress={progress!r}")
    return progress


def as_keys(keys: npt.ArrayLike, name: str = "keys") -> npt.NDArray[np.uint64]:
    """Integers of any shape as contiguous uint64; negative ones keep their bits.

    Args:
        keys: the integers.
        name: of the argument, for messages.
    """
    try:
        array = np.asarray(keys)
    except ValueError as error:  # lists of several lengths
        raise ValueError(f"`{name}` must be an array, or make one. Received: {keys!r}") from error
    if not isinstance(keys, (np.ndarray, np.generic)) and array.dtype.kind in "fO":
        # NumPy finds no integer type for an empty list, nor for keys above and below 2**63 together.
        array = _keys_of_python_integers(np.asarray(keys, object), name)
    if array.dtype.kind not in "iu":
        raise TypeError(f"`{name}` must be integers. Received dtype: {array.dtype}")
    return np.asarray(array, np.int64, order="C").view(np.uint64)


def _keys_of_python_integers(array: npt.NDArray[np.object_], name: str) -> npt.NDArray[np.uint64]:
    for key in array.flat:
        check_int(name, key, -(1 << 63), 1 << 64)
    bits: npt.NDArray[np.uint64] = (array % (1 << 64)).astype(np.uint64)
    return bits
