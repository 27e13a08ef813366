#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes sure that the system packages are there; installs with apt only what is missing.
#   tools/system_packages.sh build   compiler, CMake, RocksDB, ISA-L, xxHash, JSON, GoogleTest, Python with venv and headers
#   tools/system_packages.sh check   also what `make check` needs
#   tools/system_packages.sh bench   also what `make bench` needs
# Environment: PYTHON (default python3), CMAKE_ARGS (its -DDAMO_*_ROOT are honoured), CXX.
set -euo pipefail

readonly PYTHON=${PYTHON:-python3}
readonly WANTED=${1:-build}
missing=()

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# need PACKAGE COMMAND...: notes PACKAGE as missing unless the command succeeds.
need() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}

# header PATH: true if the compiler finds it.
header() {
  local include=() name
  for name in ROCKSDB ISAL XXHASH; do
    if [[ ${CMAKE_ARGS:-} =~ -DDAMO_${name}_ROOT=([^[:space:]]+) ]]; then
      include+=(-I "${BASH_REMATCH[1]}/include")
    fi
  done
  echo "#include <$1>" | "${CXX:-c++}" -std=c++17 "${include[@]}" -E -x c++ -
}

find_missing() {
  need g++ command -v "${CXX:-c++}"
  need cmake command -v cmake
  need ninja-build command -v ninja
  if command -v "${CXX:-c++}" >/dev/null; then
    need librocksdb-dev header rocksdb/db.h
    need libisal-dev header isa-l/crc.h
    need libxxhash-dev header xxhash.h
    need nlohmann-json3-dev header nlohmann/json.hpp
    need libgtest-dev header gtest/gtest.h
  else
    missing+=(librocksdb-dev libisal-dev libxxhash-dev nlohmann-json3-dev libgtest-dev)
  fi
  if [[ $WANTED == check ]]; then
    need clang-tidy command -v clang-tidy
    need valgrind command -v valgrind
  fi
  if [[ $WANTED == check || $WANTED == bench ]]; then
    need libbenchmark-dev header benchmark/benchmark.h
  fi
  find_missing_python
}

find_missing_python() {
  if ! command -v "$PYTHON" >/dev/null; then
    [[ $PYTHON == python3 ]] || fail "PYTHON=$PYTHON: no such command"
    missing+=(python3 python3-venv python3-dev)
    return
  fi
  check_python_version
  # Only Debian's own interpreter comes in pieces; another one brings its headers and ensurepip along.
  local real
  real=$(readlink -f "$("$PYTHON" -c 'import sys; print(sys.executable)')")
  [[ $real =~ ^/usr/bin/(python3\.[0-9]+)$ ]] || { check_python_parts; return; }
  need "${BASH_REMATCH[1]}-venv" "$PYTHON" -c 'import ensurepip, venv'
  need "${BASH_REMATCH[1]}-dev" "$PYTHON" -c "$PYTHON_HEADERS"
}

readonly PYTHON_HEADERS='import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'

check_python_version() {
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$PYTHON is $("$PYTHON" --version 2>&1); damo_tf needs Python 3.11 or newer." \
      "Name another one: make PYTHON=python3.11 ..."
}

check_python_parts() {
  "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || fail "$PYTHON lacks the modules venv and ensurepip"
  "$PYTHON" -c "$PYTHON_HEADERS" || fail "$PYTHON lacks its C headers (Python.h)"
}

install_missing() {
  local install="apt-get install -y --no-install-recommends ${missing[*]}"
  local advice="these system packages are missing: ${missing[*]}
As root: apt-get update && $install"
  command -v apt-get >/dev/null || fail "$advice
(there is no apt-get here: install what your system calls them)"
  local as_root=()
  if [[ $(id -u) != 0 ]]; then
    command -v sudo >/dev/null || fail "$advice"
    as_root=(sudo -n)
    if ! sudo -n true 2>/dev/null; then
      [[ -t 0 ]] || fail "$advice"
      as_root=(sudo)
    fi
  fi
  echo "Installing system packages: ${missing[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q || fail "apt-get update failed; $advice"
  # shellcheck disable=SC2086 # a list of words
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $install || fail "apt-get failed; $advice"
}

find_missing
if ((${#missing[@]})); then
  install_missing
  missing=()
  find_missing
  ((${#missing[@]} == 0)) || fail "still missing after their installation: ${missing[*]}"
fi
