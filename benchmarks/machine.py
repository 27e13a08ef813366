# SPDX-License-Identifier: Apache-2.0
"""What a run ran on: a number without it says nothing."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import damo

from benchmarks.build import ROOT

ENGINE = Path(damo.__file__).with_name("libdamo_core.so")
PACKAGES = ("tensorflow-cpu", "tensorflow", "keras", "numpy")


def describe() -> dict[str, str]:
    """Machine and what else goes on there, the engine's build, versions, commit and date, by name."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "CPU": f"{_field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB",
        "load at the start": f"{os.getloadavg()[0]:.2f}",
        "kernel": platform.release(),
        "damo_tf build": damo.build_id,
        "vector code": damo.simd_level,
        "compiler": _compiler(),
        "librocksdb": _rocksdb(),
        "Python": platform.python_version(),
        **_versions(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    """The commit, "-dirty" if files differ from it; earlier results, which a run replaces, do not count."""
    git = ("git", "-C", str(ROOT))
    commit = _output(*git, "rev-parse", "--short=12", "HEAD") or "unknown"
    changed = _output(
        *git, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results"
    )
    return f"{commit}-dirty" if changed else commit


def _compiler() -> str:
    """What the engine's object files say they were compiled by."""
    notes = _output("readelf", "--string-dump=.comment", str(ENGINE))
    return ", ".join(re.findall(r"^ *\[ *\w+\] +(\S.*?) *$", notes, re.MULTILINE)) or "unknown"


def _rocksdb() -> str:
    """The version of the RocksDB that the engine has loaded into this process, by its file's name."""
    found = re.search(
        r"/librocksdb[^/]*\.so\.([\d.]+)$", Path("/proc/self/maps").read_text(encoding="utf-8"), re.MULTILINE
    )
    return found[1] if found else "unknown"


def _output(*command: str) -> str:
    """What a command prints, or nothing where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _field(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0 unknown"
