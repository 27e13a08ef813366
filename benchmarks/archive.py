# SPDX-License-Identifier: Apache-2.0
"""Keeps what workloads found, one JSON file each: a run of some leaves the figures of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cattrs.preconf.json import make_converter

from benchmarks.results import Section

_CONVERTER = make_converter()


@dataclass(frozen=True)
class Record:
    """One workload of one run.

    Attributes:
        workload: its name.
        command: what was typed.
        about: machine, versions, commit and date, by name.
        sections: what was found.
    """

    workload: str
    command: str
    about: dict[str, str]
    sections: list[Section]


def keep(folder: Path, record: Record) -> None:
    """Puts a record in the place of the workload's last one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{record.workload}.json").write_text(_CONVERTER.dumps(record, indent=1) + "\n")


def kept(folder: Path, workloads: Sequence[str]) -> list[Record]:
    """The records of those workloads that have one, in the order given."""
    files = [folder / f"{workload}.json" for workload in workloads]
    return [_CONVERTER.loads(file.read_text(), Record) for file in files if file.exists()]
