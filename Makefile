# Needs Swift 6 and make; on Debian and Ubuntu everything else is installed when it is missing.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
BINARY := .build/release/magicalane
SOURCES := $(wildcard Sources Tests Examples)
EXAMPLES := $(patsubst %/Package.swift,%,$(wildcard Examples/Package.swift Examples/*/Package.swift))

BUILD_PACKAGES := libngtcp2-dev libngtcp2-crypto-gnutls-dev libgnutls28-dev libmicrohttpd-dev pkg-config
TEST_PACKAGES := curl openssl gnutls-bin iproute2 util-linux slowhttptest python3 python3-venv gcc libc6-dev
BENCH_PACKAGES := gcc libc6-dev openssl iproute2 util-linux python3 python3-pip
# Unpacked into .venv and not installed: as a package, prometheus would start a server.
UNPACKED_PACKAGES := prometheus

AS_ROOT := $(if $(filter-out 0,$(shell id -u)),sudo)
# Without root the end-to-end tests run in a network of their own, in which they may make others.
ISOLATED := $(if $(filter-out 0,$(shell id -u)),unshare --map-root-user --net bash -c 'ip link set lo up && exec "$$0" "$$@"')
PYTEST = cd Tests/EndToEnd && $(ISOLATED) $(CURDIR)/.venv/bin/python -m pytest

.PHONY: help run build test soak bench bench-quick bench-grid bench-adaptive bench-buffers bench-loops lint format clean packages test-packages bench-packages peers unit-tests examples

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: build ## Build the release and start the demo
	$(BINARY) demo

build: packages ## Build the release: .build/release/magicalane
	swift build --configuration release --product magicalane --static-swift-stdlib -Xswiftc -use-ld=lld

test: unit-tests examples build .venv/ready ## Run all tests: units, examples, end to end
	$(PYTEST) $(ARGS)

soak: build .venv/ready ## Run the long end-to-end tests: gigabytes, a thousand sessions
	$(PYTEST) -m soak $(ARGS)

bench: build bench-packages $(if $(PEERS),peers) ## Measure us and our peers side by side; PEERS=1 installs the peers
	Benchmarks/bench.py $(ARGS)

bench-quick: build bench-packages $(if $(PEERS),peers) ## The same in two minutes
	Benchmarks/bench.py --quick --results Benchmarks/results/quick $(ARGS)

bench-grid: build bench-packages $(if $(PEERS),peers) ## The same over slow, long and lossy links; takes hours, goes on where it was
	$(AS_ROOT) Benchmarks/grid.py $(ARGS)

bench-adaptive: build bench-packages ## Measure the adaptive transport beside its members, and draw docs/images/adaptive.svg
	$(AS_ROOT) Benchmarks/adaptive.py $(ARGS)

bench-loops: build bench-packages ## One event loop of ours against two
	Benchmarks/loops.py $(ARGS)

bench-buffers: build bench-packages ## One download by the size of the buffer, over a long link; draws docs/images/buffers.svg
	$(AS_ROOT) Benchmarks/buffers.py $(ARGS)

lint: ## Check the form of the Swift sources
	swift format lint --strict --recursive --parallel $(SOURCES)

format: ## Bring the Swift sources into form
	swift format --in-place --recursive --parallel $(SOURCES)

clean: ## Remove all that was built
	rm -rf .build .venv $(addsuffix /.build,$(EXAMPLES))

unit-tests: packages
	swift test

# Swift plans a package again when its manifest is newer, and not when a file is added to one that it uses.
examples: packages
	set -e; for example in $(EXAMPLES); do touch "$$example/Package.swift"; swift test --package-path "$$example"; done

peers: bench-packages
	Benchmarks/install-peers

bench-packages:
	@scripts/install-packages $(BENCH_PACKAGES)

packages:
	@scripts/install-packages $(BUILD_PACKAGES)

test-packages:
	@scripts/install-packages $(TEST_PACKAGES)

.venv/ready: Tests/EndToEnd/requirements.txt | test-packages
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	scripts/unpack-packages .venv/debian $(UNPACKED_PACKAGES)
	touch $@
