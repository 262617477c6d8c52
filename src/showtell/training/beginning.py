"""What a run begins with: a checkpoint or a language model, an encoder, features, a decoder."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from showtell.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, recover_folder
from showtell.config import Config, EncoderConfig, PrefixLmConfig
from showtell.data.records import Dataset
from showtell.errors import ConfigError
from showtell.feature_cache import features_for
from showtell.features.store import FeatureStore
from showtell.models.base import Decoder
from showtell.models.concepts import ConceptReader
from showtell.models.decoders import build_decoder, needs_regions
from showtell.models.encoders import Encoder, build_encoder
from showtell.models.language_model import LanguageModel
from showtell.models.prefix_lm import PrefixLm
from showtell.models.trained_encoder import train_from
from showtell.progress import Reporter
from showtell.runtime import Runtime, choose_runtime
from showtell.text.vocabulary_file import load_vocabulary
from showtell.training.checkpoints import fit_encoder, start_with
from showtell.training.picture_files import PictureFiles
from showtell.training.setup import TrainingData
from showtell.training.text_captions import check_readable


def check_start(config: Config, device: str) -> None:
    """Raise ShowtellError where a run cannot start, as far as that shows without its data."""
    check_files(config)
    choose_runtime(device, config.training.precision)
    _let_train(build_encoder(config.encoder.name, weights=config.encoder.weights), config.encoder)
    if config.training.init_from is not None:
        return
    if isinstance(config.decoder, PrefixLmConfig) and config.decoder.lm:
        config.with_decoder(LanguageModel.open(config.decoder.lm).sizes())


def check_files(config: Config) -> None:
    """Raise ShowtellError where a model or a file that the settings name is not there."""
    if config.training.init_from is not None:
        find_checkpoint(config.training.init_from)
    if config.data.vocab_file:
        load_vocabulary(config.data.vocab_file)
    if config.data.text:
        check_readable(config.data.text)


def open_language_model(config: Config, folder: Path, resume: bool) -> LanguageModel | None:
    """What the decoder begins with; a state to go on from has all of it."""
    if not isinstance(config.decoder, PrefixLmConfig) or config.decoder.lm is None:
        return None
    if resume and recover_folder(folder / "last").exists():
        return None
    return LanguageModel.open(config.decoder.lm)


def open_start(config: Config, folder: Path, resume: bool, report: Reporter) -> Checkpoint | None:
    """The checkpoint that a run goes on from: its own, or the one that it is to start with."""
    last = recover_folder(folder / "last")
    if resume and last.exists():
        return load_checkpoint(last)
    source = config.training.init_from
    if source is None:
        return None
    start = load_checkpoint(source)
    report.note(f"starting with the weights and the vocabulary of {source}")
    return start


def open_encoder(config: Config, start: Checkpoint | None, folder: Path) -> Encoder:
    """The encoder of a run: as published or as ``start`` has it; ready to train where asked."""
    settings = config.encoder
    encoder = build_encoder(settings.name, weights=settings.weights)
    if start is not None:
        own = recover_folder(folder / "last").exists()
        source = str(folder) if own else f"training.init_from = {config.training.init_from}"
        fit_encoder(encoder, start, source)
    _let_train(encoder, settings)
    return encoder


def _let_train(encoder: Encoder, settings: EncoderConfig) -> None:
    """Unfreeze what is to train of it, if anything.

    Raises:
        ConfigError: it has no such stage.
    """
    if settings.train_from is not None:
        live_norms = settings.batch_norm == "train"
        train_from(encoder, settings.train_from, live_norms=live_norms)


def open_store(
    dataset: Dataset,
    encoder: Encoder,
    config: Config,
    *,
    runtime: Runtime,
    folder: Path | None,
    report: Reporter,
) -> FeatureStore | PictureFiles:
    """What the run looks at: features of a frozen encoder, else the pictures themselves."""
    if config.encoder.train_from is not None:
        if folder:
            report.note(f"{folder} is not used: with encoder.train_from pictures are read")
        return PictureFiles.check(dataset.split("train") + dataset.split("val"), report)
    return features_for(
        dataset,
        encoder,
        runtime=runtime,
        folder=folder,
        views=config.encoder.views,
        flips=config.encoder.flips,
        grid=needs_regions(config.decoder),
        report=report,
    )


def build_first_decoder(
    config: Config,
    data: TrainingData,
    provenance: dict[str, Any],
    runtime: Runtime,
    *,
    language_model: LanguageModel | None,
    start: Checkpoint | None,
) -> Decoder:
    """The decoder of a run, with the weights that it begins with.

    Args:
        data: has the vocabulary, and the encoder's classifier for a decoder that wants its words.
        provenance: has the sizes of what the encoder sees.

    Raises:
        ConfigError: it wants them, and there are none.
        CheckpointError: ``start`` is of another shape.
    """
    decoder = build_decoder(
        config.decoder,
        vocab_size=len(data.vocabulary),
        feature_size=provenance["feature_size"],
        region_size=provenance.get("region_size"),
    ).to(runtime.device)
    concepts = getattr(decoder, "concepts", None)
    if isinstance(concepts, ConceptReader) and start is None:
        if data.classes is None:
            raise ConfigError(
                f"decoder.concepts: encoder {config.encoder.name!r} has no classifier whose words "
                "are known; lite0 and lite2 have"
            )
        counts = np.bincount(data.train.ids, minlength=len(data.vocabulary))
        concepts.fill(data.classes, data.vocabulary, torch.from_numpy(counts))
    if language_model is not None:
        assert isinstance(decoder, PrefixLm)
        language_model.fill(decoder)
    if start is not None:
        start_with(decoder, start, config)
    return decoder
