PYTHON ?= python3
BIN := .venv/bin

.PHONY: env demo plan study test lint format messages lock

env: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	@case "$(CURDIR)" in *[[:space:]]*) echo "The path of this folder has a space in it, and no job could start from a .venv here: $(CURDIR)"; \
		echo "Rename or move the folder, then run make again."; exit 1;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "Installing the environment into .venv: some 6 GB, a minute or more (torch with its CUDA libraries is most of it) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: env
	$(BIN)/snakemake --cores all --configfile studies/demo.yaml

plan: env
	$(BIN)/python scripts/plan.py

study: env
	$(BIN)/snakemake --cores all

test: env
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: env
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports

format: env
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/snakefmt Snakefile rules

# Brings the catalogues of report/locale to the texts as they are; then translate what is new.
messages: env
	$(BIN)/pybabel --quiet extract --mapping pyproject.toml --keyword English --add-location never --output report/locale/messages.pot .
	for catalogue in report/locale/*.po; do \
		$(BIN)/pybabel --quiet update --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date \
			--input-file report/locale/messages.pot --output-file $$catalogue --locale $$(basename $$catalogue .po) || exit 1; \
	done
	rm report/locale/messages.pot

lock: env
	$(BIN)/uv pip compile pyproject.toml --group dev --extra export --universal --generate-hashes --upgrade --no-header --no-annotate --no-emit-index-url --quiet --output-file requirements.lock
