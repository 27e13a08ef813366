# SPDX-License-Identifier: Apache-2.0
"""The `damo-tf` command: what it prints, what it changes, how it ends."""

import hashlib
import itertools
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import damo
import numpy as np
import pytest
from click.testing import CliRunner, Result
from raw_store import raw_store, row_key, row_value, with_update_time

from damo_tf._aside import directory_aside
from damo_tf.command import command
from damo_tf.command.inspection import age_class
from damo_tf.command.keys import parse_key
from damo_tf.command.statistics import AGE_BOUNDS, Histograms, Ranking

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm"}
TIMEOUT_SECONDS = 120  # on any machine: a command that takes longer hangs
LAST_KEY = 2**64 - 1


def run(*arguments: object, status: int = 0, stdin: bytes | None = None) -> Result:
    """Runs the command in this process."""
    result = CliRunner().invoke(command, [*map(str, arguments)], input=stdin)
    assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
    return result


def run_json(*arguments: object, status: int = 0, stdin: bytes | None = None) -> dict[str, Any]:
    """The one JSON object that the command prints."""
    result = run(*arguments, "--json", status=status, stdin=stdin)
    assert result.stderr == ""
    (line,) = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def failure(*arguments: object, status: int = 1, stdin: bytes | None = None) -> str:
    """The one line that the command writes to stderr as it fails."""
    result = run(*arguments, status=status, stdin=stdin)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("damo-tf: ")
    return line


def add_rows(storage: damo.PyStorage, group: int, keys: Any, value: float = 1.0) -> None:
    dim = storage.group_config(group)["dim"]
    array = np.asarray(keys, np.uint64)
    storage.apply_gradients(group, array, np.full(len(array) * dim, value, np.float32))


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[damo.PyStorage]:
    with damo.PyStorage(path, memory_budget=8 << 20, **options) as storage:
        yield storage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store: group 0, dim 2, adagrad, keys 1 to 5 and the last; group 7, dim 3, sgd, key 1."""
    path = tmp_path / "store"
    with opened(path, seed=3) as storage:
        storage.add_group(0, 2, {"name": "zeros"}, {"name": "adagrad", "gamma": 0.5})
        storage.add_group(7, 3, {"name": "zeros"}, {"name": "sgd", "gamma": 1.0})
        add_rows(storage, 0, [1, 2, 3, 4, 5, LAST_KEY])
        add_rows(storage, 0, [2, 3])
        add_rows(storage, 0, [3])
        add_rows(storage, 7, [1], value=10)
    return path


def content(directory: Path) -> dict[str, str]:
    """Names and hashes of all files but RocksDB's log of what it did."""
    return {
        str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(directory.rglob("*"))
        if file.is_file() and not file.name.startswith("LOG")
    }


# ---- info, row, top ----


def test_info_tells_groups_settings_and_histograms(path):
    found = run_json("info", path)

    assert {name: found[name] for name in ("directory", "seed", "rows")} == {
        "directory": str(path),
        "seed": 3,
        "rows": 7,
    }
    assert found["disk_bytes"] > 0
    first, second = found["groups"]
    assert (first["group"], first["rows"], first["step"], second["group"]) == (0, 6, 3, 7)
    assert first["bytes"] == 6 * (9 + 32 + 4 * 2 * 2)
    assert first["config"]["optimizer"]["name"] == "adagrad"
    assert first["update_counts"] == [{"from": 1, "to": 1, "rows": 4}, {"from": 2, "to": 3, "rows": 2}]
    assert [entry["from_seconds"] for entry in first["ages"]] == list(AGE_BOUNDS)
    assert sum(entry["rows"] for entry in first["ages"]) == 6


def test_ages_are_told_from_when_to_when():
    bounds = [*AGE_BOUNDS, None]
    classes = [
        age_class({"from_seconds": begin, "to_seconds": end}) for begin, end in itertools.pairwise(bounds)
    ]

    assert classes == [
        "under 1 minute",
        "1 minute to 1 hour",
        "1 hour to 1 day",
        "1 to 7 days",
        "7 to 30 days",
        "30 to 90 days",
        "90 to 365 days",
        "365 days or more",
    ]


def test_info_without_scan_has_no_histograms(path):
    assert "ages" not in run_json("info", path, "--no-scan")["groups"][0]


def test_info_tells_how_full_a_filter_is(path):
    with opened(path) as storage:
        storage.add_group(9, 1, {"name": "zeros"}, {"name": "sgd"}, min_count=2, filter_capacity=100)
        add_rows(storage, 9, range(50))
        fill = storage.stats()["groups"][9]["filter_fill"]

    groups = {group["group"]: group["filter_fill"] for group in run_json("info", path)["groups"]}

    assert 0 < fill < 0.5
    assert groups == {0: None, 7: None, 9: pytest.approx(fill)}
    lines = run("info", path).stdout.splitlines()
    begin = lines.index("admission filters")
    assert lines[begin + 1].split() == ["group", "capacity", "fill"]
    assert lines[begin + 2].split()[:2] == ["9", "100"]


def test_info_prints_columns_where_there_is_no_terminal(path):
    lines = run("info", path).stdout.splitlines()

    assert lines[0].split() == ["directory:", str(path)]
    start = lines.index("groups")
    assert [line.split()[:3] for line in lines[start + 1 : start + 4]] == [
        ["group", "dim", "rows"],
        ["0", "2", "6"],
        ["7", "3", "1"],
    ]


def test_row_is_what_the_store_says(path):
    with opened(path) as storage:
        expected = storage.row(0, 3)

    found = run_json("row", path, 0, 3)

    assert found == {
        "group": 0,
        "key": "3",
        "update_time": expected["update_time"],
        "update_num": 3,
        "weights": expected["weights"].tolist(),
        "slots": {"sum": expected["slots"]["sum"].tolist()},
    }


@pytest.mark.parametrize("key", [LAST_KEY, hex(LAST_KEY), "-1", "-0x1"])
def test_row_takes_a_key_in_any_spelling(path, key):
    assert run_json("row", path, 0, key)["key"] == str(LAST_KEY)


def test_row_that_is_not_there_is_a_failure(path):
    assert failure("row", path, 0, 99) == f"damo-tf: group 0 of '{path}' has no row of key 99"


@pytest.mark.parametrize("text", ["", "x", "1.0", "1_0", "0x", "--1", "18446744073709551616", "+1", "\uff11"])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ValueError, match="a key must be an integer"):
        parse_key(text)


def test_top_by_count_and_by_norm(path):
    by_count = run_json("top", path, "--by", "count", "--limit", 2)
    by_norm = run_json("top", path, "--limit", 3)

    assert [(row["group"], row["key"], row["update_num"]) for row in by_count["rows"]] == [
        (0, "3", 3),
        (0, "2", 2),
    ]
    assert [(row["group"], row["key"]) for row in by_norm["rows"]] == [(7, "1"), (0, "3"), (0, "2")]
    assert by_norm["rows"][0]["norm"] == pytest.approx(np.sqrt(300))


def test_top_of_one_group_leaves_others_out(path):
    assert {row["group"] for row in run_json("top", path, "--group", 0)["rows"]} == {0}


@pytest.mark.parametrize("by", ["norm", "count"])
def test_ranking_in_parts_is_the_beginning_of_the_whole_order(rng, by):
    keys = np.sort(rng.choice(10_000, 3_000, replace=False)).astype(np.uint64)
    weights = rng.integers(0, 3, (3_000, 2)).astype(np.float32)  # many equal norms
    nums = rng.integers(1, 5, 3_000)
    ranking = Ranking(by, 40)
    for begin in range(0, 3_000, 700):
        part = slice(begin, begin + 700)
        ranking.add(0, keys[part], weights[part], nums[part], nums[part])

    scores = np.linalg.norm(weights.astype(np.float64), axis=1) if by == "norm" else nums
    expected = sorted(range(3_000), key=lambda i: (-scores[i], keys[i]))[:40]
    assert [row.key for row in ranking.rows()] == [int(keys[i]) for i in expected]


def test_histograms_count_every_row_in_its_class(rng):
    now = 10**12
    ages_seconds = np.concatenate([AGE_BOUNDS, rng.integers(0, 2 * AGE_BOUNDS[-1], 500), [-5]])
    nums = np.concatenate([2 ** np.arange(62), 2 ** np.arange(1, 62) - 1, rng.integers(1, 2**40, 386)])
    assert len(nums) == len(ages_seconds)
    histograms = Histograms(now)
    for begin in range(0, len(nums), 100):
        part = slice(begin, begin + 100)
        histograms.add(now - ages_seconds[part] * 1000, nums[part])

    for entry in histograms.ages():
        upper = entry["to_seconds"] if entry["to_seconds"] is not None else np.inf
        ages = np.maximum(ages_seconds, 0)
        assert entry["rows"] == np.count_nonzero((ages >= entry["from_seconds"]) & (ages < upper))
    for entry in histograms.update_counts():
        assert entry["rows"] == sum(entry["from"] <= int(num) <= entry["to"] for num in nums)
    assert sum(entry["rows"] for entry in histograms.update_counts()) == len(nums)


# ---- verify ----


def test_verify_of_a_sound_store_finds_nothing_and_changes_nothing(path):
    before = content(path)

    found = run_json("verify", path)

    assert found["ok"] and found["problems"] == [] and found["rows"] == 7
    assert content(path) == before


def test_verify_names_each_damaged_row_and_ends_with_status_1(path):
    with raw_store(path, write=True) as raw:
        raw.rows[row_key(0, 2)] = row_value(0, 2, 0, 1, [1.0, np.nan], [0.0, 0.0])
        raw.rows[row_key(0, 3)] = b"short"
        del raw.rows[row_key(7, 1)]

    found = run_json("verify", path, status=1)
    printed = run("verify", path, status=1).stdout

    assert not found["ok"]
    assert found["problems"][0] == "group 0: row of key 2 has weights[1] = nan, expected finite"
    assert "5 bytes" in found["problems"][1]
    assert found["problems"][2] == "group 7: has 0 rows, by the manifest 1"
    assert all(problem in printed for problem in found["problems"])


def test_verify_names_a_file_with_a_flipped_bit(path):
    largest = max(path.glob("*.sst"), key=lambda file: file.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[60] ^= 1
    largest.write_bytes(data)

    problems = run_json("verify", path, status=1)["problems"]

    assert problems[0].startswith(f"file '{largest}': ")


def test_verify_of_checkpoints_holds_them_against_their_descriptions(path, tmp_path):
    full, delta = str(tmp_path / "full"), str(tmp_path / "delta")
    run_json("checkpoint", path, full)
    run_json("checkpoint", path, delta, "--since", full)
    rows = run_json("info", path)["rows"]
    for checkpoint in (full, delta):
        found = run_json("verify", checkpoint)
        assert (found["ok"], found["rows"], found["problems"]) == (True, rows, [])
    description = Path(delta, "DAMO_CHECKPOINT")
    damaged = json.loads(description.read_text())
    damaged["groups"][0]["step"] = 12345
    description.write_text(json.dumps(damaged))
    problems = run_json("verify", delta, status=1)["problems"]
    assert len(problems) == 1
    assert "the description has step 12345, the manifest" in problems[0]
    shutil.rmtree(full)
    problems = run_json("verify", delta, status=1)["problems"]
    assert "there is no file" in problems[0]


def test_verify_of_a_store_that_cannot_be_opened_tells_why(path):
    (path / "CURRENT").write_text("nonsense\n")

    found = run_json("verify", path, status=1)

    assert not found["ok"] and len(found["problems"]) == 1


# ---- dump, load, delete ----


def test_dump_and_load_carry_weights_to_another_store(path, tmp_path):
    file = tmp_path / "rows.dump"
    other = tmp_path / "other"
    with opened(other) as storage:
        storage.add_group(0, 2, {"name": "zeros"}, {"name": "sgd"})
        add_rows(storage, 0, [77])

    assert run_json("dump", path, file, "--group", 0, "--min-count", 2)["rows"] == 2
    assert run_json("load", other, file)["rows"] == 2
    with opened(other) as storage, opened(path) as original:
        assert storage.size() == 3
        np.testing.assert_array_equal(storage.row(0, 3)["weights"], original.row(0, 3)["weights"])
    assert run_json("load", other, file, "--mode", "replace")["mode"] == "replace"
    with opened(other) as storage:
        assert storage.size() == 2


def test_load_of_a_damaged_file_changes_nothing(path, tmp_path):
    file = tmp_path / "rows.dump"
    run("dump", path, file)
    file.write_bytes(file.read_bytes()[:-1])

    assert "rows.dump" in failure("load", path, file)
    with opened(path) as storage:
        assert storage.size() == 7


def test_delete_takes_keys_from_a_text_file(path, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text(f"# user 17\n1\n0x2  # the same user\n\n{hex(LAST_KEY)}\n99\n1\n")

    assert run_json("delete", path, 0, keys) == {
        "directory": str(path),
        "group": 0,
        "keys": 5,
        "deleted": 3,
    }
    with opened(path) as storage:
        assert storage.row(0, 1) is None and storage.row(0, 3) is not None
        assert storage.size(0) == 3 and storage.size(7) == 1


@pytest.mark.parametrize("dtype", ["<u8", "<i8", ">u8"])
def test_delete_takes_keys_from_a_numpy_file(path, tmp_path, dtype):
    np.save(tmp_path / "keys.npy", np.array([1, 2], dtype))

    assert run_json("delete", path, 0, tmp_path / "keys.npy")["deleted"] == 2


def test_delete_takes_keys_from_stdin(path):
    assert run_json("delete", path, 0, stdin=b"-1\n4")["deleted"] == 2
    assert run_json("delete", path, 0, "-", stdin=b"")["keys"] == 0


def test_delete_with_one_bad_line_deletes_nothing_and_names_it(path, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("1\n2\nthree\n")

    assert f"{keys}, line 3: a key must be" in failure("delete", path, 0, keys)
    with opened(path) as storage:
        assert storage.size() == 7


@pytest.mark.parametrize(
    "array", [np.zeros((1, 1), np.int64), np.zeros(1, np.float64), np.zeros(1, np.int32)]
)
def test_delete_refuses_arrays_that_are_no_keys(path, tmp_path, array):
    np.save(tmp_path / "keys.npy", array)

    assert "one-dimensional array of int64 or uint64" in failure("delete", path, 0, tmp_path / "keys.npy")


@pytest.mark.parametrize("data", [b"\x93NUMPY\x01", b"\x93NUMPY\x01\x00\x05\x00abcde", b"\x93NUMPY\x09\x00"])
def test_delete_names_a_numpy_file_that_is_damaged(path, tmp_path, data):
    (tmp_path / "bad.npy").write_bytes(data)

    message = failure("delete", path, 0, tmp_path / "bad.npy")
    assert f"{tmp_path / 'bad.npy'} must be a .npy file of 64-bit integers. Received: " in message


def test_delete_names_a_numpy_file_that_is_cut_short(path, tmp_path):
    np.save(tmp_path / "keys.npy", np.arange(100))
    data = (tmp_path / "keys.npy").read_bytes()
    (tmp_path / "keys.npy").write_bytes(data[:-1])

    assert f"{tmp_path / 'keys.npy'} must be a .npy file" in failure("delete", path, 0, tmp_path / "keys.npy")
    assert run_json("info", path)["rows"] == 7


def test_delete_from_a_group_that_is_not_there_is_a_failure(path):
    assert "no group 5" in failure("delete", path, 5, stdin=b"")


# ---- how it ends ----


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


HOLD_OPEN = """
import sys
import damo
storage = damo.PyStorage(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def open_elsewhere(path: Path) -> Iterator[None]:
    """A process that has the store open for writing while the block runs."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_OPEN, str(path)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout.readline() == b"open\n"
            yield
        finally:
            process.communicate(timeout=TIMEOUT_SECONDS)


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


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "damo_tf", *map(str, arguments)], env=ENVIRONMENT, **options
    )


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


# ---- checkpoint, restore, expire, convert, compact ----


def test_checkpoint_and_restore_bring_back_a_store_that_is_lost(path, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_json("checkpoint", path, first)["rows"] == 7
    run("delete", path, 0, stdin=b"1\n2")
    with opened(path) as storage:
        add_rows(storage, 7, [5])
    assert run_json("checkpoint", path, second, "--since", first)["since"] == str(first)
    shutil.rmtree(path)

    assert run_json("restore", path, second)["rows"] == 6
    with opened(path) as storage:
        assert storage.row(0, 1) is None and storage.row(7, 5) is not None
        assert storage.stats()["groups"][7]["step"] == 2
    assert run_json("restore", path, first)["rows"] == 7
    assert run_json("restore", path, first, second)["rows"] == 6
    assert run_json("verify", path)["ok"]
    assert run_json("verify", first)["rows"] == 7  # a full checkpoint is a store, too


def test_restore_from_what_is_no_checkpoint_makes_no_store(path, tmp_path):
    message = failure("restore", tmp_path / "new", path)

    assert message == f"damo-tf: restore from '{path}': '{path}' is no checkpoint"
    assert not (tmp_path / "new").exists()


def test_restore_from_a_damaged_description_makes_no_store(path, tmp_path):
    run("checkpoint", path, tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "DAMO_CHECKPOINT").write_text('{"seed": "three"')

    assert "' is damaged" in failure("restore", tmp_path / "new", tmp_path / "checkpoint")
    assert not (tmp_path / "new").exists()


def test_restore_that_fails_makes_no_store(path, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    run("checkpoint", path, checkpoint)
    table = max(checkpoint.glob("*.sst"), key=lambda file: file.stat().st_size)
    data = bytearray(table.read_bytes())
    data[60] ^= 1
    table.unlink()  # a link to the store's own
    table.write_bytes(data)
    before = sorted(entry.name for entry in tmp_path.iterdir())

    assert "checksum" in failure("restore", tmp_path / "new", checkpoint)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before


def test_restore_takes_over_what_one_that_died_has_left(path, tmp_path):
    run("checkpoint", path, tmp_path / "checkpoint")
    with opened(tmp_path / "new.unfinished", seed=77) as storage:  # of another checkpoint
        storage.add_group(0, 5, {"name": "zeros"}, {"name": "sgd"})
        add_rows(storage, 0, [1])

    assert run_json("restore", tmp_path / "new", tmp_path / "checkpoint")["rows"] == 7
    assert not (tmp_path / "new.unfinished").exists()
    with opened(tmp_path / "new") as storage, opened(path) as original:
        assert storage.options["seed"] == 3
        np.testing.assert_array_equal(storage.row(0, 3)["weights"], original.row(0, 3)["weights"])


def test_restore_of_what_another_restores_is_refused(path, tmp_path):
    run("checkpoint", path, tmp_path / "checkpoint")
    with directory_aside(str(tmp_path / "new")) as unfinished:
        assert "it is being written at this moment" in failure(
            "restore", tmp_path / "new", tmp_path / "checkpoint"
        )
        assert os.path.isdir(unfinished)


def test_restore_into_an_empty_directory_makes_a_store(path, tmp_path):
    run("checkpoint", path, tmp_path / "checkpoint")
    (tmp_path / "new").mkdir()

    assert run_json("restore", tmp_path / "new", tmp_path / "checkpoint")["rows"] == 7
    assert run_json("verify", tmp_path / "new")["ok"]


def test_restore_into_a_directory_of_other_things_leaves_them_alone(path, tmp_path):
    run("checkpoint", path, tmp_path / "checkpoint")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "letter").write_text("dear")

    assert str(tmp_path / "new") in failure("restore", tmp_path / "new", tmp_path / "checkpoint")
    assert content(tmp_path / "new").keys() == {"letter"}


def test_expire_removes_rows_that_are_past_their_time_to_live(path):
    with raw_store(path, write=True) as raw:
        for key in (1, 2):
            raw.rows[row_key(0, key)] = with_update_time(raw.rows[row_key(0, key)], 10)

    assert run_json("expire", path)["removed"] == 0
    found = run_json("expire", path, "--ttl-seconds", 86_400)

    assert found == {"directory": str(path), "groups_with_ttl": [0, 7], "removed": 2, "rows": 5}
    assert run_json("verify", path)["ok"]


def test_convert_to_another_optimizer_and_a_smaller_dim(path, tmp_path):
    target = tmp_path / "target"
    with opened(path) as storage:
        before = {key: storage.row(0, key) for key in (1, 3, LAST_KEY)}

    found = run_json("convert", path, target, 0, "--dim", 1, "--optimizer", '{"name": "adam", "gamma": 0.25}')

    assert found["rows"] == 7
    assert run_json("verify", target)["ok"]
    with opened(path) as old, opened(target) as new:
        config = new.group_config(0)
        assert (config["dim"], config["optimizer"]["name"], config["optimizer"]["gamma"]) == (1, "adam", 0.25)
        assert new.group_config(7) == old.group_config(7)
        assert new.options["seed"] == 3
        assert [new.stats()["groups"][g]["step"] for g in (0, 7)] == [3, 1]
        for key, row in before.items():
            np.testing.assert_array_equal(old.row(0, key)["slots"]["sum"], row["slots"]["sum"])
            converted = new.row(0, key)
            np.testing.assert_array_equal(converted["weights"], row["weights"][:1])
            assert (converted["update_num"], converted["update_time"]) == (1, row["update_time"])
            assert {name: slot.tolist() for name, slot in converted["slots"].items()} == {"m": [0], "v": [0]}
        np.testing.assert_array_equal(new.row(7, 1)["weights"], old.row(7, 1)["weights"])
        add_rows(new, 0, [1])  # it goes on training


def test_convert_fills_wider_rows_up_with_their_initial_values(tmp_path):
    path, target = tmp_path / "store", tmp_path / "target"
    initializer = {"name": "random_uniform", "min": -1.0, "max": 1.0}
    with opened(path, seed=9) as storage:
        storage.add_group(2, 3, initializer, {"name": "sgd"})
        add_rows(storage, 2, [5, 6])

    run("convert", path, target, 2, "--dim", 5)

    with opened(path) as old, opened(target) as new, opened(tmp_path / "fresh", seed=9) as fresh:
        fresh.add_group(2, 5, initializer, {"name": "sgd"})
        initial = np.empty(2 * 5, np.float32)
        fresh.lookup(2, np.array([5, 6], np.uint64), initial)
        for i, key in enumerate((5, 6)):
            weights = new.row(2, key)["weights"]
            np.testing.assert_array_equal(weights[:3], old.row(2, key)["weights"])
            np.testing.assert_array_equal(weights[3:], initial.reshape(2, 5)[i, 3:])


def test_convert_of_a_checkpoint_works_beside_a_trainer(path, tmp_path):
    run("checkpoint", path, tmp_path / "checkpoint")
    with open_elsewhere(path):
        found = run_json("convert", tmp_path / "checkpoint", tmp_path / "target", 0, "--dim", 1)

    assert found["rows"] == 7
    assert run_json("verify", tmp_path / "target")["ok"]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ([5, "--dim", 3], "no group 5"),
        ([0, "--optimizer", "nothing"], "'nothing'"),
        ([0, "--optimizer", '{"name": "sgd", "beta": 1}'], "beta"),
    ],
)
def test_convert_that_cannot_be_leaves_no_target(path, tmp_path, rest, message):
    assert message in failure("convert", path, tmp_path / "target", *rest)
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_convert_to_what_is_there_is_refused(path, tmp_path):
    (tmp_path / "target").mkdir()

    assert "there is something already" in failure("convert", path, tmp_path / "target", 0, "--dim", 3)


def test_compact_gives_the_space_of_deleted_rows_back(tmp_path):
    path = tmp_path / "store"
    with opened(path) as storage:
        storage.add_group(0, 64, {"name": "zeros"}, {"name": "sgd"})
        add_rows(storage, 0, range(5000))
    run("delete", path, 0, stdin="\n".join(map(str, range(4900))).encode())

    found = run_json("compact", path)

    assert found["disk_bytes_after"] < found["disk_bytes_before"] / 4
    assert run_json("verify", path)["rows"] == 100
