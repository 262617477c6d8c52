"""A decoder small enough to enumerate: by default four words, four at most in a caption."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from showtell.decoders.base import State
from showtell.decoding.constraints import Constraint, build_constraints
from showtell.decoding.hypotheses import Hypotheses
from showtell.encoders.features import Features
from showtell.text.vocabulary import END, PAD, UNK, Spelling

NUM_WORDS, LENGTH = 4, 4
WORDS = tuple(range(4, 4 + NUM_WORDS))
VOCAB = 4 + NUM_WORDS
EVERYTHING = 350  # a beam so wide that it loses nothing: 4 ** 3 prefixes of 5 continuations
REGIONS = 3
SPELLING = Spelling(("",) * 4 + tuple(f"w{i}" for i in WORDS), (False,) * 4 + (True,) * NUM_WORDS)
NAMED = ("forbidden", "required", "bad_endings", "no_repeat_around")


class TableDecoder:
    """Log-probabilities of the next token drawn at random for each (picture, prefix)."""

    picture_state = frozenset({"picture"})

    def __init__(
        self,
        seed: int,
        *,
        num_pictures: int = 3,
        attends: bool = False,
        num_words: int = NUM_WORDS,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.num_words = num_words
        size = (num_pictures, (num_words + 1) ** LENGTH + 1, 4 + num_words)
        self.table = (torch.randn(size, generator=generator) * 1.5).log_softmax(-1)
        self.attends = attends

    def init_state(self, features: Features) -> State:
        pictures = features.pooled[:, 0].long()
        state = {"picture": pictures, "code": torch.zeros_like(pictures)}
        return state | {"attention": torch.zeros(len(pictures), REGIONS)} if self.attends else state

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        code = state["code"] * (self.num_words + 1) + (tokens - UNK).clamp(min=0)
        code = code.clamp(max=self.table.shape[1] - 1)  # past the end; no caption is so long
        pictures = state["picture"]
        if len(pictures):
            pictures = pictures.repeat_interleave(len(code) // len(pictures))
        state = state | {"code": code}
        if "attention" in state:
            state["attention"] = self.attention(pictures, code)
        return self.table[pictures, code], state

    def attention(self, picture: Tensor, code: Tensor) -> Tensor:
        """Weights that tell the picture and the prefix apart."""
        first = (code.float() + 1) / 1000
        return torch.stack([first, picture.float(), 1 - first], dim=-1)

    def code(self, words: Sequence[int]) -> int:
        value = 0
        for word in words:
            value = value * (self.num_words + 1) + word - UNK
        return value

    def log_probs(self, picture: int, words: Sequence[int]) -> Tensor:
        return self.table[picture, self.code(words)].clone()

    def token_log_probs(self, picture: int, tokens: Sequence[int]) -> list[float]:
        return [
            float(self.table[picture, self.code(tokens[:i]), token])
            for i, token in enumerate(tokens)
        ]


@dataclass(frozen=True)
class Rules:
    """What a caption must be, said once more and plainly."""

    min_length: int = 0
    max_length: int = LENGTH
    no_repeat_ngram: int | None = None
    no_repeat_around: tuple[int, ...] = ()
    forbidden: tuple[int, ...] = ()
    required: tuple[int, ...] = ()
    bad_endings: tuple[int, ...] = ()

    @property
    def forbids_repeats(self) -> bool:
        return bool(self.no_repeat_ngram or self.no_repeat_around)

    def allow(self, words: tuple[int, ...]) -> bool:
        size = self.no_repeat_ngram
        grams = [words[i : i + size] for i in range(len(words) - size + 1)] if size else []
        threes = zip(words, words[1:], words[2:], strict=False)
        return (
            self.min_length <= len(words) <= self.max_length
            and not any(a == c and b in self.no_repeat_around for a, b, c in threes)
            and not set(words) & set(self.forbidden)
            and set(self.required) <= set(words)
            and len(grams) == len(set(grams))
            and not (words and words[-1] in self.bad_endings)
        )

    def constraints(self) -> list[Constraint]:
        """The same, as the search has it: id 4 says ``w4``, and so on."""
        names: dict[str, Any] = {
            name: tuple(f"w{i}" for i in getattr(self, name)) for name in NAMED
        }
        settings: dict[str, Any] = {k: v for k, v in vars(self).items() if k not in NAMED}
        return build_constraints(SPELLING, max_tokens=self.max_length, **settings, **names)

    def captions(self) -> Iterator[tuple[int, ...]]:
        """Every caption that is allowed, with its end."""
        for length in range(LENGTH + 1):
            for words in itertools.product(WORDS, repeat=length):
                if self.allow(words):
                    yield (*words, END)


def enumerate_all(
    decoder: TableDecoder, picture: int, rules: Rules, penalty: float
) -> list[tuple[float, tuple[int, ...]]]:
    """Every allowed caption with its score, best first."""
    found = [
        (sum(decoder.token_log_probs(picture, tokens)) / len(tokens) ** penalty, tokens)
        for tokens in rules.captions()
    ]
    return sorted(found, reverse=True)


def features(num: int, first: int = 0) -> Features:
    return Features(torch.arange(first, first + num)[:, None].float())


def caption(found: Hypotheses, picture: int, rank: int = 0) -> tuple[int, ...]:
    return tuple(t for t in found.tokens[picture, rank].tolist() if t != PAD)


def check_attention(decoder: TableDecoder, found: Hypotheses) -> None:
    """Whether each caption has the attention of its own tokens, and 0 after them."""
    assert found.attention is not None
    num_pictures, num_captions = found.log_probs.shape
    for picture in range(num_pictures):
        for rank in range(num_captions):
            tokens = caption(found, picture, rank)
            codes = torch.tensor([decoder.code(tokens[:i]) for i in range(len(tokens))])
            expected = decoder.attention(torch.full_like(codes, picture), codes)
            assert np.array_equal(found.attention[picture, rank, : len(tokens)], expected)
            assert (found.attention[picture, rank, len(tokens) :] == 0).all()
