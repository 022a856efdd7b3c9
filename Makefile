# Needs make and Python 3.11 or later with its venv module, and nothing else: what the workflow runs
# with is installed into .venv, as requirements.lock has it, and before tests also what they need.

PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
ARGS ?=
VERSIONS ?= 9.8 9.14 9.20 newest

BIN := .venv/bin
# Written last, so that a .venv whose making was interrupted is made again.
RUN := .venv/.made-from-requirements.lock
TESTS := .venv/.made-from-requirements-test.lock
SNAKEFILES := $(wildcard Snakefile) workflow
# A lock has all that is needed, so that nothing is left to resolve, and what Python compiles on its
# first import is not compiled here.
INSTALL := $(if $(shell command -v uv),uv pip install --python $(BIN)/python,$(BIN)/python -m pip \
    install --disable-pip-version-check --no-compile) --no-deps --require-hashes
UV := uv==0.13.9
COMPILE := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 \
    --fork-strategy fewest --generate-hashes --custom-compile-command 'make lock'

define CHECK_PYTHON
import os, shutil, sys, sysconfig
version = "$(PYTHON) is %d.%d" % sys.version_info[:2]
if sys.version_info < (3, 11):
    sys.exit("Python 3.11 to 3.14 is needed, and " + version +
             ": name another one, as in make PYTHON=python3.13")
if sys.version_info >= (3, 15):
    print("warning: " + version + ", and the newest one tried is 3.14", file=sys.stderr)
compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
headers = os.path.join(sysconfig.get_path("include"), "Python.h")
if sys.version_info >= (3, 14) and not (shutil.which(compiler) and os.path.exists(headers)):
    sys.exit(version + ", for which the package immutables has to be compiled: install a compiler "
             "and the headers of Python (on Debian: apt install gcc python3-dev)")
endef
export CHECK_PYTHON

# hipscat has numba compile functions whenever it is imported, which takes seconds: do without.
export NUMBA_DISABLE_JIT := 1
# Where this is set, each of the hundreds of processes of the tests would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv test-venv demo report pictures recording docs test test-fast test-versions benchmark faults reference lint format lock clean

help: ## list these targets
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | \
	while IFS='|' read -r target what; do printf 'make %-13s %s\n' "$$target" "$$what"; done
	@echo "Variables: PYTHON=$(PYTHON), CORES=$(CORES), ARGS= for snakemake or pytest, VERSIONS=$(VERSIONS)."

venv: $(RUN) ## make .venv from requirements.lock, if missing or out of date

test-venv: $(TESTS) ## ... with what the tests need, from requirements-test.lock

demo: venv ## make the margins of the demo catalog, as HiPSCat and as HATS
	$(BIN)/snakemake --cores $(CORES) $(ARGS)
	$(BIN)/snakemake --cores $(CORES) $(ARGS) --config input_catalog_path=demo/hipparcos_hats

report: venv ## make the margin of the demo catalog, and its report
	$(BIN)/snakemake --cores $(CORES) report $(ARGS) \
	    --config input_catalog_path=demo/hipparcos margin_threshold=600

pictures: test-venv ## draw the pictures in README.md (needs chromium)
	$(BIN)/python docs/draw_pictures.py
	$(BIN)/python docs/draw_losses.py

recording: venv ## record docs/progress.cast, the bars of a run, and draw docs/progress.svg
	$(BIN)/python docs/record_progress.py docs/progress.cast $(BIN)/snakemake --cores $(CORES) \
	    --quiet host --forceall --config input_catalog_path=demo/hipparcos margin_threshold=600 \
	    partitions_per_job=4
	$(BIN)/python docs/animate_recording.py

docs: test-venv ## write the pages of docs/ as a site to docs/_build
	$(BIN)/python -m sphinx -W --keep-going --quiet -c docs . docs/_build

test: test-venv ## run all tests, those of the style too
	$(BIN)/python -m pytest -n $$(( $(CORES) + 1 )) --dist worksteal tests $(ARGS)

test-fast: test-venv ## run the unit tests of the library, and check the style (a minute)
	$(BIN)/python -m pytest -n $(CORES) --dist worksteal tests/unit --ignore=tests/unit/support $(ARGS)

# Two workers: at most two environments at a time are made.
test-versions: test-venv ## run the workflow with other versions of Snakemake (VERSIONS="9.8 newest")
	SNAKEMAKE_VERSIONS="$(VERSIONS)" \
	    $(BIN)/python -m pytest -v -n 2 --dist worksteal tests/versions $(ARGS)

benchmark: test-venv ## time the workflow and its peers on the same skies (minutes; ARGS=--help)
	$(BIN)/python benchmarks/compare.py $(ARGS)

faults: test-venv ## inject thousands of faults, and print what became of them (half an hour)
	FAULTS_LONG=1 FAULTS_TABLE=docs/faults.md \
	    $(BIN)/python -m pytest -n $(CORES) --dist worksteal tests/faults $(ARGS)

reference: venv ## write config/config.yaml and config/README.md's tables
	PYTHONPATH=scripts $(BIN)/python docs/write_reference.py

lint: test-venv ## check the style of the Python files and of the workflow
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check $(SNAKEFILES)
	$(BIN)/snakemake --lint

format: test-venv ## put the Python files and the workflow into that style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/snakefmt $(SNAKEFILES)

lock: ## make both locks from requirements.in and -test.in (ARGS=--upgrade for newer versions)
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet $(UV)
	$(COMPILE) $(ARGS) --output-file requirements.lock requirements.in
	$(COMPILE) $(ARGS) --output-file requirements-test.lock --constraints requirements.lock \
	    $$(sed -n 's/^\([a-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements.lock) \
	    requirements-test.in
	rm -rf .venv-lock

clean: ## delete .venv and the tools' caches; results and intermediate files stay
	rm -rf .venv .venv-lock .venvs .pytest_cache .hypothesis .ruff_cache .mypy_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN): requirements.lock
	@$(PYTHON) -c "$$CHECK_PYTHON"
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(INSTALL) -r $<
	touch $@

$(TESTS): requirements-test.lock $(RUN)
	$(INSTALL) -r $<
	touch $@
