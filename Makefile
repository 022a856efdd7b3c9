# Needs make and Python 3.11 or 3.12 with its venv module, and nothing else: everything the workflow
# runs with is installed into .venv, as requirements.lock has it.

PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
ARGS ?=
VERSIONS ?= 9.8 9.14 9.20 newest

BIN := .venv/bin
# Written last, so that a .venv whose making was interrupted is made again.
MADE := .venv/.made-from-requirements.lock
SNAKEFILES := $(wildcard Snakefile) workflow
PIP_TOOLS := pip-tools==7.6.2
# Later Pythons are out because hipscat asks for a matplotlib that is not built for them.
CHECK_PYTHON = $(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit( \
    not (3, 11) <= v <= (3, 12) and "Python 3.11 or 3.12 is needed, and $(PYTHON) is %d.%d: " \
    "name another, as in make PYTHON=python3.11" % v)'

# hipscat has numba compile functions whenever it is imported, which takes seconds: do without.
export NUMBA_DISABLE_JIT := 1

.DEFAULT_GOAL := help
.PHONY: help venv demo report pictures recording docs test test-fast test-versions benchmark faults reference lint format lock clean

help: ## list these targets
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | \
	while IFS='|' read -r target what; do printf 'make %-13s %s\n' "$$target" "$$what"; done
	@echo "Variables: PYTHON=$(PYTHON), CORES=$(CORES), ARGS= for snakemake or pytest, VERSIONS=$(VERSIONS)."

venv: $(MADE) ## make .venv from requirements.lock, if missing or out of date

demo: venv ## make the margins of the demo catalog, as HiPSCat and as HATS
	$(BIN)/snakemake --cores $(CORES) $(ARGS)
	$(BIN)/snakemake --cores $(CORES) $(ARGS) --config input_catalog_path=demo/hipparcos_hats

report: venv ## make the margin of the demo catalog, and its report
	$(BIN)/snakemake --cores $(CORES) report $(ARGS) \
	    --config input_catalog_path=demo/hipparcos margin_threshold=600

pictures: venv ## draw the pictures in README.md (needs chromium)
	$(BIN)/python docs/draw_pictures.py

recording: venv ## record docs/progress.cast, the bars of a run, and draw docs/progress.svg
	$(BIN)/python docs/record_progress.py docs/progress.cast $(BIN)/snakemake --cores $(CORES) \
	    --quiet host --forceall --config input_catalog_path=demo/hipparcos margin_threshold=600 \
	    partitions_per_job=4
	$(BIN)/python docs/animate_recording.py

docs: venv ## write the pages of docs/ as a site to docs/_build
	$(BIN)/python -m sphinx -W --keep-going --quiet -c docs . docs/_build

test: venv ## run all tests, those of the style too
	$(BIN)/python -m pytest -n $$(( $(CORES) + 1 )) --dist worksteal tests $(ARGS)

test-fast: venv ## run the unit tests of the library, and check the style (a minute)
	$(BIN)/python -m pytest -n $(CORES) --dist worksteal tests/unit --ignore=tests/unit/support $(ARGS)

# Two workers: at most two environments at a time are made.
test-versions: venv ## run the workflow with other versions of Snakemake (VERSIONS="9.8 newest")
	SNAKEMAKE_VERSIONS="$(VERSIONS)" \
	    $(BIN)/python -m pytest -v -n 2 --dist worksteal tests/versions $(ARGS)

benchmark: venv ## time the workflow and its peers on the same skies (minutes; ARGS=--help)
	$(BIN)/python benchmarks/compare.py $(ARGS)

faults: venv ## inject thousands of faults, and print what became of them (half an hour)
	FAULTS_LONG=1 FAULTS_TABLE=docs/faults.md \
	    $(BIN)/python -m pytest -n $(CORES) --dist worksteal tests/faults $(ARGS)

reference: venv ## write config/config.yaml and config/README.md's tables
	PYTHONPATH=scripts $(BIN)/python docs/write_reference.py

lint: venv ## check the style of the Python files and of the workflow
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check $(SNAKEFILES)
	$(BIN)/snakemake --lint

format: venv ## put the Python files and the workflow into that style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/snakefmt $(SNAKEFILES)

lock: ## make requirements.lock from requirements.in (ARGS=--upgrade for newer versions)
	@$(CHECK_PYTHON)
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet $(PIP_TOOLS)
	CUSTOM_COMPILE_COMMAND='make lock' .venv-lock/bin/pip-compile --quiet --strip-extras \
	    --generate-hashes --no-emit-index-url --no-emit-find-links $(ARGS) \
	    --output-file=requirements.lock requirements.in
	rm -rf .venv-lock

clean: ## delete .venv and the tools' caches; results and intermediate files stay
	rm -rf .venv .venv-lock .venvs .pytest_cache .hypothesis .ruff_cache .mypy_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE): requirements.lock
	@$(CHECK_PYTHON)
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@
