# SPDX-License-Identifier: Apache-2.0
"""That models learn, on made-up and on real rows; learning_cases.py says what they reach when they do not."""

import pytest
from learning_cases import CASES, Case

import damo_tf


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_model_reaches_what_it_does_not_reach_without_learning(case: Case, tmp_path, capsys):
    try:
        arguments = case.command_line(tmp_path)
    except FileNotFoundError as error:
        pytest.skip(str(error))

    assert case.module.PROGRAM.main([*arguments, "--store", str(tmp_path / "run")]) == 0

    output = capsys.readouterr().out
    assert case.metric(output) >= case.at_least
    with damo_tf.Store(tmp_path / "run") as store:
        assert f" rows={store.size()} " in output.splitlines()[-1]
        assert set(store.stats()["groups"]) == set(case.module.PROGRAM.groups)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_threshold_lies_between_learning_and_not_learning(case: Case):
    assert max(*case.frozen, *case.shuffled) < case.at_least < min(case.whole)
