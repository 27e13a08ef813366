# SPDX-License-Identifier: Apache-2.0
"""The three native libraries in one process: symbols, one engine, versions, vector code (BUILD_NOTES.md)."""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import damo
import numpy as np
import oracles
import pytest
import tensorflow as tf
from stored_rows import step_of

import damo_tf
from damo_tf import _build_info, ops
from damo_tf._native import check_tensorflow_version

DAMO = Path(damo.__file__).parent
DAMO_TF = Path(damo_tf.__file__).parent
ENGINE = DAMO / "libdamo_core.so"

# Trains one row through the module and through the ops.
SHARE_A_STORE = """
import sys
import damo
import numpy as np
from damo_tf import ops

storage = damo.PyStorage(sys.argv[1])
storage.add_group(3, 2, {"name": "zeros"}, {"name": "sgd", "gamma": 1.0})
storage.apply_gradients(3, np.array([7], np.uint64), np.array([1, 2], np.float32))
table = ops.table_handle(sys.argv[1], 3)
ops.apply_gradients(table, np.array([7, -1]), np.ones((2, 2), np.float32))
print(ops.size(table).numpy(), storage.size(), storage.row(3, 7)["weights"].tolist())
"""


def loaded_libraries(name: str) -> set[str]:
    """Paths of the shared objects in this process whose file name contains `name`."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if len(line.split(maxsplit=5)) == 6}
    return {path for path in paths if ".so" in Path(path).name and name in Path(path).name}


# ---- Symbols ----

#: What of the engine and RocksDB was bound to whom.
BINDING = re.compile(
    rb"binding file (\S*/(?:librocksdb|libdamo_core)[^/\s]*) \[\d+\] to (\S+) \[\d+\]: \w+ symbol `([^']+)'"
)
NOT_OF_THE_LOADER = re.compile(rb"^(?! *\d+:\t).*\n", re.MULTILINE)


@dataclass(frozen=True)
class Binding:
    user: str
    provider: str
    symbol: str


def run_and_watch_bindings(program: str, folder: Path, *arguments: object) -> tuple[set[Binding], str]:
    """Runs a program; returns what of the engine and RocksDB was bound to whom, and the output."""
    told = folder / "bindings"  # hundreds of megabytes in short lines, for which a pipe is slow
    with told.open("wb") as stderr:
        completed = subprocess.run(
            [sys.executable, "-P", "-c", program, *map(str, arguments)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "LD_DEBUG": "bindings",
                "LD_BIND_NOW": "1",
            },
            stdout=subprocess.PIPE,  # the loader says nothing there
            stderr=stderr,
            check=False,
        )
    text = told.read_bytes()
    told.unlink()
    assert completed.returncode == 0, b"".join(NOT_OF_THE_LOADER.findall(text)).decode()
    found = {Binding(*(name.decode() for name in groups)) for groups in BINDING.findall(text)}
    return found, completed.stdout.decode()


def to_tensorflow(found: set[Binding]) -> set[Binding]:
    return {binding for binding in found if "tensorflow" in binding.provider}


@pytest.fixture(scope="module", params=["import tensorflow, damo_tf", "import damo_tf"])
def shared_store_process(request, tmp_path_factory) -> tuple[set[Binding], str]:
    """Bindings and output of SHARE_A_STORE, TensorFlow imported first or last."""
    program = f"{request.param}\n{SHARE_A_STORE}"
    folder = tmp_path_factory.mktemp("shared")
    return run_and_watch_bindings(program, folder, folder / "store")


def test_engine_and_rocksdb_call_nothing_of_tensorflow(shared_store_process):
    found, _ = shared_store_process
    assert any("librocksdb" in b.user and "libstdc++" in b.provider for b in found)
    assert any("libdamo_core" in b.user and "librocksdb" in b.provider for b in found)
    assert to_tensorflow(found) == set()


def test_rocksdb_loaded_after_tensorflow_without_care_would_call_it(tmp_path):
    (rocksdb,) = loaded_libraries("librocksdb")
    program = f"import tensorflow, ctypes, os; ctypes.CDLL({rocksdb!r}, os.RTLD_NOW)"
    assert to_tensorflow(run_and_watch_bindings(program, tmp_path)[0])


def needed_libraries(library: Path) -> list[str]:
    dynamic = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    return re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)


def test_each_library_links_what_its_layer_may_know():
    engine = needed_libraries(ENGINE)
    assert [name for name in engine if name.startswith("librocksdb")]
    assert not [name for name in engine if re.search("tensorflow|python|absl", name)]
    (extension,) = DAMO.glob("_damo.*.so")
    assert "libdamo_core.so" in needed_libraries(extension)
    assert not [name for name in needed_libraries(extension) if re.search("tensorflow|rocksdb", name)]
    operations = needed_libraries(DAMO_TF / "_damo_ops.so")
    assert {"libdamo_core.so", "libtensorflow_framework.so.2"} <= set(operations)
    assert not [name for name in operations if re.search("python|rocksdb", name)]


# ---- One engine ----


def test_there_is_one_engine_and_one_rocksdb_in_a_process():
    assert loaded_libraries("libdamo_core") == {str(ENGINE.resolve())}
    assert len(loaded_libraries("librocksdb")) == 1


def test_module_and_ops_share_open_stores_in_any_order_of_imports(shared_store_process):
    _, output = shared_store_process
    assert output == "2 2 [-2.0, -3.0]\n"


def test_the_ops_see_what_the_module_does_and_the_other_way_round(store):
    store.add_group(1, 2, initializer="zeros", optimizer={"name": "sgd", "gamma": 1.0})
    table = ops.table_handle(store.directory, 1)
    store.apply_gradients(1, [5], [[1.0, 2.0]])
    embeddings, _ = ops.lookup(table, tf.constant([5], tf.int64), tf.constant(0.0), dim=2)
    np.testing.assert_array_equal(embeddings, [[-1, -2]])
    ops.apply_gradients(table, tf.constant([5], tf.int64), tf.ones((1, 2)))
    np.testing.assert_array_equal(store.lookup(1, [5]), [[-2, -3]])
    assert step_of(store, 1) == 2
    store.close()
    with pytest.raises(tf.errors.FailedPreconditionError, match="is closed"):
        ops.size(table)


def test_damo_alone_imports_neither_tensorflow_nor_keras(run_python):
    program = (
        "import damo, sys; print({name.split('.')[0] for name in sys.modules} & {'tensorflow', 'keras'})"
    )
    assert run_python(program) == "set()\n"


# ---- Builds and versions ----


def with_another_build_id(package: Path, library: str, copy: Path) -> Path:
    """Copies a package; `library` in the copy looks like one of another build."""
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (path,) = copy.glob(library)
    # The compiler may keep the id in halves, as numbers.
    half = damo.build_id[:8].encode()
    path.write_bytes(path.read_bytes().replace(half, bytes(reversed(half))))
    return copy


def test_the_build_id_is_the_engines_sources():
    assert re.fullmatch("[0-9a-f]{16}", damo.build_id)
    assert damo.build_id.encode() in ENGINE.read_bytes()


def test_the_level_of_vector_code_is_the_widest_that_the_processor_has():
    found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    levels = {
        "avx512": {"avx512f", "avx512vl", "avx512dq", "avx512bw"},
        "avx2": {"avx2"},
        "baseline": set(),
    }
    assert damo.simd_level == next(level for level, needed in levels.items() if needed <= flags)


def test_a_module_of_another_build_than_the_engine_is_refused(tmp_path, run_python):
    with_another_build_id(DAMO, "_damo.*.so", tmp_path / "damo")
    program = """
import sys
sys.path.insert(0, sys.argv[1])
try:
    import damo
except ImportError as error:
    print(error)
"""
    other = "".join(reversed(damo.build_id[:8])) + damo.build_id[8:]
    assert run_python(program, tmp_path) == (
        f"damo was built with engine {other}, but engine {damo.build_id} is loaded: another installation "
        "of damo_tf is in use in this process\n"
    )


def test_ops_of_another_build_than_the_engine_are_refused(tmp_path, run_with_tensorflow):
    with_another_build_id(DAMO_TF, "_damo_ops.so", tmp_path / "damo_tf")
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from damo_tf import ops
try:
    ops.table_handle(sys.argv[1], 0)
except Exception as error:
    print(type(error).__name__, error)
"""
    output = run_with_tensorflow(program, tmp_path)
    assert output.startswith("FailedPreconditionError ")
    other = "".join(reversed(damo.build_id[:8])) + damo.build_id[8:]
    assert f"the ops were built with engine {other}, but engine {damo.build_id} is loaded" in output


def test_the_build_info_names_the_tensorflow_that_runs():
    assert _build_info.TENSORFLOW_VERSION.split(".")[:2] == tf.__version__.split(".")[:2]


def test_another_patch_version_of_tensorflow_is_accepted():
    check_tensorflow_version("2.21.0", "2.21.3")


@pytest.mark.parametrize("installed", ["2.20.0", "2.22.0-rc1", "3.21.0"])
def test_another_minor_version_of_tensorflow_is_refused_with_both_versions_and_the_cure(installed):
    with pytest.raises(ImportError) as caught:
        check_tensorflow_version("2.21.0", installed)
    assert str(caught.value) == (
        f"damo_tf was built for TensorFlow 2.21, but TensorFlow {installed} is installed. Install "
        "`tensorflow==2.21.*` (or `tensorflow-cpu`), or rebuild damo_tf against the installed version: "
        "`pip install --no-build-isolation .` in its source folder."
    )


def test_importing_damo_tf_under_another_minor_version_is_that_error(run_python):
    program = """
import sys, types
sys.modules["tensorflow"] = types.SimpleNamespace(__version__="1.15.0")
try:
    import damo_tf
except ImportError as error:
    print(error)
"""
    minor = ".".join(_build_info.TENSORFLOW_VERSION.split(".")[:2])
    expected = f"damo_tf was built for TensorFlow {minor}, but TensorFlow 1.15.0 is installed. "
    assert run_python(program).startswith(expected)


def test_using_damo_tf_without_tensorflow_names_what_to_install(run_python):
    program = """
import sys
sys.modules["tensorflow"] = None
import damo_tf
try:
    damo_tf.Store
except ImportError as error:
    print(error)
"""
    version = _build_info.TENSORFLOW_VERSION
    assert run_python(program) == (
        f"damo_tf needs TensorFlow {version}, for which it was built: `pip install "
        f"tensorflow-cpu=={version}` (or `tensorflow`).\n"
    )


# ---- Vector code ----

#: Of the loops of `ForEachElement`, the registers that they are for (docs/decisions/0009-vector-code.md).
REGISTERS = {"Avx2Loop": "ymm", "Avx512Loop": "zmm"}
LOOP = re.compile(r"(Avx2Loop|Avx512Loop)<.*?(\w+)(?:, \w+(?: const)?)+>\(")
SYMBOL = re.compile(r"^ *\d+: ([0-9a-f]+) +\S+ (FILE|FUNC) +\S+ +\S+ +\S+ *(\S*)", re.MULTILINE)
#: Mnemonics of arithmetic on floats: on one in a register, and on several.
ARITHMETIC = r"v?(?:add|sub|mul|div|sqrt|min|max|and|cmp\w+|u?comi|cvt\w+)"
ONE_FLOAT = re.compile(ARITHMETIC + "s[sd]")
FLOATS = re.compile(ARITHMETIC + "p[sd]")


@dataclass(frozen=True)
class Loop:
    source: str
    kernel: str
    level: str

    def __str__(self) -> str:
        return f"{self.level} of {self.kernel} in {self.source}"


def sources_by_address(library: Path) -> dict[int, str]:
    """The source file of each function that other files do not see, by its address."""
    table = subprocess.run(
        ["readelf", "--symbols", "--wide", library], capture_output=True, text=True, check=True
    ).stdout
    found, source = {}, ""
    for address, kind, name in SYMBOL.findall(table):
        if kind == "FILE":  # those that follow are of this one
            source = name
        else:
            found[int(address, 16)] = source
    return found


def vector_loops(library: Path) -> dict[Loop, list[tuple[str, str]]]:
    """The instructions, each a mnemonic and its operands, of every vector loop."""
    text = subprocess.run(
        ["objdump", "--disassemble", "--demangle", "--no-show-raw-insn", "-M", "intel", library],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    sources, loops = sources_by_address(library), {}
    for function in text.split("\n\n"):
        heading, *lines = function.splitlines() or [""]
        if (found := LOOP.search(heading)) is None:
            continue
        loop = Loop(sources[int(heading.split()[0], 16)], found[2], found[1])
        code = [line.split("\t", 1)[1].split(None, 1) for line in lines if "\t" in line]
        loops[loop] = [(mnemonic, operands[0] if operands else "") for mnemonic, *operands in code]
    return loops


def test_every_element_loop_works_on_whole_registers_and_on_nothing_less():
    """A loop that is no longer vectorized gives the same bits, only later: no other test sees it."""
    if platform.machine() != "x86_64":
        pytest.skip(f"{platform.machine()} has no levels of vector code")
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not there; as root: apt-get install binutils")

    loops = vector_loops(ENGINE)

    kernels = {(loop.source, loop.kernel) for loop in loops}
    assert {f"{optimizer}.cc" for optimizer in oracles.OPTIMIZERS} <= {source for source, _ in kernels}
    assert loops.keys() == {Loop(*kernel, level) for kernel in kernels for level in REGISTERS}
    for loop, code in loops.items():
        single = [instruction for instruction in code if ONE_FLOAT.fullmatch(instruction[0])]
        assert not single, f"{loop} takes one element at a time (remainders are the work of RemainderLoop)"
        vectors = [operands for mnemonic, operands in code if FLOATS.fullmatch(mnemonic)]
        assert vectors, f"{loop} does no arithmetic on vectors"
        narrow = [operands for operands in vectors if REGISTERS[loop.level] not in operands.lower()]
        assert not narrow, f"{loop} leaves a part of its registers empty"
