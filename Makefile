# `make` alone greets newcomers. Everything installs what it needs first; a second set-up takes a second.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
# Processes that run tests beside each other in `make test` (tests/lanes.py).
LANES ?= 2

.PHONY: help setup containers monitoring readers registries kubernetes demo up down status job-zip submit test test-fast compose-up compose-down compose-test lint chaos bench-quick lock ci clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## system packages, .venv and jars; cached by version
	@scripts/setup.sh

containers:  ## what the tests of the compose file need; cached by version
	@scripts/containers.sh

monitoring:  ## what the tests of dashboards/ and the bridge need: a real Prometheus and Alertmanager
	@scripts/monitoring.sh

readers: setup  ## what the tests of examples/readers need: nginx with Lua, Go modules
	@scripts/readers.sh

registries: setup  ## what the tests of the registry client and the contracts need: etcd, a name server, Redis, Go modules
	@scripts/registries.sh

kubernetes:  ## what the tests of tests/kubernetes need: a control plane and kwok, built once per version
	@scripts/kubernetes.sh

demo: setup  ## the whole thing on this machine: real servers, a fleet, measured figures
	@$(BIN)/waypost demo
	@$(BIN)/waypost demo self-healing --if-possible

up: setup  ## start Kafka, Valkey, Flink and the job, in the background
	@$(BIN)/waypost up --detach

down:  ## stop what `make up` started
	@if [ -x $(BIN)/waypost ]; then $(BIN)/waypost down; fi

status:  ## addresses and health
	@$(BIN)/waypost status

job-zip: setup  ## dist/waypost-job.zip: what `flink run -pyfs` takes
	@$(BIN)/waypost job-zip

submit: setup  ## replace the running job by this tree's code, with its state
	@$(BIN)/waypost submit

test: setup containers monitoring readers registries kubernetes lint  ## everything: linters, types, layers, then all floors of tests
	@$(BIN)/python -m pytest -m compose --durations=10 tests/compose
	@$(BIN)/python -m pytest -m "not compose" -n $(LANES) --dist loadscope --no-loadscope-reorder --durations=10

test-fast: setup  ## seconds: no Java, no servers
	@$(BIN)/python -m pytest

compose-up:  ## docker-compose.yml: build, start, wait until all of it is healthy
	@scripts/compose.sh up

compose-down:  ## stop what `make compose-up` started, and delete its data
	@scripts/compose.sh down

compose-test: setup containers  ## the docker-compose cluster: builds the images, runs it with each compose
	@$(BIN)/python -m pytest -m compose --durations=10

lint: setup  ## ruff, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

chaos: setup  ## faults at random for half an hour, a canary among them; ARGS="--hours 8 --seed 7"
	@$(BIN)/python -m tests.e2e.chaos $(ARGS)

bench-quick: setup  ## measure: latency, beats/s, cold start, recovery, a peer; under ten minutes, on a quiet machine
	@scripts/bench.sh

lock:  ## pin the newest allowed Python packages anew
	@scripts/lock.sh

ci:  ## what CI runs
	@.ci/run

clean: down  ## remove what was built here (.venv and the jar cache stay)
	@rm -rf dist build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './.venv/*' -type d -prune -exec rm -rf {} +
