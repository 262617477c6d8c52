"""The models that showtell trains: an encoder and a decoder, both run in this process by torch.

Beside what every captioner can do, a ``NativeCaptioner`` works on features: evaluation, training's
validation, reports and the server caption with ``encode``, ``stored_features`` and
``caption_features``, so that a picture has the same caption everywhere.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from showtell.config import DecodingConfig
from showtell.core.device import Runtime, choose_runtime
from showtell.decoding.constraints.named_words import NamedWords, named_words
from showtell.decoding.ensemble import Ensemble
from showtell.decoding.generate import generate
from showtell.decoding.hypotheses import Steps
from showtell.encoders.backbone import hash_state
from showtell.encoders.encoder import Encoder, build_encoder
from showtell.encoders.extract import encode_pixels
from showtell.encoders.features import Features, load_features
from showtell.encoders.finetune import load_trained
from showtell.encoders.store import FeatureStore
from showtell.errors import CheckpointError, ConfigError, VocabularyError
from showtell.images.open import PictureLike, Pixels, as_image
from showtell.inference.caption import Calibration, Caption, captions_of
from showtell.inference.captioner import Captioner, Decoding, ModelInfo, ModelRequest
from showtell.inference.checkpoint import Checkpoint, encoder_source, load_checkpoint
from showtell.inference.stream import Originals, Picture, PictureResult, stream
from showtell.pretrained import DEFAULT, LICENCE, shipped_folder
from showtell.text.vocabulary import START


class NativeCaptioner(Captioner):
    """Captions pictures, or features of pictures, with one trained model or an ensemble.

    Args:
        checkpoint: its decoder is in eval mode and on the runtime's device;
            ``config.decoding`` is what ``caption`` does by default.
        runtime: device and precision.
        others: checkpoints of the same vocabulary and encoder, for an ensemble with the first.
        encoder: the checkpoint's, where it is loaded already; by default it is loaded when it is
            first needed.
        name, licence: for ``card``.
        trust_model: as for ``Captioner.load``.

    Raises:
        CheckpointError: the calibration in ``metrics`` is damaged, or ``encoder`` is not the one
            that the decoder was trained with.
        ConfigError, VocabularyError: ``config.decoding`` does not fit the vocabulary.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        runtime: Runtime,
        *,
        others: Sequence[Checkpoint] = (),
        encoder: Encoder | None = None,
        name: str = "unnamed",
        licence: str | None = None,
        trust_model: bool = False,
    ) -> None:
        self.decoder, self.vocabulary = checkpoint.decoder, checkpoint.vocabulary
        self.config, self.metrics = checkpoint.config, checkpoint.metrics
        self.runtime, self.name, self.licence = runtime, name, licence
        self.parts = (checkpoint.decoder, *(other.decoder for other in others))
        self.steps: Steps = Ensemble(self.parts) if others else self.decoder
        self.needs_regions = any(part.needs_regions for part in self.parts)
        # A calibration holds for the probabilities that it was fitted on, not for an ensemble's.
        self.calibration = None if others else _calibration(self.metrics)
        self._checkpoint, self._trusted = checkpoint, trust_model
        self._encoder = encoder
        if encoder is not None:
            self._check_encoder(encoder)
        named_words(self.decoding, self.vocabulary)  # wrong words show now, not after an epoch

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT,
        *,
        ensemble: Sequence[str | Path] = (),
        device: str = "auto",
        precision: str = "auto",
        trust_model: bool = False,
        encoders: Sequence[Encoder] = (),
    ) -> Self:
        """As ``Captioner.load``.

        Args:
            encoders: encoders in use on this device; if the model was trained with one of them
                (the same fingerprint), it is shared instead of loaded again.
        """
        checkpoint = load_checkpoint(model)
        encoder_source(checkpoint, trusted=trust_model)  # what is refused shows at once
        others = [load_checkpoint(name) for name in ensemble]
        for name, other in zip(ensemble, others, strict=True):
            _check_companion(model, checkpoint, name, other)
        runtime = choose_runtime(device, precision)
        for each in (checkpoint, *others):
            each.decoder.to(runtime.device)
        trained_with = checkpoint.metrics.get("encoder_fingerprint")
        return cls(
            checkpoint,
            runtime,
            others=others,
            encoder=next((e for e in encoders if e.fingerprint == trained_with), None),
            name=_name(model),
            licence=LICENCE if shipped_folder(model) else None,
            trust_model=trust_model,
        )

    @classmethod
    def of(cls, request: ModelRequest) -> Self:
        """The model that a user asks for, as ``load``."""
        return cls.load(
            request.model,
            ensemble=request.ensemble,
            device=request.device,
            precision=request.precision,
            trust_model=request.trust_model,
        )

    @cached_property
    def card(self) -> ModelInfo:
        """Loads the encoder, whose parameters are counted too."""
        networks = (self.encoder.backbone, *self.parts)
        return ModelInfo(
            name=self.name,
            licence=self.licence,
            num_parameters=sum(p.numel() for part in networks for p in part.parameters()),
            alternatives=True,
            attention=self.attends,
            calibrated=self.calibration is not None,
        )

    @property
    def attends(self) -> bool:
        """Whether captions can say where the decoder looked: those that read regions can."""
        return self.needs_regions

    @property
    def decoding(self) -> DecodingConfig:
        """That of the checkpoint's configuration."""
        return self.config.decoding

    @property
    def encoder(self) -> Encoder:
        """The picture network on the runtime's device, loaded when it is first needed.

        Raises:
            CheckpointError: it is not the one that the decoder was trained with, or the model has
                to be trusted first.
        """
        if self._encoder is None:
            name, weights = encoder_source(self._checkpoint, trusted=self._trusted)
            squash = self.config.encoder.squash
            encoder = build_encoder(name, weights=weights, squash=squash)
            if self._checkpoint.encoder is not None:
                load_trained(encoder, self._checkpoint.encoder)
            self._check_encoder(encoder)
            self._encoder = encoder.to(self.runtime.device)
        return self._encoder

    def _check_encoder(self, encoder: Encoder) -> None:
        trained_with = self.metrics.get("encoder_fingerprint", encoder.fingerprint)
        if encoder.fingerprint != trained_with:
            raise CheckpointError(
                f"this model was trained with encoder {trained_with}, but {encoder.name!r} is now "
                f"{encoder.fingerprint}: use the same weights, or train again"
            )
        gives = {"feature_size": encoder.pooled_size}
        if self.needs_regions:
            gives["region_size"] = encoder.grid_size[1]
        for name, size in gives.items():
            if self.metrics.get(name, size) != size:
                raise CheckpointError(
                    f"the model's metrics.json has {name} = {self.metrics[name]}, and its encoder "
                    f"{encoder.name!r} gives {size}: it was changed; use another checkpoint"
                )

    def encode(self, views: Pixels, *, regions: bool | None = None) -> Features:
        """Features of pictures that are cut already.

        Args:
            views: (B, 3, S, S) evaluation views, by ``encoder.preprocessing.eval_view``.
            regions: whether to give grid features; by default if the decoder needs them.

        Returns:
            Features in fp32 on the runtime's device: pooled (B, D), regions (B, R, D') or None.
        """
        grid = self.needs_regions if regions is None else regions
        return encode_pixels(views, self.encoder, self.runtime, grid=grid)

    def stored_features(self, store: FeatureStore, rows: NDArray[np.int64]) -> Features:
        """Features from a store, as the decoder needs them: of the views without augmentation.

        Args:
            rows: (P,) pictures, from ``store.rows``.
        """
        return load_features(store, rows, regions=self.needs_regions, dtype=self.runtime.dtype)

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
        recipe = self.encoder.preprocessing
        images = (as_image(picture, min_side=recipe.decode_side) for picture in pictures)
        features = self.encode(np.stack([recipe.eval_view(image) for image in images]))
        return self.caption_features(features, decoding=decoding, attention=attention, first=first)

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
        with self.runtime.inference():
            found = generate(
                self.steps,
                features.to(self.runtime.device),
                settings,
                words,
                first=first,
                with_attention=attention,
            )
        if not (found.log_probs[:, 0] > -math.inf).all():
            self._check_numbers(features)
        return captions_of(
            found,
            self.vocabulary,
            calibration=self.calibration,
            min_confidence=settings.min_confidence,
        )

    def _check_numbers(self, features: Features) -> None:
        """Raise CheckpointError where the decoder's first step gives values that are no numbers.

        Weights may all be finite and yet so large that products of them are not.
        """
        features = features.to(self.runtime.device)
        starts = torch.full((len(features.pooled),), START, device=features.pooled.device)
        with self.runtime.inference():
            scores, _ = self.steps.step(starts, self.steps.init_state(features))
        if scores.isnan().any():
            raise CheckpointError(
                f"the model {self.name} computes values that are not numbers: its weights are "
                "damaged; use another checkpoint of the run"
            )

    def _check(self, decoding: DecodingConfig, attention: bool) -> NamedWords:
        """Raise where the model cannot do what is asked; else the words that ``decoding`` names."""
        if attention and not self.attends:
            raise ConfigError(
                f"attention: decoder {self.config.decoder.kind!r} does not attend to regions"
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

        def describe(views: Pixels, first: int) -> list[Caption]:
            return self.caption_features(
                self.encode(views), decoding=settings, attention=attention, first=first
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


def _check_companion(
    model: str | Path, checkpoint: Checkpoint, name: str | Path, other: Checkpoint
) -> None:
    """Raise where ``other`` cannot be in one ensemble with ``checkpoint``."""
    if other.vocabulary != checkpoint.vocabulary:
        raise VocabularyError(
            f"{model} and {name} have different vocabularies: models of an ensemble need "
            "the same one (train the second with -s data.vocab_file=...)"
        )
    one, two = (m.metrics.get("encoder_fingerprint") for m in (checkpoint, other))
    if one != two:
        raise CheckpointError(
            f"{model} and {name} have different encoders ({one} and {two}): models of an ensemble "
            "need the same one"
        )


def _name(model: str | Path) -> str:
    """The folder's name; the run's, where one of its checkpoints is given."""
    folder = Path(model)
    if shipped_folder(model) or not folder.is_dir():
        return str(model)
    folder = folder.resolve()
    return folder.parent.name if folder.name in ("best", "last") else folder.name
