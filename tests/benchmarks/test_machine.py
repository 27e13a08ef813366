# SPDX-License-Identifier: Apache-2.0
"""What a page of benchmarks says about the machine, the build and the versions behind its numbers."""

import re

import damo

from benchmarks import machine


def test_a_run_names_whatever_its_numbers_depend_on():
    about = machine.describe()

    expected = {
        "date": r"\d{4}-\d\d-\d\d \d\d:\d\d UTC",
        "commit": r"[0-9a-f]{12}(-dirty)?|unknown",
        "CPU": r".+, \d+ cores",
        "memory": r"\d+ GiB",
        "load at the start": r"\d+\.\d\d",
        "kernel": r"\d+\.\d+.*",
        "damo_tf build": damo.build_id,
        "vector code": "baseline|avx2|avx512",
        "compiler": r".*(GCC|clang).* \d+\.\d+.*",
        "librocksdb": r"\d+\.\d+\.\d+",
        "Python": r"3\.\d+\.\d+",
        "keras": r"3\.\d+\.\d+",
        "numpy": r"2\.\d+\.\d+",
    }
    assert set(about) - {"tensorflow", "tensorflow-cpu"} == set(expected)
    for name, pattern in expected.items():
        assert re.fullmatch(pattern, about[name]), (name, about[name])
