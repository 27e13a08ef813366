# SPDX-License-Identifier: Apache-2.0
#
# The commands of this repository; `make` lists them. Every command sets up what it needs and skips what stands:
# system packages (apt, only where missing), .venv with the pinned packages of requirements/, the native build.
#
#   PYTHON=python3.12   the interpreter for .venv (3.11 or newer; read when .venv is made)
#   JOBS=2              parallel compilations and tests; default: all cores
#   DATA=... STORE=...  data and store of the demo
#   MODEL=din           its model: a module of models/ (models/README.md)
#   ARGS='--epochs 1'   any other option of demo, test-py, bench and bench-peers
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
JOBS ?= $(shell nproc)
PEERS_PYTHON ?= $(PYTHON)
MODEL ?= deepfm
DATA ?=
STORE ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
NATIVE := build/native
DEMO_STORE := build/demo-store
export DAMO_BUILD_DIR := $(NATIVE)
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
export CTEST_PARALLEL_LEVEL := $(JOBS)

CC_SOURCES := $(shell find cc -name '*.cc' -o -name '*.h')
FORMATTED := $(CC_SOURCES) $(wildcard benchmarks/cc/*.cc benchmarks/cc/*.h)
CORE_HEADERS := $(filter cc/damo/%.h,$(CC_SOURCES))
CORE_SOURCES := $(filter-out %_test.cc,$(filter cc/damo/%.cc,$(CC_SOURCES)))
BUILD_FILES := setup.py cc/CMakeLists.txt $(wildcard cc/damo/base/*.in)

# What stands is recorded in these files.
SYSTEM := build/stamps/system
PACKAGES := $(VENV)/.packages
INSTALLED := build/stamps/installed
CHECK_SYSTEM := build/stamps/check-system
BENCH_SYSTEM := build/stamps/bench-system
BENCH_PACKAGES := $(VENV)/.bench-packages
PLAIN_ROCKSDB := build/stamps/plain-rocksdb
PEERS := build/peers

say = @printf '\n==> %s\n' $(1)

.PHONY: help demo test test-cc test-py check lint types counted-work tidy asan tsan bench bench-build bench-peers wheel \
  format build clean clean-all

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED)  ## Train DeepFM, or MODEL=name; DATA=path STORE=folder ARGS='--epochs 1'
	$(call say,"Training models/$(MODEL).py $(if $(STORE),in the store $(STORE),in a fresh store in $(DEMO_STORE))")
	@$(if $(STORE),,rm -rf $(DEMO_STORE))
	@TF_CPP_MIN_LOG_LEVEL=$${TF_CPP_MIN_LOG_LEVEL:-2} $(BIN)/python -m models.$(MODEL) \
	  $(if $(DATA),--data '$(DATA)') --store '$(or $(STORE),$(DEMO_STORE))' $(ARGS)

test: test-cc test-py  ## Run the C++ unit tests and pytest

test-cc: $(INSTALLED)  ## Run the C++ unit tests
	$(call say,"C++ unit tests")
	@cmake -S cc -B $(NATIVE) -DDAMO_BUILD_TESTS=ON >build/configure-tests.log || { cat build/configure-tests.log; exit 1; }
	@cmake --build $(NATIVE) --target damo_core_test
	@ctest --test-dir $(NATIVE) --output-on-failure --no-tests=error

test-py: $(INSTALLED) $(PLAIN_ROCKSDB) $(BENCH_PACKAGES)  ## Run pytest; ARGS='-k name' selects
	$(call say,"Python tests")
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal $(ARGS)

check:  ## All checks, cheap to dear: lint, types, tests, counted work, clang-tidy, sanitizers
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory counted-work
	@$(MAKE) --no-print-directory tidy
	@$(MAKE) --no-print-directory asan
	@$(MAKE) --no-print-directory tsan
	$(call say,"All checks passed")

lint: $(PACKAGES)  ## Check the formatting and ruff's rules
	$(call say,"clang-format and ruff")
	@$(BIN)/clang-format --dry-run -Werror $(FORMATTED)
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check

types: $(INSTALLED) $(BENCH_PACKAGES)  ## Run mypy --strict
	$(call say,"mypy")
	@$(BIN)/mypy

counted-work: $(CHECK_SYSTEM) bench-build $(BENCH_PACKAGES)  ## Count the work of fixed calls against its limits; run the benchmarks of the engine once
	$(call say,"Counted work")
	@cmake -S cc -B $(NATIVE) -DDAMO_BUILD_TESTS=ON >build/configure-tests.log || { cat build/configure-tests.log; exit 1; }
	@cmake --build $(NATIVE) --target damo_counted_work
	@$(BIN)/python -m benchmarks.counted_work $(NATIVE)/damo_counted_work
	$(call say,"Benchmarks of the engine$(,) once$(,) not for numbers")
	@$(BIN)/python -m benchmarks --tiny --repetitions 1 --only engine --results build/tiny-benchmarks

# One stamp per source file: only what changed is looked at again.
tidy: $(CHECK_SYSTEM) $(INSTALLED)  ## Run clang-tidy on the engine
	$(call say,"clang-tidy")
	@$(MAKE) --no-print-directory -k -j$(JOBS) $(CORE_SOURCES:cc/%.cc=build/tidy/%.ok)

build/tidy/%.ok: cc/%.cc $(CORE_HEADERS) .clang-tidy
	@mkdir -p $(@D)
	@echo "clang-tidy $<"
	@clang-tidy -p $(NATIVE) --quiet $< 2>$@.log || { cat $@.log; exit 1; }
	@touch $@

asan: $(SYSTEM)  ## Run the C++ unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
	$(call say,"C++ unit tests under ASan and UBSan")
	@tools/sanitize.sh address$(,)undefined build/asan

tsan: $(SYSTEM)  ## Run the C++ unit tests under ThreadSanitizer
	$(call say,"C++ unit tests under TSan")
	@tools/sanitize.sh thread build/tsan

bench: bench-build $(BENCH_PACKAGES)  ## Measure damo_tf beside its rivals; ARGS='--quick' or '--only hot'
	$(call say,"Benchmarks")
	@$(BIN)/python -m benchmarks $(ARGS)

bench-build: $(PLAIN_ROCKSDB) $(BENCH_SYSTEM)  ## Compile what make bench runs
	$(call say,"Native part of the benchmarks")
	@$(call build_benchmarks,-DDAMO_ENGINE_DIR=$(CURDIR)/$(NATIVE))

bench-peers: $(INSTALLED) $(BENCH_PACKAGES) $(PEERS)/tfra/.packages $(PEERS)/damo-embedding/.packages  ## Measure damo_tf beside tensorflow-recommenders-addons and damo-embedding
	$(call say,"Benchmarks with peers")
	@$(BIN)/python -m benchmarks.peers $(ARGS)

wheel: $(INSTALLED)  ## Build the self-contained wheel in dist/ and test it in an empty environment
	$(call say,"Wheel")
	@PYTHON=$(BIN)/python tools/wheel.sh

format: $(PACKAGES)  ## Format all sources
	@$(BIN)/clang-format -i $(FORMATTED)
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

build: $(INSTALLED)  ## Set up and compile, nothing more

clean:  ## Remove build results; .venv and the peers' environments stay
	test ! -d build || find build -mindepth 1 -maxdepth 1 ! -name peers -exec rm -rf {} +
	rm -rf dist *.egg-info damo_tf/_build_info.py
	find damo_tf cc/pybind -name '*.so' -delete

clean-all: clean  ## Remove .venv, too
	rm -rf build $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

# ---- set-up ----

$(SYSTEM): tools/system_packages.sh
	$(call say,"System packages")
	@PYTHON='$(PYTHON)' tools/system_packages.sh build
	@mkdir -p $(@D) && touch $@

$(CHECK_SYSTEM): tools/system_packages.sh
	$(call say,"System packages of make check")
	@PYTHON='$(PYTHON)' tools/system_packages.sh check
	@mkdir -p $(@D) && touch $@

# A build tree belongs to one interpreter: a new .venv starts a new one.
$(BIN)/python: | $(SYSTEM)
	$(call say,"Virtual environment $(VENV) of $$('$(PYTHON)' --version)")
	@rm -rf $(VENV) $(NATIVE)
	@'$(PYTHON)' -m venv $(VENV)

$(PACKAGES): requirements/dev.txt | $(BIN)/python
	$(call say,"Python packages of requirements/dev.txt (some 400 MB the first time)")
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	@touch $@

$(INSTALLED): $(PACKAGES) $(CC_SOURCES) $(BUILD_FILES) pyproject.toml
	$(call say,"Native build in $(NATIVE)")
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@mkdir -p $(@D) && touch $@

$(BENCH_SYSTEM): tools/system_packages.sh
	$(call say,"System packages of make bench")
	@PYTHON='$(PYTHON)' tools/system_packages.sh bench
	@mkdir -p $(@D) && touch $@

$(BENCH_PACKAGES): requirements/bench.txt | $(PACKAGES)
	$(call say,"Python packages of requirements/bench.txt")
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/bench.txt
	@touch $@

# What the tests need of the benchmarks; the rest is bench-build's.
$(PLAIN_ROCKSDB): $(INSTALLED) $(wildcard benchmarks/cc/*)
	@$(build_benchmarks)
	@touch $@

# $(call build_benchmarks,CMAKE_OPTIONS)
define build_benchmarks
cmake -S benchmarks/cc -B build/benchmarks -G Ninja -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python \
  -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir) $(CMAKE_ARGS) $(1) >build/configure-benchmarks.log && \
  cmake --build build/benchmarks
endef

# The peers' wheels are for Python 3.11 at the latest, and depend on versions that .venv must not have.
$(PEERS)/%/.packages: requirements/peer-%.txt | $(SYSTEM)
	$(call say,"Virtual environment $(@D) (some GB)")
	@'$(PEERS_PYTHON)' -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "error: the peers need Python 3.11; name one: make bench-peers PEERS_PYTHON=python3.11" >&2; exit 1; }
	@rm -rf $(@D)
	@'$(PEERS_PYTHON)' -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -r $<
	@touch $@

, := ,
