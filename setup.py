# SPDX-License-Identifier: Apache-2.0
"""Builds the native part of damo_tf and puts it into the two Python packages.

The C++ sources and flags are in cc/CMakeLists.txt; this file only tells CMake about the interpreter and the
TensorFlow it builds for, and copies the three libraries to where the packages expect them. The build tree is
kept between runs, so that a second build compiles only what changed.

Environment:
  DAMO_BUILD_DIR  build tree; default build/native-<python>-tf<version> beside this file
  CMAKE_ARGS      more arguments for CMake, e.g. -DDAMO_ROCKSDB_ROOT=/opt/rocksdb
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError

ROOT = Path(__file__).resolve().parent

# CMake target -> (file it builds, package it belongs to).
LIBRARIES = {
    "damo_core": ("libdamo_core.so", "damo"),
    "damo_python": ("_damo" + sysconfig.get_config_var("EXT_SUFFIX"), "damo"),
    "damo_ops": ("_damo_ops.so", "damo_tf"),
}

NO_TENSORFLOW = """\
TensorFlow is not importable by {python}.
damo_tf is compiled against the TensorFlow that it will run in, so the build must see that one:
    pip install -r requirements/dev.txt
    pip install --no-build-isolation .
Without --no-build-isolation pip builds in an empty environment, where no TensorFlow is installed."""

BUILD_INFO = '''\
"""What the native libraries were compiled against. Written by setup.py."""

TENSORFLOW_VERSION = "{version}"
'''


def find_tensorflow() -> tuple[Path, str]:
    """Returns the folder and the version of the installed TensorFlow, without the cost of importing it."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise PlatformError(NO_TENSORFLOW.format(python=sys.executable))
    folder = Path(spec.submodule_search_locations[0])
    distributions = set(importlib.metadata.packages_distributions().get("tensorflow", ()))
    if len(distributions) == 1:
        return folder, importlib.metadata.version(distributions.pop())
    import tensorflow  # several distributions claim the folder: only the package itself knows

    return folder, tensorflow.__version__


def find_pybind11() -> str:
    """Returns the folder of pybind11's CMake configuration."""
    try:
        import pybind11
    except ImportError as error:
        raise PlatformError(
            f"pybind11 is not importable by {sys.executable}: pip install -r requirements/dev.txt"
        ) from error
    return pybind11.get_cmake_dir()


class NativeBuild(build_ext):
    """Runs CMake and copies the libraries; replaces setuptools' compiler driving altogether."""

    def run(self) -> None:
        tensorflow, version = find_tensorflow()
        build_dir = self._build_dir(version)
        self._configure(build_dir, tensorflow, version)
        self._call("cmake", "--build", str(build_dir), "--target", *LIBRARIES)
        for name, package in LIBRARIES.values():
            self.copy_file(str(build_dir / name), str(self._destination(package) / name))
        info = self._destination("damo_tf") / "_build_info.py"
        info.write_text(BUILD_INFO.format(version=version))

    def get_outputs(self) -> list[str]:
        return list(self.get_output_mapping())

    def get_output_mapping(self) -> dict[str, str]:
        """Maps each file as it is in a wheel to where an editable install keeps it."""
        files = [(name, package) for name, package in LIBRARIES.values()]
        files.append(("_build_info.py", "damo_tf"))
        return {
            str(Path(self.build_lib, package, name)): str(self._source_folder(package) / name)
            for name, package in files
        }

    def get_source_files(self) -> list[str]:
        return []  # MANIFEST.in lists them

    def _build_dir(self, tensorflow_version: str) -> Path:
        default = f"build/native-{sys.implementation.cache_tag}-tf{tensorflow_version}"
        return ROOT / os.environ.get("DAMO_BUILD_DIR", default)

    def _configure(self, build_dir: Path, tensorflow: Path, version: str) -> None:
        self._call(
            "cmake",
            *("-S", str(ROOT / "cc"), "-B", str(build_dir), "-G", "Ninja"),
            "-DCMAKE_BUILD_TYPE=Release",
            "-DDAMO_PYTHON=ON",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={find_pybind11()}",
            f"-DDAMO_TF_INCLUDE_DIR={tensorflow / 'include'}",
            f"-DDAMO_TF_LIBRARY_DIR={tensorflow}",
            f"-DDAMO_TF_VERSION={version}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        )

    def _source_folder(self, package: str) -> Path:
        return Path(self.get_finalized_command("build_py").get_package_dir(package))

    def _destination(self, package: str) -> Path:
        in_place = self.inplace or self.editable_mode
        folder = self._source_folder(package) if in_place else Path(self.build_lib, package)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _call(self, *command: str) -> None:
        for tool in ("cmake", "ninja"):
            if shutil.which(tool) is None:
                raise PlatformError(
                    f"{tool} not found. Debian and Ubuntu: apt-get install cmake ninja-build g++"
                )
        try:
            subprocess.run(command, check=True)
        except subprocess.CalledProcessError as error:
            raise PlatformError(f"native build failed: {shlex.join(command)}") from error


if not sys.platform.startswith("linux"):
    sys.exit(f"damo_tf builds on Linux only; this is {sys.platform}")

setup(
    packages=["damo", *find_packages(include=["damo_tf", "damo_tf.*"])],
    package_dir={"damo": "cc/pybind/damo", "damo_tf": "damo_tf"},
    package_data={"damo": ["py.typed", "*.pyi"], "damo_tf": ["py.typed", "*.pyi"]},
    include_package_data=False,
    ext_modules=[Extension("damo._damo", sources=[])],  # makes the wheel a platform wheel
    cmdclass={"build_ext": NativeBuild},
)
