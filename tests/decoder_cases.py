"""Small decoders of every kind, for the tests that run over all of them."""

import torch

from showtell.config import Config
from showtell.decoders.base import Decoder
from showtell.decoders.registry import build_decoder
from showtell.decoders.transformer import NUM_CLASSES
from showtell.encoders.concepts import Classes
from showtell.encoders.features import Features
from showtell.text.vocabulary import START, WordVocabulary

VOCAB, WIDTH, REGIONS, REGION_WIDTH = 30, 24, 6, 20

ATTENTIVE = {"embed_size": 32, "hidden_size": 48, "attention_size": 20}
SMALL: dict[str, list[dict]] = {
    "show_tell": [
        {"embed_size": 32, "hidden_size": 48},
        {"embed_size": 16, "hidden_size": 24, "image_norm": False},
        {"embed_size": 16, "hidden_size": 24, "num_layers": 2, "cell": "gru"},
        {"embed_size": 16, "hidden_size": 24, "cell": "rnn"},
    ],
    "attention": [ATTENTIVE, {**ATTENTIVE, "doubly_stochastic": 0.0}],
    "up_down": [ATTENTIVE],
    "transformer": [
        {"hidden_size": 32, "num_heads": 4, "num_layers": 2, "feedforward_size": 64},
        {"hidden_size": 24, "num_heads": 2, "num_layers": 1, "num_encoder_layers": 0},
        {"hidden_size": 24, "num_heads": 2, "num_layers": 1, "feedforward_size": 32, "concepts": 3},
        {"hidden_size": 16, "num_heads": 2, "num_layers": 1, "concepts": 3, "detected": 12},
    ],
    "prefix_lm": [
        {"hidden_size": 32, "num_heads": 4, "num_layers": 2, "prefix_length": 3},
        {"hidden_size": 24, "num_heads": 2, "num_layers": 1, "prefix_length": 1},
    ],
}
CASES = [(kind, options) for kind, cases in SMALL.items() for options in cases]
ATTENDING = [case for case in CASES if case[0] not in ("show_tell", "prefix_lm")]


def settings(kind: str, options: dict) -> list[str]:
    """As given to ``Config.load``."""
    return [f"decoder.{key}={value}" for key, value in {"kind": kind, **options}.items()]


def make(
    kind: str, options: dict, *, dropout: float = 0.0, region_size: int = REGION_WIDTH
) -> Decoder:
    torch.manual_seed(0)
    config = Config.load(None, [*settings(kind, options), f"decoder.dropout={dropout}"])
    decoder = build_decoder(
        config.decoder, vocab_size=VOCAB, feature_size=WIDTH, region_size=region_size
    ).eval()
    if options.get("detected"):
        decoder.detector.fill(torch.arange(4, 16), torch.full((12,), 0.05))
        torch.nn.init.normal_(decoder.detector.logits.weight)  # so that it sees something
    elif options.get("concepts"):
        decoder.concepts.fill(classes(), vocabulary(), torch.full((VOCAB,), 99))
    return decoder


def vocabulary() -> WordVocabulary:
    return WordVocabulary({f"word{number}": 9 for number in range(VOCAB - 4)}, 1)


def classes(num_words: int = 20) -> Classes:
    """A thousand classes, of which every other has a word."""
    generator = torch.Generator().manual_seed(3)
    names = tuple(f"word{i % num_words}" if i % 2 else "" for i in range(NUM_CLASSES))
    weight = torch.randn(NUM_CLASSES, WIDTH, generator=generator)
    return Classes(weight, torch.zeros(NUM_CLASSES), names)


def features(num: int, seed: int = 0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(
        torch.randn(num, WIDTH, generator=generator),
        torch.randn(num, REGIONS, REGION_WIDTH, generator=generator),
    )


def tokens(num: int, length: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(4, VOCAB, (num, length), generator=generator)
    drawn[:, 0] = START
    return drawn
