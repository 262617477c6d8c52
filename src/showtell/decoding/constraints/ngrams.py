"""Never repeat an n-gram of words, whatever tokens spell the words.

Words are compared by a hash of their characters that can be added up over the tokens of a word:
c_0 + c_1 B + c_2 B**2 ... modulo 2**64 (Karp & Rabin 1987, section 3), with a random number for
each character. B has an inverse, so the hash of the missing rest of a word follows from the hashes
of the word and of its beginning.

Shapes: ``N`` rows, ``L`` tokens of a prefix, ``V`` vocabulary.
"""

import random
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from showtell.decoding.constraints.cache import Table
from showtell.decoding.hypotheses import NEVER
from showtell.text.vocabulary import END, PAD, SPECIAL_WORDS, Spelling

_BASE = 0x9E3779B97F4A7C15
_MODULUS = 2**64


class _Words(NamedTuple):
    """The words of prefixes.

    Attributes:
        hashes: (N, L + 1) of each word, 0 where there is none.
        sizes: (N, L + 1) characters of each word.
        num: (N,) words.
        is_open: (N,) whether a token that continues a word would continue the last one.
    """

    hashes: Tensor
    sizes: Tensor
    num: Tensor
    is_open: Tensor


class NoRepeatNgram(Table):
    """No n-gram of ``size`` words occurs twice (Paulus et al. 2017, arXiv 1705.04304, section 2.5).

    Where the tokens so far spell a word that would complete a repeated n-gram, only tokens that
    continue this word may follow. Where none can follow (no token continues a word, or the caption
    would be too long), the token that completes the word is forbidden.

    Args:
        size: of the n-grams, in words.
        spelling: of the vocabulary; no two ids are alike.
        max_tokens: the most tokens before ``<end>``.
    """

    def __init__(self, size: int, spelling: Spelling, max_tokens: int) -> None:
        self.size, self.max_tokens = size, max_tokens
        texts, starts = spelling.texts, torch.tensor(spelling.starts)
        self.starts = starts
        self.lengths = torch.tensor([len(text) for text in texts])
        self.hashes = torch.tensor([_signed(_hash(text)) for text in texts])
        longest = 1 + max_tokens * int(self.lengths.max())
        self.powers, self.inverses = (
            torch.tensor(_powers(base, longest)) for base in (_BASE, pow(_BASE, -1, _MODULUS))
        )
        ids = torch.arange(len(texts))
        is_text = (ids >= len(SPECIAL_WORDS)) & (self.lengths > 0)
        self.start_hashes, self.start_ids = self._table(ids[is_text & starts])
        self.rest_hashes, self.rest_ids = self._table(ids[is_text & ~starts])
        self.ends_word = starts.clone()
        self.ends_word[END] = True

    def _table(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Hashes in ascending order, and the ids that have them."""
        hashes, order = self.hashes[ids].sort()
        return hashes, ids[order]

    def __call__(self, log_probs: Tensor, prefixes: Tensor, length: int) -> Tensor:
        """-inf for tokens that repeat an n-gram."""
        if length < self.size:
            return log_probs
        words = self._words(prefixes)
        is_last = length + 1 >= self.max_tokens
        if not len(self.rest_ids) or is_last:
            targets, _ = self._followers(words, words.num)
            _forbid(log_probs, targets, self.start_hashes, self.start_ids)
        if not len(self.rest_ids):
            return log_probs
        # The number of the word in progress; -1 only in empty places.
        number = (words.num - words.is_open.long()).clamp(min=0)
        targets, follows = self._followers(words, number)
        own, size = (part.gather(1, number[:, None]) for part in (words.hashes, words.sizes))
        if is_last:
            missing = torch.where(follows, (targets - own) * self.inverses[size], 0)
            _forbid(log_probs, missing, self.rest_hashes, self.rest_ids)
        repeats = (follows & (targets == own) & words.is_open[:, None]).any(dim=1)
        if bool(repeats.any()):
            log_probs.masked_fill_(repeats[:, None] & self.ends_word, NEVER)
        return log_probs

    def _words(self, prefixes: Tensor) -> _Words:
        sizes, starts = self.lengths[prefixes], self.starts[prefixes]
        has_text = sizes > 0
        after_bare = (starts & ~has_text).roll(1, dims=1)
        after_bare[:, 0] = True
        begins = has_text & (starts | after_bare)
        upto = sizes.cumsum(dim=1)
        before = upto - sizes
        offset = before - torch.where(begins, before, 0).cummax(dim=1).values
        number = (begins.cumsum(dim=1) - 1).clamp(min=0)
        empty = prefixes.new_zeros((len(prefixes), prefixes.shape[1] + 1))
        return _Words(
            hashes=empty.scatter_add(1, number, self.hashes[prefixes] * self.powers[offset]),
            sizes=empty.scatter_add(1, number, sizes),
            num=begins.sum(dim=1),
            is_open=has_text[:, -1],
        )

    def _followers(self, words: _Words, number: Tensor) -> tuple[Tensor, Tensor]:
        """Which words followed earlier on the n - 1 words before word ``number``.

        Returns:
            (N, windows) the hash of each such word, 0 elsewhere; and True where there is one.
        """
        windows = words.hashes.unfold(1, self.size, 1)
        place = number[:, None] + torch.arange(1 - self.size, 0, device=number.device)
        last = words.hashes.gather(1, place.clamp(min=0))
        first = torch.arange(windows.shape[1], device=number.device)
        is_before = first + self.size <= number[:, None]
        follows = (windows[:, :, :-1] == last[:, None]).all(dim=-1) & is_before
        return windows[:, :, -1].masked_fill(~follows, 0), follows


def _forbid(log_probs: Tensor, targets: Tensor, hashes: Tensor, ids: Tensor) -> None:
    """-inf for the ids whose hash is among (N, P) ``targets``."""
    place = torch.searchsorted(hashes, targets).clamp(max=len(hashes) - 1)
    # Where nothing is to be forbidden, <pad> is, which never comes anyway.
    log_probs.scatter_(1, ids[place].masked_fill(hashes[place] != targets, PAD), NEVER)


@lru_cache(maxsize=65536)
def _letter(letter: str) -> int:
    return random.Random(ord(letter)).getrandbits(64)


def _hash(text: str) -> int:
    return sum(_letter(c) * pow(_BASE, i, _MODULUS) for i, c in enumerate(text)) % _MODULUS


def _powers(base: int, num: int) -> list[int]:
    powers = [1]
    while len(powers) < num:
        powers.append(powers[-1] * base % _MODULUS)
    return [_signed(power) for power in powers]


def _signed(number: int) -> int:
    """Modulo 2**64, as a signed integer."""
    return (number + 2**63) % _MODULUS - 2**63
