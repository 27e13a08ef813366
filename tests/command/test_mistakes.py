# SPDX-License-Identifier: Apache-2.0
"""What the `damo-tf` command says to typing errors: one line that names what was wrong and where to look."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import damo
import numpy as np
import pytest
from click.testing import CliRunner

from damo_tf.command import command


@pytest.fixture
def path(tmp_path) -> Path:
    """A closed store: group 0, dim 1, keys 0 to 9."""
    path = tmp_path / "store"
    with damo.PyStorage(path, memory_budget=8 << 20) as storage:
        storage.add_group(0, 1, {"name": "zeros"}, {"name": "sgd"})
        storage.apply_gradients(0, np.arange(10, dtype=np.uint64), np.ones(10, np.float32))
    return path


def message(*arguments: object, status: int) -> str:
    """The one line on stderr of a command that fails."""
    result = CliRunner().invoke(command, [*map(str, arguments)])
    assert (result.exit_code, result.stdout) == (status, "")
    (line,) = result.stderr.splitlines()
    return line.removeprefix("damo-tf: ")


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("row", ["zero", 1], "Invalid value for 'GROUP': 'zero' is not a valid integer"),
        ("row", [256, 1], "Invalid value for 'GROUP': 256 is not in the range 0<=x<=255"),
        ("row", [0, 1, "--jsn"], "No such option '--jsn'. Did you mean '--json'?"),
        ("row", ["--jsn=1", 0, -5], "No such option '--jsn'. Did you mean '--json'?"),
        ("top", ["--limit", "ten"], "Invalid value for '--limit': 'ten' is not a valid integer"),
        (
            "dump",
            ["f", "--expire-days", "soon"],
            "Invalid value for '--expire-days': 'soon' is not a valid number",
        ),
        ("dump", ["f", "--expire-days", "nan"], "Invalid value for '--expire-days': 'nan' is not finite"),
        ("info", ["--noscan"], "No such option '--noscan'. Did you mean '--no-scan'?"),
        ("convert", ["new", 0], "at least one of --dim and --optimizer must be given"),
    ],
)
def test_typing_errors_are_named_and_lead_to_the_help(path, name, arguments, expected):
    assert message(name, path, *arguments, status=2) == f"{expected} (see 'damo-tf {name} --help')"


@pytest.mark.parametrize("arguments", [["inof"], ["--inof"]])
def test_mistyped_command_leads_to_the_list_of_them(arguments):
    assert message(*arguments, status=2).endswith("(see 'damo-tf --help')")


@pytest.mark.parametrize(
    "arguments",
    [
        ["dump", ""],
        ["load", ""],
        ["checkpoint", ""],
        ["checkpoint", "new", "--since", ""],
        ["restore", ""],
        ["delete", 0, ""],
        ["convert", "", 0, "--dim", 2],
    ],
)
def test_empty_path_of_a_variable_that_is_not_set_is_named(path, arguments):
    name, *rest = arguments
    assert "it must be a path. Received: ''" in message(name, path, *rest, status=2)


def test_keys_may_be_negative_and_follow_two_dashes(path):
    for arguments in ([0, -5], [0, "--", -5], ["--", 0, -5]):
        assert "has no row of key 18446744073709551611" in message("row", path, *arguments, status=1)


def test_file_that_has_no_keys_is_named_and_not_printed_whole(path, tmp_path):
    file = tmp_path / "rows.dump"
    with damo.PyStorage(path) as storage:
        storage.dump(str(file))

    said = message("delete", path, 0, file, status=1)

    assert said.startswith(f"{file}, line 1: a key must be an integer in")
    assert len(said) < 600


def test_file_that_is_not_there_is_named_without_the_number_of_the_error(path, tmp_path):
    assert message("delete", path, 0, tmp_path / "absent", status=1) == (
        f"{tmp_path / 'absent'}: No such file or directory"
    )


def test_who_types_keys_on_a_terminal_is_asked_for_them(path):
    terminal, device = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-m", "damo_tf", "delete", str(path), "0"],
        env=environment,
        stdin=device,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(device)
        asked = process.stderr.readline()
        os.write(terminal, b"3\n4\n\x04")
        printed = process.stdout.read()
    os.close(terminal)

    assert asked == "damo-tf: type keys, one a line, and Ctrl-D after the last\n"
    assert printed.split() == ["keys", "given:", "2", "rows", "deleted:", "2"]
