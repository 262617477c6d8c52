"""Time and memory against the number of captions, 10,000 to 4 million: never worse than linear.

Each point is a process of its own. The start is all that a run does with captions before its first
step, from an annotations file in COCO's format with its picture files (empty ones), five captions a
picture, the text drawn from COCO's; nothing comes from the cache. The epoch is the cutting of its
batches, all of it, and of its steps a few, from which the time of all follows; features are in a
memory-mapped store, 64 wide. The evaluation is the scoring of a caption for each picture against
its five, all metrics but METEOR; captioning, which takes batch after batch, is left out.

A figure is the exponent of n between the two largest sizes. Writes a plot.

    python benchmarks/growth.py [--sizes 10000 100000 1000000 4000000] [--plot FILE.png]
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from _harness import Figure, benchmark, part, peak_bytes, slope

WORK = ("start", "epoch", "evaluation")
MOST = 1.1
PLOT = Path(__file__).resolve().parents[1] / "docs" / "images" / "growth.png"
Point = dict[str, float]


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Two figures for each of ``WORK``."""
    sizes = [200, 400] if options.quick else sorted(options.sizes)
    points: dict[str, list[Point]] = {}
    for work in WORK:
        points[work] = [part(options, work, size=size) for size in sizes]
        for quantity, unit in (("seconds", "s"), ("bytes", "GB")):
            values = [point[quantity] / (1e9 if unit == "GB" else 1) for point in points[work]]
            yield Figure(
                f"growth of {work}, {'time' if unit == 's' else 'memory'}",
                "linear growth",
                slope(sizes[-2:], values[-2:]),
                MOST,
                True,
                "; ".join(
                    f"{size:,}: {value:.3g} {unit}"
                    for size, value in zip(sizes, values, strict=True)
                ),
            )
    plot = options.plot or (None if options.quick else PLOT)
    if plot:
        draw(sizes, points, plot)


def texts(size: int, options: argparse.Namespace) -> list[str]:
    """Captions of COCO, drawn with replacement."""
    from _coco import annotations

    known = [
        entry["caption"] for entry in annotations(100 if options.quick else None)["annotations"]
    ]
    return [known[i] for i in np.random.default_rng(0).integers(0, len(known), size)]


def start(options: argparse.Namespace) -> Point:
    """Annotations to ids, without a cache."""
    from _coco import random_store

    from showtell.config import Config
    from showtell.core.progress import SilentReporter
    from showtell.data.request import DataRequest, open_data
    from showtell.training.prepare import prepare

    num_pictures = options.size // 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train2014").mkdir()
        for number in range(num_pictures):
            os.close(os.open(folder / "train2014" / f"{number}.jpg", os.O_CREAT))
        with open(folder / "captions_train2014.json", "w") as file:
            # Written line by line, so that the peak of memory is not ours.
            images = ({"id": n, "file_name": f"{n}.jpg"} for n in range(num_pictures))
            captions = (
                {"id": n, "image_id": n // 5, "caption": text}
                for n, text in enumerate(texts(options.size, options))
            )
            for opening, entries in (('{"images": [', images), ('], "annotations": [', captions)):
                file.write(opening)
                for number, entry in enumerate(entries):
                    file.write(("," if number else "") + json.dumps(entry))
            file.write("]}")
        store = random_store("growth", [str(n) for n in range(num_pictures)], width=64)
        os.environ["SHOWTELL_CACHE"] = str(folder / "cache")
        config, before = Config(), peak_bytes()
        begin = time.perf_counter()
        dataset = open_data(
            DataRequest(str(folder / "captions_train2014.json")), report=SilentReporter()
        )
        prepare(dataset, config.data, store, SilentReporter())
        return {"seconds": time.perf_counter() - begin, "bytes": max(peak_bytes(), before)}


def epoch(options: argparse.Namespace) -> Point:
    """An epoch of ``show_tell`` at batch 128."""
    from _coco import random_store

    from showtell.config import Config
    from showtell.core.device import choose_runtime
    from showtell.core.distributed import ALONE
    from showtell.decoders.registry import build_decoder
    from showtell.training.batches import ViewLoader
    from showtell.training.corpus import Corpus
    from showtell.training.objectives.cross_entropy import CrossEntropy
    from showtell.training.state import TrainingState
    from showtell.training.step import take_step

    rng, num_words = np.random.default_rng(0), 3000
    lengths = rng.integers(8, 15, options.size)
    ids = np.minimum(rng.zipf(1.3, lengths.sum()) + 3, num_words - 1).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    corpus = Corpus(ids, offsets, np.arange(options.size) // 5)
    runtime = choose_runtime(options.device, threads=options.threads)
    config = Config.load(None, ("training.batch_size=128", "encoder.views=0"))
    store = random_store("growth", [str(n) for n in range(options.size // 5)], width=64)
    decoder = build_decoder(config.decoder, vocab_size=num_words, feature_size=64)
    state = TrainingState.of(decoder.to(runtime.device), config)
    state.train()
    load = ViewLoader.from_config(store, runtime, config, regions=False)
    objective = CrossEntropy(
        corpus=corpus, load=load, runtime=runtime, config=config, by_picture=False
    )
    begin = time.perf_counter()
    batches = objective.batches(1)
    planning = time.perf_counter() - begin
    warm_up, num_steps = (0, 1) if options.quick else (3, 30)
    for number, batch in enumerate(batches[: warm_up + num_steps]):
        if number == warm_up:
            begin = time.perf_counter()
        step = take_step(state, objective, batch, rate=1e-4, config=config, processes=ALONE)
        state.progress.step += 1
    assert step.fault is None
    seconds = (time.perf_counter() - begin) / num_steps * len(batches)
    return {"seconds": planning + seconds, "bytes": peak_bytes()}


def evaluation(options: argparse.Namespace) -> Point:
    """A caption a picture, against five."""
    from showtell.metrics import References, evaluate

    captions = texts(options.size + options.size // 5, options)
    people = {str(n): captions[5 * n : 5 * n + 5] for n in range(options.size // 5)}
    said = dict(zip(people, captions[options.size :], strict=False))
    names = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]
    begin = time.perf_counter()
    evaluate(said, References(people), metrics=names)
    return {"seconds": time.perf_counter() - begin, "bytes": peak_bytes()}


def draw(sizes: Sequence[int], points: dict[str, list[Point]], file: Path) -> None:
    """Both quantities on logarithmic axes, with a line that grows as n does."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, quantity, unit, scale in zip(
        axes, ("seconds", "bytes"), ("time, s", "peak memory, GB"), (1, 1e9), strict=True
    ):
        for work in WORK:
            values = [point[quantity] / scale for point in points[work]]
            axis.loglog(sizes, values, marker="o", label=work)
        first = points["epoch"][0][quantity] / scale
        linear = [first * size / sizes[0] for size in sizes]
        axis.loglog(sizes, linear, color="grey", linestyle=":", label="linear")
        axis.set_xlabel("captions")
        axis.set_ylabel(unit)
        axis.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100, metadata={"Software": None})
    plt.close(figure)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**4, 10**5, 10**6, 4 * 10**6])
    parser.add_argument("--plot", type=Path, help="default: docs/images/growth.png")


if __name__ == "__main__":
    parts = {"start": start, "epoch": epoch, "evaluation": evaluation}
    benchmark(measure, __doc__, options=_options, parts=parts)
