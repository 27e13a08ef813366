# SPDX-License-Identifier: Apache-2.0
"""Labelled examples of hashed categorical features, held in memory."""

from __future__ import annotations

import dataclasses

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
    """

    fields: tuple[Field, ...]
    ids: NDArray[np.uint64]
    labels: NDArray[np.float32]

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

    def _where(self, mask: NDArray[np.bool_]) -> Examples:
        return Examples(self.fields, self.ids[mask], self.labels[mask])
