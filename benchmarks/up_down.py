"""An epoch of the up_down preset on Flickr8k's 30,000 captions, against the 75 s that are allowed.

The captions are Flickr8k's from the test data, or else as many of COCO's; the features are random,
a grid of 81 regions in a memory-mapped store, as lite2 gives them. The steps are those of
`showtell train -c configs/flickr8k-up-down.toml`; some are timed, as they come, and the epoch's
time follows from them. Validation is not counted.

    python benchmarks/up_down.py [--steps 40] [--rounds 3]
"""

import argparse
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import torch
from _coco import FEATURE_SIZE, coco_records, random_store
from _harness import Figure, benchmark, test_data

from showtell.config import Config
from showtell.core.device import Runtime, choose_runtime
from showtell.core.distributed import ALONE
from showtell.core.progress import SilentReporter
from showtell.data.records import Dataset, Record
from showtell.data.sources import load_dataset
from showtell.decoders.registry import build_decoder
from showtell.training.objectives import build_objective
from showtell.training.prepare import prepare
from showtell.training.state import TrainingState
from showtell.training.step import take_step

PRESET = Path(__file__).resolve().parents[1] / "configs" / "flickr8k-up-down.toml"
NUM_PICTURES, REGIONS = 6000, 81
MOST_SECONDS = 75.0
WARM_UP = 4


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """The epoch."""
    runtime = choose_runtime(options.device, threads=options.threads)
    print(runtime.describe())
    num_pictures, num_steps, rounds = NUM_PICTURES, options.steps, options.rounds
    if options.quick:
        num_pictures, num_steps, rounds = 20, 1, 1
    config = Config.load(PRESET, ("encoder.views=0",))
    dataset = captions(num_pictures)
    seconds, num_batches, rates = epoch(dataset, config, runtime, num_steps, rounds)
    num_captions = sum(len(r.captions) for r in dataset.records if r.split == "train")
    yield Figure(
        f"up_down, one epoch of {num_captions:,} captions",
        f"the limit of {MOST_SECONDS:g} s",
        seconds / MOST_SECONDS,
        1.0,
        True,
        f"{seconds:.0f} s for {num_batches} steps of {config.training.batch_size} captions, "
        f"{num_captions / seconds:,.0f} captions/s, {runtime.precision} on {runtime.device}; from "
        f"{num_steps} steps, rounds {', '.join(f'{rate:.3f}' for rate in rates)} s a step",
    )


def captions(num_pictures: int) -> Dataset:
    """Flickr8k's training pictures, and one to validate, as that is asked for."""
    folder = test_data() / "flickr8k"
    if folder.is_dir():
        found = [r for r in load_dataset(str(folder)).records if r.split == "train"]
    else:
        found = coco_records(num_pictures + 1)
    first = found[0]
    held_out = Record("held-out", first.path, first.captions, "val")
    return Dataset("benchmark", "flickr8k", (*found[:num_pictures], held_out))


def epoch(
    dataset: Dataset, config: Config, runtime: Runtime, num_steps: int, rounds: int
) -> tuple[float, int, list[float]]:
    """Seconds, the number of its steps, and seconds a step in each round."""
    store = random_store("grid", [r.image_id for r in dataset.records], regions=REGIONS)
    data = prepare(dataset, config.data, store, SilentReporter())
    torch.manual_seed(0)
    decoder = build_decoder(
        config.decoder, vocab_size=len(data.vocabulary), feature_size=FEATURE_SIZE
    )
    state = TrainingState.of(decoder.to(runtime.device), config)
    state.train()
    objective = build_objective(config, data, runtime, regions=True)
    batches = objective.batches(1)
    steps = cycle(batches)

    def take(number: int) -> float:
        begin = time.perf_counter()
        for batch in islice(steps, number):
            step = take_step(state, objective, batch, rate=1e-4, config=config, processes=ALONE)
            state.progress.step += 1
        assert step.fault is None
        return (time.perf_counter() - begin) / number

    take(min(WARM_UP, num_steps))
    rates = [take(num_steps) for _ in range(rounds)]
    return median(rates) * len(batches), len(batches), rates


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)


if __name__ == "__main__":
    benchmark(measure, __doc__, options=_options)
