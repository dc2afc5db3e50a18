# make search    a virtual environment in .venv, kdnas in it, and a search: students that answer within 2 ms
# make test      the same with the test extra, and the tests, JOBS=... at a time
# make faults    kills, hangs, full disks and the like in real searches, and what held; ARGS=--quick for one of each
#
# make search ARGS="--trials 20"     adds options;     make test PYTHON=python3.12     takes another Python

PYTHON ?= python3
ARGS ?=
JOBS ?= auto

# The measured versions hold in the isolated environments too in which pip builds packages that have no wheel
# (pip before 25.3 reads the first of these there, pip from 25.3 on the second).
export PIP_CONSTRAINT = constraints.txt
export PIP_BUILD_CONSTRAINT = constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv search test faults lint types check-docs clean

help:
	@sed -n '/^# make/s/^# //p' Makefile

venv: .venv/.installed-search

search: venv
	.venv/bin/kdnas search --budget "latency<2ms" $(ARGS)

test: .venv/.installed-test
	.venv/bin/python -m pytest -n $(JOBS) --dist worksteal -m "not alone" $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])
	.venv/bin/python -m pytest -m alone $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])

faults: .venv/.installed-test
	.venv/bin/python tests/faults/suite.py $(ARGS)

lint: .venv/.installed-test
	.venv/bin/ruff check kdnas tests benchmarks

types: .venv/.installed-test
	.venv/bin/mypy

check-docs: .venv/.installed-test
	.venv/bin/python benchmarks/check_docs.py

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
	find kdnas tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: written last, so that an installation which was cut off is taken up again.

.venv/.installed-search: pyproject.toml constraints.txt | .venv/bin/python
	.venv/bin/python -m pip install -c constraints.txt -e '.[mpe]'
	@touch $@

.venv/.installed-test: pyproject.toml constraints.txt | .venv/bin/python
	.venv/bin/python -m pip install -c constraints.txt -e '.[mpe,test]'
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kdnas needs Python 3.11 or newer, but $(PYTHON) is older or missing; name one: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
