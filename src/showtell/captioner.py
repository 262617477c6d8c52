"""The one public object: load a model, caption pictures.

The command line, training's validation and everything else that makes captions comes through
here; none holds captioning logic of its own.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image

from showtell.checkpoint import load_checkpoint
from showtell.config import Config, DecodingConfig
from showtell.decoding.search import Hypotheses, beam_search
from showtell.errors import CheckpointError, ImageError
from showtell.features.extract import encode_images
from showtell.features.images import open_image
from showtell.models.base import Decoder, Features
from showtell.models.encoders import Encoder, build_encoder
from showtell.runtime import Runtime, choose_runtime
from showtell.text.vocabulary import PAD, Vocabulary


@dataclass(frozen=True, slots=True)
class Caption:
    """What a model says of one picture.

    Attributes:
        text: the caption.
        words: its words; ``log_probs`` has one number more, that of ending there.
        log_probs: log-probability in nats of each word and of the end.
        confidence: geometric mean of these probabilities, 0 to 1.
    """

    text: str
    words: tuple[str, ...]
    log_probs: tuple[float, ...]
    confidence: float


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
    """

    def __init__(
        self,
        decoder: Decoder,
        vocabulary: Vocabulary,
        config: Config,
        runtime: Runtime,
        metrics: dict[str, Any] | None = None,
    ) -> None:
        self.decoder = decoder
        self.vocabulary = vocabulary
        self.config = config
        self.runtime = runtime
        self.metrics = metrics or {}

    @classmethod
    def load(cls, model: str | Path, *, device: str = "auto", precision: str = "auto") -> Self:
        """Load a checkpoint folder, or the best checkpoint of a run's folder.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        checkpoint = load_checkpoint(model)
        runtime = choose_runtime(device, precision)
        decoder = checkpoint.decoder.to(runtime.device)
        return cls(decoder, checkpoint.vocabulary, checkpoint.config, runtime, checkpoint.metrics)

    @cached_property
    def encoder(self) -> Encoder:
        """The frozen CNN, loaded when it is first needed.

        Raises:
            CheckpointError: it is not the one that the decoder was trained with.
        """
        settings = self.config.encoder
        encoder = build_encoder(settings.name, weights=settings.weights)
        trained_with = self.metrics.get("encoder_fingerprint", encoder.fingerprint)
        if encoder.fingerprint != trained_with:
            raise CheckpointError(
                f"this model was trained with encoder {trained_with}, but {settings.name!r} is now "
                f"{encoder.fingerprint}: use the same weights, or train again"
            )
        return encoder.to(self.runtime.device)

    def caption(
        self, images: Sequence[Image.Image], *, decoding: DecodingConfig | None = None
    ) -> list[Caption]:
        """The best caption of each picture."""
        if not images:
            return []
        features = encode_images(
            images, self.encoder, self.runtime, grid=self.decoder.needs_regions
        )
        return self.caption_features(features, decoding=decoding)

    def caption_features(
        self, features: Features, *, decoding: DecodingConfig | None = None
    ) -> list[Caption]:
        """The best caption for the features of each of ``B`` pictures."""
        settings = decoding or self.config.decoding
        with torch.inference_mode(), self.runtime.autocast():
            hypotheses = beam_search(
                self.decoder,
                features.to(self.runtime.device),
                beam_size=settings.beam_size,
                max_length=settings.max_length,
                length_penalty=settings.length_penalty,
            )
        return self._captions(hypotheses)

    def caption_files(
        self,
        paths: Iterable[Path],
        *,
        decoding: DecodingConfig | None = None,
        batch_size: int = 32,
    ) -> Iterator[PictureResult]:
        """Caption files, in order; one that cannot be read gives its reason, the others go on."""
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
            captions = iter(self.caption(images, decoding=decoding))
            for path, reason in zip(batch, errors, strict=True):
                yield PictureResult(path, None if reason else next(captions), reason)

    def _captions(self, hypotheses: Hypotheses) -> list[Caption]:
        tokens = hypotheses.tokens[:, 0].tolist()
        log_probs = hypotheses.token_log_probs[:, 0].tolist()
        captions = []
        for ids, row in zip(tokens, log_probs, strict=True):
            words = self.vocabulary.decode_words(ids)
            kept = tuple(row[: sum(index != PAD for index in ids)])
            confidence = math.exp(sum(kept) / len(kept)) if kept else 0.0
            captions.append(Caption(self.vocabulary.decode(ids), tuple(words), kept, confidence))
        return captions
