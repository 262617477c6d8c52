"""An epoch of COCO's 414,113 captions and the start of a run, against 12 minutes, 6 s and 80 s.

The text is COCO's own, from the scorer's jar; the pictures' features are random, in a
memory-mapped store of 82,783 pictures. ``show_tell`` (embed 256, hidden 512) trains at batch 128
with the steps of `showtell train`; a share of the epoch's steps is timed, as they come, and the
epoch's time follows from it. Resident memory is the peak of that process after all pages of the
store have been read.

The start is what a run does with captions before its first step: reads the annotations, finds the
pictures, tokenises, builds the vocabulary, encodes. Cold is without showtell's cache, in a fresh
process, imports not counted; then the same with it. It is work of one thread, timed by that
thread's processor time, so that a busy machine does not count. The notebook's way (NLTK's
tokeniser, once for the vocabulary and once for the lengths) is timed on one caption in twenty.

    python benchmarks/coco.py [--share 0.03]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from _harness import Figure, benchmark, part, peak_bytes

EPOCH_MINUTES, COLD_SECONDS, CACHED_SECONDS, RESIDENT = 12, 6, 1, 3e9
BATCH = 128


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Start, epoch, memory."""
    with tempfile.TemporaryDirectory() as cache:
        cold, cached = (part(options, "start", cache=cache) for _ in range(2))
    theirs = part(options, "notebook")["seconds"]
    for name, ours, most in (("cold", cold, COLD_SECONDS), ("cached", cached, CACHED_SECONDS)):
        detail = f"{ours['seconds']:.2f} s for {ours['num_captions']:,} captions"
        limit = f"the limit of {most} s"
        yield Figure(f"start of a COCO run, {name}", limit, ours["seconds"] / most, 1, True, detail)
        yield Figure(
            f"start of a COCO run, {name}, times as fast",
            "the notebook's start",
            theirs / ours["seconds"],
            80 / most,
            detail=f"the notebook's way: {theirs:.0f} s",
        )
    epoch = part(options, "epoch", share=0.01 if options.quick else options.share)
    yield Figure(
        "COCO, one epoch of show_tell",
        f"the limit of {EPOCH_MINUTES} minutes",
        epoch["seconds"] / 60 / EPOCH_MINUTES,
        1,
        True,
        f"{epoch['seconds'] / 60:.1f} minutes, {epoch['captions_per_second']:,.0f} captions/s, "
        f"{epoch['num_words']:,} words, on {epoch['device']}; "
        f"from {epoch['share']:.0%} of the steps",
    )
    yield Figure(
        "COCO, resident memory in training",
        f"the limit of {RESIDENT / 1e9:.0f} GB",
        epoch["peak_bytes"] / RESIDENT,
        1,
        True,
        f"{epoch['peak_bytes'] / 1e9:.2f} GB at its peak, of which the store "
        f"{epoch['store_bytes'] / 1e9:.2f} GB",
    )


def _num_pictures(options: argparse.Namespace) -> int | None:
    return 500 if options.quick else None


def start(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a start, with a cache folder that may hold what an earlier one left."""
    from _coco import coco_file, ids_of, random_store

    from showtell.config import Config
    from showtell.core.progress import SilentReporter
    from showtell.data.request import DataRequest, open_data
    from showtell.training.prepare import prepare

    file = coco_file(_num_pictures(options))
    store = random_store("coco", ids_of(file))
    os.environ["SHOWTELL_CACHE"] = options.cache
    config = Config.load(None, ("data.vocab_threshold=5",))
    begin = time.process_time()
    dataset = open_data(DataRequest(str(file)), report=SilentReporter())
    data = prepare(dataset, config.data, store, SilentReporter())
    num_captions = len(data.train.lengths) + len(data.val.lengths)
    return {"seconds": time.process_time() - begin, "num_captions": num_captions}


def notebook(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the notebook's start, from one caption in twenty."""
    import json

    from _coco import coco_file
    from nltk.tokenize import NLTKWordTokenizer

    tokenize = NLTKWordTokenizer().tokenize
    begin = time.process_time()
    annotations = json.loads(coco_file(_num_pictures(options)).read_text())["annotations"]
    reading = time.process_time() - begin
    begin = time.process_time()
    counts: dict[str, int] = {}
    some = annotations[::20]
    for annotation in some:
        for word in tokenize(str(annotation["caption"]).lower()):
            counts[word] = counts.get(word, 0) + 1
    lengths = [len(tokenize(str(annotation["caption"]).lower())) for annotation in some]
    assert len(lengths) == len(some)
    return {"seconds": reading + (time.process_time() - begin) * len(annotations) / len(some)}


def epoch(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an epoch, from a share of its steps, and the memory that it takes."""
    import torch
    from _coco import coco_file, ids_of, random_store

    from showtell.config import Config
    from showtell.core.device import choose_runtime
    from showtell.core.distributed import ALONE
    from showtell.core.progress import SilentReporter
    from showtell.data.request import DataRequest, open_data
    from showtell.decoders.registry import build_decoder
    from showtell.training.objectives import build_objective
    from showtell.training.prepare import prepare
    from showtell.training.state import TrainingState
    from showtell.training.step import take_step

    runtime = choose_runtime(options.device, threads=options.threads)
    settings = (f"training.batch_size={BATCH}", "encoder.views=0", "data.vocab_threshold=5")
    config = Config.load(None, settings)
    file = coco_file(_num_pictures(options))
    store = random_store("coco", ids_of(file))
    data = prepare(
        open_data(DataRequest(str(file)), report=SilentReporter()),
        config.data,
        store,
        SilentReporter(),
    )
    num_words = len(data.vocabulary)
    torch.manual_seed(0)
    decoder = build_decoder(
        config.decoder, vocab_size=num_words, feature_size=store.spec.pooled_size
    )
    state = TrainingState.of(decoder.to(runtime.device), config)
    state.train()
    objective = build_objective(config, data, runtime, regions=False)
    begin = time.perf_counter()
    batches = objective.batches(1)
    planning = time.perf_counter() - begin
    num_steps = max(round(len(batches) * options.share), 1)
    warm_up = 5
    done = 0
    for number, batch in enumerate([*batches[-warm_up:], *batches[:num_steps]]):
        if number == warm_up:
            begin = time.perf_counter()
        step = take_step(state, objective, batch, rate=1e-4, config=config, processes=ALONE)
        state.progress.step += 1
        done += len(batch) * (number >= warm_up)
    rate = done / (time.perf_counter() - begin)
    assert float(step.loss.figures["loss"]) > 0
    for first in range(0, len(store), 4096):
        store.pooled(store.rows(list(store.image_ids)[first : first + 4096]))
    num_captions = len(data.train) + len(data.val)
    return {
        "seconds": planning + num_captions / rate,
        "captions_per_second": rate,
        "share": num_steps / len(batches),
        "num_words": num_words,
        "peak_bytes": peak_bytes(),
        "store_bytes": len(store) * store.spec.bytes_per_row,
        "device": runtime.device,
    }


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--share", type=float, default=0.03, help="of an epoch's steps")


if __name__ == "__main__":
    benchmark(
        measure,
        __doc__,
        options=_options,
        parts={"start": start, "notebook": notebook, "epoch": epoch},
    )
