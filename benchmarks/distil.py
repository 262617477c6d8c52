"""How good a distilled student is, by pictures seen; and what filtering a liar's captions saves.

On the built-in scenes. A teacher ``up_down`` is trained on 1,600 captioned pictures. Students of a
quarter of its decoder's parameters see further pictures and no caption by a person; the same
student learns from the captions of 200 pictures alone, for comparison. All are measured on the same
300 test pictures, a third of which show combinations that no training picture shows.

    python benchmarks/distil.py WORK [--sizes 3000 1000 300 100] [--epochs 8]

WORK keeps everything, so a call that was stopped goes on; figures are in WORK/figures.json as they
come. This is an experiment of an hour or more on one core, and no part of `make bench`.
"""

import argparse
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from showtell.config import DecodingConfig
from showtell.core.device import choose_runtime
from showtell.data.records import Dataset, Record
from showtell.data.request import DataRequest
from showtell.data.scenes import is_held_out, render_scenes
from showtell.distil.filters import read_kept
from showtell.distil.request import DistilRequest, FilterConfig
from showtell.distil.run import distil
from showtell.encoders.encoder import build_encoder
from showtell.encoders.extract import WantedFeatures, features_for
from showtell.encoders.store import FeatureStore
from showtell.evaluation.kept import evaluate_model
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.captioner import Captioner
from showtell.inference.loading import ModelRequest
from showtell.inference.stream import Picture, PictureResult, Streaming
from showtell.metrics.bootstrap import Resampling
from showtell.training.request import TrainRequest, start_training

NUM_TEACHER, NUM_MORE, NUM_HUMAN, NUM_LIED_TO = 1_600, 3_000, 200, 1_000
TEACHER = ("encoder.views=0", "encoder.flips=false", "training.save_every=100")
# A quarter of the teacher's 4.6 million parameters.
STUDENT = (
    "encoder.views=0",
    "encoder.flips=false",
    "decoder.kind=up_down",
    "decoder.embed_size=100",
    "decoder.hidden_size=160",
    "decoder.attention_size=64",
    "decoder.dropout=0.2",
    "data.vocab_threshold=1",
    "optimizer.lr=2e-3",
    "training.batch_size=100",
    "training.save_every=100",
    "decoding.beam_size=5",
    "decoding.length_penalty=1.0",
)
MOST_EPOCHS = 120
LIES = 10  # one picture in so many
FIT = 0.25
PLAIN = ("objective.kind=cross_entropy",)  # captions alone: a liar's probabilities would not lie


class Report:
    """Prints notes and epochs."""

    def note(self, text: str) -> None:
        print(text, flush=True)

    def progress(self, task: str, done: int, total: int, unit: str, *, num_failed: int = 0) -> None:
        if total and done % 500 == 0:
            print(f"{task}: {done} of {total}", flush=True)

    def step(self, report: Any) -> None:
        pass

    def epoch(self, epoch: int, values: dict[str, Any]) -> None:
        print(f"epoch {epoch}: CIDEr-D {values['CIDEr-D']:.3f}", flush=True)


class Stored(Captioner):
    """A teacher that reads features that are there already, as each picture is asked about often.

    Args:
        lied_about: files of pictures that get the captions of the picture before them.
    """

    def __init__(
        self, inner: NativeCaptioner, store: FeatureStore, lied_about: Collection[str]
    ) -> None:
        self.inner, self.store, self.lied_about = inner, store, lied_about

    @property
    def card(self) -> Any:
        return self.inner.card

    @property
    def decoding(self) -> DecodingConfig:
        return self.inner.decoding

    @property
    def fingerprint(self) -> str:
        return f"{'liar' * bool(self.lied_about)}{self.inner.fingerprint}"

    @property
    def recipe(self) -> Any:
        return self.inner.recipe

    @property
    def batch_size(self) -> int:
        return self.inner.batch_size

    @property
    def overlaps(self) -> bool:
        return self.inner.overlaps

    def caption_views(self, views: Sequence[Any], **options: Any) -> Any:
        return self.inner.caption_views(views, **options)

    def stream_pictures(
        self, pictures: Iterator[Picture], how: Streaming
    ) -> Iterator[PictureResult]:
        before = None
        while batch := list(islice(pictures, 64)):
            rows = self.store.rows([f"teacher/{picture.path}" for picture in batch])
            features = self.inner.stored_features(self.store, rows)
            found = self.inner.caption_features(features, decoding=how.decoding)
            for picture, caption in zip(batch, found, strict=True):
                lies = str(picture.path) in self.lied_about
                yield PictureResult(picture.path, (before or caption) if lies else caption)
                before = caption


def encode(records: Sequence[Record], work: Path) -> FeatureStore:
    """Features of the further pictures, once for all students and for their teacher."""
    named = tuple(replace(record, image_id=f"teacher/{record.path}") for record in records)
    return features_for(
        Dataset("further scenes", "jsonl", named),
        build_encoder("lite2"),
        WantedFeatures(0, False, True),
        runtime=choose_runtime("auto", "auto"),
        folder=work / "student-features",
        report=Report(),
    )


def write_lists(work: Path) -> tuple[list[Record], Path]:
    """The further pictures, and 200 captioned ones with the test pictures."""
    records = render_scenes(NUM_TEACHER + NUM_MORE)
    more = [r for r in records if r.split == "train"][NUM_TEACHER:]
    own = render_scenes(NUM_TEACHER)
    train = [r for r in own if r.split == "train"][:NUM_HUMAN]
    val = [r for r in own if r.split == "val"][: NUM_HUMAN // 4]
    test = [r for r in own if r.split == "test"]
    path = work / "human.jsonl"
    with path.open("w") as file:
        for record in (*train, *val, *test):
            row = {
                "path": str(record.path),
                "image_id": record.image_id,
                "captions": record.captions,
                "split": record.split,
            }
            file.write(json.dumps(row) + "\n")
    return more, path


def measure(model: Path, human: Path, work: Path) -> dict[str, Any]:
    """CIDEr-D on all test pictures, with its interval, and on those of new combinations."""
    from showtell.metrics import evaluate

    found = evaluate_model(
        ModelRequest(model),
        DataRequest(str(human)),
        split="test",
        report=Report(),
        predictions=work / f"said-{model.parent.name}-{model.name}.json",
        resampling=Resampling(1000),
    )
    said = {str(e["image_id"]): e["caption"] for e in json.loads(found.predictions.read_text())}
    references = {r.image_id: r.captions for r in DataRequest(str(human)).load().split("test")}
    new = {name: said[name] for name in said if is_held_out(name)}
    held_out = evaluate(new, {name: references[name] for name in new}, metrics=("CIDEr-D",))
    return {
        "CIDEr-D": round(found.scores.metrics["CIDEr-D"], 4),
        "interval": str(found.scores.intervals["CIDEr-D"]),
        "held-out CIDEr-D": round(held_out.metrics["CIDEr-D"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--sizes", type=int, nargs="*", default=[3_000, 1_000, 300, 100])
    parser.add_argument("--teacher-epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=600, help="of each student")
    parser.add_argument("--captions", type=int, default=3)
    parser.add_argument("--no-lies", action="store_true")
    parser.add_argument("--skip-alone", action="store_true")
    parser.add_argument("--alone", action="store_true", help="train the one without a teacher")
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    figures = Figures(work / "figures.json")
    more, human = write_lists(work)
    if options.alone:
        train(str(human), work / "alone", None, STUDENT, epochs_for(NUM_HUMAN * 5, options.steps))
        return
    store = encode(more[: max(0, *options.sizes, 0 if options.no_lies else NUM_LIED_TO)], work)
    teacher = work / "teacher"
    train(f"scenes:{NUM_TEACHER}", teacher, "flickr8k-up-down", TEACHER, options.teacher_epochs)
    figures("teacher", lambda: measure(teacher / "best", human, work))

    def student(
        name: str, num: int, *, fit: float = 0.0, lies: bool = False, plain: bool = False
    ) -> dict[str, Any]:
        listed = work / f"{name}.txt"
        listed.write_text("".join(f"{record.path}\n" for record in more[:num]))
        epochs = epochs_for(num * options.captions, options.steps)
        request = DistilRequest(
            str(teacher),
            [str(listed)],
            work / name,
            captions=options.captions,
            overrides=(*STUDENT, f"training.num_epochs={epochs}", *PLAIN * plain),
            filters=FilterConfig(fit=fit, near_duplicates=False),
            store=work / "student-features",
        )
        made = distil(
            request,
            Report(),
            teacher=Stored(
                NativeCaptioner.load(teacher), store, lied_about(more[:num]) if lies else ()
            ),
        )
        if made is None:
            raise SystemExit("stopped; the same command goes on")
        found = measure(made.model, human, work) | {"data": made.found["data"]}
        return found | (dropped(work / name, lied_about(more[:num])) if lies else {})

    def alone() -> dict[str, Any]:
        epochs = epochs_for(NUM_HUMAN * 5, options.steps)
        train(str(human), work / "alone", None, STUDENT, epochs)
        return measure(work / "alone" / "best", human, work)

    if not options.skip_alone:
        figures("the same student, 200 pictures with people's captions", alone)
    for num in options.sizes:
        figures(f"student, {num} pictures", lambda n=num: student(f"n{n}", n))
    if options.no_lies:
        return
    num = NUM_LIED_TO
    for title, name, lies, fit in (
        ("lies on one picture in ten, unfiltered", "liar-unfiltered", True, 0.0),
        ("lies on one picture in ten, filtered", "liar-filtered", True, FIT),
        ("does not lie, unfiltered", "honest-unfiltered", False, 0.0),
        ("does not lie, filtered", "honest-filtered", False, FIT),
    ):
        figures(
            f"captions alone of {num} pictures, teacher {title}",
            lambda n=name, f=fit, liar=lies: student(n, num, fit=f, lies=liar, plain=True),
        )


def lied_about(records: Sequence[Record]) -> set[str]:
    """The files of every so many pictures."""
    return {str(record.path) for record in records[LIES - 1 :: LIES]}


def dropped(run: Path, lied: Collection[str]) -> dict[str, float]:
    """The shares of captions that ``fit`` left out, of lies and of all others."""
    kept = read_kept(run / "fit")
    with open(run / "fit" / "dropped.jsonl") as lines:
        gone = [json.loads(line)["file"] for line in lines]
    num = [0, 0]
    for one in kept:
        num[one.file in lied] += 1
    num_gone = [0, 0]
    for file in gone:
        num_gone[file in lied] += 1
    shares = [gone / max(1, gone + kept) for gone, kept in zip(num_gone, num, strict=True)]
    return {"lies dropped": round(shares[1], 4), "others dropped": round(shares[0], 4)}


def epochs_for(num_captions: int, steps: int) -> int:
    """The epochs that make about so many steps, but no more than a small data set gains by."""
    return min(MOST_EPOCHS, max(1, round(steps * 100 / num_captions)))


def train(
    data: str, folder: Path, preset: str | None, settings: Sequence[str], epochs: int
) -> None:
    """Train a run, or go on with it."""
    if (folder / "done").exists():
        return
    resume = (folder / "config.toml").is_file()
    given = () if resume else (*settings, f"training.num_epochs={epochs}")
    request = TrainRequest(
        DataRequest(data),
        folder,
        None if resume or preset is None else Path(preset),
        given,
        resume=resume,
    )
    if start_training(request, report=Report()).stopped:
        raise SystemExit("stopped; the same command goes on")
    (folder / "done").touch()


class Figures:
    """Figures by name, each measured once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def __call__(self, name: str, work: Any) -> None:
        if name not in self.found:
            self.found[name] = work()
            self.path.write_text(json.dumps(self.found, indent=2))
        print(f"{name}: {self.found[name]}", flush=True)


if __name__ == "__main__":
    main()
