"""Naming things that the training captions hardly ever named.

The encoder's classifier may be sure of a thing that training captions hardly ever name. A decoder
has such a word, at best, from captions without pictures, and names something else: a rocket becomes
a building. ``Naming`` therefore adds a bonus to the word's logit until the word is said (a soft
form of the required tags of Anderson et al. 2017, arXiv 1612.00576, section 3.3). Where the
classifier is even surer, or the whole picture shows a thing that captions seldom named, the decoder
gets only the classifier's words and no regions.
"""

import math

import torch
from torch import Tensor

from showtell.decoders.base import State
from showtell.decoding.ensemble import Ensemble
from showtell.decoding.hypotheses import Steps
from showtell.encoders.concepts import Closer, ConceptReader, Concepts
from showtell.encoders.features import Features
from showtell.errors import ConfigError
from showtell.text.vocabulary import PAD

SURE, VERY_SURE = 0.45, 0.9  # of a rare word, in a window of the picture
SURE_OF_ALL = 0.8  # of an uncommon word, by the whole picture
UNSAID = "unsaid"


def naming(decoder: Steps, gain: float) -> Steps:
    """The decoder, or each decoder of an ensemble that reads a classifier, with ``Naming``.

    Raises:
        ConfigError: no decoder reads a classifier.
    """
    members = decoder.decoders if isinstance(decoder, Ensemble) else (decoder,)
    readers = [getattr(member, "concepts", None) for member in members]
    if not any(isinstance(reader, ConceptReader) for reader in readers):
        raise ConfigError(
            f"decoding.naming = {gain:g}: this model does not read its encoder's classifier "
            "(decoder.concepts), so there is nothing to name; leave it at 0"
        )
    named = [
        Naming(member, reader, gain) if isinstance(reader, ConceptReader) else member
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

    def __init__(self, decoder: Steps, reader: ConceptReader, gain: float) -> None:
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
        unsaid = closer.rare_word.masked_fill((closer.rare_score < SURE) | is_told, PAD)
        if is_told.any():
            features = self._from_words(features, closer, is_told)
        return {**self.decoder.init_state(features), UNSAID: unsaid}

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(N,) ids -> (N, V) log-probabilities, and the new state."""
        own = dict(state)
        unsaid = own.pop(UNSAID, None)
        log_probs, own = self.decoder.step(tokens, own)
        if unsaid is None:
            return log_probs, own
        unsaid = unsaid.masked_fill(unsaid == tokens, PAD)
        rows = (unsaid != PAD).nonzero().squeeze(1)
        if len(rows):
            log_probs[rows] = self._favour(log_probs[rows], unsaid[rows, None])
        return log_probs, {**own, UNSAID: unsaid}

    def _favour(self, log_probs: Tensor, words: Tensor) -> Tensor:
        """(M, V) log-probabilities with the bonus for (M, 1) words, normalised."""
        # In fp64: the last bit of exp depends on a row's place in the batch, and must round away.
        chances = log_probs.gather(1, words).double().exp()
        total = (chances * math.expm1(self.gain)).log1p().to(log_probs.dtype)
        gained = torch.zeros_like(log_probs).scatter_(1, words, self.gain)
        return log_probs + gained - total

    def _from_words(self, features: Features, closer: Closer, is_told: Tensor) -> Features:
        """Where ``is_told`` (P,): no regions, and the classifier's words for windows."""
        assert features.regions is not None
        usual = self.reader(features.pooled)
        told = is_told[:, None]
        concepts = Concepts(
            torch.where(told, closer.concepts.words, usual.words),
            torch.where(told, closer.concepts.scores, usual.scores),
        )
        mask = (~told).expand(features.regions.shape[:2])
        if features.mask is not None:
            mask = mask & features.mask
        return features._replace(mask=mask, concepts=concepts)
