# The commands of this checkout. Each installs first when needed; see README.md for what they do.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# What is installed is a function of these two files; a change of either installs again.
STAMP  := $(VENV)/.installed-$(shell cat requirements.lock pyproject.toml | cksum | tr -dc '0-9')
# Workers of the test run: two cores are what it is sized for.
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-nightly bench lint documents format clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: $(STAMP) ## install into .venv from the hash-pinned lock file

$(STAMP): requirements.lock pyproject.toml
	PYTHON="$(PYTHON)" deploy/setup.sh "$(VENV)"
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: setup ## everything on embedded servers, a day of tickets in fast-forward
	$(BIN)/signalbox demo

up: setup ## everything on embedded servers, in real time, until Ctrl-C
	$(BIN)/signalbox up

test: setup ## the whole suite on embedded servers
	$(BIN)/pytest -n $(JOBS) -m "not nightly" tests

test-nightly: setup ## the long ones
	HYPOTHESIS_PROFILE=new $(BIN)/pytest -n $(JOBS) -m nightly tests
	HYPOTHESIS_PROFILE=new $(BIN)/pytest -n $(JOBS) tests/unit
	for one in tests/nightly/*.py; do $(BIN)/python "$$one" || exit 1; done

bench: setup ## the benchmarks, as ratios measured in one run
	$(BIN)/python -m bench

lint: setup ## style, types, import walls, addresses in the lock
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	! grep -nE 'https?://' requirements.lock

documents: setup ## write the documents that are made from the models
	$(BIN)/python -m services.control.documents

format: setup ## write the files as lint wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## forget the installation and the embedded servers' data
	rm -rf $(VENV) .signalbox .mypy_cache .ruff_cache .import_linter_cache .hypothesis
