# SPDX-License-Identifier: Apache-2.0
"""`make bench`: damo_tf beside what this environment offers."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import Options, Run, Workload, parser
from benchmarks.launcher import ProcessLauncher
from benchmarks.workloads import (
    combiner,
    costs,
    deepfm,
    engine,
    hot,
    larger_than_memory,
    new_ids,
    table_size,
    tools,
)

WORKLOADS: dict[str, Workload] = {
    "engine": engine.measure,
    "hot": hot.measure,
    "larger_than_memory": larger_than_memory.measure,
    "new_ids": new_ids.measure,
    "combiner": combiner.measure,
    "deepfm": deepfm.measure,
    "table_size": table_size.measure,
    "costs": costs.measure,
    "tools": tools.measure,
}
CONTENDERS = frozenset({"damo_layer", "plain_rocksdb", "tf_variable", "keras_embedding", "deepfm", "engine"})


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    options = parser(str(__doc__), list(WORKLOADS)).parse_args(arguments, Options())
    run = Run("bench", "damo_tf beside its rivals", WORKLOADS, CONTENDERS, {})
    with tempfile.TemporaryDirectory(prefix="bench-logs-") as logs, ProcessLauncher(Path(logs)) as launch:
        run(options, launch)


if __name__ == "__main__":
    main()
