# SPDX-License-Identifier: Apache-2.0
"""The arrows of docs/design.md: what may use what, read off #include and import lines."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Folder of cc/damo to the folders it may include, besides itself.
MAY_INCLUDE = {
    "base": set(),
    "config": {"base"},
    "row": {"base"},
    "optimizer": {"base", "config"},
    "initializer": {"base", "config"},
    "schedule": {"base", "config"},
    "feature": {"base"},
    "admission": {"base", "config"},
    "combiner": {"base"},
    "storage": {"base", "config", "row"},
    "redo": {"base"},
    "checkpoint": {"base", "config", "row", "storage"},
    "cache": {"base", "row"},
    "table": {
        "base",
        "config",
        "row",
        "optimizer",
        "initializer",
        "schedule",
        "admission",
        "combiner",
        "storage",
        "redo",
        "cache",
        "checkpoint",
    },
    "dump": {"base", "checkpoint", "config", "row", "storage", "table"},
}
#: Headers of others that the engine may include, and from where.
ROCKSDB_ONLY_IN = "cc/damo/storage/"
FOREIGN = re.compile(r"^(tensorflow|absl|xla|tsl|Eigen|unsupported|pybind11|Python\.h|numpy)\b")

#: Adapter to what it must not include.
NOT_IN_ADAPTER = {
    "cc/ops": ("pybind/", "pybind11/", "Python.h", "rocksdb/"),
    "cc/pybind": ("ops/", "tensorflow/", "absl/", "rocksdb/"),
}

#: Public modules of damo_tf: what models may name.
PUBLIC = {
    "damo_tf",
    "damo_tf.callbacks",
    "damo_tf.data",
    "damo_tf.initializers",
    "damo_tf.optimizers",
    "damo_tf.optimizers.schedules",
}

INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', re.MULTILINE)


def sources(root: Path, folder: str, *suffixes: str) -> list[Path]:
    return sorted(p for p in (root / folder).rglob("*") if p.suffix in suffixes)


def includes(path: Path) -> list[str]:
    return INCLUDE.findall(path.read_text(encoding="utf-8"))


def imports(path: Path) -> list[str]:
    """Modules that a Python file imports, `from a import b` as `a` and `a.b`."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
    return names


def is_foreign(name: str, include: str) -> bool:
    """Whether an engine source includes a header of others that is not for it."""
    rocksdb = include.startswith("rocksdb/") and not name.startswith(ROCKSDB_ONLY_IN)
    return rocksdb or FOREIGN.match(include) is not None


def core_breaches(root: Path) -> list[str]:
    """Includes of the engine that point up or out."""
    found = []
    for path in sources(root, "cc/damo", ".h", ".cc"):
        name = path.relative_to(root).as_posix()
        folder = name.split("/")[2]
        for include in includes(path):
            if include.startswith("damo/"):
                target = include.split("/")[1]
                if target != folder and target not in MAY_INCLUDE[folder] and not name.endswith("_test.cc"):
                    found.append(f"{name} includes {include}")
            elif include.startswith(("ops/", "pybind/")) or is_foreign(name, include):
                found.append(f"{name} includes {include}")
    return found


def adapter_breaches(root: Path) -> list[str]:
    """Includes of one adapter, or its world, in the other, and of RocksDB in either."""
    found = []
    for folder, forbidden in NOT_IN_ADAPTER.items():
        for path in sources(root, folder, ".h", ".cc"):
            bad = [include for include in includes(path) if include.startswith(forbidden)]
            found += [f"{path.relative_to(root)} includes {include}" for include in bad]
    return found


def import_breaches(root: Path) -> list[str]:
    """Imports that point up: engine module to TensorFlow, package to models, models to private parts."""
    found = []
    for path in sources(root, "cc/pybind/damo", ".py"):
        bad = [n for n in imports(path) if n.split(".")[0] in ("tensorflow", "keras", "damo_tf", "models")]
        found += [f"{path.relative_to(root)} imports {name}" for name in bad]
    for path in sources(root, "damo_tf", ".py"):
        bad = [n for n in imports(path) if n.split(".")[0] in ("benchmarks", "models", "tests", "oracles")]
        found += [f"{path.relative_to(root)} imports {name}" for name in bad]
    for path in sources(root, "models", ".py"):
        bad = [n for n in imports(path) if n.split(".")[0] in ("damo", "damo_tf") and n not in PUBLIC]
        found += [f"{path.relative_to(root)} imports {name}" for name in bad]
    for path in sources(root, "benchmarks", ".py"):
        bad = [n for n in imports(path) if n.split(".")[0] == "damo_tf" and n not in PUBLIC]
        found += [f"{path.relative_to(root)} imports {name}" for name in bad]
    return found


def test_engine_includes_point_down_only():
    assert core_breaches(ROOT) == []


def test_adapters_know_neither_each_other_nor_rocksdb():
    assert adapter_breaches(ROOT) == []


def test_imports_point_down_only():
    assert import_breaches(ROOT) == []


@pytest.mark.parametrize(
    ("name", "text", "breach"),
    [
        ("cc/damo/row/a.h", '#include "damo/table/store.h"\n', "cc/damo/row/a.h includes damo/table/store.h"),
        ("cc/damo/table/a.cc", "#include <rocksdb/db.h>\n", "cc/damo/table/a.cc includes rocksdb/db.h"),
        (
            "cc/damo/base/a.cc",
            '#include "absl/strings/str.h"\n',
            "cc/damo/base/a.cc includes absl/strings/str.h",
        ),
        (
            "cc/damo/base/a.cc",
            "#  include <pybind11/numpy.h>\n",
            "cc/damo/base/a.cc includes pybind11/numpy.h",
        ),
        ("cc/ops/a.cc", '#include "pybind/module.h"\n', "cc/ops/a.cc includes pybind/module.h"),
        ("cc/pybind/a.cc", '#include "ops/tf_status.h"\n', "cc/pybind/a.cc includes ops/tf_status.h"),
        (
            "cc/pybind/damo/__init__.py",
            "import tensorflow as tf\n",
            "cc/pybind/damo/__init__.py imports tensorflow",
        ),
        ("damo_tf/a.py", "from models import deepfm\n", "damo_tf/a.py imports models.deepfm"),
        ("models/a.py", "from damo_tf import table\n", "models/a.py imports damo_tf.table"),
        ("models/a.py", "import damo_tf._native\n", "models/a.py imports damo_tf._native"),
        ("benchmarks/a.py", "from damo_tf import table\n", "benchmarks/a.py imports damo_tf.table"),
    ],
)
def test_breach_is_found(tmp_path, name, text, breach):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(text)

    found = core_breaches(tmp_path) + adapter_breaches(tmp_path) + import_breaches(tmp_path)

    assert breach in found


def test_models_use_public_attributes_only():
    for path in sources(ROOT, "models", ".py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "damo_tf"
            ):
                assert not node.attr.startswith("_"), f"{path}: damo_tf.{node.attr}"
                assert node.attr not in ("ops", "table"), f"{path}: damo_tf.{node.attr}"


def test_oracles_import_numpy_and_the_standard_library_only():
    allowed = {"__future__", "collections", "dataclasses", "math", "typing", "numpy"}

    assert {name.split(".")[0] for name in imports(ROOT / "tests" / "oracles.py")} <= allowed


def test_every_source_is_in_the_one_list_of_sources():
    listed = []
    for folder in ("cc", "benchmarks/cc"):  # of the engine and its tests; of its rivals in benchmarks
        text = (ROOT / folder / "CMakeLists.txt").read_text(encoding="utf-8")
        listed += [(ROOT / folder / name).resolve() for name in re.findall(r"[\w./]+\.cc\b", text)]

    assert sorted(set(listed)) == sorted(sources(ROOT, "cc", ".cc") + sources(ROOT, "benchmarks/cc", ".cc"))
    assert len(set(listed)) == len(listed)


def test_every_source_names_its_licence():
    files = [ROOT / "setup.py", ROOT / "Makefile", ROOT / "cc" / "CMakeLists.txt"]
    files += sources(ROOT, "cc", ".h", ".cc", ".py", ".pyi") + sources(ROOT, "damo_tf", ".py")
    files += sources(ROOT, "models", ".py") + sources(ROOT, "tests", ".py")
    files += sources(ROOT, "benchmarks", ".cc", ".py")
    generated = {ROOT / "damo_tf" / "_build_info.py"}

    for path in set(files) - generated:
        head = path.read_text(encoding="utf-8").splitlines()[:2]
        assert any("SPDX-License-Identifier: Apache-2.0" in line for line in head), path
