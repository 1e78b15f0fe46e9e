# Every target makes the environment it needs (.venv, or .venv-oldest) when that is missing or what it is made from
# changed; a second call installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OLDEST := .venv-oldest
OLDEST_INSTALLED := $(OLDEST)/.installed
# The layers below orchestration, whose dependencies have wide ranges (Ray's has not).
LAYERS := $(addprefix tests/,config protocols genotype tasks methods spaces data search artifacts report)
# What is tested on another S3 server too, without the relays that imitate a server of yet another kind in front of it.
ON_S3 := $(addprefix tests/artifacts/test_,objects.py verdicts.py gateway.py lost_replies.py processes.py \
	s3.py::test_a_whole_run_on_a_bucket_is_published_and_verified \
	s3.py::test_many_traces_on_a_bucket_are_one_dataset s3.py::test_a_missing_bucket_is_no_missing_key) \
	tests/orchestration/test_five_kills.py
IMITATED := without-list or bare-tags
STORE ?= results
EXPERIMENT ?= digits-4ad6e9f2
# Benchmarks that are called by themselves: they take long, need data, or measure several processes.
OWN_BENCHMARKS := measure digits text lstm collapse loading real_collections report scale starts spot many_runs status on_gpu
FAST := not slow and not browser and not loggers

.PHONY: demo test test-slow test-browser test-loggers screenshots test-oldest test-radosgw check docs fuzz bench benchmark-digits clean

demo: $(INSTALLED)
	$(BIN)/ray-darts search --preset digits --seeds 2 --orders first,second --store $(STORE)

# Two processes: tests of one file stay together, and so do those that share a Ray cluster (tests/conftest.py).
test: $(INSTALLED)
	$(BIN)/python -m pytest -m "$(FAST)" -n 2 --dist loadgroup --durations=15

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow --timeout=900 --durations=15

# Needs chromium on PATH (Debian: apt-get install --no-install-recommends chromium).
test-browser: $(INSTALLED)
	$(BIN)/python -m pip install --quiet "playwright>=1.50" "axe-core-python>=0.1"
	$(BIN)/python -m pytest -m browser --durations=15

# The real packages of TensorBoard, MLflow and Weights & Biases, offline.
test-loggers: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable ".[tensorboard,mlflow,wandb]"
	$(BIN)/python -m pytest -m loggers --durations=15

# Pictures of the page of an experiment, light, dark and as on a phone, in build/screenshots.
screenshots: $(INSTALLED)
	$(BIN)/python -m pip install --quiet "playwright>=1.50"
	$(BIN)/python -m tests.browser.screenshots $(STORE) $(EXPERIMENT)

test-oldest: $(OLDEST_INSTALLED)
	$(OLDEST)/bin/python -m pytest -m "$(FAST)" --durations=15 $(LAYERS)

# Needs radosgw, ceph-mon and ceph-osd on PATH (Debian: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd).
test-radosgw: $(INSTALLED)
	RAY_DARTS_TEST_SERVER=radosgw $(BIN)/python -m pytest --timeout=1800 --durations=15 -k "not ($(IMITATED))" $(ON_S3)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/site

benchmark-digits: $(INSTALLED)
	$(BIN)/python -m benchmarks.digits

# The documentation as a site, in build/site; `make check` builds it too.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/site

# Ten minutes for each parser; what it finds becomes a case of tests/hostile.
fuzz: $(INSTALLED)
	$(BIN)/python -m pip install --quiet "atheris>=3"
	for parser in genotypes overrides seeds stores job_files records; do \
		$(BIN)/python -m tests.hostile.fuzz $$parser --seconds 600 || exit 1; \
	done

bench: $(INSTALLED)
	for script in benchmarks/*.py; do \
		case " $(OWN_BENCHMARKS) " in *" $$(basename $$script .py) "*) continue;; esac; \
		$(BIN)/python -m benchmarks.$$(basename $$script .py) || exit 1; \
	done

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[demo,test]"
	touch $@

# The server for the tests of S3 pins one botocore, newer than the oldest boto3 allows; it runs with any.
$(OLDEST_INSTALLED): pyproject.toml tests/oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	$(OLDEST)/bin/python -m pip install --quiet --requirement tests/oldest.txt --editable ".[demo,text,report]"
	$(OLDEST)/bin/python -m pip install --quiet --no-deps "ministack>=1.5,<1.6"
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) build *.egg-info
