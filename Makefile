# Every target makes .venv when it is missing or pyproject.toml changed; a second call installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
STORE ?= results

.PHONY: demo test test-slow check bench clean

demo: $(INSTALLED)
	$(BIN)/ray-darts search --preset digits --seeds 2 --orders first,second --store $(STORE)

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow" --durations=15

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow --timeout=900 --durations=15

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	for script in benchmarks/*.py; do \
		case $$script in benchmarks/measure.py) continue;; esac; \
		$(BIN)/python -m benchmarks.$$(basename $$script .py) || exit 1; \
	done

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[demo,test]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
