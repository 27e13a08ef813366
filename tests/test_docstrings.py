# SPDX-License-Identifier: Apache-2.0
"""Every public symbol has an example in its docstring, and examples do what they show.

Public is what `damo_tf` and `damo` name in `__all__`, and what the modules among that name in theirs.
"""

import doctest
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import damo
import keras
import numpy as np
import pytest
import tensorflow as tf

import damo_tf


def public_modules(module: ModuleType) -> Iterator[ModuleType]:
    """A public module, and those that it offers."""
    yield module
    for name in module.__all__:
        if isinstance(getattr(module, name), ModuleType):
            yield from public_modules(getattr(module, name))


MODULES = [*public_modules(damo_tf), *public_modules(damo)]


def public_symbols() -> dict[str, Any]:
    """Public classes and functions by name; one that several modules offer is there once."""
    symbols: dict[int, tuple[str, Any]] = {}
    for module in MODULES:
        for name in module.__all__:
            if callable(symbol := getattr(module, name)):
                symbols.setdefault(id(symbol), (f"{module.__name__}.{name}", symbol))
    return dict(symbols.values())


def own_members(symbol: type) -> dict[str, Any]:
    """What a class and those of its bases that are ours define."""
    ours = [base for base in symbol.__mro__ if base.__module__.split(".")[0] in ("damo", "damo_tf")]
    return {name: definition for base in reversed(ours) for name, definition in vars(base).items()}


def methods_with_examples(symbols: dict[str, Any]) -> dict[str, Any]:
    """Methods need no example; those that there are must be true as well."""
    return {
        f"{name}.{method}": definition
        for name, symbol in symbols.items()
        if inspect.isclass(symbol)
        for method, definition in own_members(symbol).items()
        if not inspect.isclass(definition) and ">>> " in (definition.__doc__ or "")
    }


SYMBOLS = public_symbols()
DOCUMENTED = SYMBOLS | methods_with_examples(SYMBOLS)


@pytest.fixture
def names(store, tmp_path, monkeypatch) -> dict[str, Any]:
    """What examples may use without saying where it comes from. Relative paths are the example's own."""
    monkeypatch.chdir(tmp_path)
    ids = keras.Input((1,), dtype="int64", name="ids")
    optimizer = damo_tf.optimizers.SGD(0.5)
    vectors = damo_tf.Embedding(2, store=store, group=9, optimizer=optimizer, name="rows")(ids)
    model = keras.Model(ids, keras.layers.Dense(1, name="score")(keras.layers.Flatten()(vectors)))
    model.compile("sgd", "mse")
    return {
        "damo": damo,
        "damo_tf": damo_tf,
        "keras": keras,
        "np": np,
        "tf": tf,
        "store": store,
        "model": model,
        "x": np.arange(8)[:, None],
        "y": np.ones((8, 1), np.float32),
    }


def check_example(name: str, symbol: Any, names: dict[str, Any]) -> None:
    text = symbol.__doc__ or ""
    section = re.search(r"^ *Example:\n\n(?=( *)>>> )", text, re.MULTILINE)
    assert section, f"the docstring of {name} must have a section 'Example:' that begins with '>>> '"
    examples = doctest.DocTestParser().get_doctest(text, dict(names), name, None, 0)
    skipped = [e.source for e in examples.examples if e.options.get(doctest.SKIP)]
    assert not skipped, f"examples of {name} must run. Skipped: {skipped}"
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(examples, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_example_prints_what_it_shows(names, name):
    check_example(name, DOCUMENTED[name], names)


def test_public_modules_offer_all_that_they_define():
    """So that nothing public escapes the test above."""
    for module in MODULES:
        defined = {
            name
            for name, value in vars(module).items()
            if callable(value) and value.__module__ == module.__name__ and not name.startswith("_")
        }
        assert defined <= set(module.__all__), module.__name__
    extension = {name for name in vars(damo._damo) if not name.startswith("_")}
    assert extension <= set(damo.__all__)


@pytest.mark.parametrize(
    ("docstring", "text"),
    [
        (None, "must have a section 'Example:'"),
        ("Says nothing.\n\nExample:\n\n    nothing", "must have a section 'Example:'"),
        ("Says.\n\nExample:\n\n>>> 1 / 0  # doctest: +SKIP\n", r"must run. Skipped: \['1 / 0"),
        ("Says.\n\nExample:\n\n>>> 1 + 1\n3\n", r"Expected:\s+3\s+Got:\s+2"),
        ("Says.\n\nExample:\n\n>>> unknown\n", "NameError"),
    ],
)
def test_symbol_without_true_example_fails(docstring, text):
    def symbol() -> None: ...

    symbol.__doc__ = docstring
    with pytest.raises(AssertionError, match=text):
        check_example("symbol", symbol, {})
