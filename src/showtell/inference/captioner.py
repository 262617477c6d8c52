"""The one public object: load a model, caption pictures.

The command line, training's validation and everything else that makes captions comes through
here; none holds captioning logic of its own.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from PIL import Image
from torch import Tensor

from showtell.config import Config, DecodingConfig
from showtell.core.device import Runtime, choose_runtime
from showtell.core.memory import bound_kernel_cache
from showtell.decoders.base import Decoder
from showtell.decoding.constraints.named_words import named_words
from showtell.decoding.ensemble import Ensemble
from showtell.decoding.generate import generate
from showtell.decoding.hypotheses import Steps
from showtell.encoders.backbone import hash_state
from showtell.encoders.encoder import Encoder, build_encoder
from showtell.encoders.extract import encode_images, encode_pixels
from showtell.encoders.features import Features
from showtell.encoders.finetune import load_trained
from showtell.errors import CheckpointError, ConfigError, VocabularyError
from showtell.images.open import Pixels
from showtell.inference.caption import Calibration, Caption, captions_of
from showtell.inference.checkpoint import load_checkpoint
from showtell.inference.stream import Originals, Picture, PictureResult, stream
from showtell.pretrained import DEFAULT
from showtell.text.vocabulary import Vocabulary


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
        self.parts = (decoder, *others)
        self.needs_regions = any(part.needs_regions for part in self.parts)
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
        bound_kernel_cache()
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
        with self.runtime.inference():
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

    def caption_stream(
        self,
        pictures: Iterable[Path | str | Picture],
        *,
        decoding: DecodingConfig | None = None,
        attention: bool = False,
        batch_size: int | None = None,
        originals: Originals | None = None,
    ) -> Iterator[PictureResult]:
        """Caption pictures as they come, in order; one that cannot be read gives its reason.

        Threads decode while results are taken, and only a few batches are in memory, however many
        pictures there are. A caption that is empty because none meets the decoding settings is a
        failure, too.

        Args:
            pictures: files, or pictures that are read from elsewhere.
            decoding, attention: as for ``caption``.
            batch_size: pictures that are searched for at once; default: 64 on a processor, where
                more gain nothing, 256 on a GPU.
            originals: if given, a picture that looks like one of these takes its caption, and
                others join them (extra ``dedupe``).

        Raises:
            ConfigError, VocabularyError: as ``caption``, with the first result.
        """
        settings = decoding or self.config.decoding
        named_words(settings, self.vocabulary)

        def describe(pixels: Pixels, first: int) -> list[Caption]:
            features = encode_pixels(pixels, self.encoder, self.runtime, grid=self.needs_regions)
            return self.caption_features(
                features, decoding=settings, attention=attention, first=first
            )

        return stream(
            (p if isinstance(p, Picture) else Picture(p) for p in pictures),
            self.encoder.preprocessing,
            describe,
            batch_size=batch_size or (64 if self.runtime.device == "cpu" else 256),
            overlaps=self.runtime.device != "cpu",
            originals=originals,
        )

    @cached_property
    def fingerprint(self) -> str:
        """12 digits that stand for the weights of decoder and encoder and for the vocabulary."""
        digest = hashlib.sha256(self.encoder.fingerprint.encode())
        digest.update(self.vocabulary.to_json().encode())
        for part in self.parts:
            digest.update(hash_state(part.state_dict()).encode())
        return digest.hexdigest()[:12]


def _calibration(metrics: Mapping[str, Any]) -> Calibration | None:
    try:
        return Calibration.of(metrics)
    except ValueError as error:
        raise CheckpointError(f"the model's metrics.json is damaged: {error}") from None
