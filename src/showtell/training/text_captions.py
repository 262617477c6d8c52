"""Captions without pictures, from which a decoder learns words that no training picture shows.

A picture's place is taken by words of the caption itself that a classifier or a detector could
have named: some are left out, as these miss things, and wrong ones are added, as they see things
that are not there. The decoder learns to say what goes with such words (Fei et al. 2023,
arXiv 2307.16525, section 3.3, mask entities in the same way).

For a word of the classifier that even these captions lack, new captions are made from those of a
similar word: "an airplane flying through a blue sky" also teaches what is said of a rocket.
(Hendricks et al. 2016, arXiv 1511.05284, section 3.3, give an unseen word the weights of the
nearest seen word; here it gets some of that word's captions.)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from showtell.data.reading import parse_json, read_text, without_marks
from showtell.decoders.word_detector import LEAST
from showtell.encoders.features import Concepts, Features
from showtell.errors import ConfigError, DataError
from showtell.text.tokenizer import tokenize
from showtell.text.vocabulary import PAD, UNK, Vocabulary
from showtell.training.corpus import Corpus, TokenizedCaptions

TEXT_STREAM = 3  # keeps its random numbers apart from the views' and the samples'
KEPT = 0.7  # share of a caption's concepts that are shown
MOST_WRONG = 2  # concepts that are shown and not there
MOST_CAPTIONS = 300  # that a rare word takes over
VOWELS = "aeiou"


def read_captions(path: Path) -> list[str]:
    """Captions of a COCO annotations JSON, or of a text file with one a line.

    Raises:
        DataError: it is neither, has none, or is in an encoding that has to be named.
    """
    try:
        text = read_text(path)
        if path.suffix == ".json":
            annotations = parse_json(text, path)["annotations"]
            lines = [str(entry["caption"]) for entry in annotations]
        else:
            lines = text.splitlines()
    except DataError as error:
        raise DataError(f"data.text: {error}") from None
    except (KeyError, TypeError) as error:
        raise _unreadable(path, f"no {error}") from None
    captions = [line for line in map(without_marks, lines) if line.strip()]
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
        prior: (V,) the share of captions that have each of a detector's words; None for the words
            of a classifier.
        num_words: K, the most words that a detector gives.
    """

    corpus: Corpus
    concept_of: NDArray[np.int64]
    known: NDArray[np.int64]
    feature_size: int
    prior: NDArray[np.float64] | None = None
    num_words: int = 0

    @classmethod
    def of(
        cls,
        captions: TokenizedCaptions,
        vocabulary: Vocabulary,
        concepts: Sequence[int],
        *,
        feature_size: int,
        max_length: int,
        prior: Sequence[float] | None = None,
        num_words: int = 0,
    ) -> "TextCaptions":
        """Encode captions; those with a word that the vocabulary lacks are left out.

        Args:
            concepts: ids of the words that the classifier or the detector has.
            prior: of each of a detector's words.

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
            raise DataError(
                "data.text: none of its captions consists only of words of the vocabulary"
            )
        kept = corpus.only(is_known)
        known = np.array(sorted(concepts), np.int64)
        named = _concept_of(vocabulary, concepts)
        if prior is None:
            return cls(kept, named, known, feature_size)
        by_id = np.zeros(len(vocabulary))
        by_id[list(concepts)] = prior
        return cls(kept, named, known, feature_size, by_id, num_words)

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
        imagined = self._classified if self.prior is None else self._detected
        concepts = imagined(inputs.cpu().numpy(), rng)
        pooled = torch.zeros(size, self.feature_size)
        return Features(pooled, concepts=concepts).to(device), inputs, targets

    def _classified(self, inputs: NDArray[np.int64], rng: np.random.Generator) -> Concepts:
        """What a classifier might have said of what the captions (B, T) are about."""
        shown = self._shown(inputs, rng)
        wrong = rng.choice(self.known, (len(shown), MOST_WRONG))
        wrong = np.where(rng.random(wrong.shape) < 0.5, wrong, PAD)
        # A classifier shares its certainty out among what it sees; what is not there gets little.
        scores = np.concatenate([rng.random(shown.shape), 0.3 * rng.random(wrong.shape)], axis=1)
        words = np.concatenate([shown, wrong], axis=1)
        scores = np.where(words == PAD, 0.0, scores)
        scores /= np.maximum(scores.sum(axis=1, keepdims=True), 1.0)
        return _likeliest(words, scores, scores, int((words != PAD).sum(axis=1).max(initial=1)))

    def _detected(self, inputs: NDArray[np.int64], rng: np.random.Generator) -> Concepts:
        """What a detector might have said of what the captions (B, T) are about."""
        assert self.prior is not None
        shown = self._shown(inputs, rng)
        # What a detector sees that is not there is mostly what is often there.
        odds = self.prior[self.known] / self.prior[self.known].sum()
        wrong = rng.choice(self.known, (len(shown), self.num_words), p=odds)
        wrong = np.where((wrong[:, :, None] == inputs[:, None]).any(axis=2), PAD, wrong)
        words = np.concatenate([shown, wrong], axis=1)
        scores = np.concatenate(
            [rng.beta(1.5, 1.0, shown.shape), rng.beta(1.0, 2.5, wrong.shape)], axis=1
        )
        scores = np.where((words == PAD) | (scores < LEAST), 0.0, scores)
        prior = np.maximum(self.prior[words], 1e-6)
        worth = scores * np.log(np.maximum(scores, 1e-6) / prior)
        scores, words = (np.where(worth > 0, part, 0) for part in (scores, words))
        return _likeliest(words, scores, worth, self.num_words)

    def _shown(self, inputs: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """(B, T) words -> most of the concepts among them, each once; else ``<pad>``."""
        shown = self.concept_of[inputs]
        shown = np.where(rng.random(shown.shape) < KEPT, shown, PAD)
        shown = np.sort(shown, axis=1)[:, ::-1]
        shown[:, 1:][shown[:, 1:] == shown[:, :-1]] = PAD  # "a dog and a dog" shows one
        return shown


def _likeliest(
    words: NDArray[np.int64], scores: NDArray[np.float64], rank: NDArray[np.float64], num: int
) -> Concepts:
    """The ``num`` best of each row by ``rank``."""
    order = np.argsort(-rank, axis=1)[:, :num]
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


def words_like() -> dict[str, tuple[str, ...]]:
    """For ImageNet's words that COCO's captions have little of, more common ones like them."""
    text = resources.files("showtell.training").joinpath("rare_words.txt").read_text("utf-8")
    pairs = (line.split(":") for line in text.splitlines())
    return {rare: tuple(alike.split()) for rare, alike in pairs}


def captions_with_rare_words(
    captions: Sequence[str],
    counts: Mapping[str, int],
    alike: Mapping[str, Sequence[str]],
    least: int,
) -> list[str]:
    """New captions in which rare words stand where words like them stood.

    Args:
        captions: of which some have the common words.
        counts: how often words are there.
        alike: for each rare word the common ones whose place it may take.
        least: a word that is there as often as this is not rare.
    """
    rare = {word: common for word, common in alike.items() if counts.get(word, 0) < least}
    wanted = {word for common in rare.values() for word in common}
    with_word: dict[str, list[list[str]]] = {word: [] for word in sorted(wanted)}
    for caption in captions:
        words = tokenize(caption)
        for word in wanted.intersection(words):
            with_word[word].append(words)
    made: list[str] = []
    for word, common in rare.items():
        share = MOST_CAPTIONS // len(common)
        for other in common:
            chosen = _spread(with_word[other], share)
            made.extend(" ".join(_in_place(words, other, word)) for words in chosen)
    return made


def _spread(items: Sequence[list[str]], most: int) -> Iterable[list[str]]:
    """At most so many of them, from all over."""
    return islice(items[:: max(len(items) // most, 1)], most)


def _in_place(words: Sequence[str], other: str, word: str) -> list[str]:
    """``words`` with ``word`` for ``other``, and the article that it wants."""
    changed = [word if old == other else old for old in words]
    article = "an" if word[0] in VOWELS else "a"
    return [
        article if here in ("a", "an") and following == word else here
        for here, following in zip(changed, [*changed[1:], ""], strict=True)
    ]
