"""A step that trains the encoder, against the same step with torch's gradients: its rate.

``lite2`` from a stage on, forward and back, in the precision that `showtell train` would choose.
Depthwise convolutions have their gradients from ``encoders/lite.py``; in the reference torch has
them. Both take turns.

    python benchmarks/finetune.py [--batch 32] [--rounds 3]
"""

import argparse
from collections.abc import Iterator
from functools import partial
from statistics import median
from unittest.mock import patch

import torch
from _harness import Figure, benchmark, seconds

from showtell.core.device import Runtime, choose_runtime
from showtell.encoders.encoder import Encoder, build_encoder
from showtell.encoders.finetune import train_from
from showtell.encoders.lite import SameConv2d


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """For two first stages."""
    batch, rounds = (2, 1) if options.quick else (options.batch, options.rounds)
    runtime = choose_runtime(options.device, threads=options.threads)
    for stage in ("stage7",) if options.quick else ("stage5", "stage3"):
        encoder = build_encoder("lite2").to(runtime.device)
        train_from(encoder, stage)
        size = encoder.preprocessing.size
        noise = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
        pictures = noise.to(runtime.device)
        take = partial(step, encoder, runtime, pictures)
        take()
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(seconds(take, runtime.device))
            with patch.object(SameConv2d, "_trains_on_processor", lambda *_: False):
                theirs.append(seconds(take, runtime.device))
        yield Figure(
            f"step that trains lite2 from {stage} on",
            "the same with torch's gradients",
            median(theirs) / median(ours),
            detail=f"{batch / median(ours):.1f} and {batch / median(theirs):.1f} pictures/s; "
            f"batch {batch}, {runtime.precision} on {runtime.device}, {runtime.threads} threads",
        )


def step(encoder: Encoder, runtime: Runtime, pictures: torch.Tensor) -> None:
    """Forward and back, to the encoder alone."""
    with runtime.autocast():
        features = encoder(pictures)
    assert features.regions is not None
    features.regions.square().mean().backward()
    encoder.zero_grad(set_to_none=True)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=32, help="pictures a step")
    parser.add_argument("--rounds", type=int, default=3)


if __name__ == "__main__":
    benchmark(measure, __doc__, options=_options)
