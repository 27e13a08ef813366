# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run: every workload, at sizes that say nothing about speed. No time is asserted."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compactions, report
from benchmarks.__main__ import CONTENDERS, WORKLOADS
from benchmarks.bench import TINY, Bench
from benchmarks.command import Options, Run, parser, sizes_of
from benchmarks.contenders import Settings
from benchmarks.ids import Streams, scatter
from benchmarks.launcher import ProcessLauncher, WorkerError, run
from benchmarks.report import times_table
from benchmarks.results import Section, Target, faster, share_of
from benchmarks.timing import Measurement, Plan, take_turns
from benchmarks.worker import Session
from benchmarks.workloads import costs
from benchmarks.workloads.hot import sustained

#: `engine` is a program of its own that only `make bench` builds; `costs` kills some of its workers; `tools`
#: has a reader beside a writer, which takes two processes.
IN_PROCESS = [name for name in WORKLOADS if name not in ("engine", "costs", "tools")]


PAIR = {"damo_tf", "plain RocksDB"}
HOT = {
    "damo_tf, wal",
    "damo_tf, sync",
    "damo_tf, checkpoint",
    "plain RocksDB",
    "TF variable, lazy Adam",
    "keras Embedding + Adam",
}
DEEPFM = {
    "no embedding work",
    "no embedding work, but gradients",
    "damo_tf, 520 ids",
    "damo_tf, 2,600 ids",
    "keras Embedding, 520 ids",
}
WRITTEN = {
    "bytes of a key and its row",
    "damo_tf: written to disk / bytes of updated rows",
    "plain RocksDB: written to disk / bytes of updated rows",
}
RESIDENT_MEMORY = {
    "peak of a bare TensorFlow process",
    "peak of damo_tf",
    "of this before the store was opened",
    "now",
    "budget",
}
COMBINER = {"combiner", "lookup, then reduce_mean"}
CURVES = {
    "damo_tf, the same number of hot ids",
    "damo_tf, Zipf over the whole table",
    "keras Embedding + Adam, Zipf over the whole table",
}
BYTES_OF_ROWS = {
    "key and row",
    "on disk per row, all files of a closed store",
    "written per updated row before flush() (redo log, and what was flushed on the way)",
    "written to disk / bytes of updated rows, flush() included",
    "3 steps in a row and the flush, per step",
    "memory per cached row",
}
TOOLS = {
    "dump",
    "verify",
    "checkpoint",
    "expire, no row due",
    "expire, every row due",
    "bare RocksDB iterator",
    "of this before the store was opened",
}
TOOLS_BESIDE = {
    "peak memory of the process, opening",
    "peak memory of the process, dump",
    "peak memory of the process, verify",
    "of this before the store was opened",
    "opening",
}
#: Of the sections of each workload, who is timed, and the figures. Nothing else misses one that is left out.
TOLD: dict[str, list[tuple[set[str], set[str]]]] = {
    "hot": [(HOT, set()), (HOT, set()), ({"damo_tf, wal", "plain RocksDB"}, set())],
    "larger_than_memory": [(PAIR, WRITTEN), (PAIR, WRITTEN), (set(), RESIDENT_MEMORY)],
    "new_ids": [(PAIR, set()), (PAIR, set())],
    "combiner": [(COMBINER, {f"peak memory of {name}" for name in COMBINER})] * 2,
    "deepfm": [(DEEPFM, set())],
    "table_size": [(set(), {f"{curve}, {rows} rows" for curve in CURVES for rows in ("1,000", "2,000")})],
    "bytes_of_rows": [(set(), BYTES_OF_ROWS)],
    "threads": [({"damo_tf, 1 thread", "damo_tf, 2 threads"}, set())],
    "look_ahead": [({"damo_tf", "damo_tf, prefetch_rows"}, set())] * 6,
    "tools": [(set(), TOOLS), (set(), TOOLS_BESIDE)],
}


def told(sections: list[Section]) -> list[tuple[set[str], set[str]]]:
    """Names in each section; all of them have values."""
    for section in sections:
        assert all(time.low > 0 for time in section.times.values())
        assert costs.NOT_AVAILABLE not in section.figures.values()
    return [(set(section.times), set(section.figures)) for section in sections]


class SessionWorker:
    """A contender in this process."""

    def __init__(self, contender: str, settings: Settings) -> None:
        self._session = Session(contender, settings)

    def call(self, command: str, **arguments: object) -> dict[str, float]:
        return self._session.handle(command, **arguments)

    def kill(self) -> None:
        raise AssertionError("would kill the tests")


def launch_here(contender: str, settings: Settings, *, threads: int | None = None) -> SessionWorker:
    return SessionWorker(contender, settings)


class RecordingWorker:
    """Takes no steps, but writes down what it is told."""

    def __init__(self, name: str, log: list[tuple[object, ...]]) -> None:
        self._name = name
        self._log = log

    def call(self, command: str, **arguments: object) -> dict[str, float]:
        self._log.append((self._name, command, arguments.get("first"), arguments.get("count")))
        return {"seconds": 3.0 if command == "run" else 1.0}

    def kill(self) -> None:
        raise AssertionError("is not a process")


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[ProcessLauncher]:
    logs = tmp_path / "logs"
    logs.mkdir()
    with ProcessLauncher(logs) as launcher:
        yield launcher


@pytest.mark.parametrize("workload", IN_PROCESS)
def test_workload_measures_every_contender(tmp_path, workload):
    sections = WORKLOADS[workload](Bench(tmp_path, launch_here, TINY, CONTENDERS))

    assert told(sections) == TOLD[workload]


def test_tools_are_measured_in_the_writer_and_beside_it(tmp_path, launch):
    writer, beside = WORKLOADS["tools"](Bench(tmp_path, launch, TINY, CONTENDERS))

    assert told([writer, beside]) == TOLD["tools"]
    assert all(target.measured > 0 for target in [*writer.targets, *beside.targets])


def test_store_opens_after_each_kill(tmp_path, launch):
    opened = costs.crashes(Bench(tmp_path, launch, TINY, CONTENDERS))

    assert [name.split(",")[0] for name in opened] == ["0 steps", "2 steps"]


@pytest.mark.parametrize("measure", [costs.bytes_of_rows, costs.threads, costs.look_ahead])
def test_other_costs_are_told(tmp_path, measure):
    sections = measure(Bench(tmp_path, launch_here, TINY, CONTENDERS))

    assert told(sections) == TOLD[measure.__name__]


def test_command_writes_a_page_and_plots(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmarks", "--tiny"])
    options = parser("", ["curve"]).parse_args(
        ["--tiny", "--results", str(tmp_path / "results"), "--folder", str(tmp_path)], Options()
    )
    times = {"damo_tf": Measurement((0.002, 0.001, 0.004)), "other": Measurement((0.004, 0.004, 0.004))}
    section = Section(
        "steps", times, 10, "damo_tf", faster(times, "damo_tf", "other", 3), curves={"curve": [(1, 2.0)]}
    )

    Run("bench", "A title", {"curve": lambda bench: [section]}, None, {"peer": "1.0"})(options, launch_here)

    page = (tmp_path / "results" / "bench.md").read_text()
    assert "| steps    | damo_tf: times as fast as other | 2.00     | >= 3   | no  |" in page
    assert "| damo_tf   | 2.0               | 1.0 to 4.0 | 5,000 | 1.00      |" in page
    assert "| peer" in page
    assert sorted(path.name for path in (tmp_path / "results").glob("*.png")) == [
        "bench-table-size.png",
        "bench.png",
    ]
    assert not list(tmp_path.glob("bench-*"))


def test_a_run_of_some_workloads_leaves_the_figures_of_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmarks"])
    parse = parser("", ["old", "new"]).parse_args
    arguments = ["--tiny", "--results", str(tmp_path / "results"), "--folder", str(tmp_path)]
    found = {"old": "first", "new": "first"}
    workloads = {
        name: lambda bench, name=name: [
            Section(f"{name} {found[name]}", curves={"c": [(1, 2.5)]}, targets=[Target("t", 1.0, 2.0, True)])
        ]
        for name in found
    }
    run_of_day = Run("bench", "A title", workloads, None, {"day": "1"})
    run_of_day(parse(arguments, Options()), launch_here)
    found.update(old="second", new="second")

    records = replace(run_of_day, versions={"day": "2"})(
        parse([*arguments, "--only", "new"], Options()), launch_here
    )

    assert [(r.workload, r.about["day"], r.sections[0].title) for r in records] == [
        ("old", "1", "old first"),
        ("new", "2", "new second"),
    ]
    assert records[0].sections == [
        Section("old first", curves={"c": [(1, 2.5)]}, targets=[Target("t", 1.0, 2.0, True)])
    ]
    page = (tmp_path / "results" / "bench.md").read_text()
    assert "## Old first" in page
    assert "## New second" in page
    assert re.search(r"^\|  +\| old  +\| new  +\|$", page, re.MULTILINE)


def test_contenders_take_turns_on_the_same_batches(tmp_path):
    log: list[tuple[object, ...]] = []
    ids = Streams(tmp_path).uniform(10, 9, 4)

    times = take_turns(
        {name: RecordingWorker(name, log) for name in "ab"}, {"a": ids, "b": ids}, Plan(1, 2, 2, first=3)
    )

    assert [entry for entry in log if entry[1] == "run"] == [
        ("a", "run", 3, 1),
        ("b", "run", 3, 1),
        ("a", "run", 4, 2),
        ("b", "run", 4, 2),
        ("a", "run", 6, 2),
        ("b", "run", 6, 2),
    ]
    assert times["a"].seconds == (1.5, 1.5)
    assert times["a"].settled.seconds == (2.0, 2.0)


def test_settling_counts_where_it_is_asked_for(tmp_path):
    ids = Streams(tmp_path).uniform(10, 9, 4)

    times = take_turns({"a": RecordingWorker("a", [])}, {"a": ids}, Plan(0, 2, 1), count_settling=True)

    assert times["a"].seconds == times["a"].settled.seconds == (2.0,)


@pytest.mark.parametrize(
    ("contender", "rows"), [("damo_layer", 40), ("damo_module", 40), ("plain_rocksdb", None)]
)
def test_contender_updates_the_row_of_every_distinct_id(tmp_path, contender, rows):
    ids = Streams(tmp_path).consecutive(2, 20)
    worker = SessionWorker(contender, Settings(directory=str(tmp_path / "store")))

    run(worker, ids, 0, 2)

    assert worker.call("figures").get("rows") == rows
    worker.call("close")


def test_layer_and_module_train_the_same_rows(tmp_path):
    import damo_tf

    ids = Streams(tmp_path).zipf(20, 3, 50)
    for contender in ("damo_layer", "damo_module"):
        worker = SessionWorker(contender, Settings(directory=str(tmp_path / contender)))
        run(worker, ids, 0, 3)
        worker.call("close")

    with damo_tf.Store(tmp_path / "damo_layer") as first, damo_tf.Store(tmp_path / "damo_module") as second:
        for key in scatter(np.arange(20)):
            one, other = first.row(0, int(key)), second.row(0, int(key))
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                np.testing.assert_array_equal(one.weights, other.weights)


def test_scattered_ranks_stay_distinct():
    assert len(np.unique(scatter(np.arange(100_000)))) == 100_000


def test_zipf_ids_are_the_same_each_time_and_favour_low_ranks(tmp_path):
    first = np.load(Streams(tmp_path).zipf(1_000, 4, 5_000).path)
    again = np.load(Streams(tmp_path).zipf(1_000, 4, 5_000).path)

    np.testing.assert_array_equal(first, again)
    assert first.min() >= 0 and first.max() < 1_000
    assert np.bincount(first.ravel()).argmax() == 0


def test_worker_that_cannot_start_says_why(launch, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(WorkerError, match="file"):
        launch("damo_module", Settings(directory=str(tmp_path / "file"))).call("settle")


def test_targets_know_which_way_is_better():
    times = {"a": Measurement((1.0,)), "b": Measurement((2.0,))}

    assert [target.met for target in faster(times, "a", "b", 2)] == [True]
    assert [target.met for target in share_of(times, "b", "a", 1.9)] == [False]
    assert faster(times, "a", "absent", 1) == []
    assert Target("", 1.0, 1.0, True).met and Target("", 1.0, 1.0, False).met


def test_background_work_can_turn_a_target_round():
    times = {"a": Measurement((1.0,), (3.0,)), "b": Measurement((2.0,), (0.0,))}

    assert [target.measured for target in faster(times, "a", "b", 2)] == [2.0]
    (settled,) = faster(times, "a", "b", 2, settled=True)
    assert settled.measured == 0.5 and not settled.met
    assert "| a         | 1000.0            | 1000.0 to 1000.0 | 10    | 1.00 | 4000.0" in times_table(
        Section("steps", times, 10, "a", settled=True)
    )


def test_steps_in_a_row_count_all_that_is_written_behind_them(tmp_path):
    log: list[tuple[object, ...]] = []
    workers = {name: RecordingWorker(name, log) for name in ("damo_tf, wal", "plain RocksDB")}

    (section,) = sustained(Bench(tmp_path, launch_here, TINY), workers)

    assert [entry for entry in log if entry[1] == "run"] == [
        ("damo_tf, wal", "run", 0, 10),
        ("plain RocksDB", "run", 0, 1),
    ]
    assert {name: time.seconds for name, time in section.times.items()} == {
        "damo_tf, wal": (0.4,),
        "plain RocksDB": (4.0,),
    }
    alone = {"damo_tf, wal": workers["damo_tf, wal"]}
    assert sustained(Bench(tmp_path, launch_here, TINY), alone) == []


def test_compactions_are_waited_for(tmp_path, monkeypatch):
    """Three threads, of which one compacts at the second look; one ends between a look at it and the next."""
    for number, (name, state) in enumerate(
        [("python (1)", "R"), ("rocksdb:low", "S"), ("rocksdb:high", "D")]
    ):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "stat").write_text(f"{number} ({name}) {state} 1 2")
    (tmp_path / "ended").mkdir()
    looks = []

    def look(seconds):
        looks.append(seconds)
        (tmp_path / "1" / "stat").write_text(f"1 (rocksdb:low) {'R' if len(looks) == 2 else 'S'} 1 2")

    monkeypatch.setattr(compactions.time, "sleep", look)
    compactions.wait_for_compactions(tmp_path)

    assert len(looks) == 5


def test_sizes_follow_the_options():
    options = parser("", ["hot"]).parse_args(
        ["--quick", "--repetitions", "5", "--max-rows", "50000"], Options()
    )

    sizes = sizes_of(options)

    assert sizes.plan.repetitions == 5
    assert sizes.table_rows == (10_000, 50_000)
    assert sizes.hot_rows == 50_000


def test_table_is_markdown():
    assert report.table(("a", "b"), [("1", "23")]).splitlines() == ["| a | b  |", "|---|----|", "| 1 | 23 |"]
