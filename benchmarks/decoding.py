"""Beam search against greedy search and against beam search of one picture at a time.

For each registered decoder with random weights at realistic sizes: captions/s with a beam of 5 for
a batch of 64, as a ratio to (a) greedy search of the same batch and (b) a straightforward beam
search written here, which takes one picture at a time. All three run in turn, several rounds, and
each ratio is the median over the rounds of times taken side by side. Random weights hardly ever
end a caption of their own, so all run for the same number of words.

    python benchmarks/decoding.py [--rounds 3] [--vocab 3000 8857] [--decoder show_tell]
"""

import argparse
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import torch
from _harness import Figure, benchmark, seconds

from showtell.config import DECODER_SETTINGS
from showtell.core.device import choose_runtime
from showtell.decoders.base import Decoder
from showtell.decoders.registry import DECODERS, build_decoder
from showtell.decoding.beam import beam_search
from showtell.encoders.features import Features
from showtell.text.vocabulary import END, PAD, START, UNK

BATCH, BEAM, FEATURE_SIZE, REGIONS = 64, 5, 1408, 81
MOST_TIMES_GREEDY, LEAST_TIMES_FASTER = 6.0, 3.0


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Two figures for each decoder and vocabulary."""
    if options.quick:
        options.rounds, options.vocab, options.length = 1, [50], 2
        options.loop_pictures = 1
    runtime = choose_runtime(options.device, "fp32", threads=options.threads)
    print(runtime.describe())
    device = torch.device(runtime.device)
    for kind in options.decoder:
        for vocab_size in options.vocab:
            decoder = random_decoder(kind, vocab_size).to(device)
            num_pictures = 4 if options.quick else BATCH
            features = Features(torch.randn(num_pictures, FEATURE_SIZE)).to(device)
            if decoder.needs_regions:
                regions = torch.randn(num_pictures, REGIONS, FEATURE_SIZE, device=device)
                features = features._replace(regions=regions)
            yield from compare(kind, vocab_size, decoder, features, options)


def random_decoder(kind: str, vocab_size: int) -> Decoder:
    """A registered decoder as its settings' defaults have it, 512 wide where that can be set."""
    config_class = DECODER_SETTINGS[kind]
    wide = {"num_heads": 8} if "num_heads" in config_class.model_fields else {}
    config = config_class(hidden_size=512, **wide)
    torch.manual_seed(0)
    return build_decoder(config, vocab_size=vocab_size, feature_size=FEATURE_SIZE).eval()


def compare(
    kind: str, vocab_size: int, decoder: Decoder, features: Features, options: argparse.Namespace
) -> Iterator[Figure]:
    """Time the three side by side."""
    num_pictures = len(features.pooled)
    length = options.length
    part = of_pictures(features, slice(options.loop_pictures))

    def batched(beam_size: int) -> Callable[[], object]:
        settings = {"max_length": length, "length_penalty": 0.7}
        return lambda: beam_search(decoder, features, beam_size=beam_size, **settings)

    def loop() -> object:
        return [
            beam_search_of_one(decoder, of_pictures(part, slice(i, i + 1)), length)
            for i in range(len(part.pooled))
        ]

    check(batched(BEAM)(), loop())
    greedy, beam, one_by_one = [], [], []
    for _ in range(options.rounds):
        greedy.append(seconds(batched(1), options.device) / num_pictures)
        beam.append(seconds(batched(BEAM), options.device) / num_pictures)
        one_by_one.append(seconds(loop, options.device) / len(part.pooled))
    cost = median(b / g for b, g in zip(beam, greedy, strict=True))
    faster = median(o / b for o, b in zip(one_by_one, beam, strict=True))
    what = f"beam search of {BEAM}, {kind}, {vocab_size:,} words"
    detail = (
        f"{1 / median(beam):,.0f} captions/s, batch {num_pictures}, on {features.pooled.device}"
    )
    yield Figure(f"{what}: cost", "greedy search", cost, MOST_TIMES_GREEDY, True, detail)
    yield Figure(f"{what}: speed", "one picture at a time", faster, LEAST_TIMES_FASTER)


def of_pictures(features: Features, pictures: slice) -> Features:
    """Some of the pictures."""
    regions = features.regions
    return Features(
        features.pooled[pictures].contiguous(), None if regions is None else regions[pictures]
    )


def check(batched: object, looped: object) -> None:
    """Both searches must have found the same score for the best caption."""
    ours = batched.log_probs[:, 0]  # type: ignore[attr-defined]
    theirs = [score for score, _ in looped]  # type: ignore[attr-defined]
    np.testing.assert_allclose(ours[: len(theirs)], theirs, atol=1e-2, rtol=1e-3)


@torch.inference_mode()
def beam_search_of_one(
    decoder: Decoder, features: Features, max_length: int, penalty: float = 0.7
) -> tuple[float, list[int]]:
    """(b): the beam search that one writes first: one picture, hypotheses in a Python list.

    The hypotheses of the picture do go through the decoder together.

    Returns:
        The best caption's log-probability and its ids.
    """
    state = decoder.init_state(features)
    live, done = [(0.0, [])], []
    tokens = torch.tensor([START], device=features.pooled.device)
    for position in range(max_length + 1):
        log_probs, state = decoder.step(tokens, state)
        log_probs[:, [PAD, START, UNK]] = float("-inf")
        if position == max_length:
            end = log_probs[:, END].clone()
            log_probs[:] = float("-inf")
            log_probs[:, END] = end
        totals = torch.tensor([score for score, _ in live]).to(log_probs)[:, None] + log_probs
        best, index = totals.flatten().topk(2 * BEAM)
        rows, going_on = [], []
        for rank, (score, place) in enumerate(zip(best.tolist(), index.tolist(), strict=True)):
            row, token = divmod(place, log_probs.shape[1])
            words = [*live[row][1], token]
            if score == float("-inf"):
                continue
            if token == END:
                if rank < BEAM:
                    done.append((score / len(words) ** penalty, score, words))
            elif len(going_on) < BEAM:
                going_on.append((score, words))
                rows.append(row)
        if len(done) >= BEAM or not going_on:
            break
        live = going_on
        state = {
            name: part if name in getattr(decoder, "picture_state", ()) else part[rows]
            for name, part in state.items()
        }
        tokens = torch.tensor([words[-1] for _, words in live], device=tokens.device)
    _, score, words = max(done)
    return score, words


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocab", type=int, nargs="+", default=[3000, 8857])
    parser.add_argument("--decoder", nargs="+", default=sorted(DECODERS))
    parser.add_argument("--length", type=int, default=12, help="words a caption")
    parser.add_argument("--loop-pictures", type=int, default=8, help="that (b) captions a round")


if __name__ == "__main__":
    benchmark(measure, __doc__, options=_options)
