# Each target does all of its own set-up; a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test bench setup pretrained lint format clean

demo: setup
	$(BIN)/showtell demo

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

bench: setup
	$(BIN)/python benchmarks/_run_all.py $(BENCH)

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The model that comes with showtell, from its photos to its card: hours on a processor; a second call
# goes on where the first was stopped. DATA is Flickr8k's folder, OTHER a COCO annotations file.
DATA ?= ../flickr8k
OTHER ?= ../coco/captions_val2017.json
SHIPPED := src/showtell/pretrained/flickr8k-lite2
PHOTOS = $$($(BIN)/python -c 'import skimage, pathlib; print(pathlib.Path(skimage.__file__).parent / "data")')

pretrained: setup
	$(BIN)/showtell publish configs/pretrained/flickr8k-lite2.toml $(DATA) --data other=$(OTHER) \
	    --work runs/flickr8k-lite2 -o $(SHIPPED)
	cp $(SHIPPED)/reliability.png docs/images/reliability.png
	photos=$(PHOTOS) && $(BIN)/showtell sheet $$photos/chelsea.png $$photos/coffee.png \
	    $$photos/rocket.jpg $$photos/motorcycle_left.png -o docs/images/photos.jpg

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
