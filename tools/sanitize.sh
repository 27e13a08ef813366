#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the engine and its unit tests under sanitizers and runs them.
#   tools/sanitize.sh SANITIZERS BUILD_DIR     e.g. tools/sanitize.sh address,undefined build/asan
# RocksDB is not instrumented; tools/tsan_suppressions.txt says what that hides.
set -euo pipefail

readonly SANITIZERS=$1 BUILD_DIR=$2
here=$(cd "$(dirname "$0")" && pwd)

# shellcheck disable=SC2086 # CMAKE_ARGS is a list of words
cmake -S cc -B "$BUILD_DIR" -G Ninja -DDAMO_BUILD_TESTS=ON "-DDAMO_SANITIZE=$SANITIZERS" ${CMAKE_ARGS:-}
cmake --build "$BUILD_DIR" --target damo_core_test

run=()
if [[ $SANITIZERS == thread ]] && setarch "$(uname -m)" -R true 2>/dev/null; then
  # GCC 12's runtime expects the address layout of older kernels; more random bits make it stop at the start.
  run=(setarch "$(uname -m)" -R)
fi
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1
export LSAN_OPTIONS="suppressions=$here/lsan_suppressions.txt:print_suppressions=0"
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1:suppressions=$here/tsan_suppressions.txt"
"${run[@]}" ctest --test-dir "$BUILD_DIR" --output-on-failure --no-tests=error
