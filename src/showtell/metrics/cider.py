"""CIDEr-D (Vedantam, Zitnick and Parikh 2015, section 4 and equation 7), as COCO computes it.

Document frequencies come from the references given here. Lengths are compared in bigrams, as in
COCO's program. ``CiderD`` computes the references' n-grams, weights and norms once, so that
self-critical training can score thousands of hypotheses a step. This module imports no torch.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import chain
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

from showtell.core.messages import respelled, some
from showtell.errors import ScoringError
from showtell.metrics.ngrams import (
    ORDERS,
    HypothesisLevel,
    Ints,
    ReferenceLevel,
    ReferenceNgrams,
    Sentence,
)
from showtell.metrics.statistics import Floats, Statistics
from showtell.text.tokenizer import tokenize_all, tokenize_as_scored

if TYPE_CHECKING:
    from showtell.metrics.references import Captions

VERSION = "1"

SIGMA = 6.0
"""Of the Gaussian that lowers scores of captions longer or shorter than a reference."""

_SCALE = 10.0


def statistics(captions: "Captions") -> Statistics:
    """CIDEr-D of one caption an image.

    A resample of the images keeps the document frequencies of all references: they are part of the
    metric, and would give every resample a metric of its own.
    """
    levels, lengths = captions.counted
    scores = captions.references.cider.score_counts(np.arange(len(lengths)), levels, lengths)
    return Statistics.mean("CIDEr-D", scores)


class CiderD:
    """CIDEr-D against fixed references.

    Attributes:
        ngrams: the references' counts.
    """

    def __init__(self, references: Mapping[str, Sequence[str | Sentence]]) -> None:
        """Count the references.

        Args:
            references: for each image its captions, each a string (tokenised here) or a sequence
                of words or of token ids. Use one kind for references and hypotheses.

        Raises:
            ScoringError: an image has no reference, or one that is neither a string nor a sequence
                of words or of token ids.
        """
        if bare := [image_id for image_id, captions in references.items() if not captions]:
            raise ScoringError(f"{len(bare)} images have no reference caption: {some(bare)}")
        if single := [i for i, captions in references.items() if isinstance(captions, str)]:
            raise ScoringError(
                f"references of {len(single)} images are a string, not a list of them: "
                f"{some(single)}"
            )
        counts = [len(captions) for captions in references.values()]
        flat = _sentences(list(chain.from_iterable(references.values())), tokenize_all, "reference")
        kind = _kind(chain.from_iterable(flat), "reference")
        sentences = iter(flat)
        self._images = {image_id: index for index, image_id in enumerate(references)}
        self._prepare(ReferenceNgrams([[next(sentences) for _ in range(n)] for n in counts]), kind)

    @classmethod
    def from_ngrams(cls, ngrams: ReferenceNgrams, image_ids: Sequence[str]) -> "CiderD":
        """From references that were counted before; ``image_ids`` in the order of the counts."""
        scorer = cls.__new__(cls)
        scorer._images = {image_id: index for index, image_id in enumerate(image_ids)}
        kinds = {"words" if isinstance(word, str) else "token ids" for word in ngrams.words}
        scorer._prepare(ngrams, "".join(kinds))
        return scorer

    def _prepare(self, ngrams: ReferenceNgrams, kind: str) -> None:
        self.ngrams = ngrams
        self._kind = kind
        self._log_images = float(np.log(ngrams.num_images)) if ngrams.num_images else 0.0
        self._idf = [
            self._log_images - np.log(np.maximum(level.document_frequency, 1))
            for level in ngrams.levels
        ]
        self._weights = [
            level.pair_counts * idf[level.pair_keys % max(len(level.keys), 1)]
            for level, idf in zip(ngrams.levels, self._idf, strict=True)
        ]
        num_references = len(ngrams.lengths)
        self._norms = [
            np.sqrt(np.bincount(level.pair_sentences, weights**2, minlength=num_references))
            for level, weights in zip(ngrams.levels, self._weights, strict=True)
        ]

    def score(self, image_ids: Sequence[str], hypotheses: Sequence[str | Sentence]) -> Floats:
        """CIDEr-D of N hypotheses, each of the image beside it; (N,) on a scale of 0 to 10.

        An image may occur any number of times. Training that rewards captions must put its end
        token into both hypotheses and references, or captions do not learn where to end.

        Raises:
            ScoringError: an image has no references here, the two are not lists of one length, or
                a hypothesis is neither a string nor of words or token ids, as the references are.
        """
        for what, given in (("image ids", image_ids), ("hypotheses", hypotheses)):
            if isinstance(given, str):
                raise ScoringError(f"expected a list of {what}, but got the string {given!r}")
        if len(image_ids) != len(hypotheses):
            raise ScoringError(
                f"{len(image_ids)} image ids and {len(hypotheses)} hypotheses were given; each "
                "hypothesis needs the id of its image"
            )
        if unknown := [image_id for image_id in image_ids if image_id not in self._images]:
            hint = respelled(unknown, self._images)
            raise ScoringError(f"no references for {len(unknown)} images: {some(unknown)}{hint}")
        images = np.fromiter((self._images[i] for i in image_ids), np.int64, len(image_ids))
        sentences = _sentences(hypotheses, _each_alone, "hypothesis")
        kind = _kind(chain.from_iterable(sentences), "hypothesis")
        if kind and self._kind and kind != self._kind:
            raise ScoringError(
                f"the references are {self._kind}, but the hypotheses {kind}; give both alike"
            )
        levels, lengths = self.ngrams.count(sentences)
        return self.score_counts(images, levels, lengths)

    def score_counts(
        self, images: Ints, levels: Sequence[HypothesisLevel], lengths: Ints
    ) -> Floats:
        """The same for hypotheses counted by ``ReferenceNgrams.count``; ``images`` are indices."""
        first = self.ngrams.first
        num_slots = (first[1:] - first[:-1])[images]
        offsets = np.concatenate([[0], np.cumsum(num_slots)])
        # One slot for each (hypothesis, reference of its image).
        slot_hypotheses = np.repeat(np.arange(len(images)), num_slots)
        slot_references = np.arange(offsets[-1]) + np.repeat(
            first[images] - offsets[:-1], num_slots
        )
        total = np.zeros(offsets[-1])
        for order, level in enumerate(levels):
            idf = np.where(level.grams >= 0, self._idf_of(order, level.grams), self._log_images)
            weights = np.multiply(level.counts, idf, dtype=np.float64)
            norms = np.sqrt(np.bincount(level.hypotheses, weights**2, minlength=len(images)))
            products = self._products(order, level, weights, images, offsets)
            scale = norms[slot_hypotheses] * self._norms[order][slot_references]
            total += np.divide(products, scale, out=products, where=scale != 0)
        bigrams = np.maximum(lengths - 1, 0)[slot_hypotheses]
        difference = bigrams - np.maximum(self.ngrams.lengths - 1, 0)[slot_references]
        total *= np.exp(-(difference**2) / (2 * SIGMA**2))
        sums = np.bincount(slot_hypotheses, total, minlength=len(images))
        return np.asarray(_SCALE * sums / ORDERS / np.maximum(num_slots, 1), np.float64)

    def _idf_of(self, order: int, grams: Ints) -> Floats:
        idf = self._idf[order]
        return idf[grams] if len(idf) else np.zeros(len(grams))

    def _products(
        self, order: int, level: HypothesisLevel, weights: Floats, images: Ints, offsets: Ints
    ) -> Floats:
        """Clipped dot products of each hypothesis with each reference of its image; (slots,)."""
        reference: ReferenceLevel = self.ngrams.levels[order]
        known = level.grams >= 0
        hypotheses, weights = level.hypotheses[known], weights[known]
        keys = images[hypotheses] * max(len(reference.keys), 1) + level.grams[known]
        low = np.searchsorted(reference.pair_keys, keys, "left")
        counts = np.searchsorted(reference.pair_keys, keys, "right") - low
        ends = np.cumsum(counts)
        # Row k of the join pairs hypothesis n-gram source[k] with the references' pair[k].
        source = np.repeat(np.arange(len(keys)), counts)
        pair = np.arange(len(source)) + np.repeat(low - (ends - counts), counts)
        theirs = self._weights[order][pair]
        hypothesis = hypotheses[source]
        slot = (
            offsets[hypothesis]
            + reference.pair_sentences[pair]
            - self.ngrams.first[images[hypothesis]]
        )
        return np.bincount(
            slot, np.minimum(weights[source], theirs) * theirs, minlength=int(offsets[-1])
        ).astype(np.float64)


def _sentences(
    captions: Sequence[str | Sentence],
    tokenize: Callable[[Sequence[str]], list[list[str]]],
    what: str,
) -> list[Sentence]:
    """The captions as lists, of words where they are strings."""
    tokens = iter(tokenize([caption for caption in captions if isinstance(caption, str)]))
    try:
        return [next(tokens) if isinstance(text, str) else list(text) for text in captions]
    except TypeError:
        wrong = next(text for text in captions if not isinstance(text, Iterable))
        raise ScoringError(_neither(what, repr(wrong))) from None


def _each_alone(captions: Sequence[str]) -> list[list[str]]:
    return [tokenize_as_scored(caption) for caption in captions]


def _kind(words: Iterable[Hashable], what: str) -> str:
    """Whether these are words or token ids; empty where there are none.

    Raises:
        ScoringError: they are of both kinds or of another, such as whole texts or tensors.
    """
    try:
        distinct = set(words)
    except TypeError:
        raise ScoringError(_neither(what, "a list of lists")) from None
    kinds = set(map(type, distinct))
    are_words = [issubclass(kind, str) for kind in kinds]
    are_ids = [issubclass(kind, Integral) for kind in kinds]
    if any(are_words) and any(are_ids):
        raise ScoringError(f"a {what} is of words and another of token ids; give all alike")
    if all(are_ids):
        return "token ids" if distinct else ""
    if not all(are_words) or " " in "".join(map(str, distinct)):
        wrong = next(w for w in distinct if not isinstance(w, str) or " " in w)
        raise ScoringError(_neither(what, repr([wrong])))
    return "words"


def _neither(what: str, found: str) -> str:
    return f"expected a {what} as a string, a list of words or of token ids, but got {found:.80}"
