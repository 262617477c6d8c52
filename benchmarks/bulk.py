"""Bulk captioning against the bare encoder: images/s from files to JSON lines, as a share.

The reference is the model's own encoder, at the same precision, on pictures that are decoded and
cut already, measured right before and right after each run, so that a busy machine costs both
alike. The same once more by processor time on one thread. Then the memory: resident bytes when
the 1,000th and when the 20,000th picture is done, the same photos linked again.

    python benchmarks/bulk.py --model RUN [--photos FOLDER] [--num 1000] [--links 20000]

Without ``--photos`` it uses Flickr8k's from the test data. ``--part rate`` or ``--part memory``
does one of the two.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from showtell.progress import SilentReporter
from showtell.runtime import choose_runtime, tune_allocator

if TYPE_CHECKING:  # torch is imported after the allocator is tuned
    from showtell.captioner import Captioner

ROOT = Path(__file__).resolve().parents[1]
LEAST_SHARE = 0.5
MOST_GROWTH_MB = 50
BARE_BATCH, BARE_PASSES = 32, 8

Clock = Callable[[], float]


def main() -> None:
    """Run every measurement and print its line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--photos", type=Path, default=None)
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--links", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--beam-size", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--part", choices=["all", "rate", "processor", "memory"], default="all")
    options = parser.parse_args()
    tune_allocator()
    data = Path(os.environ.get("SHOWTELL_TEST_DATA", ROOT.parent / "shared" / "data"))
    photos = sorted((options.photos or data / "flickr8k" / "images").glob("*.jpg"))[: options.num]
    if options.part in ("all", "rate"):
        share(options, photos, time.perf_counter)
    if options.part in ("all", "processor"):
        threads = choose_runtime().threads
        choose_runtime("cpu", threads=1)
        share(options, photos[: options.num // 4], time.process_time)
        choose_runtime(threads=threads)
    if options.part in ("all", "memory"):
        memory(options, photos)


def share(options: argparse.Namespace, photos: list[Path], clock: Clock) -> None:
    """Files to JSON lines against the encoder alone."""
    from showtell.captioner import Captioner

    captioner = Captioner.load(options.model)
    print(captioner.runtime.describe())
    captioner.encoder  # noqa: B018 - loads it
    shares, rates, bares = [], [], []
    for _ in range(options.rounds):
        before = bare_rate(captioner, clock)
        begin = clock()
        num = run(captioner, options, photos, SilentReporter())
        rates.append(num / (clock() - begin))
        bares.append((before + bare_rate(captioner, clock)) / 2)
        shares.append(rates[-1] / bares[-1])
    what = "processor time of one thread" if clock is time.process_time else "time"
    verdict = "ok" if median(shares) >= LEAST_SHARE else "MISSED"
    print(
        f"{len(photos)} photos, beam {options.beam_size}, by {what}: {median(rates):.1f} images/s "
        f"from files to JSON lines, bare encoder {median(bares):.1f}; share {median(shares):.2f} "
        f"(rounds: {', '.join(f'{value:.2f}' for value in shares)}; at least {LEAST_SHARE}) "
        f"{verdict}",
        flush=True,
    )


def bare_rate(captioner: "Captioner", clock: Clock) -> float:
    """Images/s of the encoder alone on a batch that is ready."""
    import torch

    encoder, runtime = captioner.encoder, captioner.runtime
    size = encoder.preprocessing.size
    images = torch.randint(0, 256, (BARE_BATCH, 3, size, size), dtype=torch.uint8)
    images = images.to(runtime.device)
    with torch.inference_mode(), runtime.autocast():
        encoder(images, regions=captioner.needs_regions)
        begin = clock()
        for _ in range(BARE_PASSES):
            encoder(images, regions=captioner.needs_regions).pooled.cpu()
        return BARE_BATCH * BARE_PASSES / (clock() - begin)


def run(
    captioner: "Captioner",
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

    def __init__(self, at: tuple[int, ...]) -> None:
        self.megabytes: dict[int, float] = dict.fromkeys(at, 0.0)

    def progress(self, task: str, done: int, total: int, unit: str, *, num_failed: int = 0) -> None:
        if done in self.megabytes:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.megabytes[done] = pages * os.sysconf("SC_PAGESIZE") / 2**20
            print(f"{done} pictures: {self.megabytes[done]:.0f} MB resident", flush=True)


def memory(options: argparse.Namespace, photos: list[Path]) -> None:
    """Resident memory from the 1,000th to the last picture of links."""
    from showtell.captioner import Captioner

    captioner = Captioner.load(options.model)
    with tempfile.TemporaryDirectory() as folder:
        links = []
        for i in range(options.links):
            link = Path(folder) / f"{i:06d}.jpg"
            link.symlink_to(photos[i % len(photos)].resolve())
            links.append(link)
        watch = Watch((1000, options.links // 4, options.links // 2, options.links))
        run(captioner, options, links, watch)
    growth = watch.megabytes[options.links] - watch.megabytes[1000]
    verdict = "ok" if growth <= MOST_GROWTH_MB else "MISSED"
    print(
        f"memory from the 1,000th to the {options.links:,}th picture: {growth:+.0f} MB "
        f"(at most {MOST_GROWTH_MB}) {verdict}"
    )


if __name__ == "__main__":
    main()
