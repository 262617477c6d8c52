"""Bulk captioning against the bare encoder, as a share; and whether its memory stays level.

The reference is the model's own encoder, at the same precision, on pictures that are decoded and
cut already, measured right before and right after each run from files to JSON lines, so that a busy
machine costs both alike; a batch comes before all of it, to warm up. The same once more by
processor time on one thread, with a quarter of the photos. Then the memory: resident bytes when the
1,000th and when the last picture is done, the same photos linked again and again. Each is a process
of its own.

    python benchmarks/bulk.py [--model RUN] [--photos FOLDER] [--num 1000] [--links 20000]

``--only rate``, ``processor`` or ``memory`` does some of the three. Without ``--photos`` it uses
Flickr8k's from the test data, or else makes some.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from _harness import Figure, benchmark, part
from features import find_photos

from showtell.core.device import choose_runtime
from showtell.core.progress import SilentReporter

if TYPE_CHECKING:  # torch is imported after the allocator is tuned
    from showtell.inference.backends.native import NativeCaptioner

LEAST_SHARE = 0.5
MOST_GROWTH_MB = 50
BARE_BATCH, BARE_PASSES = 32, 8
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
EARLY = 1000  # pictures, by when everything has been allocated once
STATM = Path("/proc/self/statm")
WORK = ("rate", "processor", "memory")

Clock = Callable[[], float]


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """What ``--only`` names, each in a process of its own."""
    if options.quick:
        options.num, options.links, options.rounds = 8, 12, 1
    with tempfile.TemporaryDirectory() as folder:
        num_made = options.num if options.quick else None
        photos = options.photos or find_photos(Path(folder), num_made)
        settings = {
            name: getattr(options, name)
            for name in ("model", "num", "links", "rounds", "beam_size", "batch_size")
        } | {"photos": str(photos)}
        if "rate" in options.only:
            yield wall_share(part(options, "share", **settings, clock="wall"))
        if "processor" in options.only:
            settings_of_one = settings | {"num": max(options.num // 4, 1), "threads": 1}
            yield processor_share(
                part(options, "share", **settings_of_one, clock="processor", device="cpu")
            )
        if "memory" in options.only:
            yield growth(part(options, "memory", **settings) if STATM.exists() else None)


def wall_share(found: dict[str, Any]) -> Figure:
    """What a user waits for."""
    return Figure(
        "bulk captioning, files to JSON lines, by wall time",
        "the bare encoder's rate on ready tensors",
        found["share"],
        LEAST_SHARE,
        detail=found["detail"],
    )


def processor_share(found: dict[str, Any]) -> Figure:
    """What it costs, which other programs do not disturb."""
    return Figure(
        "bulk captioning, files to JSON lines, by one thread's processor time",
        "the bare encoder's rate by the same clock",
        found["share"],
        detail=found["detail"],
    )


def growth(found: dict[str, Any] | None) -> Figure:
    """From the first reading to the last; None where there is none to read."""
    name = "bulk captioning, growth of memory"
    reference = f"the {MOST_GROWTH_MB} MB that are allowed"
    if found is None:
        return Figure.missing(name, reference, f"no {STATM}")
    (first, early), *_, (last, late) = found["megabytes"]
    return Figure(
        name,
        reference,
        max(late - early, 0.0) / MOST_GROWTH_MB,
        1.0,
        True,
        f"{late - early:+.0f} MB from picture {first:,} to {last:,}; resident: "
        + ", ".join(f"{done:,}: {value:.0f} MB" for done, value in found["megabytes"]),
    )


def share(options: argparse.Namespace) -> dict[str, Any]:
    """Files to JSON lines against the encoder alone, by a clock."""
    captioner, photos = load(options)
    clock = CLOCKS[options.clock]
    run(captioner, options, photos[:BARE_BATCH], SilentReporter())
    shares, rates, bares = [], [], []
    for _ in range(options.rounds):
        before = bare_rate(captioner, clock, options)
        begin = clock()
        num = run(captioner, options, photos, SilentReporter())
        rates.append(num / (clock() - begin))
        bares.append((before + bare_rate(captioner, clock, options)) / 2)
        shares.append(rates[-1] / bares[-1])
    runtime = captioner.runtime
    detail = (
        f"{median(rates):.1f} images/s from files to JSON lines, {median(bares):.1f} bare; "
        f"{len(photos)} photos, {options.model}, beam {options.beam_size}, {runtime.precision} on "
        f"{runtime.device}, {runtime.threads} threads; rounds "
        f"{', '.join(f'{value:.2f}' for value in shares)}"
    )
    return {"share": median(shares), "detail": detail}


def load(options: argparse.Namespace) -> tuple["NativeCaptioner", list[Path]]:
    """The model, as many threads as were asked for, and the photos."""
    choose_runtime(options.device, threads=options.threads)
    from showtell.inference.backends.native import NativeCaptioner

    captioner = NativeCaptioner.load(options.model, device=options.device)
    print(captioner.runtime.describe())
    return captioner, sorted(Path(options.photos).glob("*.jpg"))[: options.num]


def bare_rate(captioner: "NativeCaptioner", clock: Clock, options: argparse.Namespace) -> float:
    """Images/s of the encoder alone on a batch that is ready."""
    import torch

    encoder, runtime = captioner.encoder, captioner.runtime
    batch, passes = (2, 1) if options.quick else (BARE_BATCH, BARE_PASSES)
    size = encoder.preprocessing.size
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    images = images.to(runtime.device)
    with torch.inference_mode(), runtime.autocast():
        encoder(images, regions=captioner.needs_regions)
        begin = clock()
        for _ in range(passes):
            encoder(images, regions=captioner.needs_regions).pooled.cpu()
        return batch * passes / (clock() - begin)


def run(
    captioner: "NativeCaptioner",
    options: argparse.Namespace,
    photos: list[Path],
    report: SilentReporter,
) -> int:
    """Caption photos into a file; how many."""
    from showtell.bulk.inputs import find_inputs
    from showtell.bulk.run import caption_all
    from showtell.bulk.targets import OneFile

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "captions.jsonl"
        summary = caption_all(
            captioner,
            find_inputs([str(path) for path in photos]),
            OneFile(out, "jsonl", Path(folder) / "failures.jsonl", overwrite=False),
            decoding=captioner.config.decoding.with_changes({"beam_size": options.beam_size}),
            report=report,
            batch_size=options.batch_size,
        )
        assert summary.num_failed == 0
        assert len(out.read_bytes().splitlines()) == len(photos)
    return summary.num_captioned


class Watch(SilentReporter):
    """Reads the process's resident memory when some pictures are done."""

    def __init__(self, at: set[int]) -> None:
        self.at = at
        self.megabytes: list[tuple[int, float]] = []

    def progress(self, task: str, done: int, total: int, unit: str, *, num_failed: int = 0) -> None:
        if done in self.at:
            pages = int(STATM.read_text().split()[1])
            self.megabytes.append((done, pages * os.sysconf("SC_PAGESIZE") / 2**20))


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Resident memory while links are captioned, from an early one to the last."""
    captioner, photos = load(options)
    watch = Watch(
        {min(EARLY, options.links // 4), options.links // 4, options.links // 2, options.links}
    )
    with tempfile.TemporaryDirectory() as folder:
        links = []
        for i in range(options.links):
            link = Path(folder) / f"{i:06d}.jpg"
            link.symlink_to(photos[i % len(photos)].resolve())
            links.append(link)
        run(captioner, options, links, watch)
    return {"megabytes": watch.megabytes}


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="default")
    parser.add_argument("--photos", type=Path, default=None)
    parser.add_argument("--only", nargs="+", choices=WORK, default=WORK)
    parser.add_argument("--num", type=int, default=1000, help="photos")
    parser.add_argument("--links", type=int, default=20000, help="pictures for the memory")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--beam-size", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=None)


if __name__ == "__main__":
    benchmark(measure, __doc__, options=_options, parts={"share": share, "memory": memory})
