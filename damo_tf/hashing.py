# SPDX-License-Identifier: Apache-2.0
"""Keys of features in plain Python, for code that serves: neither TensorFlow nor Keras is imported."""

from typing import Any, overload

import numpy as np
import numpy.typing as npt

from damo_tf._arguments import check_field, check_key_of_padding, check_padding_value


@overload
def feature_hash(
    field: str,
    value: str | bytes | int | np.integer[Any],
    *,
    padding_value: str | bytes | int | None = None,
    padding_key: int = 0,
) -> int: ...


@overload
def feature_hash(
    field: str,
    value: list[Any] | tuple[Any, ...] | npt.NDArray[Any],
    *,
    padding_value: str | bytes | int | None = None,
    padding_key: int = 0,
) -> npt.NDArray[np.uint64]: ...


def feature_hash(
    field: str,
    value: Any,
    *,
    padding_value: str | bytes | int | None = None,
    padding_key: int = 0,
) -> int | npt.NDArray[np.uint64]:
    """The 64-bit key of the feature "`field` is `value`".

    It is the id that `damo_tf.FeatureHash` gives, and never changes. docs/feature_hash.md says what is
    hashed, and how often two features share a key: some pair among a hundred million does with a
    probability of 1 in 3,690.

    Example:

    >>> damo_tf.feature_hash("user", "ann")
    6798141962548268224
    >>> damo_tf.feature_hash("user", 7) == damo_tf.feature_hash("user", "7")
    True
    >>> damo_tf.feature_hash("user", ["ann", ""], padding_value="")
    array([6798141962548268224,                   0], dtype=uint64)

    Args:
        field: str, not empty. Other fields have other keys for the same values.
        value: str (hashed in UTF-8), bytes, or int in [-2**63, 2**64) (hashed as its decimal text); or an
            array of any shape, or a nested list, of such.
        padding_value: str, bytes (UTF-8) or int that stands for no feature: its key is `padding_key`, which
            no other value gets. Default `None`: every value is an ordinary one.
        padding_key: int; a negative one stands for its bits. Default 0. Not used without `padding_value`.

    Returns:
        An int in [0, 2**64); of an array or list a uint64 array of its shape.

    Raises:
        TypeError: a value that is neither text nor integer: floats are never rounded.
        ValueError: an argument that breaks its rule, or a str that UTF-8 cannot encode.
    """
    import damo  # here, so that damo_tf can be imported where the engine cannot be loaded

    check_field(field)
    padding: dict[str, Any] = {
        "padding_value": check_padding_value(padding_value),
        "padding_key": check_key_of_padding(padding_key),
    }
    if isinstance(value, (str, bytes, int, np.integer)):
        plain = int(value) if isinstance(value, np.integer) else value
        return damo.feature_hash(field, plain, **padding)
    values = _as_array(value)
    if values.dtype.kind in "iu":
        flat: Any = values.astype(np.uint64 if values.dtype.kind == "u" else np.int64).ravel()
    elif values.dtype.kind in "SUTO":
        flat = values.ravel().tolist()
    else:
        raise TypeError(f"`value` must be text or integers. Received dtype: {values.dtype}")
    keys: npt.NDArray[np.uint64] = damo.feature_hash(field, flat, **padding)
    return keys.reshape(values.shape)


def _as_array(value: Any) -> npt.NDArray[Any]:
    """An array of the values; of a list without a type of its own, of objects: NumPy would convert some."""
    if hasattr(value, "dtype"):
        return np.asarray(value)
    return np.asarray(value, dtype=object)
