"""What a few captioned pictures of one's own give: from the default model, from scratch, untouched.

    python benchmarks/own_pictures.py photos DATA [--images FOLDER] -o OUT
    python benchmarks/own_pictures.py curve DATA [--images FOLDER] -o OUT
    python benchmarks/own_pictures.py scenes [--old DATA] -o OUT

``photos`` divides DATA at random into 40 pictures to train on, 12 to validate and the rest to test,
five times, and captions the test pictures of all five with the untouched default model, with a
model trained from it, and with one trained from scratch. ``curve`` trains on more and more pictures
of DATA's val split, which the default model was not trained on, and tests on the rest of that
split. ``scenes`` trains on 200 drawings, which no photo is like, and measures what is forgotten.

Figures are CIDEr-D with 95 % intervals, by resampling the test pictures. docs/experiments.md has
them.
"""

import argparse
import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from showtell.config.toml import preset_for
from showtell.core.progress import SilentReporter
from showtell.data.records import Dataset, Record, Split
from showtell.data.request import DataRequest
from showtell.data.sources import load_dataset
from showtell.evaluation.compare import compare
from showtell.evaluation.evaluate import caption_records
from showtell.inference.backends.native import NativeCaptioner
from showtell.training.request import TrainRequest, train_on
from showtell.training.settings import Layers

SIZES = (25, 50, 100, 200, 400)
NUM_VAL = 50  # of a curve's pictures; they choose the epoch and the average


class Notes(SilentReporter):
    """Prints what a run says, without its steps."""

    def note(self, text: str) -> None:
        print("   ", text, flush=True)


def marked(records: Sequence[Record], split: Split) -> list[Record]:
    return [replace(record, split=split) for record in records]


def train(
    dataset: Dataset, folder: Path, start: str | None, overrides: Sequence[str], stores: Path
) -> NativeCaptioner:
    """A model that was trained on ``dataset``, in ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    size = preset_for(len(dataset.split("train")))
    layers = Layers(start, size, None, overrides)
    store = stores / ("default" if start else "scratch")
    data = DataRequest(dataset.name, store=store)
    request = TrainRequest(data, folder, overrides=overrides, start=start, preset=size)
    train_on(dataset, request, layers.config(), report=Notes())
    return NativeCaptioner.load(folder)


def captions(
    captioner: NativeCaptioner, dataset: Dataset, records: Sequence[Record], store: Path
) -> dict[str, str]:
    found = caption_records(captioner, dataset, records, store=store, report=SilentReporter())
    return {key: caption.text for key, caption in found.evaluation.captions.items()}


def show(
    title: str, said: Mapping[str, Mapping[str, str]], people: Mapping[str, Sequence[str]]
) -> None:
    """Print each system's CIDEr-D with its interval, and the differences from the first."""
    comparison = compare(said, people, metrics=["CIDEr-D", "BLEU-4"])
    print(f"\n{title}, {len(people)} pictures")
    for system in comparison.systems:
        value, interval = system.scores.metrics["CIDEr-D"], system.scores.intervals["CIDEr-D"]
        print(f"  {system.name:<14} CIDEr-D {value:.3f} {interval}", flush=True)
    for sentence in comparison.sentences():
        if "CIDEr-D" in sentence:
            print(" ", sentence, flush=True)


def divided(dataset: Dataset, seed: int) -> Dataset:
    """40 to train, 12 to validate, the rest to test."""
    records = sorted(dataset.records, key=lambda record: record.image_id)
    random.Random(seed).shuffle(records)
    parts = (marked(records[:40], "train"), marked(records[40:52], "val"))
    return replace(dataset, records=(*parts[0], *parts[1], *marked(records[52:], "test")))


def photos(args: argparse.Namespace) -> None:
    dataset = load_dataset(args.data, images=args.images)
    stores = stores_of(args.output)
    said: dict[str, dict[str, str]] = {"untouched": {}, "from default": {}, "from scratch": {}}
    people: dict[str, Sequence[str]] = {}
    default = NativeCaptioner.load("default")
    for seed in range(args.seeds):
        own = divided(dataset, seed)
        test = own.split("test")
        people |= {f"{seed}/{record.image_id}": record.captions for record in test}
        settings = [f"seed={seed}", *args.set]
        models = {"untouched": (default, "default")}
        for name, start in (("from default", "default"), ("from scratch", None)):
            if name in args.only:
                folder = args.output / f"{name.replace(' ', '-')}-{seed}"
                model = train(own, folder, start, settings if start else settings[:1], stores)
                models[name] = (model, "default" if start else "scratch")
        for name, (model, store) in models.items():
            found = captions(model, own, test, stores / store)
            said[name] |= {f"{seed}/{key}": text for key, text in found.items()}
        shown = {name: texts for name, texts in said.items() if texts}
        show(f"seeds up to {seed}", shown, people)
    (args.output / "captions.json").write_text(json.dumps(said))


def stores_of(output: Path) -> Path:
    stores = output / "stores"
    stores.mkdir(parents=True, exist_ok=True)
    return stores


def curve(args: argparse.Namespace) -> None:
    dataset = load_dataset(args.data, images=args.images)
    records = list(dataset.split("val"))
    random.Random(0).shuffle(records)
    pool, val, test = records[:400], records[400 : 400 + NUM_VAL], records[400 + NUM_VAL :]
    stores = stores_of(args.output)
    people = {record.image_id: record.captions for record in test}
    default = NativeCaptioner.load("default")
    whole = replace(dataset, records=tuple(test))
    said = {"untouched": captions(default, whole, marked(test, "test"), stores / "default")}
    for size in SIZES[: args.sizes]:
        parts = (*marked(pool[:size], "train"), *marked(val, "val"))
        own = replace(dataset, records=parts)
        for name, start in (("from default", "default"), ("from scratch", None)):
            if name in args.only:
                folder = args.output / f"{name.replace(' ', '-')}-{size}"
                model = train(own, folder, start, args.set if start else (), stores)
                store = stores / ("default" if start else "scratch")
                said[f"{name} {size}"] = captions(model, whole, marked(test, "test"), store)
                show(f"{size} pictures", said, people)


def scenes(args: argparse.Namespace) -> None:
    dataset = load_dataset("scenes:200")
    stores = stores_of(args.output)
    test = dataset.split("test")
    people = {record.image_id: record.captions for record in test}
    folder = args.output / "from-default"
    old = DataRequest(args.old, store=stores / "old") if args.old else None
    models = {"untouched": NativeCaptioner.load("default")}
    models["from default"] = train(dataset, folder, "default", args.set, stores)
    said = {n: captions(m, dataset, test, stores / "default") for n, m in models.items()}
    show("scenes, test", said, people)
    if old is not None:
        known = old.load()
        records = list(known.split("val"))[: args.num_old]
        said = {n: captions(m, known, records, stores / "old") for n, m in models.items()}
        show("what the model knew", said, {record.image_id: record.captions for record in records})


def arguments() -> Iterator[argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("photos", "curve", "scenes"))
    parser.add_argument("data", nargs="?", help="captioned photos")
    parser.add_argument("--images", type=Path, help="their folder")
    parser.add_argument("--old", help="scenes: captioned photos of the kind that the model knows")
    parser.add_argument("--num-old", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", type=int, default=len(SIZES))
    parser.add_argument("--only", nargs="+", default=["from default", "from scratch"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("-o", "--output", type=Path, required=True)
    yield parser.parse_args()


def main() -> None:
    [args] = arguments()
    args.output.mkdir(parents=True, exist_ok=True)
    {"photos": photos, "curve": curve, "scenes": scenes}[args.what](args)


if __name__ == "__main__":
    main()
