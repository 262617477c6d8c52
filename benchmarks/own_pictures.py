"""What a few captioned pictures of one's own give: from the default model, from scratch, untouched.

    python benchmarks/own_pictures.py photos DATA [--images FOLDER] -o OUT
    python benchmarks/own_pictures.py curve DATA [--images FOLDER] -o OUT
    python benchmarks/own_pictures.py scenes [--old DATA] -o OUT
    python benchmarks/own_pictures.py words DATA [--images FOLDER] -o OUT

``photos`` divides DATA at random into 40 pictures to train on, 12 to validate and the rest to test,
five times, and captions the test pictures of all five with the untouched default model, with a
model trained from it, and with one trained from scratch. ``curve`` trains on more and more pictures
of DATA's val split, which the default model was not trained on, and tests on the rest of that
split; with --pool train, on pictures of that split, for a --model that has not seen them.
``scenes`` trains on 200 drawings, which no photo is like, and measures what is forgotten: with
--rehearse, old pictures are rehearsed, and some of the others choose the average.
``words`` measures how well words that the default model lacks are foreseen in new captions, before
any training and after an epoch, for several ways to begin their rows.

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
from typing import Any

import numpy as np
import torch

from showtell.config.toml import preset_for
from showtell.core.device import choose_runtime
from showtell.core.distributed import ALONE
from showtell.core.progress import SilentReporter
from showtell.data.records import Dataset, Record, Split
from showtell.data.request import DataRequest
from showtell.data.sources import load_dataset
from showtell.decoders.base import Decoder
from showtell.decoders.layers import freeze_batch_norms
from showtell.decoders.registry import load_decoder
from showtell.encoders.extract import WantedFeatures, features_for
from showtell.encoders.features import load_features
from showtell.encoders.store import FeatureStore
from showtell.evaluation.compare import compare
from showtell.evaluation.evaluate import caption_records
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import load_checkpoint
from showtell.training.new_words import LEAST_ALIKE, by_letters, by_neighbours, grown, likeness
from showtell.training.objectives import build_objective
from showtell.training.prepare import Given, TrainingData, prepare
from showtell.training.request import TrainRequest, train_on
from showtell.training.settings import Layers
from showtell.training.state import TrainingState
from showtell.training.step import take_step

SIZES = (25, 50, 100, 200, 400, 800)
FROM_MODEL, FROM_SCRATCH = "from the model", "from scratch"
NUM_TEST_OF_POOL = 200  # at least, of a curve whose pool is val
NUM_VAL = 50  # of a curve's pictures; they choose the epoch and the average


class Notes(SilentReporter):
    """Prints what a run says, without its steps."""

    def note(self, text: str) -> None:
        print("   ", text, flush=True)


def marked(records: Sequence[Record], split: Split) -> list[Record]:
    return [replace(record, split=split) for record in records]


def train(
    dataset: Dataset,
    folder: Path,
    start: str | None,
    overrides: Sequence[str],
    stores: Path,
    old: DataRequest | None = None,
) -> NativeCaptioner:
    """A model that was trained on ``dataset``, in ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    size = preset_for(len(dataset.split("train")))
    layers = Layers(start, size, None, overrides)
    store = stores / ("model" if start else "scratch")
    data = DataRequest(dataset.name, store=store)
    request = TrainRequest(data, folder, overrides=overrides, start=start, preset=size, old=old)
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
    said: dict[str, dict[str, str]] = {"untouched": {}, FROM_MODEL: {}, FROM_SCRATCH: {}}
    people: dict[str, Sequence[str]] = {}
    untouched = NativeCaptioner.load(args.model)
    for seed in range(args.seeds):
        own = divided(dataset, seed)
        test = own.split("test")
        people |= {f"{seed}/{record.image_id}": record.captions for record in test}
        settings = [f"seed={seed}", *args.set]
        models = {"untouched": (untouched, "model")}
        for name, start in ((FROM_MODEL, args.model), (FROM_SCRATCH, None)):
            if name in args.only:
                folder = args.output / f"{name.replace(' ', '-')}-{seed}"
                model = train(own, folder, start, settings if start else settings[:1], stores)
                models[name] = (model, "model" if start else "scratch")
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
    if args.pool == "val":
        rest = len(records) - NUM_TEST_OF_POOL
        pool, records = records[:rest], records[rest:]
    else:
        pool = list(dataset.split("train"))
        random.Random(0).shuffle(pool)
    val, test = records[:NUM_VAL], records[NUM_VAL:]
    stores = stores_of(args.output)
    people = {record.image_id: record.captions for record in test}
    untouched = NativeCaptioner.load(args.model)
    whole = replace(dataset, records=tuple(test))
    # A store of its own: that of the training may have other views.
    asked = marked(test, "test")
    said = {"untouched": captions(untouched, whole, asked, stores / "test-model")}
    for size in args.sizes:
        if size > len(pool):
            break
        parts = (*marked(pool[:size], "train"), *marked(val, "val"))
        own = replace(dataset, records=parts)
        for name, start in ((FROM_MODEL, args.model), (FROM_SCRATCH, None)):
            if name in args.only:
                folder = args.output / f"{name.replace(' ', '-')}-{size}"
                model = train(own, folder, start, args.set if start else (), stores)
                store = stores / ("test-model" if start else "test-scratch")
                said[f"{name} {size}"] = captions(model, whole, asked, store)
                show(f"{size} pictures", said, people)


def scenes(args: argparse.Namespace) -> None:
    dataset = load_dataset("scenes:200")
    stores = stores_of(args.output)
    test = dataset.split("test")
    people = {record.image_id: record.captions for record in test}
    folder = args.output / "from-the-model"
    old = DataRequest(args.old, store=stores / "old") if args.old else None
    models = {"untouched": NativeCaptioner.load(args.model)}
    rehearsed = None
    if old is not None and args.rehearse:
        file = fewer(old.load(), args.num_old, args.output / "old.jsonl")
        rehearsed = DataRequest(str(file), store=stores / "old")
    models[FROM_MODEL] = train(dataset, folder, args.model, args.set, stores, rehearsed)
    said = {n: captions(m, dataset, test, stores / "model") for n, m in models.items()}
    show("scenes, test", said, people)
    if old is not None:
        known = old.load()
        records = list(known.split("val"))
        if not args.rehearse:
            records = records[: args.num_old]
        said = {n: captions(m, known, records, stores / "old") for n, m in models.items()}
        show("what the model knew", said, {record.image_id: record.captions for record in records})


def fewer(old: Dataset, num: int, file: Path) -> Path:
    """A file with the training pictures of ``old`` and ``num`` of its validation pictures."""
    with file.open("w") as target:
        for record in (*old.split("train"), *old.split("val")[:num]):
            entry = {"image": str(record.path.resolve()), "captions": record.captions}
            target.write(json.dumps(entry | {"split": record.split}) + "\n")
    return file


def words(args: argparse.Namespace) -> None:
    dataset = load_dataset(args.data, images=args.images)
    records = list(dataset.split("val"))
    random.Random(0).shuffle(records)
    parts = (*marked(records[:400], "train"), *marked(records[400:], "val"))
    own = replace(dataset, records=parts)
    start, runtime = load_checkpoint(args.model), choose_runtime("cpu")
    config = Layers(args.model, "tiny", None, args.set).config()
    captioner = NativeCaptioner.load(args.model)
    wanted = WantedFeatures(config.encoder.views, config.encoder.flips, grid=True)
    store = features_for(
        own,
        captioner.encoder,
        wanted,
        runtime=runtime,
        report=Notes(),
        folder=stores_of(args.output) / "model",
    )
    data = prepare(own, config.data, store, Notes(), Given(vocabulary=start.vocabulary))
    num_known = len(start.vocabulary)
    new, known = data.vocabulary.words[num_known:], data.vocabulary.words[:num_known]
    letters = by_letters(new, known)
    neighbours = by_neighbours(data.train, num_known, len(data.vocabulary))
    ways = {
        "mean of all words": shares_of([], len(new), num_known),
        "letters": shares_of([letters], len(new), num_known),
        "neighbours": shares_of([neighbours], len(new), num_known),
        "letters, else neighbours": shares_of(
            [neighbours, np.where(letters >= LEAST_ALIKE, letters, 0)], len(new), num_known
        ),
        "neighbours, else letters": likeness(data.vocabulary, num_known, data.train),
    }
    sizes = {"feature_size": 1280, "region_size": 1280}
    for name, shares in ways.items():
        torch.manual_seed(0)
        weights = grown(start.decoder.state_dict(), start.config.decoder, shares, **sizes)
        vocab_size = len(data.vocabulary)
        decoder = load_decoder(start.config.decoder, weights, vocab_size=vocab_size, **sizes)
        freeze_batch_norms(decoder)
        state = TrainingState.of(decoder, config)
        found = foreseen(decoder, data, store, num_known)
        print(f"{name:<26} {'before':<15} {in_words(found)}", flush=True)
        if args.untrained:
            continue
        objective = build_objective(config, data, runtime, regions=True)
        state.train()
        for batch in objective.batches(1):
            take_step(state, objective, batch, rate=1e-4, config=config, processes=ALONE)
            state.progress.step += 1
        state.eval()
        found = foreseen(decoder, data, store, num_known)
        print(f"{name:<26} {'after an epoch':<15} {in_words(found)}", flush=True)


def in_words(found: tuple[float, float]) -> str:
    return f"{found[0]:.3f} nats a new word, {found[1]:.3f} a token"


def shares_of(likenesses: Sequence[Any], num_new: int, num_known: int) -> torch.Tensor:
    """The five best of each row by the last of ``likenesses`` that has any; else all alike."""
    shares = np.zeros((num_new, num_known))
    shares[:, 4:] = 1.0
    for likeness_ in likenesses:
        for row in np.flatnonzero(likeness_.any(axis=1)):
            best = np.argsort(-likeness_[row], kind="stable")[:5]
            shares[row] = 0
            shares[row, best] = likeness_[row, best]
    return torch.from_numpy(shares / shares.sum(axis=1, keepdims=True)).float()


@torch.no_grad()
def foreseen(
    decoder: Decoder, data: TrainingData, store: FeatureStore, num_known: int
) -> tuple[float, float]:
    """Nats of a new word, and of any token, in the validation captions."""
    corpus, sums, counts = data.val, [0.0, 0.0], [0, 0]
    decoder.eval()
    for first in range(0, len(corpus), 100):
        numbers = np.arange(first, min(first + 100, len(corpus)))
        inputs, targets = corpus.tensors(numbers, "cpu")
        rows, index = np.unique(corpus.pictures[numbers], return_inverse=True)
        features = load_features(store, rows, regions=True)
        features = features._replace(picture_of=torch.from_numpy(index))
        nll = -decoder(features, inputs).log_softmax(-1).gather(2, targets[..., None])[..., 0]
        for place, chosen in enumerate((targets >= num_known, targets > 0)):
            sums[place] += float(nll[chosen].sum())
            counts[place] += int(chosen.sum())
    return sums[0] / counts[0], sums[1] / counts[1]


def arguments() -> Iterator[argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("photos", "curve", "scenes", "words"))
    parser.add_argument("data", nargs="?", help="captioned photos")
    parser.add_argument("--images", type=Path, help="their folder")
    parser.add_argument("--old", help="scenes: captioned photos of the kind that the model knows")
    parser.add_argument("--num-old", type=int, default=1000, help="of its val split")
    parser.add_argument("--rehearse", action="store_true", help="scenes: some of --old")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--untrained", action="store_true", help="words: no training")
    parser.add_argument("--model", default="default", help="to start from")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--pool", choices=("val", "train"), default="val")
    parser.add_argument("--only", nargs="+", default=[FROM_MODEL, FROM_SCRATCH])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("-o", "--output", type=Path, required=True)
    yield parser.parse_args()


def main() -> None:
    [args] = arguments()
    args.output.mkdir(parents=True, exist_ok=True)
    {"photos": photos, "curve": curve, "scenes": scenes, "words": words}[args.what](args)


if __name__ == "__main__":
    main()
