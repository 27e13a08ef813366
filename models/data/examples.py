# SPDX-License-Identifier: Apache-2.0
"""Labelled examples of hashed categorical features, held in memory."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError

# Fills the unused slots of a multi-hot field. A feature hashes to it with probability 2**-64.
PADDING = 0


@dataclasses.dataclass(frozen=True)
class Field:
    """A categorical field of an example; `slots` is how many values it takes at most."""

    name: str
    slots: int = 1


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples of one data set.

    Attributes:
        fields: the fields, in the order of their slots.
        ids: uint64 `[examples, slots of all fields]`, feature hashes; `PADDING` in unused slots.
        labels: float32 `[examples]`, 0 or 1.
        numbers: float32 `[examples, numbers]`, quantities; `None` where all features are categorical.
    """

    fields: tuple[Field, ...]
    ids: NDArray[np.uint64]
    labels: NDArray[np.float32]
    numbers: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, *, validation: float, seed: int) -> tuple[Examples, Examples]:
        """Deals the examples at random into a training and a validation part.

        Each label is split in the same proportion and lands in both parts, as the AUC needs.

        Args:
            validation: share of the validation part, in (0, 1).
            seed: of the random choice; the same examples and seed give the same parts.

        Raises:
            DataError: there are fewer than two examples of a label.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        chosen = np.zeros(len(self), dtype=bool)
        for label in (0, 1):
            rows = order[self.labels[order] == label]
            if len(rows) < 2:
                raise DataError(
                    f"the data must hold 2 examples or more of each label. "
                    f"Found: {len(rows)} of {label} in {len(self)} examples"
                )
            chosen[rows[: max(1, round(len(rows) * validation))]] = True
        return self._where(~chosen), self._where(chosen)

    def split_latest(self, field: str, *, validation: float) -> tuple[Examples, Examples]:
        """Splits off the last examples of each value of `field`, which has one slot.

        Args:
            field: its name, such as "user".
            validation: share of a value's examples in the validation part, rounded, in (0, 1).

        Raises:
            DataError: no value has enough examples for one to be split off.
        """
        values = self.ids[:, field_slots(self.fields)[field].start]
        _, value_of, counts = np.unique(values, return_inverse=True, return_counts=True)
        order = np.argsort(value_of, kind="stable")
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        rank = np.empty(len(self), dtype=np.int64)  # of an example among those of its value
        rank[order] = np.arange(len(self)) - np.repeat(first, counts)
        kept = counts - np.round(counts * validation).astype(np.int64)
        chosen = rank >= kept[value_of]
        if not chosen.any():
            raise DataError(
                f"the data must hold {round(0.5 / validation) + 1} examples or more of a {field}. "
                f"Found: at most {counts.max(initial=0)}"
            )
        return self._where(~chosen), self._where(chosen)

    def _where(self, mask: NDArray[np.bool_]) -> Examples:
        numbers = None if self.numbers is None else self.numbers[mask]
        return Examples(self.fields, self.ids[mask], self.labels[mask], numbers)


def field_slots(fields: Sequence[Field]) -> dict[str, range]:
    """The slots of each field, by its name."""
    ends = itertools.accumulate(field.slots for field in fields)
    return {field.name: range(end - field.slots, end) for field, end in zip(fields, ends, strict=True)}
