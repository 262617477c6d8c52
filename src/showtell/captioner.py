"""The one public object: load a model, caption pictures.

The command line, training's validation and everything else that makes captions comes through
here; none holds captioning logic of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor

from showtell.captions import Caption, captions_of
from showtell.checkpoint import load_checkpoint
from showtell.confidence import Calibration
from showtell.config import Config, DecodingConfig
from showtell.decoding.ensemble import Ensemble
from showtell.decoding.generate import generate
from showtell.decoding.hypotheses import Steps
from showtell.decoding.named_words import named_words
from showtell.errors import CheckpointError, ConfigError, ImageError, VocabularyError
from showtell.features.extract import encode_images
from showtell.features.images import open_image
from showtell.models.base import Decoder, Features
from showtell.models.encoders import Encoder, build_encoder
from showtell.models.trained_encoder import load_trained
from showtell.pretrained import DEFAULT
from showtell.runtime import Runtime, choose_runtime
from showtell.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class PictureResult:
    """A file with its caption, or with the reason why it has none."""

    path: Path
    caption: Caption | None
    error: str | None = None


class Captioner:
    """Captions pictures with one trained model.

    Args:
        decoder: in eval mode, on the runtime's device.
        vocabulary: the decoder's.
        config: the run's settings; ``config.decoding`` is what ``caption`` does by default.
        runtime: device and precision.
        metrics: figures and provenance of the checkpoint.
        others: decoders of the same vocabulary and encoder, for an ensemble with ``decoder``.
        encoder_weights: those of the encoder that were trained; None: it is as published.

    Raises:
        CheckpointError: ``metrics`` has a calibration that is none.
        ConfigError, VocabularyError: ``config.decoding`` does not fit the vocabulary.
    """

    def __init__(
        self,
        decoder: Decoder,
        vocabulary: Vocabulary,
        config: Config,
        runtime: Runtime,
        metrics: dict[str, Any] | None = None,
        others: Sequence[Decoder] = (),
        encoder_weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.decoder = decoder
        self.steps: Steps = Ensemble([decoder, *others]) if others else decoder
        self.needs_regions = any(part.needs_regions for part in (decoder, *others))
        self.vocabulary = vocabulary
        self.config = config
        self.runtime = runtime
        self.metrics = metrics or {}
        # Probabilities of an ensemble are others than those that it was fitted on.
        self.calibration = None if others else _calibration(self.metrics)
        self._encoder_weights = encoder_weights
        named_words(config.decoding, vocabulary)  # wrong words show now, not after an epoch

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT,
        *,
        ensemble: Sequence[str | Path] = (),
        device: str = "auto",
        precision: str = "auto",
    ) -> Self:
        """Load a model: by default the one that comes with showtell.

        Args:
            model: a checkpoint folder, a run's folder (its best checkpoint is taken), or a name
                that ``showtell models`` lists; it gives the settings, too.
            ensemble: further models, whose probabilities are averaged with the first's.

        Raises:
            CheckpointError: there is none, or it is damaged, or one of the ensemble has another
                encoder.
            VocabularyError: one of the ensemble has another vocabulary.
        """
        checkpoint = load_checkpoint(model)
        runtime = choose_runtime(device, precision)
        others = []
        for name in ensemble:
            other = load_checkpoint(name)
            if other.vocabulary != checkpoint.vocabulary:
                raise VocabularyError(
                    f"{model} and {name} have different vocabularies: models of an ensemble need "
                    "the same one (train the second with -s data.vocab_file=...)"
                )
            encoders = [m.metrics.get("encoder_fingerprint") for m in (checkpoint, other)]
            if encoders[0] != encoders[1]:
                raise CheckpointError(
                    f"{model} and {name} have different encoders ({encoders[0]} and "
                    f"{encoders[1]}): models of an ensemble need the same one"
                )
            others.append(other.decoder.to(runtime.device))
        return cls(
            checkpoint.decoder.to(runtime.device),
            checkpoint.vocabulary,
            checkpoint.config,
            runtime,
            checkpoint.metrics,
            others,
            checkpoint.encoder,
        )

    @cached_property
    def encoder(self) -> Encoder:
        """The CNN, loaded when it is first needed.

        Raises:
            CheckpointError: it is not the one that the decoder was trained with.
        """
        settings = self.config.encoder
        encoder = build_encoder(settings.name, weights=settings.weights)
        if self._encoder_weights is not None:
            load_trained(encoder, self._encoder_weights)
        trained_with = self.metrics.get("encoder_fingerprint", encoder.fingerprint)
        if encoder.fingerprint != trained_with:
            raise CheckpointError(
                f"this model was trained with encoder {trained_with}, but {settings.name!r} is now "
                f"{encoder.fingerprint}: use the same weights, or train again"
            )
        return encoder.to(self.runtime.device)

    def caption(
        self,
        images: Sequence[Image.Image],
        *,
        decoding: DecodingConfig | None = None,
        attention: bool = False,
        first: int = 0,
    ) -> list[Caption]:
        """The best caption of each picture, with ``alternatives`` if ``num_captions`` asks.

        Args:
            decoding: instead of the model's own settings.
            attention: whether captions carry where the decoder looked.
            first: the first picture's number; sampling follows from ``seed`` and these numbers.

        Raises:
            ConfigError: attention is asked for and the decoder does not attend, or no caption
                can meet the settings.
            VocabularyError: ``decoding`` names a word that the model does not know.
        """
        if not images:
            return []
        named_words(decoding or self.config.decoding, self.vocabulary)  # before any work is done
        features = encode_images(images, self.encoder, self.runtime, grid=self.needs_regions)
        return self.caption_features(features, decoding=decoding, attention=attention, first=first)

    def caption_features(
        self,
        features: Features,
        *,
        decoding: DecodingConfig | None = None,
        attention: bool = False,
        first: int = 0,
    ) -> list[Caption]:
        """As ``caption``, for the features of ``B`` pictures."""
        settings = decoding or self.config.decoding
        words = named_words(settings, self.vocabulary)
        with torch.inference_mode(), self.runtime.autocast():
            found = generate(
                self.steps,
                features.to(self.runtime.device),
                settings,
                words,
                first=first,
                with_attention=attention,
            )
        if attention and found.attention is None and bool(found.log_probs.isfinite().any()):
            raise ConfigError(
                f"attention: decoder {self.config.decoder.kind!r} does not attend to regions"
            )
        return captions_of(
            found,
            self.vocabulary,
            calibration=self.calibration,
            min_confidence=settings.min_confidence,
        )

    def caption_files(
        self,
        paths: Iterable[Path],
        *,
        decoding: DecodingConfig | None = None,
        attention: bool = False,
        batch_size: int = 32,
    ) -> Iterator[PictureResult]:
        """Caption files, in order; one that cannot be read gives its reason, the others go on.

        A caption that is empty because none meets the decoding settings is such a reason, too.
        """
        first = 0
        remaining = iter(paths)
        min_side = self.encoder.preprocessing.decode_side
        while batch := list(islice(remaining, batch_size)):
            images: list[Image.Image] = []
            errors: list[str | None] = []
            for path in batch:
                try:
                    images.append(open_image(path, min_side=min_side))
                    errors.append(None)
                except ImageError as error:
                    errors.append(str(error))
            captions = iter(
                self.caption(images, decoding=decoding, attention=attention, first=first)
            )
            first += len(images)
            for path, reason in zip(batch, errors, strict=True):
                caption = None if reason else next(captions)
                if caption and not caption.log_probs:
                    caption, reason = None, f"{path}: no caption meets the decoding settings"
                yield PictureResult(path, caption, reason)


def _calibration(metrics: Mapping[str, Any]) -> Calibration | None:
    try:
        return Calibration.of(metrics)
    except ValueError as error:
        raise CheckpointError(f"the model's metrics.json is damaged: {error}") from None
