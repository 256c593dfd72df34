# make demo: the main workflow on a simulated atlas.   make test: all tests.   Both set up what they need first.

SHELL := /bin/bash
CUDA ?= $(shell nvidia-smi >/dev/null 2>&1 && echo 1 || echo 0)
CARGO ?= cargo
DEMO ?= demo
SHIPPED := $(abspath $(or $(CARGO_TARGET_DIR),target)/dist)
RELEASE := $(abspath $(or $(CARGO_TARGET_DIR),target)/release)

.PHONY: help setup build demo test test-features test-long test-wheel test-python wheel dist shipped wheel-check python-built lint bench bench-loaders bench-train bench-kernels bench-predict bench-predict-peers bench-training-peers bench-memory bench-judge bench-dev-loop gpu-check clean

help:
	@echo "make demo    build, then simulate, ingest, train, predict, evaluate and report on a laptop-scale atlas"
	@echo "make test    every test, example and doc-test"
	@echo "make test-features   clippy and the tests without torch, without hdf5, and without both"
	@echo "make test-long   long tests: every call that can fail, thousands of damaged files, ten million cells in a cgroup; an hour or two, 10 GB"
	@echo "make test-wheel   the Python package as a wheel of the dev build, against numpy, pyarrow and anndata"
	@echo "make test-python  the same against torch and all other packages that it works with; 6 GB once"
	@echo "make wheel   the Python package, in target/wheels/"
	@echo "make dist    a tarball of the programs with libtorch, in target/tarballs/"
	@echo "make wheel-check  tries both without cargo, a compiler or a network"
	@echo "make setup   only fetch libtorch and CMake into .libtorch/ (CUDA=1 also fetches the CUDA libraries)"
	@echo "make lint    rustfmt, clippy and rustdoc, warnings denied"
	@echo "make bench   the benchmarks behind benches/RESULTS.md"
	@echo "make bench-loaders   our loader compared with others on the same cells; several GB and minutes"
	@echo "make bench-train     cells trained per second of processor time, with either engine"
	@echo "make bench-kernels   each kernel of the fused step compared with libtorch's operations"
	@echo "make bench-predict   the Parquet sink compared with the bare writer, predictions with the decoder alone; 2 GB per run in the temporary folder"
	@echo "make bench-training-peers   our training compared with cpa-tools' on the same cells; several GB and minutes"
	@echo "make bench-predict-peers    our predicted cells compared with cpa-tools'; several GB and minutes"
	@echo "make bench-memory    the figures of docs/memory.md; some minutes"
	@echo "make bench-judge     predicted cells judged beside cell-eval (CELL_EVAL_PYTHON); some minutes, 2 GB, numpy and h5py"
	@echo "make bench-dev-loop  seconds from one changed line to the end of its room's tests, for each room; half an hour"
	@echo "make gpu-check       builds a package for a machine with a GPU (target/gpu-check), and runs it here as far as possible"

setup:
	@command -v python3 >/dev/null || { echo "python3 is missing: install Python 3.9 or newer with pip"; exit 1; }
	@python3 scripts/setup.py $(if $(filter 1,$(CUDA)),--cuda)

build: setup
	$(CARGO) build --release --locked

demo: build
	@bash scripts/demo.sh target/release/perturbine $(DEMO)

# Includes the GPU tests on a stand-in for CUDA (tests/cuda). They need torch's CUDA libraries, which are in the wheel that set-up
# fetches anyway: nothing more to download, 457 MB on disk. They take 144 s one after another, and 4 s to build the stand-in, once.
test: setup
	$(CARGO) test --workspace --locked
	@$(MAKE) --no-print-directory test-wheel

# Lints, and the tests of the root package, of builds without optional crates. The whole workspace is selected, so that other people's
# crates have the features that `make lint` and `make test` built them with, but for Python's extension, which needs HDF5. Only tests
# that see the features run.
test-features: setup
	@set -e; for features in perturbine/hdf5 perturbine/torch ""; do \
		echo "with no features$${features:+ but $$features}"; \
		$(CARGO) clippy --workspace --exclude perturbine-python --all-targets --locked --no-default-features --features "$$features" -- -D warnings; \
		$(CARGO) test --workspace --exclude perturbine-python --locked --no-default-features --features "$$features" --bins --test atlas --test predictions; \
	done

# Built as the tests are, so that no crate is built twice.
DEV := $(abspath $(or $(CARGO_TARGET_DIR),target)/debug)

python-built: setup
	$(CARGO) build --workspace --locked --features perturbine/faults

test-wheel: python-built
	@python3 scripts/test_python.py $(DEV)

test-python: python-built
	@python3 scripts/test_python.py --all $(DEV)

wheel: shipped
	@python3 scripts/packaging/wheel.py $(SHIPPED) target/wheels

dist: shipped
	@python3 scripts/packaging/dist.py $(SHIPPED) target/tarballs

shipped: setup
	$(CARGO) build --profile dist --workspace --locked

wheel-check: wheel dist
	@python3 scripts/packaging/check.py target/wheels target/tarballs

test-long: build
	PERTURBINE_LONG_TESTS=1 $(CARGO) test --locked --test reliability
	@python3 scripts/test_long.py $(RELEASE)/perturbine

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings --document-private-items" $(CARGO) doc --workspace --no-deps --locked

bench: setup
	$(CARGO) bench --locked

bench-loaders: build
	$(CARGO) build --release --locked --bench loader
	@bash scripts/bench_loaders.sh $(RELEASE)/perturbine "$$(ls -t $(RELEASE)/deps/loader-* | grep -v '\.d$$' | head -n 1)"

bench-train: setup
	$(CARGO) bench --locked --bench train

bench-kernels: setup
	$(CARGO) bench --locked --package perturbine-model --bench kernels

bench-predict: setup
	$(CARGO) bench --locked --bench sink --bench predict

bench-training-peers: build
	@python3 scripts/bench_training.py $(RELEASE)/perturbine

bench-predict-peers: build
	@python3 scripts/bench_prediction.py $(RELEASE)/perturbine

bench-judge: build
	@$(or $(PYTHON),python3) scripts/bench_judge.py $(RELEASE)/perturbine

bench-dev-loop: setup
	@CARGO="$(CARGO)" python3 scripts/dev_loop.py

bench-memory: build
	@python3 scripts/bench_memory.py $(RELEASE)/perturbine

gpu-check: setup
	@scripts/gpu-check

clean:
	rm -rf target $(DEMO)
