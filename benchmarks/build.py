# SPDX-License-Identifier: Apache-2.0
"""Where the C++ part of the benchmarks is built."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: `make bench-build` builds here; DAMO_BENCH_BUILD names another folder.
NATIVE = Path(os.environ.get("DAMO_BENCH_BUILD", ROOT / "build" / "benchmarks"))
