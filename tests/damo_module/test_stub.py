# SPDX-License-Identifier: Apache-2.0
"""The stub of the module `damo` says what the module has."""

import ast
from pathlib import Path

import damo
import pytest

STUB = Path(damo.__file__).with_suffix(".pyi")


def parameters_of(arguments: ast.arguments):
    """Name, default and kind of each parameter but self."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    found = [
        (name.arg, default and ast.unparse(default), "positional")
        for name, default in zip(positional, defaults, strict=True)
        if name.arg != "self"
    ]
    for name, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append((name.arg, default and ast.unparse(default), "keyword"))
    return found


def signature_in_docstring(function):
    """pybind11 writes the signature into the first line of a docstring."""
    line = function.__doc__.splitlines()[0]
    return parameters_of(ast.parse(f"def {line}: ...").body[0].args)


def stub_members(class_def: ast.ClassDef):
    methods, properties = {}, set()
    for member in class_def.body:
        if isinstance(member, ast.FunctionDef):
            if any(ast.unparse(decorator) == "property" for decorator in member.decorator_list):
                properties.add(member.name)
            else:
                methods[member.name] = parameters_of(member.args)
    return methods, properties


def is_public(name):
    return not name.startswith("_") or name in ("__init__", "__enter__", "__exit__")


def test_stub_and_module_have_the_same_names():
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    defined |= {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    assert {name for name in defined if not name.startswith("_")} == set(damo.__all__)
    assert all(hasattr(damo, name) for name in damo.__all__)


@pytest.mark.parametrize(
    "class_def",
    [node for node in ast.parse(STUB.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)],
    ids=lambda node: node.name,
)
def test_stub_and_class_have_the_same_members_and_parameters(class_def):
    methods, properties = stub_members(class_def)
    actual = {
        name: member
        for name, member in vars(getattr(damo, class_def.name)).items()
        if is_public(name) and not name.startswith("_pybind11")
    }
    assert {name for name, member in actual.items() if isinstance(member, property)} == properties
    assert actual.keys() - properties == methods.keys()
    for name in methods.keys() - {"__exit__"}:  # which takes whatever Python passes
        assert signature_in_docstring(actual[name]) == methods[name], name


def test_the_module_is_typed():
    assert STUB.with_name("py.typed").exists()
