# SPDX-License-Identifier: Apache-2.0
"""What the documents say is so: their examples run, the tests and files they name exist."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from plain_tensorflow import WITHOUT_DAMO_TF

from damo_tf.command import command

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/*.md"), *ROOT.glob("benchmarks/*.md")]
)


def examples(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


def in_folder(program: str, folder: Path) -> str:
    """The program with its paths below /tmp moved to `folder`."""
    moved = program.replace('"/tmp/', f'"{folder}/')
    assert moved != program
    return moved


def test_first_model_of_the_readme_runs_and_goes_on_when_run_again(
    tmp_path, run_with_tensorflow: Callable[..., str]
):
    program = in_folder(examples("README.md")[0], tmp_path)

    first, second = (run_with_tensorflow(program).splitlines()[-1] for _ in range(2))

    pattern = r"90 rows, one of them updated (\d+) times"
    updates = [int(re.fullmatch(pattern, line)[1]) for line in (first, second)]
    assert updates[1] > updates[0] > 0


def test_example_of_the_damo_module_runs(tmp_path, run_python: Callable[..., str]):
    run_python(in_folder(examples("docs/damo_module.md")[0], tmp_path))


def test_example_of_the_learning_rates_runs(tmp_path, run_with_tensorflow: Callable[..., str]):
    run_with_tensorflow(in_folder(examples("docs/schedules.md")[0], tmp_path))


def test_examples_of_saving_md_run_and_go_on(tmp_path, run_with_tensorflow: Callable[..., str]):
    training, tensorflow = examples("docs/saving.md")
    for _ in range(2):  # again: nothing is left to be trained
        printed = run_with_tensorflow(in_folder(training + tensorflow, tmp_path))
        assert printed.splitlines()[-1] == "500 batches trained"


def test_example_of_monitoring_md_runs(tmp_path, run_with_tensorflow: Callable[..., str]):
    assert run_with_tensorflow(in_folder(examples("docs/monitoring.md")[0], tmp_path)) == "[400.0, 0.0]\n"


def test_example_of_the_row_format_reads_rows(
    tmp_path, run_with_tensorflow: Callable[..., str], run_python: Callable[..., str]
):
    training = in_folder(examples("README.md")[0].replace("epochs=5", "epochs=1"), tmp_path)
    run_with_tensorflow(training)
    reading = in_folder(examples("docs/row_format.md")[0], tmp_path)

    assert run_python(reading + "    print(group, update_num, len(floats))\n").count("\n") == 90


def test_example_of_the_dump_format_reads_a_dump(store, tmp_path, run_python: Callable[..., str]):
    store.add_group(7, 2)
    store.apply_gradients(7, range(5), [[1.0, 2.0]] * 5)
    store.dump(tmp_path / "rows.dump")
    reading = in_folder(examples("docs/dump_format.md")[0], tmp_path)

    assert run_python(reading + "print(group, rows['key'].tolist())\n") == "7 [0, 1, 2, 3, 4]\n"


def test_examples_of_serving_serve_without_damo_tf(tmp_path, run_with_tensorflow: Callable[..., str]):
    training, inline, serve_inline, dense, serve_dense, *with_damo_tf = (
        in_folder(example, tmp_path) for example in examples("docs/serving.md")
    )
    asked = "print(model.predict(np.array([[3, 99], [4, 100]]), verbose=0))\n"

    printed = numbers_in(run_with_tensorflow("\n".join([training, inline, dense, asked, *with_damo_tf])))

    assert len(printed) == 6
    live = printed[:2]
    assert printed[2:] == pytest.approx(2 * live, rel=1e-6)
    for serving in (serve_inline, serve_dense):
        served = numbers_in(run_with_tensorflow(WITHOUT_DAMO_TF + serving))
        assert served == pytest.approx(live, rel=1e-6)  # a product of matrices may be summed in another order


def test_examples_of_moving_in_run_one_after_another(tmp_path, run_with_tensorflow: Callable[..., str]):
    run_with_tensorflow(in_folder("\n".join(examples("docs/migration.md")), tmp_path))


def numbers_in(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+\.\d+", text)]


#: Numbers that another build of RocksDB may have otherwise, or that tell when it compacts: bytes on disk,
#: numbers of files and how many there are, checksums, offsets.
VARIABLE_NUMBERS = re.compile(
    r"((?:disk_bytes\"?|files\"?|bytes before|bytes after):\s+|(?:stored|computed) = |(?:offset|size) )\d+"
    r"|(?<=/)\d+(?=\.sst)"
)


def masked(text: str) -> list[str]:
    """The lines of a text without variable numbers and the space that they take."""
    return [re.sub(r"\s+", " ", re.sub(VARIABLE_NUMBERS, r"\1#", line)).strip() for line in text.splitlines()]


def test_what_is_masked_in_examples_is_what_varies_and_nothing_else():
    line = "'/data/000035.sst': stored = 12, computed = 34, type = 4 in offset 56 size 78"
    assert masked(line) == ["'/data/#.sst': stored = #, computed = #, type = 4 in offset # size #"]
    assert masked("disk_bytes:  991") == ["disk_bytes: #"]
    assert masked('{"disk_bytes": 991, "rows": 3}') == ['{"disk_bytes": #, "rows": 3}']
    assert masked("bytes before:  991") == ["bytes before: #"]
    assert masked("files:     6") == ["files: #"]
    for line in ("rows removed: 150", "0 4 850 75650 3", "updates: 3", "2025-01-12 00:00:00 UTC"):
        assert masked(line) == [line]


def test_examples_of_operations_md_print_what_the_page_says(
    tmp_path, run_with_tensorflow: Callable[..., str]
):
    blocks = re.findall(
        r"^```(python|console)\n(.*?)^```", (ROOT / "docs/operations.md").read_text("utf-8"), re.M | re.S
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"

    for kind, block in blocks:
        if kind == "python":
            run_with_tensorflow(block)  # in tmp_path, too
            continue
        commands = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
        printed = [
            subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            ).stdout
            for command in commands
        ]
        shown = "".join(f"$ {c}\n{p}" for c, p in zip(commands, printed, strict=True))
        shown = shown.replace(str(tmp_path), "/data")
        assert masked(shown) == masked(block)

    assert len(blocks) > 15
    commands_shown = set(re.findall(r"\$.*?damo-tf (\w+)", "".join(block for _, block in blocks)))
    assert commands_shown == set(command.commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_test_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")

    for file, test in re.findall(r"`((?:tests|cc)/[\w/.]+)::(\w+)`", text):
        assert re.search(rf"\b{test}\b", (ROOT / file).read_text(encoding="utf-8")), f"{file}::{test}"
    for file in re.findall(r"`((?:tests|cc)/[\w/]+\.(?:py|cc))[`:]", text):
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize(("page", "at_least"), [("design.md", 20), ("training.md", 15)])
def test_pages_of_promises_name_tests(page, at_least):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")

    assert len(set(re.findall(r"`(?:tests|cc)/[\w/.]+::\w+`", text))) >= at_least


def test_design_md_has_a_test_for_each_contract_of_this_release():
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    contracts = re.findall(r"^\*\*(C\d+)\*\* [^*]+\n\n\* `[\w/.]+::\w+`$", text, re.M)

    assert contracts == [f"C{number}" for number in range(1, 15)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
