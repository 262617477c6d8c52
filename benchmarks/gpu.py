"""A GPU against its own limit: training of each decoder and each encoder, as shares of its rate.

The limit is the rate that the GPU reaches in bf16 on a product of two square matrices, measured in
the same run. A step's work is what torch's counter of operations finds in it (for ``show_tell``,
whose recurrence that does not see, what ``step.py`` counts), forward and back, without padding.
Steps are those of `showtell train` on COCO's captions at COCO's vocabulary, in bf16, compiled where
that pays; regions are 81 of 1,280. Beam search and extraction from files are in ``decoding.py`` and
``features.py``, which take ``--device cuda``.

    python benchmarks/gpu.py [--decoders show_tell transformer] [--batch-size 256]
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from statistics import median

import numpy as np
import torch
from _coco import FEATURE_SIZE, VOCAB_SIZE
from _harness import Figure, benchmark, seconds
from step import Steps, step_flops
from torch.utils.flop_counter import FlopCounterMode

from showtell.core.device import Runtime, choose_runtime
from showtell.encoders.encoder import build_encoder
from showtell.encoders.features import Features
from showtell.errors import ShowtellError
from showtell.training.step import compile_decoder

REGIONS = 81
ENCODERS = ("lite2", "timm:resnet50")
QUICK_DECODERS = ("show_tell", "transformer")  # one that needs no regions, and one that does
LIMIT = "its rate of square matrix products in bf16"


class RandomRegions:
    """In place of a store with a grid, 17 GB for COCO: the same numbers each step."""

    def __init__(self, runtime: Runtime, size: int) -> None:
        self.grid = torch.randn(
            size, REGIONS, FEATURE_SIZE, dtype=runtime.dtype, device=runtime.device
        )

    def of_captions(self, rows: np.ndarray, step: int, part: np.ndarray) -> Features:
        """A picture for each of the batch's."""
        _, index = np.unique(rows[part], return_inverse=True)
        regions = self.grid[: index.max() + 1]
        return Features(
            regions.float().mean(dim=1), regions,
            picture_of=torch.from_numpy(index).to(regions.device),
        )  # fmt: skip

    def part_of_captions(self, rows: np.ndarray, processes: object) -> np.ndarray:
        """All."""
        return np.arange(len(rows))


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """A figure for each decoder and encoder."""
    has_gpu = torch.cuda.is_available() and options.device != "cpu"
    if not has_gpu and not options.quick:
        for name in (*options.decoders, *ENCODERS):
            yield Figure.missing(f"{name} on a GPU", LIMIT, "this machine has no GPU")
        return
    runtime = choose_runtime(options.device, "bf16", threads=options.threads)
    print(runtime.describe())
    limit = product_rate(runtime.device, 256 if options.quick else 8192)
    for name in QUICK_DECODERS if options.quick else options.decoders:
        yield training(name, limit, runtime, options)
    for name in ("lite0",) if options.quick else ENCODERS:
        try:
            yield encoding(name, limit, runtime, options)
        except ShowtellError as error:
            yield Figure.missing(f"{name} on a GPU", LIMIT, str(error))


def product_rate(device: str, size: int) -> float:
    """Operations/s of a product of two (size, size) matrices in bf16."""
    one, two = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    passes = 20

    def work() -> None:
        for _ in range(passes):
            one @ two

    work()
    return median(2 * passes * size**3 / seconds(work, device) for _ in range(5))


def counted(work: Callable[[], object]) -> int:
    """Operations of the matrix products and convolutions in ``work``."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def training(kind: str, limit: float, runtime: Runtime, options: argparse.Namespace) -> Figure:
    """Captions/s of a decoder, and what share of ``limit`` its work makes."""
    batch_size = 4 if options.quick else options.batch_size
    num_steps, rounds = (1, 1) if options.quick else (50, 5)
    sizes = ("decoder.embed_size=256", "decoder.hidden_size=512") if kind == "show_tell" else ()
    steps = Steps(
        runtime,
        20 if options.quick else 20_000,
        f"decoder.kind={kind}",
        f"training.batch_size={batch_size}",
        *sizes,
    )
    decoder = steps.state.decoder
    if decoder.needs_regions:
        steps.objective.load = RandomRegions(runtime, batch_size)
        steps.objective.by_picture = True
        steps.grouped = cycle(steps.objective.batches(1))
    batches = list(islice(steps.grouped, num_steps))
    work = steps.of_the_same(batches)
    num_tokens = sum(int(steps.objective.corpus.lengths[b].sum()) + len(b) for b in batches)
    num_captions = sum(map(len, batches))
    if kind == "show_tell":
        flops = step_flops(num_tokens, num_captions, steps.config)
    else:
        flops = counted(work)
    if not options.quick and decoder.gains_by_compiling:
        print(compile_decoder(decoder))
    work()
    time = median(seconds(work, runtime.device) for _ in range(rounds))
    return Figure(
        f"training of {kind} on a GPU", LIMIT, flops / time / limit,
        detail=f"{num_captions / time:,.0f} captions/s at batch {batch_size}, {VOCAB_SIZE:,} words "
        f"on {runtime.device_reason}; the product {limit / 1e12:.1f} TFLOP/s",
    )  # fmt: skip


def encoding(name: str, limit: float, runtime: Runtime, options: argparse.Namespace) -> Figure:
    """Images/s of an encoder on ready tensors."""
    encoder = build_encoder(name).to(runtime.device)
    batch_size, size = 1 if options.quick else 256, encoder.preprocessing.size
    images = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8)
    images = images.permute(0, 3, 1, 2).to(runtime.device)

    @torch.no_grad()
    def work() -> None:
        with runtime.autocast():
            encoder(images, regions=False)

    flops = counted(work)
    work()
    time = median(seconds(partial(work), runtime.device) for _ in range(1 if options.quick else 20))
    return Figure(
        f"encoder {name} on a GPU", LIMIT, flops / time / limit,
        detail=f"{batch_size / time:,.0f} images/s at batch {batch_size}",
    )  # fmt: skip


def _options(parser: argparse.ArgumentParser) -> None:
    kinds = ["show_tell", "attention", "up_down", "transformer"]
    parser.add_argument("--decoders", nargs="+", default=kinds)
    parser.add_argument("--batch-size", type=int, default=256)


if __name__ == "__main__":
    benchmark(measure, __doc__, options=_options)
