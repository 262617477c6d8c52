"""What a run opens: its encoder, the features or pictures, and the model that it starts from.

``check_start`` and ``check_files`` find what is wrong with these before hours are spent on the
data.
"""

from pathlib import Path

from showtell.config import Config, EncoderConfig, PrefixLmConfig
from showtell.core.device import Runtime, choose_runtime
from showtell.core.progress import Reporter
from showtell.data.records import Dataset
from showtell.decoders.language_model import LanguageModel
from showtell.decoders.registry import needs_regions
from showtell.encoders.encoder import Encoder, build_encoder
from showtell.encoders.extract import WantedFeatures, features_for
from showtell.encoders.finetune import train_from
from showtell.encoders.store import FeatureStore
from showtell.errors import ConfigError
from showtell.inference.checkpoint import (
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    recover_folder,
)
from showtell.inference.files import LAST
from showtell.text.vocabulary import (
    load_vocabulary,
)
from showtell.training import graded
from showtell.training.checkpoints import fit_encoder
from showtell.training.pictures import PictureFiles
from showtell.training.text_captions import (
    check_readable,
)


def check_start(config: Config, device: str) -> None:
    """Raise ShowtellError where device, encoder or language model are not to be had."""
    choose_runtime(device, config.training.precision)
    settings = config.encoder
    encoder = build_encoder(settings.name, weights=settings.weights, squash=settings.squash)
    _let_train(encoder, settings)
    if config.training.init_from is not None:
        return
    if isinstance(config.decoder, PrefixLmConfig) and config.decoder.lm:
        config.changed("decoder", **LanguageModel.open(config.decoder.lm).sizes())


def check_files(config: Config) -> None:
    """Raise ShowtellError where a model or a file that the settings name is not there."""
    if config.training.init_from is not None:
        find_checkpoint(config.training.init_from)
    if config.objective.kind == "distil":
        for teacher in config.objective.teachers:
            find_checkpoint(teacher)
    if config.data.vocab_file:
        load_vocabulary(config.data.vocab_file)
    if config.data.text:
        check_readable(config.data.text)
    if config.data.graded:
        graded.check_readable(config.data.graded)


def open_start(config: Config, folder: Path, resume: bool, report: Reporter) -> Checkpoint | None:
    """The checkpoint that a run goes on from: its own, or the one that it is to start with."""
    last = recover_folder(folder / LAST)
    if resume and last.exists():
        return load_checkpoint(last)
    source = config.training.init_from
    if source is None:
        return None
    start = load_checkpoint(source)
    report.note(f"starting with the weights and the vocabulary of {source}")
    return start


def open_language_model(config: Config, folder: Path, resume: bool) -> LanguageModel | None:
    """What the decoder begins with; a state to go on from has all of it."""
    if not isinstance(config.decoder, PrefixLmConfig) or config.decoder.lm is None:
        return None
    if config.training.init_from is not None:
        return None  # the model that it starts from has all of it
    if resume and recover_folder(folder / LAST).exists():
        return None
    return LanguageModel.open(config.decoder.lm)


def open_encoder(config: Config, start: Checkpoint | None, folder: Path) -> Encoder:
    """The encoder of a run: as published or as ``start`` has it; ready to train where asked.

    As published, too, where a run takes of ``start`` its decoder alone.
    """
    settings = config.encoder
    own = recover_folder(folder / LAST).exists()
    # A run that goes on has its own copy of the weights, wherever the first ones are by now.
    kept = start.encoder_weights if start is not None and own else None
    weights = kept or settings.weights
    encoder = build_encoder(settings.name, weights=weights, squash=settings.squash)
    if start is not None and (own or config.training.init_parts != "decoder"):
        source = str(folder) if own else f"training.init_from = {config.training.init_from}"
        fit_encoder(encoder, start, source)
    _let_train(encoder, settings)
    return encoder


def check_classifier(config: Config, encoder: Encoder) -> None:
    """Raise ConfigError where a new decoder wants words of a classifier that the encoder lacks."""
    decoder = config.decoder
    wants = getattr(decoder, "concepts", 0) and not getattr(decoder, "detected", 0)
    if wants and encoder.backbone.classes() is None:
        raise ConfigError(
            f"decoder.concepts: encoder {config.encoder.name!r} has no classifier whose words are "
            "known; lite0 and lite2 have. -s decoder.detected=1000 learns words from the captions "
            "instead, and -s decoder.concepts=0 does without"
        )


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
    regions: bool = False,
) -> FeatureStore | PictureFiles:
    """What the run looks at: features of a frozen encoder, else the pictures themselves.

    Args:
        regions: whether something besides the decoder reads the grid.
    """
    if config.encoder.reads_pictures:
        if folder:
            why = "encoder.train_from" if config.encoder.train_from else "encoder.fresh_views"
            report.note(f"{folder} is not used: with {why} pictures are read")
        return PictureFiles.check(dataset.split("train") + dataset.split("val"), report)
    wanted = WantedFeatures(
        config.encoder.views, config.encoder.flips, regions or needs_regions(config.decoder)
    )
    return features_for(dataset, encoder, wanted, runtime=runtime, folder=folder, report=report)
