"""Feature extraction against the bare encoder: images/s from files to store, as a share.

The reference is the same encoder, precision and batch size on tensors that are ready in memory,
measured right before and right after each extraction, so that a busy machine costs both alike.
Also measured, each as a ratio: what the allocator setting, bf16 and the batch size give.

    python benchmarks/features.py [--photos FOLDER] [--encoder lite2] [--rounds 5]

Without ``--photos`` it uses Flickr8k's from the test data, or else makes some.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from showtell.runtime import Runtime, choose_runtime, tune_allocator

if TYPE_CHECKING:  # torch is imported after the allocator is tuned, or is left alone
    from showtell.models.encoders import Encoder

ROOT = Path(__file__).resolve().parents[1]
BARE_PASSES = 6
PHOTOS_A_ROUND = 256

Clock = Callable[[], float]


def main() -> None:
    """Run every measurement and print its line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=None)
    parser.add_argument("--encoder", default="lite2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--views", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--one-rate", choices=["tuned", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_rate:
        print(one_rate(options.encoder, is_tuned=options.one_rate == "tuned"))
        return
    tune_allocator()
    with tempfile.TemporaryDirectory() as folder:
        photos = sorted((options.photos or find_photos(Path(folder))).glob("*.jpg"))
        extraction_share(options, photos, choose_runtime(), time.perf_counter)
        # The same by processor time on one thread: that holds on a busy machine, too.
        threads = choose_runtime().threads
        extraction_share(options, photos, choose_runtime("cpu", threads=1), time.process_time)
        choose_runtime(threads=threads)
    precision_and_batch(options.encoder, options.rounds)
    allocator(options.encoder)


def find_photos(folder: Path) -> Path:
    """Flickr8k's photos, or pictures of their size made here."""
    data = Path(os.environ.get("SHOWTELL_TEST_DATA", ROOT.parent / "shared" / "data"))
    if (data / "flickr8k" / "images").is_dir():
        return data / "flickr8k" / "images"
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for n in range(256):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{n}.jpg", quality=87)
    return folder


def bare_rate(
    encoder: "Encoder",
    runtime: Runtime,
    batch_size: int,
    *,
    passes: int = BARE_PASSES,
    clock: Clock = time.perf_counter,
) -> float:
    """Images/s of the encoder alone, pooled features, on a ready batch."""
    import torch

    size = encoder.preprocessing.size
    images = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8)
    images = images.permute(0, 3, 1, 2).to(runtime.device)
    with runtime.autocast():
        encoder(images, regions=False)
        start = clock()
        for _ in range(passes):
            encoder(images, regions=False).pooled.cpu()
        return batch_size * passes / (clock() - start)


def extraction_share(
    options: argparse.Namespace, photos: list[Path], runtime: Runtime, clock: Clock
) -> None:
    """Files to store against the encoder alone."""
    from showtell.data.records import Record
    from showtell.features.extract import default_batch_size, extract_features
    from showtell.models.encoders import build_encoder

    print(runtime.describe())
    encoder = build_encoder(options.encoder).to(runtime.device)
    batch_size = options.batch_size or default_batch_size(runtime)
    shares, rates, bares = [], [], []
    num = min(len(photos), PHOTOS_A_ROUND // (1 + options.views))
    for n in range(options.rounds):
        start = n * num % (len(photos) - num + 1)
        split = "train" if options.views else "val"
        records = [Record(str(path), path, (), split) for path in photos[start : start + num]]
        before = bare_rate(encoder, runtime, batch_size, clock=clock)
        with tempfile.TemporaryDirectory() as folder:
            begin = clock()
            report = extract_features(
                records,
                encoder,
                Path(folder),
                views=options.views,
                grid=False,
                seed=0,
                runtime=runtime,
                batch_size=batch_size,
            )
            rates.append(report.num_views / (clock() - begin))
        assert not report.failures
        bares.append((before + bare_rate(encoder, runtime, batch_size, clock=clock)) / 2)
        shares.append(rates[-1] / bares[-1])
    what = "processor time" if clock is time.process_time else "time"
    print(
        f"extraction, {options.encoder}, batch {batch_size}, {options.views} random views, by "
        f"{what}: {median(rates):.0f} views/s from files to store, bare encoder "
        f"{median(bares):.0f} images/s; share {median(shares):.2f} "
        f"(rounds: {', '.join(f'{share:.2f}' for share in shares)})"
    )


def precision_and_batch(name: str, rounds: int) -> None:
    """The bare encoder by precision and batch size, interleaved, against fp32 at batch 32."""
    from showtell.models.encoders import build_encoder

    encoder = build_encoder(name)
    settings = [(precision, size) for precision in ("fp32", "bf16") for size in (8, 16, 32, 64)]
    rates: dict[tuple[str, int], list[float]] = {setting: [] for setting in settings}
    for _ in range(rounds):
        for precision, size in settings:
            runtime = choose_runtime("cpu", precision)
            rates[precision, size].append(bare_rate(encoder, runtime, size, passes=64 // size))
    reference = median(rates["fp32", 32])
    for (precision, size), values in rates.items():
        print(
            f"bare {name} on cpu, {precision}, batch {size}: {median(values):.0f} images/s, "
            f"{median(values) / reference:.2f} of fp32 at batch 32"
        )


def one_rate(name: str, *, is_tuned: bool) -> float:
    """The bare encoder's images/s in this process, with glibc's allocator tuned or as it is."""
    from showtell import runtime
    from showtell.models.encoders import build_encoder

    if not is_tuned:
        runtime.tune_allocator = lambda: False
    chosen = runtime.choose_runtime("cpu")
    return bare_rate(build_encoder(name), chosen, 32)


def allocator(name: str) -> None:
    """Fresh processes with and without ``tune_allocator``, in turn."""
    rates: dict[str, list[float]] = {"tuned": [], "plain": []}
    for _ in range(3):
        for kind, values in rates.items():
            command = [sys.executable, __file__, "--encoder", name, "--one-rate", kind]
            shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            values.append(float(shown))
    tuned, plain = (median(values) for values in rates.values())
    print(f"allocator tuned: {tuned:.0f} images/s, not: {plain:.0f}; {tuned / plain:.2f} times")


if __name__ == "__main__":
    if "--one-rate" in sys.argv and "tuned" in sys.argv:
        tune_allocator()
    main()
