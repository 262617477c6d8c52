"""How much of a step of self-critical training goes into the reward.

A step at the size of Flickr8k: 6,000 pictures of 5 references each, 3,000 words, 64 pictures a
step, 5 samples a picture; ``show_tell`` as it is by default. References are drawn word by word from
a Zipf distribution, and the decoder, whose weights are random, has that distribution as its bias:
so samples end after about as many words as references do. A step is everything from the features
to the optimiser; the share is the median over the steps of times taken within one step.

    python benchmarks/scst.py [--steps 20] [--baseline greedy] [--bleu-weight 1]
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from _harness import Figure, benchmark

from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.decoders.registry import build_decoder
from showtell.encoders.store import FeatureStore, StoreSpec
from showtell.encoders.store_writer import StoreWriter
from showtell.text.vocabulary import END, SPECIAL_WORDS, WordVocabulary
from showtell.training.batches import ViewLoader
from showtell.training.corpus import Corpus
from showtell.training.objectives.scst import SelfCritical
from showtell.training.state import build_optimizer

PICTURES, REFERENCES, VOCAB, WORDS, FEATURE_SIZE = 6000, 5, 3000, 11, 1408
MOST = 0.15


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """The share, and the time of a step."""
    num_steps = 1 if options.quick else options.steps
    settings = (
        "objective.kind=scst",
        "training.init_from=none",
        f"training.batch_size={options.batch_size}",
        f"objective.baseline={options.baseline}",
        f"objective.bleu_weight={options.bleu_weight}",
        "encoder.views=0",
    )
    config = Config.load(None, settings)
    runtime = choose_runtime(options.device, threads=options.threads)
    print(runtime.describe())
    rng = np.random.default_rng(0)
    frequency = 1 / np.arange(1, VOCAB - len(SPECIAL_WORDS) + 1)
    frequency /= frequency.sum()
    corpus = random_corpus(rng, frequency)
    torch.manual_seed(0)
    decoder = build_decoder(config.decoder, vocab_size=VOCAB, feature_size=FEATURE_SIZE)
    with torch.no_grad():
        decoder.output.bias[len(SPECIAL_WORDS) :] = torch.from_numpy(np.log(frequency))
        decoder.output.bias[END] = -np.log(WORDS)
    decoder = decoder.to(runtime.device).train()
    optimizer = build_optimizer(decoder, config.optimizer)
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder) / "store", rng)
        load = ViewLoader.from_config(store, runtime, config, regions=False)
        words = [f"w{index}" for index in range(VOCAB - len(SPECIAL_WORDS))]
        objective = SelfCritical(
            corpus=corpus,
            vocabulary=WordVocabulary(dict.fromkeys(words, 1), 1),
            load=load,
            runtime=runtime,
            config=config,
        )
        shares, steps, tokens = [], [], 0
        batches = objective.batches(1)
        for step in range(num_steps + 2):
            started = time.perf_counter()
            batch = batches[step % len(batches)]
            loss = objective(decoder, batch, np.arange(len(batch)), epoch=1, step=step)
            optimizer.zero_grad()
            loss.objective.backward()
            optimizer.step()
            if runtime.device != "cpu":
                loss.objective.item()
            steps.append(time.perf_counter() - started)
            shares.append(loss.seconds["reward"] / steps[-1])
            tokens += loss.num_tokens
    share, seconds = median(shares[2:]), median(steps[2:])
    captions = options.batch_size * config.objective.num_samples
    yield Figure(
        "self-critical training, the reward",
        "a whole step",
        share,
        MOST,
        True,
        f"{seconds:.3f} s a step of {captions} samples of {tokens / len(steps) / captions:.1f} "
        f"tokens, on {runtime.device}",
    )


def random_corpus(rng: np.random.Generator, frequency: np.ndarray) -> Corpus:
    """Captions of about ``WORDS`` words, drawn from ``frequency``."""
    num = PICTURES * REFERENCES
    lengths = rng.integers(WORDS - 4, WORDS + 5, num)
    ids = rng.choice(len(frequency), lengths.sum(), p=frequency) + len(SPECIAL_WORDS)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    pictures = np.repeat(np.arange(PICTURES), REFERENCES)
    return Corpus(ids.astype(np.int32), offsets, pictures)


def random_store(folder: Path, rng: np.random.Generator) -> FeatureStore:
    """One view of each picture."""
    with StoreWriter(folder, StoreSpec("random", "random-1", 0, 0, FEATURE_SIZE, None)) as writer:
        for picture in range(PICTURES):
            writer.add(str(picture), 0, 0, 1)
            writer.append(rng.normal(size=(1, FEATURE_SIZE)).astype(np.float16), None)
    return FeatureStore.open(folder, fingerprint="random-1", views=0, grid=False)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64, help="pictures a step")
    parser.add_argument("--baseline", default="mean_of_others")
    parser.add_argument("--bleu-weight", type=float, default=0.0)


if __name__ == "__main__":
    benchmark(measure, __doc__, options=_options)
