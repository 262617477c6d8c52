"""A captioner of random weights, small enough for thousands of pictures; or a run with it to kill.

python tests/bulk_worker.py OUTPUT FORMAT NAME... captions NAMEs as ``showtell caption`` does.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from tiny_encoder import tiny_encoder

from showtell.bulk.inputs import find_inputs
from showtell.bulk.run import Summary, caption_all
from showtell.bulk.targets import OneFile, Sidecars, Target
from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.core.progress import SilentReporter
from showtell.decoders.registry import build_decoder
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import Checkpoint
from showtell.text.vocabulary import WordVocabulary

WORDS = WordVocabulary({"a": 5, "red": 4, "dog": 3, "ball": 2, "on": 1}, 1)


def tiny_captioner(*changes: str) -> NativeCaptioner:
    settings = ["decoder.embed_size=8", "decoder.hidden_size=8", "decoding.beam_size=2"]
    config = Config.load(None, [*settings, "decoding.max_length=4", *changes])
    with torch.random.fork_rng():
        encoder = tiny_encoder()
        torch.manual_seed(1)
        decoder = build_decoder(
            config.decoder, vocab_size=len(WORDS), feature_size=encoder.pooled_size
        )
    checkpoint = Checkpoint(decoder.eval(), WORDS, config, {})
    return NativeCaptioner(checkpoint, choose_runtime("cpu", "fp32"), encoder=encoder)


def run(target: Target, *names: Path | str, **options: object) -> Summary:
    captioner = options.pop("captioner", None) or tiny_captioner()
    assert isinstance(captioner, NativeCaptioner)
    return caption_all(
        captioner,
        find_inputs([str(name) for name in names]),
        target,
        decoding=captioner.config.decoding,
        report=options.pop("report", None) or SilentReporter(),  # type: ignore[arg-type]
        **options,  # type: ignore[arg-type]
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON lines file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def one_file(
    path: Path, kind: str = "jsonl", *, overwrite: bool = False, prune: bool = False
) -> OneFile:
    failures = path.with_name("failures.jsonl")
    return OneFile(path, kind, failures, overwrite=overwrite, prune=prune)


if __name__ == "__main__":
    output, kind = Path(sys.argv[1]), sys.argv[2]
    made = Sidecars(output, overwrite=False) if kind == "sidecar" else one_file(output, kind)
    run(made, *sys.argv[3:])
