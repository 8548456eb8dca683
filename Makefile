# `make demo` and `make test` set everything up in .venv from a fresh clone; PYTHON is any Python >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check clean

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# A small encoder, trained for about a minute on the sample's speakers, scored on speakers it hasn't heard, then three clips.
demo: $(BIN)/.ready
	rm -rf demo
	$(BIN)/emimic train src/emimic/sample --out demo/run --config examples/demo.yaml
	$(BIN)/emimic evaluate demo/run src/emimic/sample --split test
	$(BIN)/emimic predict src/emimic/sample/audio/0013[357].mp3 --model demo/run --out demo/answers
	@echo "scores and their pictures: demo/run/evaluation/test; intensities, curves and pictures: demo/answers"

test: $(BIN)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m benchmarks.tables --check
	$(BIN)/pytest -n 2 --dist worksteal --cov --cov-report=term

clean:
	rm -rf $(VENV) demo
