"""A training step of show_tell against the machine: its share of the rate of matrix products.

Counted is what has to be computed: the products of the real tokens, forward and back, of
``show_tell`` (embed 256, hidden 512) at batch 128 and COCO's vocabulary of 8,857. The reference is
the rate that the same machine reaches in the same precision on the step's largest product, hidden
states by vocabulary, alone. Steps and reference take turns; each share is the median over rounds.
The captions are COCO's own, so lengths and words are as they come.

Beside it, each as a multiple of the step's time: without length-grouped batches; with the padding
taken through the vocabulary; with the cross-entropy of ``torch.nn.functional``, which holds all
logits in fp32; with the optimiser's loop over parameters.

    python benchmarks/step.py [--rounds 7] [--steps 8] [--profile]
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from statistics import median

import numpy as np
import torch
from _coco import FEATURE_SIZE, VOCAB_SIZE, coco_records, random_store
from _harness import Figure, benchmark, seconds
from torch import Tensor
from torch.nn import functional as F

from showtell.config import Config
from showtell.core.device import Runtime, choose_runtime
from showtell.core.distributed import ALONE
from showtell.decoders.base import Decoder
from showtell.decoders.registry import build_decoder
from showtell.encoders.features import Features
from showtell.text.vocabulary import PAD, WordVocabulary
from showtell.training.batches import ViewLoader
from showtell.training.corpus import Corpus, TokenizedCaptions
from showtell.training.objectives import cross_entropy as objective_module
from showtell.training.objectives import losses
from showtell.training.objectives.cross_entropy import CrossEntropy
from showtell.training.state import TrainingState
from showtell.training.step import take_step

SETTINGS = ("training.batch_size=128", "decoder.embed_size=256", "decoder.hidden_size=512")
QUICK_SETTINGS = ("training.batch_size=8", "decoder.embed_size=32", "decoder.hidden_size=32")


class Steps:
    """Training steps one after the other, on COCO's captions and random features."""

    def __init__(self, runtime: Runtime, num_pictures: int | None, *settings: str) -> None:
        self.config = Config.load(None, ("encoder.views=0", *settings))
        records = coco_records(num_pictures)
        captions = TokenizedCaptions.tokenize(c for r in records for c in r.captions)
        words = sorted(captions.counts().items(), key=lambda item: (-item[1], item[0]))
        vocabulary = WordVocabulary(dict(words[: VOCAB_SIZE - 4]), 1)
        store = random_store("step", [r.image_id for r in records])
        pictures = np.repeat(np.arange(len(store)), [len(r.captions) for r in records])
        corpus = Corpus.encode(captions, pictures, vocabulary, 40)
        torch.manual_seed(0)
        decoder = build_decoder(
            self.config.decoder, vocab_size=VOCAB_SIZE, feature_size=FEATURE_SIZE
        )
        self.state = TrainingState.of(decoder.to(runtime.device), self.config)
        self.state.train()
        load = ViewLoader.from_config(store, runtime, self.config, regions=False)
        self.objective = CrossEntropy(
            corpus=corpus, load=load, runtime=runtime, config=self.config, by_picture=False
        )
        self.grouped = cycle(self.objective.batches(1))
        order = np.random.default_rng(0).permutation(len(corpus))
        size = self.config.training.batch_size
        self.mixed = cycle(np.array_split(order, max(len(order) // size, 1)))
        self.num_tokens = 0

    def take(self, num_steps: int, *, grouped: bool = True) -> None:
        """Take some, counting their tokens."""
        for batch in islice(self.grouped if grouped else self.mixed, num_steps):
            step = take_step(
                self.state, self.objective, batch, rate=1e-4, config=self.config, processes=ALONE
            )
            self.state.progress.step += 1
            self.num_tokens += step.loss.num_tokens

    def of_the_same(self, batches: list[np.ndarray]) -> Callable[[], None]:
        """Steps on given batches, to compare two ways of taking them."""

        def work() -> None:
            for batch in batches:
                take_step(
                    self.state, self.objective, batch, rate=1e-4, config=self.config,
                    processes=ALONE,
                )  # fmt: skip

        return work


def step_flops(num_tokens: int, num_captions: int, config: Config) -> float:
    """Floating-point operations of a step of ``show_tell``; of a product, 2 for each weight.

    Each product with a weight comes three times: forward, to its input's gradient, to its own. The
    picture's features have no gradient; the recurrence has one step more, for the picture.
    """
    embed, hidden = config.decoder.embed_size, config.decoder.hidden_size
    picture = 2 * 2 * FEATURE_SIZE * embed
    recurrence = 3 * 2 * (embed + hidden) * 4 * hidden
    output = 3 * 2 * hidden * VOCAB_SIZE
    return num_captions * (picture + recurrence) + num_tokens * (recurrence + output)


def product_rate(runtime: Runtime, num_rows: int, hidden: int) -> Callable[[], float]:
    """Operations/s of (num_rows, hidden) by (hidden, V), in the runtime's precision."""
    left = torch.randn(num_rows, hidden, device=runtime.device).to(runtime.dtype)
    weight = torch.randn(VOCAB_SIZE, hidden, device=runtime.device).to(runtime.dtype)
    passes = 4 if runtime.device == "cpu" else 50

    def work() -> None:
        for _ in range(passes):
            F.linear(left, weight)

    work()
    return lambda: 2 * passes * num_rows * hidden * VOCAB_SIZE / seconds(work, runtime.device)


@contextmanager
def padding_through_the_vocabulary() -> Iterator[None]:
    """Logits of all B T places; the loss leaves the padding out."""

    def plain(
        decoder: Decoder, features: Features, inputs: Tensor, targets: Tensor, **_: object
    ) -> losses.CaptionLoss:
        states = decoder.hidden_states(features, inputs).states
        logits = decoder.output(states.flatten(0, 1)).float()
        nll = F.cross_entropy(logits, targets.flatten(), ignore_index=PAD)
        return losses.CaptionLoss(nll, nll.detach(), int((targets != PAD).sum()))

    with replaced(plain):
        yield


@contextmanager
def plain_cross_entropy() -> Iterator[None]:
    """Logits of the real tokens in fp32, and torch's own loss."""

    def plain(
        decoder: Decoder, features: Features, inputs: Tensor, targets: Tensor, **_: object
    ) -> losses.CaptionLoss:
        real = targets != PAD
        hidden = decoder.hidden_states(features, inputs).states[real]
        nll = F.cross_entropy(decoder.output(hidden).float(), targets[real])
        return losses.CaptionLoss(nll, nll.detach(), int(real.sum()))

    with replaced(plain):
        yield


@contextmanager
def replaced(loss: Callable[..., losses.CaptionLoss]) -> Iterator[None]:
    """Another loss in the objective's place."""
    own, objective_module.cross_entropy = objective_module.cross_entropy, loss
    try:
        yield
    finally:
        objective_module.cross_entropy = own


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """The share, then what each part of it is worth."""
    runtime = choose_runtime(options.device, threads=options.threads)
    print(runtime.describe())
    if options.quick:
        steps = Steps(runtime, 100, *QUICK_SETTINGS)
    else:
        steps = Steps(runtime, 20_000, *SETTINGS)
    rounds, num_steps = (1, 1) if options.quick else (options.rounds, options.steps)
    steps.take(min(3, num_steps))
    if options.profile:
        profile(steps, num_steps)
        return
    shares, rates, products = [], [], []
    size = steps.config.training.batch_size
    hidden = steps.config.decoder.hidden_size
    reference = product_rate(runtime, 12 * size, hidden)
    for _ in range(rounds):
        before, steps.num_tokens = reference(), 0
        time = seconds(lambda: steps.take(num_steps), runtime.device)
        products.append((before + reference()) / 2)
        rates.append(num_steps * size / time)
        flops = step_flops(steps.num_tokens, num_steps * size, steps.config)
        shares.append(flops / time / products[-1])
    yield Figure(
        "training step of show_tell",
        f"the rate of its largest product in {runtime.precision}",
        median(shares),
        0.5,
        detail=f"batch {size}, {VOCAB_SIZE:,} words, on {runtime.device}: {median(rates):,.0f} "
        f"captions/s; the product {median(products) / 1e9:,.0f} GFLOP/s",
    )
    yield from comparisons(steps, rounds, num_steps, runtime)


def comparisons(steps: Steps, rounds: int, num_steps: int, runtime: Runtime) -> Iterator[Figure]:
    """Each of the means, left out: the time of a step without it, as a multiple."""

    def ratio(work: Callable[[], None], plain: Callable[[], None]) -> float:
        return median(
            seconds(plain, runtime.device) / seconds(work, runtime.device) for _ in range(rounds)
        )

    grouped = list(islice(steps.grouped, num_steps))
    mixed = list(islice(steps.mixed, num_steps))
    with_means = steps.of_the_same(grouped)
    of_mixed = steps.of_the_same(mixed)

    def within(manager: Callable[[], object], work: Callable[[], None]) -> Callable[[], None]:
        def plain() -> None:
            with manager():
                work()

        return plain

    what = "the step as it is"
    yield Figure("step, batches of mixed lengths", what, ratio(with_means, of_mixed))
    yield Figure(
        "step, batches of mixed lengths, padding through the vocabulary",
        "such a step without padding there",
        ratio(of_mixed, within(padding_through_the_vocabulary, of_mixed)),
    )
    yield Figure(
        "step, torch's cross-entropy on fp32 logits",
        what,
        ratio(with_means, within(plain_cross_entropy, with_means)),
    )
    parameters = steps.state.trained_parameters()

    def update(**kind: bool) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(parameters, lr=1e-9, **kind)
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        return optimizer.step

    yield Figure(
        "update of the weights, a loop over the parameters",
        "the fused optimiser's",
        ratio(update(fused=True), update(foreach=False)),
    )


def profile(steps: Steps, num_steps: int) -> None:
    """Where the time goes, by torch's profiler."""
    with torch.profiler.profile(record_shapes=True) as found:
        steps.take(num_steps)
    print(found.key_averages(group_by_input_shape=True).table(
        sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=40,
        max_shapes_column_width=60))  # fmt: skip
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=30))


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8, help="a round")
    parser.add_argument("--profile", action="store_true", help="show where the time goes")


if __name__ == "__main__":
    benchmark(measure, __doc__, options=_options)
