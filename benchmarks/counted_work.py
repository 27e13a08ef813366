# SPDX-License-Identifier: Apache-2.0
"""The guard against regressions that needs no clock: fixed work, counted, against limits.

`make counted-work` builds `benchmarks/cc/counted_work.cc` and calls this. The program counts allocations,
reads, writes, log bytes and the blocks that calls are split into; valgrind counts the instructions of its
lookups and apply calls, their writes to memory and the bytes they copy. Of the index of rows it counts the
lines that one search looks at; how often a call searches it shows in the call's instructions only.
`counted_work.json` has a limit for each figure, and what was measured when it was set: a change that goes
over one is looked at, and the limit is raised only with a reason. Where less would be a loss, as of work
that is split over threads, there is an `at_least` too.

Rows "on disk" are in a storage that is a map in memory: the calls that read are the engine's work, what
RocksDB does in them is not. Only `filter` reads RocksDB's files: for new keys the bloom filters let hardly
any block be read.
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

#: Function of the program whose calls are the work, and the one that ends a part of it.
STEP, END_OF_PART = "damo::CountedStep(*", "damo::EndCountedPart(*"

Figures = dict[str, dict[str, float]]
Limits = dict[str, dict[str, dict[str, float]]]


def run(*command: str | Path) -> str:
    """What a command prints; ends the process if it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout


def count_calls(program: Path) -> Figures:
    """What the program itself counts, by part of the work."""
    figures: Figures = json.loads(run(program))
    return figures


def count_instructions(program: Path, parts: list[str], folder: Path) -> list[tuple[int, int]]:
    """Instructions and writes to memory of the steps of each part, in the order of `parts`."""
    dump = folder / "callgrind.out"
    run(
        "valgrind",
        "--tool=callgrind",
        f"--callgrind-out-file={dump}",
        "--cache-sim=yes",  # for the writes
        "--collect-atstart=no",
        f"--toggle-collect={STEP}",
        f"--dump-after={END_OF_PART}",
        program,
        *parts,
    )
    totals = []
    for number in range(2, 2 * len(parts) + 1, 2):  # between them are those of steps that only warm up
        header = Path(f"{dump}.{number}").read_text(encoding="utf-8", errors="replace")
        events = re.search(r"^events: (.*)$", header, re.M)
        counts = re.search(r"^(?:totals|summary): (.*)$", header, re.M)
        assert events is not None
        assert counts is not None
        by_event = dict(zip(events[1].split(), map(int, counts[1].split()), strict=False))
        totals.append((by_event["Ir"], by_event["Dw"]))
    return totals


def count_copied_bytes(program: Path, part: str, folder: Path) -> int:
    """Bytes that the steps of a part copy by memcpy and its kin; what is compiled into moves is not seen."""
    profile = folder / "dhat.out"
    run(
        "valgrind",
        "--tool=dhat",
        "--mode=copy",
        "--num-callers=30",
        f"--dhat-out-file={profile}",
        program,
        part,
    )
    report = json.loads(profile.read_text(encoding="utf-8"))
    in_step = {number for number, frame in enumerate(report["ftbl"]) if STEP.rstrip("*") in frame}
    return sum(point["tb"] for point in report["pps"] if in_step.intersection(point["fs"]))


def measure(program: Path, limits: Limits) -> Figures:
    """All figures that have a limit, by part of the work."""
    figures = count_calls(program)
    with tempfile.TemporaryDirectory() as folder:
        parts = [part for part in figures if "instructions_per_id" in limits.get(part, {})]
        totals = count_instructions(program, parts, Path(folder))
        for part, (instructions, writes) in zip(parts, totals, strict=True):
            figures[part]["instructions_per_id"] = instructions / figures[part]["ids"]
            figures[part]["memory_writes_per_id"] = writes / figures[part]["ids"]
        for part in limits:
            if "copied_bytes_per_id" in limits[part]:
                # All of its steps are seen: those that warm up, too.
                copied = count_copied_bytes(program, part, Path(folder))
                figures[part]["copied_bytes_per_id"] = copied / (figures[part]["ids"] * 5 / 4)
    return figures


def beyond_limits(figures: Figures, limits: Limits) -> list[str]:
    """Prints every figure beside its limit; returns those that are over, or below what they are to be."""
    beyond = []
    print(f"{'':54} {'counted':>12} {'limit':>12} {'once was':>12}")
    for part, part_limits in limits.items():
        for name, bounds in part_limits.items():
            value, limit = figures[part][name], bounds["limit"]
            at_least = bounds.get("at_least", 0)
            line = f"{part + ' ' + name:54} {value:12.4g} {limit:12.4g} {bounds['measured']:12.4g}"
            print(line + ("  OVER" if value > limit else "  BELOW" if value < at_least else ""))
            if value > limit:
                beyond.append(f"{part} {name}: {value:.4g} > {limit:.4g}")
            if value < at_least:
                beyond.append(f"{part} {name}: {value:.4g} < {at_least:.4g}")
    return beyond


def main(arguments: Any = None) -> None:
    """Counts and compares; ends with status 1 if a figure is beyond its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("program", type=Path, help="the built counted_work")
    options = parser.parse_args(arguments)
    if shutil.which("valgrind") is None:
        sys.exit("error: valgrind is not there; as root: apt-get install valgrind")
    limits: Limits = json.loads(LIMITS.read_text(encoding="utf-8"))
    beyond = beyond_limits(measure(options.program, limits), limits)
    if beyond:
        sys.exit("error: other work than allowed:\n  " + "\n  ".join(beyond))


if __name__ == "__main__":
    main()
