"""An epoch of the up_down preset on Flickr8k's 30,000 captions, against the 75 s that are allowed.

The captions are Flickr8k's from the test data, or else as many of COCO's; the features are random,
a grid of 81 regions in a memory-mapped store, as lite2 gives them. The steps are those of
`showtell train -c flickr8k-up-down`; some are timed, as they come, and the epoch's
time follows from them. Validation is not counted.

Then each form of `showtell.decoders.fast_cpu` is turned off in turn: the time of a step with the
plain form, as a multiple of the step as it is, in the preset that uses the form most.

    python benchmarks/up_down.py [--steps 40] [--rounds 3] [--forms-only]
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _coco import FEATURE_SIZE, coco_records, random_store
from _harness import Figure, benchmark, test_data

from showtell.config import Config
from showtell.core.device import Runtime, choose_runtime
from showtell.core.distributed import ALONE
from showtell.core.progress import SilentReporter
from showtell.data.records import Dataset, Record
from showtell.data.sources import load_dataset
from showtell.decoders.fast_cpu import plain_forms
from showtell.decoders.registry import build_decoder
from showtell.training.objectives import build_objective
from showtell.training.prepare import prepare
from showtell.training.state import TrainingState
from showtell.training.step import take_step

PRESET, TRANSFORMER = "flickr8k-up-down.toml", "flickr8k-transformer.toml"
NUM_PICTURES, REGIONS = 6000, 81
MOST_SECONDS = 75.0
WARM_UP = 4
QUICK_SIZES = {
    PRESET: ("decoder.embed_size=32", "decoder.hidden_size=32", "decoder.attention_size=16"),
    TRANSFORMER: ("decoder.hidden_size=32",),
}


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """The epoch."""
    runtime = choose_runtime(options.device, threads=options.threads)
    print(runtime.describe())
    num_pictures, num_steps, rounds = NUM_PICTURES, options.steps, options.rounds
    if options.quick:
        num_pictures, num_steps, rounds = 20, 1, 1
    dataset = captions(num_pictures)
    steps = Steps(dataset, PRESET, runtime, options.quick)
    if not options.forms_only:
        yield epoch(dataset, steps, runtime, num_steps, rounds)
    yield from without_each_form(steps, num_steps // 4 + 1, rounds)
    steps = Steps(dataset, TRANSFORMER, runtime, options.quick)
    yield from without_each_form(steps, num_steps // 4 + 1, rounds)


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


class Steps:
    """Training steps of a preset, one after the other."""

    def __init__(self, dataset: Dataset, preset: str, runtime: Runtime, is_quick: bool) -> None:
        sizes = ("training.batch_size=4", *QUICK_SIZES[preset]) if is_quick else ()
        self.config = config = Config.load(Path(preset), ("encoder.views=0", *sizes))
        store = random_store("grid", [r.image_id for r in dataset.records], regions=REGIONS)
        data = prepare(dataset, config.data, store, SilentReporter())
        torch.manual_seed(0)
        decoder = build_decoder(
            config.decoder, vocab_size=len(data.vocabulary), feature_size=FEATURE_SIZE
        )
        self.state = TrainingState.of(decoder.to(runtime.device), config)
        self.state.train()
        self.objective = build_objective(config, data, runtime, regions=True)
        batches = self.objective.batches(1)
        self.num_batches, self.batches = len(batches), cycle(batches)
        self.take([*islice(self.batches, WARM_UP)])

    def take(self, batches: Sequence[Any], clock: Callable[[], float] = time.perf_counter) -> float:
        """Take the steps on ``batches``: seconds a step."""
        begin = clock()
        for batch in batches:
            step = take_step(
                self.state, self.objective, batch, rate=1e-4, config=self.config, processes=ALONE
            )
            self.state.progress.step += 1
        assert step.fault is None
        return (clock() - begin) / len(batches)


def epoch(dataset: Dataset, steps: Steps, runtime: Runtime, num_steps: int, rounds: int) -> Figure:
    """The time of an epoch, from some of its steps."""
    rates = [steps.take([*islice(steps.batches, num_steps)]) for _ in range(rounds)]
    seconds = median(rates) * steps.num_batches
    num_captions = sum(len(r.captions) for r in dataset.records if r.split == "train")
    return Figure(
        f"up_down, one epoch of {num_captions:,} captions",
        f"the limit of {MOST_SECONDS:g} s",
        seconds / MOST_SECONDS,
        1.0,
        True,
        f"{seconds:.0f} s for {steps.num_batches} steps of {steps.config.training.batch_size} "
        f"captions, {num_captions / seconds:,.0f} captions/s, {runtime.precision} on "
        f"{runtime.device}; from {num_steps} steps, rounds "
        f"{', '.join(f'{rate:.3f}' for rate in rates)} s a step",
    )


def without_each_form(steps: Steps, num_steps: int, rounds: int) -> Iterator[Figure]:
    """What each fast form gains: the same steps with and without it, by turns.

    On a processor the time is that of the processor, which other programs change less.
    """
    kind = steps.config.decoder.kind
    on_cpu = next(steps.state.decoder.parameters()).device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    forms = {
        "up_down": ("dropout", "lstm_cell", "deferred_weight_grads", "unrolled_attention"),
        "transformer": ("dropout", "attention"),
    }[kind]
    for form in forms:
        ratios = []
        for _ in range(rounds):
            batches = [*islice(steps.batches, num_steps)]
            fast = steps.take(batches, clock)
            with plain_forms(form):
                plain = steps.take(batches, clock)
            ratios.append(plain / (fast + steps.take(batches, clock)) * 2)
        yield Figure(
            f"{kind}, a step with the plain form of {form}",
            "the step as it is",
            median(ratios),
            detail=f"rounds {', '.join(f'{ratio:.3f}' for ratio in ratios)}",
        )


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms-only", action="store_true", help="leave the epoch out")


if __name__ == "__main__":
    benchmark(measure, __doc__, options=_options)
