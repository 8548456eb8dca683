# `make demo` and `make test` set everything up in .venv from a fresh clone; PYTHON is any Python >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test docs images clean

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# The model in the package predicts a sentence spoken happily and angrily by a man and a woman, and three bursts of one
# speaker; then a small encoder is trained for about a minute and scored.
demo: $(BIN)/.ready
	rm -rf demo
	mkdir -p demo/clips
	cp src/emimic/sample/speech/*-happy.* src/emimic/sample/speech/*-angry.* demo/clips
	cp src/emimic/sample/audio/00128.mp3 demo/clips/burst-amusement.mp3
	cp src/emimic/sample/audio/00132.mp3 demo/clips/burst-joy.mp3
	cp src/emimic/sample/audio/00133.mp3 demo/clips/burst-neutral.mp3
	$(BIN)/emimic predict demo/clips --timeline --plot --html --out demo/results
	$(BIN)/emimic train src/emimic/sample --out demo/run --config examples/demo.yaml
	$(BIN)/emimic evaluate demo/run src/emimic/sample --split test
	@echo "intensities, curves, pictures and pages: demo/results; the trained encoder's scores: demo/run/evaluation/test"

test: $(BIN)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m benchmarks.tables --check
	$(BIN)/pytest -n 2 --dist worksteal --cov --cov-report=term

docs: $(BIN)/.ready
	$(BIN)/sphinx-build -W -q docs docs/_build

# The picture in the README and in docs.
images: $(BIN)/.ready
	$(BIN)/python -m benchmarks.images

clean:
	rm -rf $(VENV) demo docs/_build
