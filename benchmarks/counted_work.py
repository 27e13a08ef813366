# SPDX-License-Identifier: Apache-2.0
"""The guard against regressions that needs no clock: fixed work, counted, against limits.

`make counted-work` builds `benchmarks/cc/counted_work.cc` and calls this. The program counts allocations,
reads and log bytes; callgrind counts the instructions of its lookups and apply calls. Each figure has a limit
in `counted_work.json`, some tenth above what was measured when it was set; a change that goes over one is
looked at, and the limit is raised only with a reason.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LIMITS = Path(__file__).with_name("counted_work.json")

#: Part of the work to the engine's function that does it.
FUNCTIONS = {
    "lookup": "damo::EmbeddingTable::Lookup(*",
    "apply": "damo::EmbeddingTable::ApplyGradients(*",
}


def count_calls(program: Path) -> dict[str, dict[str, float]]:
    """What the program itself counts, by part of the work."""
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    counts: dict[str, dict[str, float]] = json.loads(output)
    return counts


def count_instructions(program: Path, function: str, folder: Path) -> int:
    """Instructions executed inside one function and what it calls, under callgrind."""
    command = [
        "valgrind",
        "--tool=callgrind",
        f"--callgrind-out-file={folder / 'callgrind.out'}",
        "--collect-atstart=no",
        f"--toggle-collect={function}",
        str(program),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or collected is None:
        sys.exit(f"error: callgrind failed:\n{done.stderr}")
    return int(collected[1])


def measure(program: Path) -> dict[str, dict[str, float]]:
    """All figures by part of the work."""
    counts = count_calls(program)
    with tempfile.TemporaryDirectory() as folder:
        for part, function in FUNCTIONS.items():
            # The program does all of its work twice, once to warm up, and fills the table before.
            instructions = count_instructions(program, function, Path(folder))
            counts[part]["instructions_per_id"] = instructions / counts[part]["total_ids"]
    return counts


def over_limits(counts: dict[str, dict[str, float]], limits: dict[str, dict[str, float]]) -> list[str]:
    """Prints every figure beside its limit; returns those that are over."""
    over = []
    print(f"{'':32} {'counted':>12} {'limit':>12}")
    for part, part_limits in limits.items():
        for name, limit in part_limits.items():
            value = counts[part][name]
            print(f"{part + ' ' + name:32} {value:12.2f} {limit:12.2f}{'  OVER' if value > limit else ''}")
            if value > limit:
                over.append(f"{part} {name}: {value:.2f} > {limit:.2f}")
    return over


def main(arguments: Any = None) -> None:
    """Counts and compares; ends with status 1 if a figure is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("program", type=Path, help="the built counted_work")
    options = parser.parse_args(arguments)
    if shutil.which("valgrind") is None:
        sys.exit("error: valgrind is not there; as root: apt-get install valgrind")
    over = over_limits(measure(options.program), json.loads(LIMITS.read_text(encoding="utf-8")))
    if over:
        sys.exit("error: more work than allowed:\n  " + "\n  ".join(over))


if __name__ == "__main__":
    main()
