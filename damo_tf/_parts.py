# SPDX-License-Identifier: Apache-2.0
"""How many rows are in memory at a time where a table is gone through in parts."""

import damo

#: Of rows with their slots. What is done with a part takes a few times as much.
PART_BYTES = 8 << 20
_KEY_AND_COUNTERS_BYTES = 24


def rows_per_part(storage: damo.PyStorage, group: int) -> int:
    """How many rows of a group take `PART_BYTES` in memory; at least one.

    Raises:
        KeyError: there is no such group.
    """
    config = storage.group_config(group)
    num_vectors = 1 + len(damo.PyOptimizer(config["optimizer"]).slot_names)
    row_bytes: int = _KEY_AND_COUNTERS_BYTES + 4 * config["dim"] * num_vectors
    return max(PART_BYTES // row_bytes, 1)
