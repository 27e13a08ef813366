# SPDX-License-Identifier: Apache-2.0
"""`damo-tf` info, row, top and verify: what they print, and that they change nothing."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import LAST_KEY, add_rows, content, failure, opened, run, run_json
from raw_store import raw_store, row_key, row_value

from damo_tf.command.inspection import age_class
from damo_tf.command.keys import parse_key
from damo_tf.command.statistics import AGE_BOUNDS, Histograms, Ranking

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
