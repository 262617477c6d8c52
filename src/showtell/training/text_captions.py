"""Captions without pictures: how people speak of what no training picture shows.

A caption's own words that a classifier could have named take the place of the picture: some are
left out, as a classifier misses things, and wrong ones are put in, as it sees things that are not
there. The decoder learns to say what goes with them (Fei et al. 2023, arXiv 2307.16525, section
3.3, masks entities likewise).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from showtell.errors import ConfigError, DataError
from showtell.models.base import Features
from showtell.models.concepts import Concepts
from showtell.text.vocabulary import PAD, UNK, Vocabulary
from showtell.training.corpus import Corpus, TokenizedCaptions

TEXT_STREAM = 3  # keeps its random numbers apart from the views' and the samples'
KEPT = 0.7  # share of a caption's concepts that are shown
MOST_WRONG = 2  # concepts that are shown and not there


def read_captions(path: Path) -> list[str]:
    """Captions of a COCO annotations JSON, or of a text file with one a line.

    Raises:
        DataError: it is neither, or has none.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            captions = [str(entry["caption"]) for entry in json.loads(text)["annotations"]]
        else:
            captions = [line for line in text.splitlines() if line.strip()]
    except OSError as error:
        raise _unreadable(path, error.strerror) from None
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, f"no {error}") from None
    if not captions:
        raise DataError(f"data.text = {path} holds no caption")
    return captions


def check_readable(path: Path) -> None:
    """Raise DataError where there is no such file; what is in it is left unread."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise _unreadable(path, error.strerror) from None


def _unreadable(path: Path, reason: str | None) -> DataError:
    return DataError(
        f"data.text = {path}: {reason}; give a COCO annotations JSON, or a text file with a "
        "caption a line"
    )


def merged_counts(
    own: Mapping[str, int], text: Mapping[str, int], *, threshold: int, text_threshold: int
) -> dict[str, int]:
    """Counts by which a vocabulary is built of captions with pictures and without.

    A word that the captions without pictures have ``text_threshold`` times counts as seen
    ``threshold`` times at least.
    """
    frequent = {word: threshold for word, count in text.items() if count >= text_threshold}
    return {word: max(own.get(word, 0), frequent.get(word, 0)) for word in {**frequent, **own}}


@dataclass(frozen=True)
class TextCaptions:
    """Captions to learn to speak from.

    Attributes:
        corpus: those of which the vocabulary has every word; ``pictures`` are their numbers.
        concept_of: (V,) for each id the concept that it names, itself or its singular; else 0.
        known: the concepts.
        feature_size: D, of the pooled features that they do not have.
    """

    corpus: Corpus
    concept_of: NDArray[np.int64]
    known: NDArray[np.int64]
    feature_size: int

    @classmethod
    def of(
        cls,
        captions: TokenizedCaptions,
        vocabulary: Vocabulary,
        concepts: Sequence[int],
        *,
        feature_size: int,
        max_length: int,
    ) -> "TextCaptions":
        """Encode captions; those with a word that the vocabulary lacks are left out.

        Args:
            concepts: ids of the words that the classifier has.

        Raises:
            DataError: none is left.
            ConfigError: the classifier has no word of the vocabulary.
        """
        if not concepts:
            raise ConfigError("data.text: the encoder's classifier has no word of the vocabulary")
        numbers = np.arange(len(captions.lengths), dtype=np.int64)
        corpus = Corpus.encode(captions, numbers, vocabulary, max_length)
        is_known = np.ones(len(corpus), bool)
        caption_of = np.repeat(np.arange(len(corpus)), corpus.lengths)
        is_known[caption_of[corpus.ids == UNK]] = False
        if not is_known.any():
            raise DataError("data.text: the vocabulary has all words of none of its captions")
        kept = Corpus(
            corpus.ids[is_known[caption_of]],
            np.concatenate([[0], np.cumsum(corpus.lengths[is_known])]),
            corpus.pictures[is_known],
        )
        known = np.array(sorted(concepts), np.int64)
        return cls(kept, _concept_of(vocabulary, concepts), known, feature_size)

    def batch(
        self, size: int, seed: int, step: int, device: str
    ) -> tuple[Features, Tensor, Tensor]:
        """``size`` captions drawn for step ``step``: features of no picture, inputs, targets."""
        rng = np.random.default_rng((seed, step, TEXT_STREAM))
        # One length a batch, that of a caption drawn at random: so nothing is padded.
        lengths = self.corpus.lengths
        alike = np.flatnonzero(lengths == lengths[rng.integers(0, len(lengths))])
        chosen = rng.choice(alike, size)
        inputs, targets = self.corpus.tensors(chosen, device)
        concepts = self._concepts(inputs.cpu().numpy(), rng)
        pooled = torch.zeros(size, self.feature_size)
        return Features(pooled, concepts=concepts).to(device), inputs, targets

    def _concepts(self, inputs: NDArray[np.int64], rng: np.random.Generator) -> Concepts:
        """What a classifier might have said of what the captions (B, T) are about."""
        shown = self.concept_of[inputs]
        shown = np.where(rng.random(shown.shape) < KEPT, shown, PAD)
        shown = np.sort(shown, axis=1)[:, ::-1]
        shown[:, 1:][shown[:, 1:] == shown[:, :-1]] = PAD  # "a dog and a dog" shows one
        wrong = rng.choice(self.known, (len(shown), MOST_WRONG))
        wrong = np.where(rng.random(wrong.shape) < 0.5, wrong, PAD)
        # A classifier shares its certainty out among what it sees; what is not there gets little.
        scores = np.concatenate([rng.random(shown.shape), 0.3 * rng.random(wrong.shape)], axis=1)
        words = np.concatenate([shown, wrong], axis=1)
        scores = np.where(words == PAD, 0.0, scores)
        scores /= np.maximum(scores.sum(axis=1, keepdims=True), 1.0)
        order = np.argsort(-scores, axis=1)[:, : int((words != PAD).sum(axis=1).max(initial=1))]
        return Concepts(
            torch.from_numpy(np.take_along_axis(words, order, axis=1).copy()),
            torch.from_numpy(np.take_along_axis(scores, order, axis=1).astype(np.float32)),
        )


def _concept_of(vocabulary: Vocabulary, concepts: Sequence[int]) -> NDArray[np.int64]:
    texts = vocabulary.spelling.texts
    ids = {texts[index]: index for index in concepts}
    found = np.zeros(len(vocabulary), np.int64)
    for index, word in enumerate(texts):
        for form in (word, word.removesuffix("s"), word.removesuffix("es")):
            if word and form in ids:
                found[index] = ids[form]
                break
    return found
