"""Never say the same again, an n-gram or a word after "and", whatever tokens spell the words.

Words are compared by a hash of their characters that can be added up over the tokens of a word:
c_0 + c_1 B + c_2 B**2 ... modulo 2**64 (Karp & Rabin 1987, section 3), with a random number for
each character. B has an inverse, so the hash of the missing rest of a word follows from the hashes
of the word and of its beginning.

Shapes: ``N`` rows, ``L`` tokens of a prefix, ``V`` vocabulary.
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from showtell.decoding.arrays import Array, Flags, Ids, arrays_of
from showtell.decoding.constraints.cache import Table
from showtell.text.vocabulary import END, SPECIAL_WORDS, Spelling

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

    hashes: Ids
    sizes: Ids
    num: Ids
    is_open: Flags


class NoRepeat(Table):
    """What would be said again is forbidden.

    Where the tokens so far spell a word that would repeat something, only tokens that continue this
    word may follow. Where none can follow (no token continues a word, or the caption would be too
    long), the token that completes the word is forbidden.

    Args:
        spelling: of the vocabulary; no two ids are alike.
        max_tokens: the most tokens before ``<end>``.
        ngram: no n-gram of so many words occurs twice (Paulus et al. 2017, arXiv 1705.04304,
            section 2.5); None: any may.
        around: words, as ``spelling.spell`` gives them, that do not stand between a word and the
            same word ("a sink and sink").
    """

    def __init__(
        self, spelling: Spelling, max_tokens: int, *, ngram: int | None, around: Sequence[str]
    ) -> None:
        self.ngram, self.max_tokens = ngram, max_tokens
        self.around = np.array([_signed(_hash(word)) for word in around], np.int64)
        self.fewest = min(([ngram] if ngram else []) + ([2] if around else []))
        texts, starts = spelling.texts, np.array(spelling.starts, bool)
        self.starts = starts
        self.lengths = np.array([len(text) for text in texts])
        self.hashes = np.array([_signed(_hash(text)) for text in texts])
        longest = 1 + max_tokens * int(self.lengths.max())
        self.powers, self.inverses = (
            np.array(_powers(base, longest)) for base in (_BASE, pow(_BASE, -1, _MODULUS))
        )
        ids = np.arange(len(texts))
        is_text = (ids >= len(SPECIAL_WORDS)) & (self.lengths > 0)
        self.start_hashes, self.start_ids = self._table(ids[is_text & starts])
        self.rest_hashes, self.rest_ids = self._table(ids[is_text & ~starts])
        self.ends_word = starts.copy()
        self.ends_word[END] = True

    def _table(self, ids: Ids) -> tuple[Ids, Ids]:
        """Hashes in ascending order, and the ids that have them."""
        order = np.argsort(self.hashes[ids], kind="stable")
        return self.hashes[ids][order], ids[order]

    def __call__(self, log_probs: Array, prefixes: Ids, length: int) -> Array:
        """-inf for tokens that say something again."""
        if length < self.fewest:
            return log_probs
        words = self._words(prefixes)
        is_last = length + 1 >= self.max_tokens
        if not len(self.rest_ids) or is_last:
            targets, follows = self._again(words, words.num)
            _forbid(log_probs, targets, follows, self.start_hashes, self.start_ids)
        if not len(self.rest_ids):
            return log_probs
        # The number of the word in progress; -1 only in empty places.
        number = (words.num - words.is_open).clip(min=0)
        targets, follows = self._again(words, number)
        own, size = (np.take_along_axis(p, number[:, None], 1) for p in words[:2])
        if is_last:
            missing = (targets - own) * self.inverses[size]
            _forbid(log_probs, missing, follows, self.rest_hashes, self.rest_ids)
        repeats = (follows & (targets == own) & words.is_open[:, None]).any(axis=1)
        if repeats.any():
            arrays_of(log_probs).forbid(log_probs, repeats, self.ends_word)
        return log_probs

    def _words(self, prefixes: Ids) -> _Words:
        sizes, starts = self.lengths[prefixes], self.starts[prefixes]
        has_text = sizes > 0
        after_bare = np.roll(starts & ~has_text, 1, axis=1)
        after_bare[:, 0] = True
        begins = has_text & (starts | after_bare)
        upto = sizes.cumsum(axis=1)
        before = upto - sizes
        offset = before - np.maximum.accumulate(np.where(begins, before, 0), axis=1)
        number = (begins.cumsum(axis=1) - 1).clip(min=0)
        hashes, lengths = np.zeros((2, len(prefixes), prefixes.shape[1] + 1), np.int64)
        place = np.arange(len(prefixes))[:, None], number
        np.add.at(hashes, place, self.hashes[prefixes] * self.powers[offset])
        np.add.at(lengths, place, sizes)
        return _Words(hashes, lengths, num=begins.sum(axis=1), is_open=has_text[:, -1])

    def _again(self, words: _Words, number: Ids) -> tuple[Ids, Flags]:
        """Which words in place ``number`` would say something again.

        Returns:
            (N, P) the hash of each such word, 0 elsewhere; and True where there is one.
        """
        found = [self._after_ngrams(words, number)] if self.ngram else []
        if len(self.around):
            found.append(self._after_itself(words, number))
        targets, follows = zip(*found, strict=True)
        return np.concatenate(targets, axis=1), np.concatenate(follows, axis=1)

    def _after_ngrams(self, words: _Words, number: Ids) -> tuple[Ids, Flags]:
        """Those that followed earlier on the n - 1 words before it."""
        assert self.ngram is not None
        windows = np.lib.stride_tricks.sliding_window_view(words.hashes, self.ngram, axis=1)
        place = number[:, None] + np.arange(1 - self.ngram, 0)
        last = np.take_along_axis(words.hashes, place.clip(min=0), axis=1)
        first = np.arange(windows.shape[1])
        is_before = first + self.ngram <= number[:, None]
        follows = (windows[:, :, :-1] == last[:, None]).all(axis=-1) & is_before
        return np.where(follows, windows[:, :, -1], 0), follows

    def _after_itself(self, words: _Words, number: Ids) -> tuple[Ids, Flags]:
        """The word before the last one, where the last one is of ``around``."""
        place = (number[:, None] + np.array([-2, -1])).clip(min=0)
        pair = np.take_along_axis(words.hashes, place, axis=1)
        follows = (number >= 2)[:, None] & np.isin(pair[:, 1:], self.around)
        return np.where(follows, pair[:, :1], 0), follows


def _forbid(log_probs: Array, targets: Ids, follows: Flags, hashes: Ids, ids: Ids) -> None:
    """-inf for the ids whose hash is among (N, P) ``targets``, where ``follows``."""
    rows, which = np.nonzero(follows)
    if not len(rows) or not len(ids):
        return
    wanted = targets[rows, which]
    place = np.searchsorted(hashes, wanted).clip(max=len(hashes) - 1)
    found = hashes[place] == wanted
    if found.any():
        arrays_of(log_probs).forbid(log_probs, rows[found], ids[place[found]])


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
