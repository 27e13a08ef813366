# SPDX-License-Identifier: Apache-2.0
"""Starts contenders, each in a process of its own, and talks to them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Protocol

from benchmarks.build import ROOT
from benchmarks.contenders import Settings
from benchmarks.ids import IdFile


class WorkerError(RuntimeError):
    """A contender's process has ended before its time."""


class Worker(Protocol):
    """A contender that obeys `benchmarks.worker.Session`'s commands."""

    def call(self, command: str, **arguments: object) -> dict[str, float]:
        """Sends a command and waits for its answer."""

    def kill(self) -> None:
        """Ends the process without warning."""


class Launch(Protocol):
    """Starts a contender; its name is that of a module in `benchmarks.contenders`.

    Several may start at the same time: it is the first call that waits.
    """

    def __call__(self, contender: str, settings: Settings, *, threads: int | None = None) -> Worker:
        """`threads`: how many each of TensorFlow's pools may have; `None`: as many as it likes."""


class ProcessWorker:
    """A worker behind two pipes.

    Args:
        command: argv of its process.
        environment: of its process.
        log: file that takes what it prints.
    """

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=ROOT,
                env=environment,
                text=True,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._commands: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout
        self._ready = False

    def call(self, command: str, **arguments: object) -> dict[str, float]:
        """Sends a command and waits for its answer."""
        if not self._ready:
            self._read_answer()
            self._ready = True
        print(json.dumps({"command": command, **arguments}), file=self._commands, flush=True)
        answer = self._read_answer()
        if command == "close":
            self._process.wait()
        return answer

    def kill(self) -> None:
        """Ends the process with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def _read_answer(self) -> dict[str, float]:
        line = self._answers.readline()
        if not line:
            self._process.wait()
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
            raise WorkerError(f"{self._process.args!r} ended with {self._process.returncode}:\n{tail}")
        answer: dict[str, float] = json.loads(line)
        return answer


class ProcessLauncher:
    """Launches workers and ends those that are left.

    Args:
        logs: folder for what they print.
        interpreters: contender to the Python that runs it, where it is not this one. Such a Python sees
            only its own packages and this repository.
    """

    def __init__(self, logs: Path, interpreters: dict[str, Path] | None = None) -> None:
        self._logs = logs
        self._interpreters = interpreters or {}
        self._workers: list[ProcessWorker] = []

    def __call__(self, contender: str, settings: Settings, *, threads: int | None = None) -> ProcessWorker:
        """Starts a contender."""
        path = [str(ROOT)] if contender in self._interpreters else [str(ROOT), *filter(None, sys.path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        if threads is not None:
            environment["TF_NUM_INTRAOP_THREADS"] = environment["TF_NUM_INTEROP_THREADS"] = str(threads)
        python = str(self._interpreters.get(contender, sys.executable))
        worker = ProcessWorker(
            [python, "-m", "benchmarks.worker", contender, json.dumps(dataclasses.asdict(settings))],
            environment,
            self._logs / f"{len(self._workers):03}-{contender}.log",
        )
        self._workers.append(worker)
        return worker

    def __enter__(self) -> ProcessLauncher:
        return self

    def __exit__(self, *unused: object) -> None:
        for worker in self._workers:
            worker.kill()


def run(worker: Worker, ids: IdFile, first: int, count: int) -> float:
    """Lets a contender take steps; returns the seconds they took."""
    return worker.call("run", path=str(ids.path), first=first, count=count)["seconds"]
