"""The models that showtell trains: an encoder and a decoder, both run in this process by torch.

Evaluation, training's validation, reports and the server caption with ``encode``,
``stored_features`` and ``caption_features``, so that a picture has the same caption everywhere.
"""

from collections.abc import Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from showtell.config import DecodingConfig
from showtell.core.device import Runtime, choose_runtime
from showtell.core.files import short_digest
from showtell.decoding.constraints.named_words import named_words
from showtell.decoding.ensemble import Ensemble
from showtell.decoding.hypotheses import Steps
from showtell.encoders.backbone import hash_state
from showtell.encoders.encoder import Encoder, build_encoder
from showtell.encoders.extract import encode_pixels
from showtell.encoders.features import Features, load_features
from showtell.encoders.finetune import load_trained
from showtell.encoders.store import FeatureStore
from showtell.errors import CheckpointError
from showtell.images.open import Pixels
from showtell.images.preprocess import Preprocessing
from showtell.inference.backends.local import (
    LocalCaptioner,
    calibration_in,
    check_companion,
    model_name,
)
from showtell.inference.captioner import Captioner, ModelInfo
from showtell.inference.checkpoint import Checkpoint, encoder_source, load_checkpoint
from showtell.inference.loading import ModelRequest
from showtell.pretrained import DEFAULT, LICENCE, shipped_folder


class NativeCaptioner(LocalCaptioner):
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
        super().__init__()
        self.decoder, self.vocabulary = checkpoint.decoder, checkpoint.vocabulary
        self.config, self.metrics = checkpoint.config, checkpoint.metrics
        self.runtime, self.name, self.licence = runtime, name, licence
        self.parts = (checkpoint.decoder, *(other.decoder for other in others))
        self.steps: Steps = Ensemble(self.parts) if others else self.decoder
        self.needs_regions = any(part.needs_regions for part in self.parts)
        # Both hold for the probabilities that they were fitted on, not for an ensemble's.
        self.reranker = None if others else checkpoint.reranker
        self.calibration = None if others else calibration_in(self.metrics, self.reranker)
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
        runtime: str = "torch",
        settings: object = None,  # which mean nothing here
        cleaning: object = None,  # which ``Captioner.load`` sees to
        encoders: Sequence[Encoder] = (),
    ) -> Self:
        """As ``Captioner.load``.

        Args:
            encoders: encoders in use on this device; if the model was trained with one of them
                (the same fingerprint), it is shared instead of loaded again.
        """
        assert runtime != "onnx"
        checkpoint = load_checkpoint(model)
        encoder_source(checkpoint, trusted=trust_model)  # what is refused shows at once
        others = [load_checkpoint(name) for name in ensemble]
        for name, other in zip(ensemble, others, strict=True):
            one, two = (m.metrics.get("encoder_fingerprint") for m in (checkpoint, other))
            check_companion(model, name, (checkpoint.vocabulary, other.vocabulary), (one, two))
        runs_on = choose_runtime(device, precision)
        for each in (checkpoint, *others):
            each.decoder.to(runs_on.device)
        trained_with = checkpoint.metrics.get("encoder_fingerprint")
        return cls(
            checkpoint,
            runs_on,
            others=others,
            encoder=next((e for e in encoders if e.fingerprint == trained_with), None),
            name=model_name(model),
            licence=LICENCE if shipped_folder(model) else None,
            trust_model=trust_model,
        )

    @classmethod
    def of(cls, request: ModelRequest, in_use: Iterable[Captioner] = ()) -> Self:
        """The model that a user asks for, as ``load``.

        Args:
            in_use: as for ``load_request``.
        """
        return cls.load(
            request.model,
            ensemble=request.ensemble,
            device=request.device,
            precision=request.precision,
            trust_model=request.trust_model,
            encoders=[c.encoder for c in in_use if isinstance(c, NativeCaptioner)],
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
        """As ``LocalCaptioner.attends``."""
        return self.needs_regions

    @property
    def decoder_kind(self) -> str:
        """That of the checkpoint's configuration."""
        return self.config.decoder.kind

    @property
    def encoder_name(self) -> str:
        """That of the checkpoint's configuration."""
        return self.config.encoder.name

    @property
    def encoder_key(self) -> Hashable:
        """The encoder itself, which models that ``load`` was told of share."""
        return self.encoder

    @property
    def stores_features(self) -> bool:
        """It does: ``stored_features`` reads them."""
        return True

    @property
    def recipe(self) -> Preprocessing:
        """The encoder's, which is loaded for it."""
        return self.encoder.preprocessing

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
        """As ``LocalCaptioner.encode``."""
        grid = self.needs_regions if regions is None else regions
        return encode_pixels(views, self.encoder, self.runtime, grid=grid)

    def stored_features(self, store: FeatureStore, rows: NDArray[np.int64]) -> Features:
        """Features from a store, as the decoder needs them: of the views without augmentation.

        Args:
            rows: (P,) pictures, from ``store.rows``.
        """
        return load_features(store, rows, regions=self.needs_regions, dtype=self.runtime.dtype)

    def _placed(self, features: Features) -> Features:
        return features.to(self.runtime.device)

    def _inference(self) -> AbstractContextManager[object]:
        return self.runtime.inference()

    @cached_property
    def fingerprint(self) -> str:
        """12 digits that stand for the weights of decoder and encoder and for the vocabulary."""
        weights = [hash_state(part.state_dict()) for part in self.parts]
        reranker = b"" if self.reranker is None else self.reranker.to_bytes()
        vocabulary = self.vocabulary.to_json()
        return short_digest(self.encoder.fingerprint, vocabulary, *weights, reranker)
