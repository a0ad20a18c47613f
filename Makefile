# make demo       the whole way, from a row in a database to EMC's simulator; needs Python 3.11 and pip only
# make test       every test, spread over PostgreSQL 15, 16 and 18, and a real Kafka (what is missing is installed first)
# make test-full  every test on every PostgreSQL version
# make lint       ruff and mypy
# make bench      the figures, beside our peers' (bench/README.md); ARGS="guest" runs only that one
# make secrets    the passwords that docker-compose.yml wants, made up once
# make chaos      1,000,000 fuzzed inputs to the decoders, then the demo's scenario: crash, failing EMC, verdict
#
# ARGS="…" is handed on: make demo ARGS="--exit", make test ARGS="tests/log -x".

PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
# Each process has its own servers, and takes over tests of the other when it has none left: one version after another.
SIDE_BY_SIDE := --numprocesses 2 --dist worksteal
DEMO := .venv-demo
SOURCES := pyproject.toml setup.py $(shell find connector -type f -not -name '*.pyc' -not -name '.*' -not -name 'native.c' -not -name '*.so')

.DEFAULT_GOAL := help
.PHONY: help venv demo install test test-full lint bench secrets chaos clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

venv: .venv/.stamp

.venv/.stamp: pyproject.toml setup.py constraints.txt connector/source/decode/native.pyx
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	touch $@

# As an operator would install it: a new environment, and the package instead of the working tree.
$(DEMO)/.stamp: $(SOURCES)
	rm -rf $(DEMO) build
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/pip install --quiet --disable-pip-version-check '.[demo]'
	rm -rf build
	touch $@

demo: $(DEMO)/.stamp
	$(DEMO)/bin/emc-cdc demo $(ARGS)

install:
	tests/install

test: install venv
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) --durations=10 $(ARGS)

test-full: install venv
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) --durations=10 --full $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install venv
	for each in $(or $(ARGS),drain guest away judgement); do $(BIN)/python -m bench.$$each || exit 1; done

# Containers read them as other users, so that the directory is what is closed.
secrets:
	mkdir -p -m 700 secrets
	for name in postgres owner emc_cdc; do \
	    file=secrets/$${name}_password; [ -s $$file ] || \
	    $(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(24))' > $$file; chmod 644 $$file; \
	done

# Where atheris has no wheel for this Python, the fuzz target mutates golden messages by itself.
chaos: venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --only-binary atheris 'atheris>=2.3,<4' || true
	$(BIN)/python tests/source/fuzz_decoders.py 1000000
	$(BIN)/emc-cdc demo --exit $(ARGS)

clean:
	rm -rf .venv .venv-demo .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
