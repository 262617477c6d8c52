"""Words that a trained model does not know yet, as new rows of its weights.

The model keeps its words, their ids and their rows. A new word gets an id after them. Its row, in
every matrix that has one row for each word, begins as a mean of rows of words like it: words that
stand between the same neighbours in the captions, else words of similar letters.
docs/experiments.md says what else was tried.

Which weights have a row for each word is found out by comparing the decoder's outline with that of
one that knows a word more, so it holds for decoders of other packages too.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from showtell.config import DecoderConfig
from showtell.decoders.registry import outline_decoder
from showtell.text.vocabulary import END, PAD, SPECIAL_WORDS, START, Vocabulary
from showtell.training.corpus import Corpus

NUM_ALIKE = 5  # words whose rows are averaged
LEAST_ALIKE = 0.5  # of letters in common, for words that are taken to be of one stem
NUM_SPECIAL = len(SPECIAL_WORDS)

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


def likeness(vocabulary: Vocabulary, num_known: int, corpus: Corpus) -> Tensor:
    """How much of each known word's row goes into each new word's; the rows sum to 1.

    Words with the same neighbours count where there are any, else words of similar letters, else
    all words alike. A style begins as ``<start>``.

    Args:
        vocabulary: the extended one; its first ``num_known`` words, K, are the model's.
        corpus: the training captions in its ids.

    Returns:
        (new, K) in fp32.
    """
    words, num_new = vocabulary.words, len(vocabulary) - num_known
    everything = np.zeros(num_known)
    everything[NUM_SPECIAL:] = 1.0
    shares = np.empty((num_new, num_known))
    letters = by_letters(words[num_known:], words[:num_known])
    neighbours = by_neighbours(corpus, num_known, len(words))
    for row in range(num_new):
        if num_known + row in vocabulary.styles.values():  # it stands where <start> stood
            shares[row] = 0.0
            shares[row, START] = 1.0
            continue
        close = np.where(letters[row] >= LEAST_ALIKE, letters[row], 0.0)
        found = next((s for s in (neighbours[row], close) if s.any()), everything)
        shares[row] = _best(found, NUM_ALIKE) if found is not everything else found
    return torch.from_numpy(shares / shares.sum(axis=1, keepdims=True)).float()


def by_letters(new: Sequence[str], known: Sequence[str]) -> Floats:
    """(new, K) the share of pieces of three letters that two words have in common (Dice).

    The ends of a word count as letters, as in fastText (Bojanowski et al. 2017, section 3.2).
    """
    pieces = [_pieces(word) for word in known]
    have: dict[str, list[int]] = {}
    for index, own in enumerate(pieces[NUM_SPECIAL:], NUM_SPECIAL):
        for piece in own:
            have.setdefault(piece, []).append(index)
    shares = np.zeros((len(new), len(known)))
    for row, word in enumerate(new):
        own = _pieces(word)
        for piece in own:
            shares[row, have.get(piece, [])] += 1
        for index in np.flatnonzero(shares[row]).tolist():
            shares[row, index] *= 2 / (len(own) + len(pieces[index]))
    return shares


def _pieces(word: str) -> set[str]:
    whole = f"<{word}>"
    return {whole[start : start + 3] for start in range(len(whole) - 2)}


def by_neighbours(corpus: Corpus, num_known: int, num_words: int) -> Floats:
    """(new, K) the cosine of how often two words stand after and before the same others.

    Args:
        corpus: captions as ids below ``num_words``; those from ``num_known`` on are new.
    """
    shares = np.zeros((num_words - num_known, num_known))
    words, neighbours, values = _neighbours(corpus, num_words)
    of_known = (words >= NUM_SPECIAL) & (words < num_known)
    known, theirs, their_values = words[of_known], neighbours[of_known], values[of_known]
    for word in np.unique(words[words >= num_known]):
        own = words == word
        vector = np.zeros(2 * num_words)
        vector[neighbours[own]] = values[own]
        products = their_values * vector[theirs]
        shares[word - num_known] = np.bincount(known, products, minlength=num_known)
    return shares


def _neighbours(corpus: Corpus, num_words: int) -> tuple[Ids, Ids, Floats]:
    """The vector of each word, without its zeros: (E,) words, their neighbours, and values.

    Neighbours that come after are numbered from ``num_words`` on. Values are square roots of
    counts, scaled to length 1: so a frequent neighbour is not everything.
    """
    ids = corpus.ids.astype(np.int64)
    left, right = np.roll(ids, 1), np.roll(ids, -1)
    filled = corpus.lengths > 0
    left[corpus.offsets[:-1][filled]] = START
    is_cut = False if corpus.is_cut is None else corpus.is_cut[filled]
    right[corpus.offsets[1:][filled] - 1] = np.where(is_cut, PAD, END)
    sides = np.concatenate([left, num_words + right])
    found = np.tile(ids, 2) * 2 * num_words + sides
    # What comes after a caption that was cut is not known.
    pairs, counts = np.unique(found[sides != num_words + PAD], return_counts=True)
    words, neighbours = np.divmod(pairs, 2 * num_words)
    totals = np.bincount(words, counts, minlength=num_words)
    return words, neighbours, np.sqrt(counts / totals[words])


def _best(shares: Floats, num: int) -> Floats:
    """The ``num`` largest; zero for the others."""
    kept = np.zeros_like(shares)
    best = np.argsort(-shares, kind="stable")[:num]
    kept[best] = shares[best]
    return kept


def grown(
    weights: Mapping[str, Tensor],
    config: DecoderConfig,
    shares: Tensor,
    *,
    feature_size: int,
    region_size: int | None,
) -> dict[str, Tensor]:
    """A decoder's weights with rows for new words after those of its own.

    Args:
        weights: of a decoder that knows K words.
        config: its settings.
        shares: (new, K) as ``likeness`` gives them.
        feature_size, region_size: of what it looks at.
    """
    num_words = shares.shape[1] + len(shares)
    larger = outline_decoder(
        config, vocab_size=num_words, feature_size=feature_size, region_size=region_size
    )
    return {
        name: _with_rows(
            weight, larger[name].shape, shares, weights.get(f"{name.rpartition('.')[0]}.special")
        )
        for name, weight in weights.items()
    }


def _with_rows(weight: Tensor, shape: torch.Size, shares: Tensor, special: Tensor | None) -> Tensor:
    """The weight with rows for the new words, if it has one for each word.

    Args:
        special: the rows of the special words, which come first, where ``weight`` may lack them
            (``prefix_lm.TiedWords``).
    """
    if weight.shape == shape:
        return weight
    [dim] = [i for i, size in enumerate(shape) if size != weight.shape[i]]
    rows = weight.movedim(dim, 0)
    known = rows
    if special is not None and len(rows) < shares.shape[1]:
        known = torch.cat([special, rows])
    own = shares[:, shares.shape[1] - len(known) :]
    if weight.is_floating_point():
        added = (own.to(weight.device) @ known.reshape(len(known), -1).float()).view(
            len(own), *rows.shape[1:]
        )
    else:
        added = rows.new_zeros(len(own), *rows.shape[1:])
    return torch.cat([rows, added.to(rows.dtype)]).movedim(0, dim).contiguous()
