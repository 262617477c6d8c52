"""Beam search against exhaustive enumeration, on decoders small enough to enumerate."""

import itertools

import pytest
import torch
from torch import Tensor

from showtell.decoding.search import NEVER, Hypotheses, beam_search
from showtell.models.base import Features, State
from showtell.text.vocabulary import END, PAD, START, UNK

VOCAB, LENGTH = 7, 4  # four special words and three real ones
WORDS = (4, 5, 6)


class TableDecoder:
    """Log-probabilities of the next token drawn at random for each (picture, prefix)."""

    def __init__(self, seed: int, sharpness: float = 1.5) -> None:
        self.seed, self.sharpness = seed, sharpness

    def init_state(self, features: Features) -> State:
        pictures = features.pooled[:, 0].long()
        prefix = torch.zeros((len(pictures), LENGTH + 2), dtype=torch.long)
        return {"picture": pictures, "prefix": prefix, "length": torch.zeros(len(pictures)).long()}

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        prefix, length = state["prefix"].clone(), state["length"]
        prefix[torch.arange(len(tokens)), length] = tokens
        rows = [
            self.log_probs(int(p), tuple(row[: n + 1]))
            for p, row, n in zip(state["picture"], prefix.tolist(), length.tolist(), strict=True)
        ]
        return torch.stack(rows), state | {"prefix": prefix, "length": length + 1}

    def log_probs(self, picture: int, prefix: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, picture, prefix)) % 2**31)
        logits = torch.randn(VOCAB, generator=generator) * self.sharpness
        return logits.log_softmax(0)

    def enumerate(self, picture: int, penalty: float) -> list[tuple[float, tuple[int, ...]]]:
        """Every caption of at most LENGTH words with its score, best first."""
        found = []
        for length in range(LENGTH + 1):
            for words in itertools.product(WORDS, repeat=length):
                tokens = (*words, END)
                log_p = sum(
                    float(self.log_probs(picture, (START, *tokens[:i]))[token])
                    for i, token in enumerate(tokens)
                )
                found.append((log_p / len(tokens) ** penalty, tokens))
        return sorted(found, reverse=True)


def features(num: int) -> Features:
    return Features(torch.arange(num)[:, None].float())


def caption(hypotheses: Hypotheses, picture: int, rank: int) -> tuple[int, ...]:
    return tuple(t for t in hypotheses.tokens[picture, rank].tolist() if t != PAD)


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_is_exhaustive(seed: int, penalty: float) -> None:
    decoder = TableDecoder(seed)
    size = 3**LENGTH + 50
    found = beam_search(
        decoder, features(3), beam_size=size, max_length=LENGTH, length_penalty=penalty
    )
    num_captions = sum(3**n for n in range(LENGTH + 1))
    for picture in range(3):
        expected = decoder.enumerate(picture, penalty)
        assert len(expected) == num_captions
        for rank, (score, tokens) in enumerate(expected):
            assert caption(found, picture, rank) == tokens
            assert found.scores[picture, rank].item() == pytest.approx(score, abs=1e-5)
        assert (found.scores[picture, num_captions:] == NEVER).all()


def test_a_beam_of_one_is_greedy() -> None:
    for seed in range(20):
        decoder = TableDecoder(seed)
        found = beam_search(decoder, features(2), beam_size=1, max_length=LENGTH)
        for picture in range(2):
            prefix = [START]
            while prefix[-1] != END:
                log_probs = decoder.log_probs(picture, tuple(prefix))
                log_probs[[PAD, START, UNK]] = NEVER
                full = len(prefix) == LENGTH + 1
                prefix.append(END if full else int(log_probs.argmax()))
            assert caption(found, picture, 0) == tuple(prefix[1:])


def test_a_batch_gives_what_each_picture_gives_alone() -> None:
    decoder = TableDecoder(1)
    settings = {"beam_size": 3, "max_length": LENGTH, "length_penalty": 0.7}
    together = beam_search(decoder, features(9), **settings)
    for picture in range(9):
        alone = beam_search(decoder, Features(torch.tensor([[float(picture)]])), **settings)
        for rank in range(3):
            assert caption(together, picture, rank) == caption(alone, 0, rank)
        torch.testing.assert_close(together.log_probs[picture], alone.log_probs[0])


def test_token_log_probs_add_up() -> None:
    found = beam_search(TableDecoder(5), features(4), beam_size=3, max_length=LENGTH)
    real = found.log_probs > NEVER
    assert real.all()
    torch.testing.assert_close(found.token_log_probs.sum(-1), found.log_probs)
    assert (found.token_log_probs[found.tokens == PAD] == 0).all()


def test_banned_words_never_come_out() -> None:
    found = beam_search(TableDecoder(2), features(20), beam_size=4, max_length=LENGTH)
    assert not torch.isin(found.tokens, torch.tensor([START, UNK])).any()


def test_no_pictures_give_no_captions() -> None:
    found = beam_search(TableDecoder(0), features(0), beam_size=2, max_length=LENGTH)
    assert found.tokens.shape[:2] == (0, 2)
