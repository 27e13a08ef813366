# SPDX-License-Identifier: Apache-2.0
"""The process of one contender: takes commands, one JSON object a line, and answers each with one.

Started by `benchmarks.launcher` as `python -m benchmarks.worker CONTENDER SETTINGS`. Runs under any
contender's Python; so it needs NumPy only.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any, TextIO

import numpy as np

from benchmarks.compactions import wait_for_compactions
from benchmarks.contenders import Settings


class Session:
    """A contender at work.

    Args:
        name: its module in `benchmarks.contenders`.
        settings: what it starts with.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        module = importlib.import_module(f"benchmarks.contenders.{name}")
        self._loaded_bytes = resident_bytes()["VmRSS"]
        started = time.perf_counter()
        self._contender: Any = module.make(settings)  # a Contender, or a Reader with tools
        self._open_seconds = time.perf_counter() - started

    def handle(self, command: str, **arguments: Any) -> dict[str, float]:
        """Obeys one command: "prefill", "run", "tool", "settle", "figures" or "close"."""
        result: dict[str, float] = getattr(self, f"_{command}")(**arguments)
        return result

    def _prefill(self, first: int, last: int) -> dict[str, float]:
        started = time.perf_counter()
        self._contender.prefill(first, last)
        return {"seconds": time.perf_counter() - started}

    def _run(self, path: str, first: int, count: int) -> dict[str, float]:
        batches = np.array(np.load(path, mmap_mode="r")[first : first + count])
        prepared = self._contender.prepare(batches)
        started = time.perf_counter()
        self._contender.run(prepared)
        return {"seconds": time.perf_counter() - started}

    def _tool(self, name: str) -> dict[str, float]:
        forget_peak()
        started = time.perf_counter()
        rows = self._contender.tool(name)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "rows": rows, "peak_bytes": resident_bytes()["VmHWM"]}

    def _settle(self) -> dict[str, float]:
        started = time.perf_counter()
        self._contender.settle()
        wait_for_compactions()
        return {"seconds": time.perf_counter() - started}

    def _figures(self) -> dict[str, float]:
        own = {
            "open_seconds": self._open_seconds,
            "loaded_bytes": self._loaded_bytes,
            **resident_bytes(),
            **io_bytes(),
        }
        return {**self._contender.figures(), **own}

    def _close(self) -> dict[str, float]:
        self._contender.close()
        return {}


def resident_bytes() -> dict[str, float]:
    """Memory of this process now (`VmRSS`) and at its peak (`VmHWM`)."""
    with open("/proc/self/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return {name: int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}


def forget_peak() -> None:
    """Lets `VmHWM` start again from the memory of now."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # proc(5)


def io_bytes() -> dict[str, float]:
    """Bytes this process has sent towards the disk (`write_bytes`) and into files and pipes (`wchar`)."""
    with open("/proc/self/io", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return {name: int(lines[name]) for name in ("write_bytes", "wchar")}


def serve(session: Session, commands: TextIO, answers: TextIO) -> None:
    """Answers commands until they end or "close" came."""
    for line in commands:
        command = json.loads(line)
        name = command.pop("command")
        print(json.dumps(session.handle(name, **command)), file=answers, flush=True)
        if name == "close":
            return


def main() -> None:
    """Opens the contender and serves it."""
    # What libraries print goes to the log with stderr: stdout is for answers alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, settings = sys.argv[1:]
    session = Session(name, Settings(**json.loads(settings)))
    print("{}", file=answers, flush=True)
    serve(session, sys.stdin, answers)


if __name__ == "__main__":
    main()
