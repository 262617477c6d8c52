"""What the captioners that compute in this process share: they encode views, then decode features.

Beside what every captioner can do, a ``LocalCaptioner`` captions features (``encode``,
``caption_features``), so that a picture has the same caption everywhere. This module imports no
torch.
"""

import math
from abc import abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
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
from showtell.images.open import PictureLike, Pixels, as_image
from showtell.images.preprocess import Preprocessing
from showtell.inference.caption import Calibration, Caption, captions_of, cleaned
from showtell.inference.captioner import Captioner, Decoding
from showtell.inference.notebook import thumbnail_of
from showtell.inference.stream import Originals, Picture, PictureResult, picture_at, stream
from showtell.pretrained import shipped_folder
from showtell.text.vocabulary import START, Vocabulary


class LocalCaptioner(Captioner):
    """Captions pictures, or features of pictures, by an encoder and a decoder.

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

    @property
    @abstractmethod
    def preprocessing(self) -> Preprocessing:
        """How the encoder wants its pictures."""

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

    @property
    def encoder_key(self) -> Hashable:
        """Equal in captioners with one encoder, whose pictures may share a batch of ``encode``."""
        return self

    @abstractmethod
    def encode(self, views: Pixels, *, regions: bool | None = None) -> Features:
        """Features of pictures that are cut already.

        Args:
            views: (B, 3, S, S) evaluation views, by ``preprocessing.eval_view``.
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

    def caption_pictures(
        self,
        pictures: Sequence[PictureLike],
        *,
        decoding: DecodingConfig,
        attention: bool = False,
        first: int = 0,
    ) -> list[Caption]:
        """As ``Captioner.caption`` has it."""
        self._check(decoding, attention)  # before any work is done
        if not pictures:
            return []
        recipe = self.preprocessing
        views, thumbnails = [], []
        for number, picture in enumerate(pictures):
            name = f"images[{number}]" if len(pictures) > 1 else None
            image = as_image(picture, min_side=recipe.decode_side, name=name)
            views.append(recipe.eval_view(image))
            thumbnails.append(thumbnail_of(image))
        captions = self.caption_features(
            self.encode(np.stack(views)), decoding=decoding, attention=attention, first=first
        )
        return [
            replace(caption, thumbnail=thumbnail)
            for caption, thumbnail in zip(captions, thumbnails, strict=True)
        ]

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
        words = self._check(settings, attention)
        placed = self._placed(features)
        with self._inference():
            found = generate(
                self.steps,
                placed,
                settings,
                words,
                first=first,
                with_attention=attention,
                reranker=self.reranker,
            )
        if not (found.log_probs[:, 0] > -math.inf).all():
            self._check_numbers(placed)
        captions = captions_of(
            found,
            self.vocabulary,
            calibration=self.calibration,
            min_confidence=settings.min_confidence,
            neutral=settings.is_neutral and self._is_english,
        )
        return [cleaned(caption, self.cleaning) for caption in captions]

    @property
    def _is_english(self) -> bool:
        """Whether the words of ``text/neutral.py`` are of its language ("man" is German, too)."""
        return self.vocabulary.segmentation.is_english

    def _check_numbers(self, features: Features) -> None:
        """Raise CheckpointError where the decoder's first step gives values that are no numbers.

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

    def _check(self, decoding: DecodingConfig, attention: bool) -> NamedWords:
        """Raise where the model cannot do what is asked; else the words that ``decoding`` names."""
        if attention and not self.attends:
            raise ConfigError(
                f"attention: decoder {self.decoder_kind!r} does not attend to regions"
            )
        return named_words(decoding, self.vocabulary)

    def caption_stream(
        self,
        pictures: Iterable[Path | str | Picture],
        *,
        decoding: Decoding = None,
        attention: bool = False,
        batch_size: int | None = None,
        originals: Originals | None = None,
    ) -> Iterator[PictureResult]:
        """As ``Captioner.caption_stream``; threads decode while results are taken.

        Args:
            batch_size: default: 64 on a processor, where more gain nothing, 256 on a GPU.
        """
        settings = self.resolve(decoding)
        self._check(settings, attention)

        def describe(views: list[Pixels], first: int) -> list[Caption]:
            return self.caption_features(
                self.encode(np.stack(views)), decoding=settings, attention=attention, first=first
            )

        return stream(
            (p if isinstance(p, Picture) else picture_at(p) for p in pictures),
            self.preprocessing,
            describe,
            batch_size=batch_size or (64 if self.runtime.device == "cpu" else 256),
            overlaps=self.runtime.device != "cpu",
            originals=originals,
        )


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
    return folder.parent.name if folder.name in ("best", "last") else folder.name
