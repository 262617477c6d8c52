"""A model on disk: a folder that is either whole or not there.

It holds ``model.safetensors``, ``config.toml``, ``vocabulary.json`` and ``metrics.json``; the
folder ``last/`` of a run also has ``resume.safetensors`` and ``resume.json``, from which training
goes on. The folder is written under a temporary name and then renamed. Nothing is pickled. Of the
encoder only the weights that were trained are stored (``encoder.safetensors``). Its name is in
the configuration and its fingerprint in ``metrics.json``, and loading compares them.

Weights may be stored in half (``fp16``) or a quarter (``int8``) of their size; they are read as
fp32 in any case. Only matrices are packed: vectors (biases, gains, statistics of batch norms) are
small and stay in fp32. ``int8`` is symmetric with a scale for each row: w ~ q * scale, q from
-127 to 127 (Jacob et al. 2018, arXiv 1712.05877, section 2.1, without zero point). A decoder's
last layer is then in fp16, because its errors affect every word.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from showtell.config import Config
from showtell.core.files import errors_about, write_json, write_text
from showtell.decoders.base import Decoder
from showtell.decoders.registry import build_decoder
from showtell.errors import CheckpointError, ShowtellError
from showtell.pretrained import known_names, shipped_folder
from showtell.text.vocabulary import Vocabulary, load_vocabulary

Storage = Literal["fp32", "fp16", "int8"]
SCALE = ".scale"  # added to a matrix's name
LEVELS = 127
LAST_LAYER = "output.weight"


def pack_weights(state: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """The weights as they are stored. Unpacking and packing again gives the same bits."""
    packed: dict[str, Tensor] = {}
    for name, weight in state.items():
        is_matrix = weight.is_floating_point() and weight.dim() >= 2
        if storage == "fp32" or not is_matrix:
            packed[name] = weight
        elif storage == "fp16" or name == LAST_LAYER:
            half = weight.half()
            packed[name] = half if half.isfinite().all() else weight
        else:
            packed[name], packed[name + SCALE] = _quantise(weight)
    return packed


def unpack_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in fp32, however they were stored.

    Raises:
        KeyError: a scale is missing.
    """
    scaled = {name for name, weight in state.items() if weight.dtype == torch.int8}
    weights = {}
    for name, weight in state.items():
        if name in scaled:
            scale = state[name + SCALE].float()
            weights[name] = weight.float() * scale.view(-1, *[1] * (weight.dim() - 1))
        elif name.removesuffix(SCALE) not in scaled:
            weights[name] = weight.float() if weight.is_floating_point() else weight
    return weights


def _quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(M, ...) fp32 -> (M, ...) int8 and (M,) bf16.

    A scale in bf16 has 8 bits: 127 times it is exact, so the largest weight of a row gives the
    same scale again. It is off by 0.4 % at most, too little to bring 127 to another level.
    """
    rows = weight.flatten(1).float()
    scale = (rows.abs().amax(dim=1) / LEVELS).bfloat16()
    steps = scale.float().where(scale > 0, torch.ones(()))
    levels = (rows / steps[:, None]).round().clamp(-LEVELS, LEVELS).to(torch.int8)
    return levels.view_as(weight), scale


MODEL, CONFIG, VOCABULARY, METRICS = (
    "model.safetensors",
    "config.toml",
    "vocabulary.json",
    "metrics.json",
)
ENCODER = "encoder.safetensors"
RESUME_TENSORS, RESUME_DATA = "resume.safetensors", "resume.json"
OLD_SUFFIX = ".old"


@dataclass(frozen=True)
class ResumeState:
    """What a stopped run needs besides the model to go on exactly where it was."""

    tensors: dict[str, Tensor]
    data: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A trained decoder with everything that belongs to it.

    Attributes:
        decoder: in eval mode, on the processor.
        metrics: figures and provenance (``encoder_fingerprint``, ``feature_size``, ``region_size``,
            versions; ``base_encoder_fingerprint`` if some of the encoder was trained).
        encoder: the weights of the encoder's backbone that were trained, by name; None if the
            encoder is as it was published.
    """

    decoder: Decoder
    vocabulary: Vocabulary
    config: Config
    metrics: dict[str, Any]
    encoder: dict[str, Tensor] | None = None


def save_checkpoint(
    folder: Path,
    checkpoint: Checkpoint,
    *,
    resume: ResumeState | None = None,
    storage: Storage = "fp32",
) -> None:
    """Write a checkpoint folder; an older one is replaced only when the new one is whole.

    Args:
        resume: what training needs to go on.
        storage: how matrices are stored.

    Raises:
        OSError: the disk is full or not writable; an older checkpoint is untouched.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with errors_about(folder, temporary):
            temporary.mkdir(parents=True)
        _save_tensors(temporary / MODEL, _packed(checkpoint.decoder.state_dict(), storage))
        if checkpoint.encoder is not None:
            _save_tensors(temporary / ENCODER, _packed(checkpoint.encoder, storage))
        write_text(temporary / CONFIG, checkpoint.config.to_toml())
        checkpoint.vocabulary.save(temporary / VOCABULARY)
        write_json(temporary / METRICS, checkpoint.metrics)
        if resume is not None:
            _save_tensors(temporary / RESUME_TENSORS, resume.tensors)
            write_json(temporary / RESUME_DATA, resume.data)
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_checkpoint(model: str | Path) -> Checkpoint:
    """Read a checkpoint folder, the best checkpoint of a run's folder, or a model by its name.

    Raises:
        CheckpointError: it is not there, incomplete or damaged, or another program made it.
    """
    folder = find_checkpoint(model)
    try:
        config = Config.load(folder / CONFIG)
        vocabulary = load_vocabulary(folder / VOCABULARY)
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        feature_size = int(metrics["feature_size"])
        region_size = int(metrics.get("region_size", feature_size))
        weights = unpack_weights(load_file(folder / MODEL))
        is_trained = "base_encoder_fingerprint" in metrics
        encoder = unpack_weights(load_file(folder / ENCODER)) if is_trained else None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, ShowtellError) as error:
        raise CheckpointError(f"the checkpoint {folder} cannot be read: {error}") from None
    decoder = build_decoder(
        config.decoder,
        vocab_size=len(vocabulary),
        feature_size=feature_size,
        region_size=region_size,
    )
    try:
        decoder.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{folder / MODEL} does not fit its config.toml: {reason}") from None
    return Checkpoint(decoder.eval(), vocabulary, config, metrics, encoder)


def load_resume_state(folder: Path) -> ResumeState:
    """Read what ``save_checkpoint`` was given as ``resume``.

    Raises:
        CheckpointError: the checkpoint has no resume state, or is damaged.
    """
    try:
        data = json.loads((folder / RESUME_DATA).read_text(encoding="utf-8"))
        return ResumeState(load_file(folder / RESUME_TENSORS), data)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} holds no state to resume from: {error}") from None


def find_checkpoint(model: str | Path) -> Path:
    """The folder that holds the weights: ``model`` itself, or a run's ``best`` or ``last``.

    A string that names a model that comes with showtell is that model.

    Raises:
        CheckpointError: there is none.
    """
    folder = shipped_folder(model) or Path(model)
    for candidate in (folder, folder / "best", folder / "last"):
        whole = recover_folder(candidate)
        if (whole / MODEL).is_file():
            return whole
    if not folder.exists():
        names = ", ".join(known_names())
        raise CheckpointError(
            f"no model {str(model)!r}: give the folder that `train -o` made, or one of the names "
            f"{names}"
        )
    raise CheckpointError(f"{folder} holds no checkpoint (no {MODEL} in it, nor in best/ or last/)")


def recover_folder(folder: Path) -> Path:
    """Where ``folder``'s content is: a stop between two renames leaves it under the old name."""
    if folder.exists():  # "." has no name to put a suffix to
        return folder
    old = folder.with_name(folder.name + OLD_SUFFIX)
    return old if old.is_dir() else folder


def _packed(weights: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    own = {name: weight.detach().contiguous() for name, weight in weights.items()}
    return pack_weights(own, storage)


def _save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    # Not safetensors' own save_file: on a full disk that raises no OSError.
    with open(path, "wb") as file:
        file.write(serialize(tensors))
        file.flush()
        os.fsync(file.fileno())


def replace_folder(new: Path, folder: Path) -> None:
    """Give ``new`` the name ``folder``; at every moment one whole folder can be found."""
    old = folder.with_name(folder.name + OLD_SUFFIX)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
