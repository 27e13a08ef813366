# SPDX-License-Identifier: Apache-2.0
"""From a field and a value to the 64-bit id under which a store keeps the feature's row."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable


def feature_hash(field: str, value: bytes) -> int:
    """The id, in [0, 2**64), of the feature "`field` is `value`".

    It is the 8-byte BLAKE2b (RFC 7693) of the value, keyed with the field's name in UTF-8 (at
    most 64 bytes), read as a little-endian integer. Rows live in stores under these ids: never
    change it. Two of a hundred million features share an id with a probability of 1 in 3,700.
    """
    digest = hashlib.blake2b(value, digest_size=8, key=field.encode()).digest()
    return int.from_bytes(digest, "little")


def field_hasher(field: str) -> Callable[[bytes], int]:
    """`feature_hash` of one field. It remembers recent values: they repeat a great deal."""
    return functools.lru_cache(maxsize=1 << 18)(functools.partial(feature_hash, field))
