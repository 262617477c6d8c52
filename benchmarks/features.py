"""Feature extraction against the bare encoder: images/s from files to store, as a share.

The reference is the same encoder, precision and batch size on tensors that are ready in memory,
measured right before and right after each extraction, so that a busy machine costs both alike.
Also measured, each as a ratio: what the allocator setting, bf16 and the batch size give.

    python benchmarks/features.py [--photos FOLDER] [--encoder lite2] [--rounds 3]

Without ``--photos`` it uses Flickr8k's from the test data, or else makes some.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from _harness import Figure, benchmark, part, test_data

from showtell.core.device import Runtime, choose_runtime
from showtell.core.memory import tune_allocator

if TYPE_CHECKING:  # torch is imported after the allocator is tuned, or is left alone
    from showtell.encoders.encoder import Encoder

LEAST = 0.85
BARE_PASSES = 6
PHOTOS_A_ROUND = 256


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """The share of extraction, then what each setting gives."""
    tune_allocator()
    if options.quick:
        options.encoder, options.rounds = "lite0", 1
    with tempfile.TemporaryDirectory() as folder:
        photos = options.photos or find_photos(Path(folder), 8 if options.quick else None)
        files = sorted(photos.glob("*.jpg"))[: 8 if options.quick else None]
        runtime = choose_runtime(options.device, threads=options.threads)
        yield extraction_share(options, files, runtime)
    if runtime.device == "cpu":
        yield from precision_and_batch(options)
        yield allocator(options)


def find_photos(folder: Path, num_made: int | None = None) -> Path:
    """Flickr8k's photos; or so many pictures of their size, made here, where a number is given."""
    photos = test_data() / "flickr8k" / "images"
    if num_made is None and photos.is_dir():
        return photos
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for n in range(num_made or PHOTOS_A_ROUND):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{n}.jpg", quality=87)
    return folder


def bare_rate(
    encoder: "Encoder",
    runtime: Runtime,
    batch_size: int,
    *,
    passes: int = BARE_PASSES,
) -> float:
    """Images/s of the encoder alone, pooled features, on a ready batch."""
    import torch

    size = encoder.preprocessing.size
    images = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8)
    images = images.permute(0, 3, 1, 2).to(runtime.device)
    with runtime.autocast():
        encoder(images, regions=False)
        start = time.perf_counter()
        for _ in range(passes):
            encoder(images, regions=False).pooled.cpu()
        return batch_size * passes / (time.perf_counter() - start)


def extraction_share(options: argparse.Namespace, photos: list[Path], runtime: Runtime) -> Figure:
    """Files to store against the encoder alone."""
    from showtell.data.records import Record
    from showtell.encoders.encoder import build_encoder
    from showtell.encoders.extract import WantedFeatures, default_batch_size, extract_features

    print(runtime.describe())
    encoder = build_encoder(options.encoder).to(runtime.device)
    batch_size = options.batch_size or default_batch_size(runtime)
    shares, rates, bares = [], [], []
    num = min(len(photos), PHOTOS_A_ROUND // (1 + options.views))
    for n in range(options.rounds):
        start = n * num % (len(photos) - num + 1)
        split = "train" if options.views else "val"
        records = [Record(str(path), path, (), split) for path in photos[start : start + num]]
        before = bare_rate(encoder, runtime, batch_size)
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            report = extract_features(
                records,
                encoder,
                Path(folder),
                WantedFeatures(views=options.views),
                runtime=runtime,
                batch_size=batch_size,
            )
            rates.append(report.num_views / (time.perf_counter() - begin))
        assert not report.failures
        bares.append((before + bare_rate(encoder, runtime, batch_size)) / 2)
        shares.append(rates[-1] / bares[-1])
    return Figure(
        f"extraction from JPEG files, {options.encoder}",
        "the bare encoder's rate on ready tensors",
        median(shares),
        LEAST,
        detail=f"{median(rates):.0f} views/s from files to store, {median(bares):.0f} images/s "
        f"bare, batch {batch_size}, {runtime.precision}, {options.views} random views, on "
        f"{runtime.device}; rounds {', '.join(f'{share:.2f}' for share in shares)}",
    )


def precision_and_batch(options: argparse.Namespace) -> Iterator[Figure]:
    """The bare encoder by precision and batch size, interleaved, against fp32 at batch 32."""
    from showtell.encoders.encoder import build_encoder

    encoder = build_encoder(options.encoder)
    sizes = (1, 2) if options.quick else (8, 16, 32, 64)
    settings = [(precision, size) for precision in ("fp32", "bf16") for size in sizes]
    rates: dict[tuple[str, int], list[float]] = {setting: [] for setting in settings}
    for _ in range(options.rounds):
        for precision, size in settings:
            runtime = choose_runtime("cpu", precision, threads=options.threads)
            rates[precision, size].append(
                bare_rate(encoder, runtime, size, passes=max(sizes) // size)
            )
    reference = sizes[-2]
    for (precision, size), values in rates.items():
        if (precision, size) != ("fp32", reference):
            yield Figure(
                f"bare {options.encoder}, {precision}, batch {size}",
                f"fp32 at batch {reference}",
                median(values) / median(rates["fp32", reference]),
                detail=f"{median(values):.0f} images/s",
            )


def one_rate(options: argparse.Namespace) -> dict[str, float]:
    """The bare encoder's images/s in this process, with glibc's allocator tuned or as it is."""
    from showtell.encoders.encoder import build_encoder

    if options.is_tuned:
        tune_allocator()
    chosen = choose_runtime("cpu", threads=options.threads)
    size, passes = (1, 1) if options.quick else (32, BARE_PASSES)
    return {"rate": bare_rate(build_encoder(options.encoder), chosen, size, passes=passes)}


def allocator(options: argparse.Namespace) -> Figure:
    """Fresh processes with and without ``tune_allocator``, in turn."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(1 if options.quick else 3):
        for is_tuned, values in rates.items():
            found = part(options, "one_rate", is_tuned=is_tuned, encoder=options.encoder)
            values.append(found["rate"])
    tuned, plain = median(rates[True]), median(rates[False])
    return Figure(
        f"bare {options.encoder}, the allocator tuned",
        "glibc's allocator as it is",
        tuned / plain,
        detail=f"{tuned:.0f} and {plain:.0f} images/s",
    )


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photos", type=Path, default=None)
    parser.add_argument("--encoder", default="lite2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--views", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=None)


if __name__ == "__main__":
    benchmark(measure, __doc__, options=_options, parts={"one_rate": one_rate})
