"""What a step of the transformer costs at each length of the caption, with and without its cache.

``step`` keeps the keys and values of the words before; without them each step has to run all words
so far again. Both are timed in turn at several lengths, for a batch of 64 pictures with a beam of
5, random weights; each figure is the median over the rounds of the time relative to the cached
step at the shortest length in the same round.

    python benchmarks/kv_cache.py [--rounds 7] [--lengths 2 10 20 40 80]
"""

import argparse
from collections.abc import Iterator
from statistics import median

import torch
from _harness import Figure, benchmark, seconds

from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.decoders.registry import build_decoder
from showtell.encoders.features import Features

PICTURES, BEAM, REGIONS, FEATURE_SIZE, VOCAB = 64, 5, 81, 1280, 3000
MOST_GROWTH = 2.0


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """How a step grows from the shortest to the longest."""
    runtime = choose_runtime(options.device, "fp32", threads=options.threads)
    print(runtime.describe())
    lengths, rounds = ([2, 4], 1) if options.quick else (options.lengths, options.rounds)
    cached, recomputed = steps(lengths, rounds, runtime.device)
    longest = lengths[-1]
    yield Figure(
        f"transformer, a step of search after {longest} words",
        f"a step after {lengths[0]} words",
        cached[longest],
        MOST_GROWTH,
        True,
        f"at {', '.join(map(str, lengths))} words: "
        f"{', '.join(f'{cached[length]:.2f}' for length in lengths)}; without the cache "
        f"{', '.join(f'{recomputed[length]:.2f}' for length in lengths)}",
    )


@torch.inference_mode()
def steps(
    lengths: list[int], rounds: int, device: str
) -> tuple[dict[int, float], dict[int, float]]:
    """Relative time of a step at each length, with the cache and without."""
    torch.manual_seed(0)
    decoder = build_decoder(
        Config.load(None, ["decoder.kind=transformer"]).decoder,
        vocab_size=VOCAB,
        feature_size=FEATURE_SIZE,
    )
    decoder = decoder.eval().to(device)
    regions = torch.randn(PICTURES, REGIONS, FEATURE_SIZE, device=device)
    features = Features(regions.mean(dim=1), regions)
    tokens = torch.randint(4, VOCAB, (PICTURES * BEAM, max(lengths) + 1), device=device)
    state = decoder.init_state(features)
    state = {
        name: part if name in decoder.picture_state else part.repeat_interleave(BEAM, dim=0)
        for name, part in state.items()
    }
    states = {}
    for position in range(max(lengths)):
        if position in lengths:
            states[position] = state
        _, state = decoder.step(tokens[:, position], state)
    states[max(lengths)] = state
    rows = torch.arange(PICTURES, device=device).repeat_interleave(BEAM)
    by_caption = features._replace(picture_of=rows)

    def without(length: int) -> object:
        last = decoder.hidden_states(by_caption, tokens[:, : length + 1]).states[:, -1]
        return decoder.output(last).float().log_softmax(dim=-1)

    times: dict[bool, dict[int, list[float]]] = {True: {}, False: {}}
    for _ in range(rounds):
        unit = None
        for length in lengths:
            step = seconds(lambda at=length: decoder.step(tokens[:, at], states[at]), device)
            unit = unit or step
            times[True].setdefault(length, []).append(step / unit)
            times[False].setdefault(length, []).append(
                seconds(lambda at=length: without(at), device) / unit
            )
    cached, recomputed = (
        {length: median(values) for length, values in times[kind].items()} for kind in (True, False)
    )
    return cached, recomputed


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2, 10, 20, 40, 80])


if __name__ == "__main__":
    benchmark(measure, __doc__, options=_options)
