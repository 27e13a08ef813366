# SPDX-License-Identifier: Apache-2.0
"""`make bench-peers`: damo_tf beside tensorflow-recommenders-addons and damo-embedding.

Each peer has a virtual environment of its own below build/peers, made from requirements/peer-*.txt.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.build import ROOT
from benchmarks.command import Options, Run, Workload, parser
from benchmarks.launcher import ProcessLauncher
from benchmarks.workloads import hot, larger_than_memory, new_ids

PEERS = ROOT / "build" / "peers"
#: Environment to the contenders that run in it.
ENVIRONMENTS = {"tfra": ("tfra", "tfra_layer"), "damo-embedding": ("damo_embedding_torch",)}
#: Packages whose versions are told.
PACKAGES = {
    "tfra": ("tensorflow-recommenders-addons", "tensorflow", "tf-keras"),
    "damo-embedding": ("damo-embedding", "torch"),
}
WORKLOADS: dict[str, Workload] = {
    "hot": hot.measure,
    "larger_than_memory": larger_than_memory.measure,
    "new_ids": new_ids.measure,
}


def interpreters() -> dict[str, Path]:
    """Contender to its Python, of the peers that are installed; says which are not."""
    found = {}
    for environment, contenders in ENVIRONMENTS.items():
        python = PEERS / environment / "bin" / "python"
        if python.exists():
            found.update(dict.fromkeys(contenders, python))
        else:
            print(f"{environment} is not installed: {python} is missing; it is left out", file=sys.stderr)
    return found


def versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Versions of packages in another environment."""
    program = "import sys, importlib.metadata as m\nfor p in sys.argv[1:]: print(m.version(p))"
    printed = subprocess.run(
        [str(python), "-c", program, *packages], check=True, capture_output=True, text=True
    ).stdout
    return dict(zip(packages, printed.split(), strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    options = parser(str(__doc__), list(WORKLOADS)).parse_args(arguments, Options())
    pythons = interpreters()
    told: dict[str, str] = {}
    for environment, contenders in ENVIRONMENTS.items():
        if contenders[0] in pythons:
            found = versions(pythons[contenders[0]], PACKAGES[environment])
            told |= {f"{environment}: {package}": version for package, version in found.items()}
    run = Run("peers", "damo_tf beside its peers", WORKLOADS, frozenset({"damo_layer", *pythons}), told)
    with (
        tempfile.TemporaryDirectory(prefix="bench-logs-") as logs,
        ProcessLauncher(Path(logs), pythons) as launch,
    ):
        run(options, launch)


if __name__ == "__main__":
    main()
