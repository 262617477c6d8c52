"""Packing a checkpoint for others: small, without training state and without paths."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from showtell.config import Config
from showtell.core.packing import Storage, pack_weights, unpack_weights
from showtell.encoders.encoder import build_encoder, trained_fingerprint
from showtell.errors import CheckpointError, reason_of
from showtell.inference.checkpoint import (
    Checkpoint,
    check_new_folder,
    encoder_source,
    find_checkpoint,
    load_checkpoint,
    portable_metrics,
    save_checkpoint,
)
from showtell.inference.files import MODEL
from showtell.inference.weights import store_encoder_weights

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

    What training needed is left out: its state, and where its data and its predecessors lay.

    Args:
        model: as ``Captioner.load`` takes it.
        output: a new folder.
        storage: how the matrices are stored.
        decoding: changes to what the model does by default.
        trust_model: as for ``Captioner.load``; weights outside of its folder go into the new one.
        overwrite: replace ``output`` where it holds a packed model.

    Returns:
        Bytes of the folder.

    Raises:
        CheckpointError: ``model`` cannot be read, needs a file that is not in it and is not
            trusted, or ``output`` exists and is not to be replaced.
        ConfigError: ``decoding`` is wrong, or that file holds no weights.
    """
    source = find_checkpoint(model)
    if output.exists() and output.resolve() == source.resolve():
        raise CheckpointError(f"{output} is the model itself: give another folder with -o")
    check_output(output, overwrite=overwrite)
    checkpoint = load_checkpoint(model)
    _, encoder_weights = encoder_source(checkpoint, trusted=trust_model)
    metrics = portable_metrics(checkpoint.metrics) | {"weights": storage}
    config = _portable(checkpoint.config, decoding or {})
    try:
        with TemporaryDirectory() as place:
            if encoder_weights is not None and storage != "fp32":
                name = store_encoder_weights(encoder_weights, Path(place), storage)
                encoder_weights = Path(place, name)
            # Fingerprints follow from the weights as they will be read again.
            metrics |= _fingerprints(checkpoint, encoder_weights, storage)
            packed = replace(
                checkpoint, config=config, metrics=metrics, encoder_weights=encoder_weights
            )
            save_checkpoint(output, packed, storage=storage)
    except OSError as error:
        raise CheckpointError(f"cannot write {output}: {reason_of(error)}") from error
    return sum(path.stat().st_size for path in output.iterdir() if path.is_file())


def _fingerprints(checkpoint: Checkpoint, weights: Path | None, storage: Storage) -> dict[str, str]:
    """The encoder's, whose weights are stored so.

    Args:
        weights: the packed file of its published weights, if a file has them.
    """
    settings, metrics = checkpoint.config.encoder, checkpoint.metrics
    if weights is not None and storage != "fp32":
        encoder = build_encoder(settings.name, weights=weights, squash=settings.squash)
        base = encoder.base_fingerprint
    else:
        base = metrics.get("base_encoder_fingerprint") or metrics["encoder_fingerprint"]
    if checkpoint.encoder is None:
        return {"encoder_fingerprint": base}
    read_again = unpack_weights(pack_weights(checkpoint.encoder, storage))
    return {
        "base_encoder_fingerprint": base,
        "encoder_fingerprint": trained_fingerprint(base, read_again),
    }


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raise CheckpointError where ``output`` is there, unless it is a packed model to replace."""
    check_new_folder(output, "a packed model", _is_packed, overwrite=overwrite)


def _is_packed(folder: Path) -> bool:
    try:
        # Not a folder with a packed model in its best/, which load_checkpoint takes as well.
        return (folder / MODEL).is_file() and "weights" in load_checkpoint(folder).metrics
    except CheckpointError:
        return False


def _portable(config: Config, decoding: Mapping[str, Any]) -> Config:
    """The same settings with names in place of paths; captioning reads none of these."""
    values = config.model_dump() | {"decoding": config.decoding.with_changes(decoding).model_dump()}
    teachers = config.objective.teachers
    values["objective"]["teachers"] = tuple(Path(teacher).name for teacher in teachers)
    for section, setting in PLACES:
        if values[section].get(setting) is not None:
            values[section][setting] = Path(values[section][setting]).name
    return Config.of(values)
