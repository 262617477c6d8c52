"""Naming things that training captions rarely name.

The encoder's classifier may be sure of a thing that training captions rarely name. A decoder
has such a word, at best, from captions without pictures, and names something else: a rocket becomes
a building. ``Naming`` therefore adds a bonus to the word's logit until the word is said (a soft
form of the required tags of Anderson et al. 2017, arXiv 1612.00576, section 3.3). Where the
classifier is even surer, or the whole picture shows a thing that captions seldom named, the decoder
gets only the classifier's words and no regions.
"""

import math
from typing import Protocol

from showtell.decoding.arrays import Array, State, arrays_of
from showtell.decoding.ensemble import Ensemble
from showtell.decoding.hypotheses import Steps
from showtell.encoders.features import Closer, Concepts, Features
from showtell.errors import ConfigError
from showtell.text.vocabulary import PAD

SURE, VERY_SURE = 0.45, 0.9  # of a rare word, in a window of the picture
SURE_OF_ALL = 0.8  # of an uncommon word, by the whole picture
UNSAID = "unsaid"


class Reader(Protocol):
    """What ``Naming`` needs of a decoder's ``concepts`` (``encoders.concepts.ConceptReader``)."""

    def __call__(self, pooled: Array) -> Concepts:
        """(P, D) -> the likeliest words."""

    def look_closer(self, pooled: Array, regions: Array) -> Closer | None:
        """(P, D), (P, R, D) -> the likeliest words in parts of the pictures."""


def naming(decoder: Steps, gain: float) -> Steps:
    """The decoder, or each decoder of an ensemble that reads a classifier, with ``Naming``.

    Raises:
        ConfigError: no decoder reads a classifier.
    """
    members = decoder.decoders if isinstance(decoder, Ensemble) else (decoder,)
    readers = [getattr(member, "concepts", None) for member in members]
    if all(reader is None for reader in readers):
        raise ConfigError(
            f"decoding.naming = {gain:g}: this model does not read its encoder's classifier "
            "(decoder.concepts), so there is nothing to name; leave it at 0"
        )
    named = [
        member if reader is None else Naming(member, reader, gain)
        for member, reader in zip(members, readers, strict=True)
    ]
    return Ensemble(named) if isinstance(decoder, Ensemble) else named[0]


class Naming:
    """A decoder with a bonus for one word a picture, until the word is said.

    Args:
        decoder: in eval mode.
        reader: the decoder's reader of the classifier.
        gain: the bonus in nats, added to the word's logit.
    """

    def __init__(self, decoder: Steps, reader: Reader, gain: float) -> None:
        self.decoder, self.reader, self.gain = decoder, reader, gain
        self.picture_state: frozenset[str] = getattr(decoder, "picture_state", frozenset())
        self.max_tokens: int | None = getattr(decoder, "max_tokens", None)

    def init_state(self, features: Features) -> State:
        """The decoder's state, and the word that each picture should name: ``<pad>`` for none."""
        closer = None
        if features.regions is not None and features.concepts is None:
            closer = self.reader.look_closer(features.pooled, features.regions)
        if closer is None:
            return self.decoder.init_state(features)
        is_told = (closer.rare_score >= VERY_SURE) | (closer.uncommon_score >= SURE_OF_ALL)
        is_open = (closer.rare_score >= SURE) & ~is_told
        unsaid = arrays_of(is_open).xp.where(is_open, closer.rare_word, PAD)
        if is_told.any():
            features = self._from_words(features, closer, is_told)
        return {**self.decoder.init_state(features), UNSAID: unsaid}

    def step(self, tokens: Array, state: State) -> tuple[Array, State]:
        """(N,) ids -> (N, V) log-probabilities, and the new state."""
        own = dict(state)
        unsaid = own.pop(UNSAID, None)
        log_probs, own = self.decoder.step(tokens, own)
        if unsaid is None:
            return log_probs, own
        xp = arrays_of(log_probs).xp
        unsaid = xp.where(unsaid == tokens, PAD, unsaid)
        (rows,) = xp.where(unsaid != PAD)
        if len(rows):
            self._favour(log_probs, rows, unsaid[rows])
        return log_probs, {**own, UNSAID: unsaid}

    def _favour(self, log_probs: Array, rows: Array, words: Array) -> None:
        """Give (M,) words in (M,) rows of (N, V) log-probabilities the bonus, and normalise."""
        arrays = arrays_of(log_probs)
        xp = arrays.xp
        # In fp64: the last bit of exp depends on a row's place in the batch, and must round away.
        chances = xp.exp(arrays.cast(log_probs[rows, words], "float64"))
        total = arrays.cast(xp.log1p(chances * math.expm1(self.gain)), "float32")
        log_probs[rows, words] += self.gain
        log_probs[rows] -= total[:, None]

    def _from_words(self, features: Features, closer: Closer, is_told: Array) -> Features:
        """Where ``is_told`` (P,): no regions, and the classifier's words for windows."""
        assert features.regions is not None
        usual = self.reader(features.pooled)
        told, xp = is_told[:, None], arrays_of(is_told).xp
        concepts = Concepts(
            xp.where(told, closer.concepts.words, usual.words),
            xp.where(told, closer.concepts.scores, usual.scores),
        )
        mask = xp.broadcast_to(~told, features.regions.shape[:2])
        if features.mask is not None:
            mask = mask & features.mask
        return features._replace(mask=mask, concepts=concepts)
