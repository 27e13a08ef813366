# SPDX-License-Identifier: Apache-2.0
"""How `damo-tf` ends: errors, signals, stores that are open elsewhere; and what it shows on a terminal."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from commands import ENVIRONMENT, TIMEOUT_SECONDS, failure, open_elsewhere, opened, run, run_json, start

from damo_tf.command import command

# ---- errors ----


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "--no-such-option"),
        ("top", "--limit", "0"),
        ("row", "256", "1"),
        ("row", "0", "key"),
        ("dump",),
        ("load", "file", "--mode", "other"),
        ("convert", "target", "0"),
        ("info", "--memory-budget", "1"),
        ("expire", "--ttl-seconds", "0"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(path, arguments):
    failure(arguments[0], path, *arguments[1:], status=2)


@pytest.mark.parametrize("name", list(command.commands))
def test_empty_path_is_not_the_working_directory(name):
    assert "it must be a path. Received: ''" in failure(name, "", status=2)


def test_unknown_command_is_a_usage_error():
    assert "No such command 'nothing'" in failure("nothing", status=2)


@pytest.mark.parametrize("name", list(command.commands))
def test_every_command_has_help_and_refuses_a_store_that_is_not_there(tmp_path, name):
    assert "Usage: damo-tf" in run(name, "--help").stdout
    rest = {"row": [0, 1], "dump": [tmp_path / "f"], "load": [tmp_path / "f"], "delete": [0]}
    rest |= {"checkpoint": [tmp_path / "c"], "restore": [tmp_path / "c"]}
    rest |= {"convert": [tmp_path / "c", 0, "--dim", 3]}

    assert str(tmp_path) in failure(name, tmp_path / "absent", *rest.get(name, []), stdin=b"")
    assert not (tmp_path / "absent").exists()


# ---- other processes and signals ----


def test_readers_work_beside_a_trainer_and_writers_are_refused(path, tmp_path):
    file = tmp_path / "rows.dump"
    run("dump", path, file)
    with open_elsewhere(path):
        for arguments in (["info"], ["verify"], ["top"]):
            run(arguments[0], path, *arguments[1:])
        assert run_json("row", path, 0, 3)["update_num"] == 3
        assert run_json("dump", path, tmp_path / "again.dump")["rows"] == 7
        for name, *rest in (
            ["load", file],
            ["checkpoint", tmp_path / "checkpoint"],
            ["expire"],
            ["delete", 0],
            ["convert", tmp_path / "converted", 0, "--dim", 1],
            ["compact"],
        ):
            message = failure(name, path, *rest, stdin=b"1")
            assert "another process has it open for writing" in message
    assert file.read_bytes() == (tmp_path / "again.dump").read_bytes()


def test_closed_stdin_is_a_failure(path):
    with start("delete", path, 0, stderr=subprocess.PIPE, preexec_fn=lambda: os.close(0)) as process:
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)

    assert process.returncode == 1
    assert errors == b"damo-tf: read keys from stdin: it is closed\n"


def test_reader_that_goes_away_ends_the_command_quietly(path):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with start("info", path, stdout=write_end, stderr=subprocess.PIPE) as process:
        os.close(write_end)
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)

    assert (process.returncode, errors) == (1, b"")


def test_ctrl_c_while_keys_are_read_deletes_nothing(path):
    with start("delete", path, 0, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(b"1\n" * (1 << 18))  # more than a pipe holds: when it is written it is being read
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)

    assert (process.returncode, errors) == (130, b"damo-tf: interrupted\n")
    with opened(path) as storage:
        assert storage.size() == 7


WAITING_CALL = """
import threading
from damo_tf.command.output import Output

def call(advance):
    print("in the call", flush=True)
    threading.Event().wait()

import sys
sys.argv[0] = "damo-tf"
Output(as_json=False).wait_for("waiting", call)
"""


def test_ctrl_c_ends_a_call_of_the_engine_that_looks_for_no_signals():
    with subprocess.Popen(
        [sys.executable, "-c", WAITING_CALL], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"in the call\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)

    assert process.returncode == 130
    assert errors.splitlines()[-1] == b"damo-tf: interrupted"


# ---- terminals ----


def on_a_terminal(*arguments: object) -> str:
    """What a command that succeeds prints on a terminal."""
    terminal, device = pty.openpty()
    with start(*arguments, stdout=device, stderr=device, stdin=subprocess.DEVNULL) as process:
        os.close(device)
        printed = b""
        with suppress(OSError):  # EIO: the other end is closed
            while part := os.read(terminal, 1 << 16):
                printed += part
    os.close(terminal)

    assert process.returncode == 0
    return printed.decode()


def test_on_a_terminal_there_are_tables_and_a_bar(path):
    printed = on_a_terminal("info", path)

    assert "┏" in printed
    assert re.search(r"reading rows .* 7 ", printed)
    assert printed.rindex("\x1b[?25h") > printed.rindex("\x1b[?25l")  # the cursor is there again


def bar_on_a_terminal(what: str, *arguments: object) -> str:
    """The last state of a command's bar for `what`."""
    printed = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", on_a_terminal(*arguments))
    return [line for line in re.split(r"[\r\n]+", printed) if line.startswith(what)][-1]


def test_bars_of_compact_and_checkpoint_tell_how_many_bytes_are_done(path, tmp_path):
    for what, *arguments in (("compact", path), ("checkpoint", path, tmp_path / "c")):
        bar = bar_on_a_terminal("writing files", what, *arguments)
        done = re.fullmatch(r"writing files ━+ ([\d.]+)/([\d.]+) (bytes|kB) \d+:\d\d:\d\d\s*", bar)
        assert done, bar
        assert done[1] == done[2] != "0"


def test_bars_of_what_goes_through_rows_tell_how_many_are_done(path, tmp_path):
    run("checkpoint", path, tmp_path / "c")
    for what, *arguments in (
        ("comparing rows", "checkpoint", path, tmp_path / "d", "--since", tmp_path / "c"),
        ("writing rows", "dump", path, tmp_path / "rows.dump"),
        ("loading rows", "load", path, tmp_path / "rows.dump"),
        ("comparing rows", "restore", path, tmp_path / "c"),
    ):
        bar = bar_on_a_terminal(what, *arguments)
        assert re.fullmatch(what + r" ━+ 7 \d+:\d\d:\d\d\s*", bar), bar


# ---- the program ----


def test_no_command_imports_tensorflow(path, run_python: Callable[..., str]):
    program = """
import sys
sys.argv[0] = "damo-tf"
from damo_tf.command import command
try:
    command.main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(sorted({"tensorflow", "keras", "rich"} & sys.modules.keys()))
"""
    assert run_python(program, "verify", path).splitlines()[-1] == "[]"


def test_module_and_console_script_are_the_same_command(path):
    outputs = [
        subprocess.run([*program, "info", path, "--json"], env=ENVIRONMENT, capture_output=True, check=True)
        for program in ([sys.executable, "-m", "damo_tf"], [Path(sys.executable).with_name("damo-tf")])
    ]

    assert json.loads(outputs[0].stdout) == json.loads(outputs[1].stdout)
