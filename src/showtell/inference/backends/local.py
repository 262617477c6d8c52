"""What the captioners that compute in this process share: they encode views, then decode features.

Beside what every captioner can do, a ``LocalCaptioner`` captions features (``encode``,
``caption_features``), so that a picture has the same caption everywhere. This module imports no
torch.
"""

import math
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from showtell.config import DecodingConfig
from showtell.core.device import Runtime
from showtell.decoding.arrays import arrays_of
from showtell.decoding.constraints.named_words import NamedWords, named_words
from showtell.decoding.generate import generate
from showtell.decoding.hypotheses import Steps
from showtell.decoding.reranking import RERANKER, Reranker
from showtell.encoders.features import Features
from showtell.errors import CheckpointError, ConfigError, VocabularyError
from showtell.images.open import Pixels
from showtell.images.preprocess import Preprocessing
from showtell.inference.caption import Calibration, Caption, captions_of, cleaned
from showtell.inference.captioner import Captioner
from showtell.inference.files import BEST, LAST
from showtell.pretrained import shipped_folder
from showtell.text.vocabulary import START, Vocabulary


class LocalCaptioner(Captioner):
    """Captions pictures, or features of pictures, by an encoder and a decoder.

    ``caption`` and ``caption_views`` may be called from several threads: they wait for each other,
    since one call uses all processors. What works on features is for one thread.

    Attributes:
        name: for people.
        vocabulary: of the decoder.
        steps: the decoder, or an ensemble.
        metrics: what the model says of itself: figures, provenance, calibration.
        calibration: gives the confidence; None where there is none.
        reranker: chooses among the captions of a beam; None where there is none.
        runtime: device, precision and threads.
    """

    name: str
    vocabulary: Vocabulary
    steps: Steps
    metrics: Mapping[str, Any]
    calibration: Calibration | None
    reranker: Reranker | None
    runtime: Runtime

    def __init__(self) -> None:
        self._turn = threading.Lock()

    @property
    @abstractmethod
    def recipe(self) -> Preprocessing:
        """How the encoder wants its pictures."""

    @property
    def overlaps(self) -> bool:
        """Whether a GPU computes."""
        return self.runtime.device != "cpu"

    @property
    def batch_size(self) -> int:
        """On a processor more pictures at a time gain nothing."""
        return 256 if self.overlaps else 64

    @property
    def trained_on(self) -> str | None:
        """As ``metrics`` has it."""
        return self.metrics.get("data_fingerprint")

    @property
    @abstractmethod
    def attends(self) -> bool:
        """Whether captions can say where the decoder looked: those that read regions can."""

    @property
    @abstractmethod
    def decoder_kind(self) -> str:
        """The decoder's kind, for messages."""

    @property
    @abstractmethod
    def encoder_name(self) -> str:
        """The encoder's name, for people."""

    @abstractmethod
    def encode(self, views: Pixels, *, regions: bool | None = None) -> Features:
        """Features of pictures that are cut already.

        Args:
            views: (B, 3, S, S) evaluation views, by ``recipe.eval_view``.
            regions: whether to give grid features; by default if the decoder needs them.

        Returns:
            Features in fp32 on the runtime's device: pooled (B, D), regions (B, R, D') or None.
        """

    def _placed(self, features: Features) -> Features:
        """The features where the decoder computes."""
        return features

    def _inference(self) -> AbstractContextManager[object]:
        """The context in which the decoder computes."""
        return nullcontext()

    def caption_views(
        self,
        views: Sequence[Pixels],
        *,
        decoding: DecodingConfig,
        attention: bool = False,
        first: int = 0,
    ) -> list[Caption]:
        """As ``Captioner.caption_views``."""
        with self._turn:
            features = self.encode(np.stack(views))
            return self.caption_features(
                features, decoding=decoding, attention=attention, first=first
            )

    def caption_features(
        self,
        features: Features,
        *,
        decoding: DecodingConfig | None = None,
        attention: bool = False,
        first: int = 0,
    ) -> list[Caption]:
        """As ``caption``, for the features of ``P`` pictures; always a list."""
        settings = decoding or self.decoding
        words = self._named_words(settings, attention)
        placed = self._placed(features)
        # Of a caption without a picture there is nothing to see, and no confidence in it.
        sees = self.reranker is not None and self.reranker.can_read(features)
        reranker = self.reranker if sees else None
        calibration = self.calibration if sees or self.reranker is None else None
        with self._inference():
            found = generate(
                self.steps,
                placed,
                settings,
                words,
                first=first,
                with_attention=attention,
                reranker=reranker,
            )
        if not (found.log_probs[:, 0] > -math.inf).all():
            self._check_numbers(placed)
        captions = captions_of(
            found,
            self.vocabulary,
            calibration=calibration,
            min_confidence=settings.min_confidence,
            neutral=settings.is_neutral and self._is_english,
            allows=lambda said: len(said) >= settings.min_length and words.allows(said),
        )
        return [cleaned(caption, self.cleaning) for caption in captions]

    @property
    def _is_english(self) -> bool:
        """Whether the words of ``text/neutral.py`` are of its language ("man" is German, too)."""
        return self.vocabulary.segmentation.is_english

    def _check_numbers(self, features: Features) -> None:
        """Raise CheckpointError where the decoder's first step gives values that are not numbers.

        Weights may all be finite and yet so large that products of them are not.
        """
        arrays = arrays_of(features.pooled)
        starts = arrays.from_host(np.full(len(features.pooled), START))
        with self._inference():
            scores, _ = self.steps.step(starts, self.steps.init_state(features))
        if np.isnan(arrays.to_host(scores)).any():
            raise CheckpointError(
                f"the model {self.name} computes values that are not numbers: its weights are "
                "damaged; use another checkpoint of the run"
            )

    def check(self, decoding: DecodingConfig, attention: bool = False) -> None:
        """As ``Captioner.check``: attention, and the words that ``decoding`` names."""
        self._named_words(decoding, attention)

    def _named_words(self, decoding: DecodingConfig, attention: bool) -> NamedWords:
        """The words that ``decoding`` names; raises as ``check``."""
        if attention and not self.attends:
            raise ConfigError(
                f"attention: decoder {self.decoder_kind!r} does not attend to regions"
            )
        return named_words(decoding, self.vocabulary)


def calibration_in(metrics: Mapping[str, Any], reranker: Reranker | None) -> Calibration | None:
    """The calibration in a model's ``metrics``.

    Raises:
        CheckpointError: it is damaged, or needs a reranker that is not there.
    """
    try:
        found = Calibration.of(metrics)
        if found is not None and found.signs and reranker is None:
            raise ValueError(f"the calibration needs {RERANKER}, which is not there")
        return found
    except ValueError as error:
        raise CheckpointError(f"the model's metrics.json is damaged: {error}") from None


def check_companion(
    model: str | Path,
    name: str | Path,
    vocabularies: tuple[Vocabulary, Vocabulary],
    encoders: tuple[str | None, str | None],
) -> None:
    """Raise where the model ``name`` cannot be in one ensemble with ``model``.

    Args:
        vocabularies, encoders: of both; encoders by their fingerprints.
    """
    if vocabularies[0] != vocabularies[1]:
        raise VocabularyError(
            f"{model} and {name} have different vocabularies: models of an ensemble need "
            "the same one (train the second with -s data.vocab_file=...)"
        )
    if encoders[0] != encoders[1]:
        raise CheckpointError(
            f"{model} and {name} have different encoders ({encoders[0]} and {encoders[1]}): models "
            "of an ensemble need the same one"
        )


def model_name(model: str | Path) -> str:
    """The folder's name; the run's, where one of its checkpoints is given."""
    folder = Path(model)
    if shipped_folder(model) or not folder.is_dir():
        return str(model)
    folder = folder.resolve()
    return folder.parent.name if folder.name in (BEST, LAST) else folder.name
