"""Packing a checkpoint for others: small, without training state and without paths."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from showtell.config import Config, EncoderConfig
from showtell.encoders.encoder import (
    LITE,
    TIMM_PREFIX,
    build_encoder,
    is_fetched,
    trained_fingerprint,
)
from showtell.encoders.packing import Storage, pack_weights, unpack_weights
from showtell.errors import CheckpointError, reason_of
from showtell.inference.checkpoint import (
    Checkpoint,
    card_files,
    check_new_folder,
    encoder_source,
    find_checkpoint,
    load_checkpoint,
    portable_metrics,
    save_checkpoint,
)
from showtell.inference.exported import GRAPH_FILES, listed_files
from showtell.inference.files import CARD_FILES, CHECKPOINT_FILE, MODEL, WEIGHTS
from showtell.inference.weights import store_encoder_weights
from showtell.training.checkpoints import fit_encoder

# Settings that name files; what a packed model does follows from none of them.
PLACES = (
    ("training", "init_from"),
    ("data", "vocab_file"),
    ("data", "text"),
    ("data", "graded"),
    ("decoder", "lm"),
)


def pack_checkpoint(
    model: str | Path,
    output: Path,
    *,
    storage: Storage = "fp16",
    decoding: Mapping[str, Any] | None = None,
    trust_model: bool = False,
    overwrite: bool = False,
) -> int:
    """Write ``model`` into ``output``; the same model gives the same files to the byte.

    What training needed is left out: its state, and where its data and its predecessors lay. The
    model's card goes with it.

    Args:
        model: as ``Captioner.load`` takes it.
        output: a new folder.
        storage: how the matrices are stored.
        decoding: changes to what the model does by default.
        trust_model: as for ``Captioner.load``; weights outside of its folder go into the new one.
        overwrite: replace ``output`` where it holds a packed model; its card stays, where
            ``model`` has none.

    Returns:
        Bytes of the folder.

    Raises:
        CheckpointError: ``model`` cannot be read, needs a file that is not in it and is not
            trusted, its encoder's weights are not those that it was trained with, or ``output``
            exists and is not to be replaced.
        ConfigError: ``decoding`` is wrong, or that file holds no weights.
    """
    source = find_checkpoint(model)
    if output.exists() and output.resolve() == source.resolve():
        raise CheckpointError(f"{output} is the model itself: give another folder with -o")
    check_output(output, overwrite=overwrite)
    card = card_files(source, output)
    checkpoint = load_checkpoint(model)
    _, encoder_weights = encoder_source(checkpoint, trusted=trust_model)
    metrics = portable_metrics(checkpoint.metrics) | {"weights": storage}
    config = _portable(checkpoint.config, decoding or {})
    try:
        with TemporaryDirectory() as place:
            small = None
            if encoder_weights is not None and _is_packable(checkpoint.config.encoder, storage):
                small = Path(place, store_encoder_weights(encoder_weights, Path(place), storage))
                _check_encoder(checkpoint, encoder_weights, str(source))
                encoder_weights = small
            # Fingerprints follow from the weights as they will be read again.
            metrics |= _fingerprints(checkpoint, small, storage)
            packed = replace(
                checkpoint, config=config, metrics=metrics, encoder_weights=encoder_weights
            )
            save_checkpoint(output, packed, storage=storage, others=card)
    except OSError as error:
        raise CheckpointError(f"cannot write {output}: {reason_of(error)}") from error
    return sum(path.stat().st_size for path in output.iterdir() if path.is_file())


def _is_packable(settings: EncoderConfig, storage: Storage) -> bool:
    """Whether a file of an encoder's published weights may be packed.

    An encoder of another package may read its file by itself, and timm fetches the shape of one
    whose name is a place.
    """
    name = settings.name
    is_known = name in LITE or (name.startswith(TIMM_PREFIX) and not is_fetched(name))
    return storage != "fp32" and is_known


def _check_encoder(checkpoint: Checkpoint, weights: Path, source: str) -> None:
    """Raise CheckpointError where a weights file is not the one that the decoder learnt with."""
    if checkpoint.metrics.get("encoder_fingerprint") is not None:
        settings = checkpoint.config.encoder
        encoder = build_encoder(settings.name, weights=weights, squash=settings.squash)
        fit_encoder(encoder, checkpoint, source)


def _fingerprints(checkpoint: Checkpoint, small: Path | None, storage: Storage) -> dict[str, str]:
    """The encoder's, as it is packed.

    Args:
        small: the packed file of its published weights, if they are packed.
    """
    settings, metrics = checkpoint.config.encoder, checkpoint.metrics
    base = metrics.get("base_encoder_fingerprint") or metrics.get("encoder_fingerprint")
    if base is None:
        return {}
    if small is not None:
        encoder = build_encoder(settings.name, weights=small, squash=settings.squash)
        base = encoder.base_fingerprint
    if checkpoint.encoder is None:
        return {"encoder_fingerprint": base}
    read_again = unpack_weights(pack_weights(checkpoint.encoder, storage))
    return {
        "base_encoder_fingerprint": base,
        "encoder_fingerprint": trained_fingerprint(base, read_again),
    }


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raise CheckpointError where ``output`` is there, unless it is a packed model to replace."""
    check_new_folder(output, "a packed model", _packed_files, overwrite=overwrite)


def _packed_files(folder: Path) -> set[str] | None:
    """The names of the files of a packed model, with its card and its export in place."""
    try:
        # Not a folder with a packed model in its best/, which load_checkpoint takes as well.
        is_packed = (folder / MODEL).is_file() and "weights" in load_checkpoint(folder).metrics
    except CheckpointError:
        return None
    own = {path.name for path in folder.iterdir() if CHECKPOINT_FILE.fullmatch(path.name)}
    # An export in place that was interrupted has no list of its files.
    own |= listed_files(folder) | {*CARD_FILES, WEIGHTS, *GRAPH_FILES}
    return own if is_packed else None


def _portable(config: Config, decoding: Mapping[str, Any]) -> Config:
    """The same settings with names in place of paths; captioning reads none of these."""
    values = config.model_dump() | {"decoding": config.decoding.with_changes(decoding).model_dump()}
    teachers = config.objective.teachers
    values["objective"]["teachers"] = tuple(Path(teacher).name for teacher in teachers)
    for section, setting in PLACES:
        if values[section].get(setting) is not None:
            values[section][setting] = Path(values[section][setting]).name
    return Config.of(values)
