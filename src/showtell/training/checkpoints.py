"""A run's checkpoints (best/, last/ and epoch-NNN/), and starting or resuming a run from one."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from showtell.config import Config
from showtell.decoders.base import Decoder
from showtell.encoders.encoder import Encoder, trained_fingerprint
from showtell.encoders.finetune import load_trained
from showtell.errors import CheckpointError, one_line
from showtell.inference.checkpoint import (
    Checkpoint,
    ResumeState,
    find_checkpoint,
    load_checkpoint,
    load_resume_state,
    recover_folder,
    save_checkpoint,
)
from showtell.inference.files import BEST, ENCODER_WEIGHTS, LAST, MODEL, RESUME_TENSORS
from showtell.inference.weights import SUFFIX, store_encoder_weights
from showtell.text.vocabulary import Vocabulary
from showtell.training.state import TrainingState

if TYPE_CHECKING:
    from showtell.training.prepare import TrainingData

LEARNT_FROM = {
    "captions_fingerprint": (
        "the captions that {folder} learns from are not the same now, or stand in another order, "
        "or features are there of other pictures than then: put the data set, data.text and --old "
        "back as they were, give the folder of the run's features with --store, or start a new run"
    ),
    "models_fingerprint": (
        "the models that {folder} learns from (training.init_from, objective.teachers) have other "
        "weights now: put them back, or start a new run"
    ),
}
"""In ``resume.json``: what a run must find as it was; and what is said where it is not."""


class Checkpoints:
    """Writes and reads the checkpoints of one run.

    Args:
        folder: the run's.
        provenance: what is written into each checkpoint's ``metrics.json`` beside the figures.
        device: whose random state is kept.
        learns_from: as ``learnt_from`` gives it.
        writes: whether this process is the one that writes; another's ``save`` does nothing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        vocabulary: Vocabulary,
        config: Config,
        provenance: dict[str, Any],
        device: str,
        learns_from: Mapping[str, str],
        writes: bool = True,
    ) -> None:
        self.folder, self.vocabulary, self.config = folder, vocabulary, config
        self.provenance, self.device, self.writes = provenance, device, writes
        self.learns_from = learns_from
        for leftover in (
            folder.glob(".*.tmp") if writes else ()
        ):  # of a process that was killed while saving
            shutil.rmtree(leftover, ignore_errors=True)

    def save(
        self,
        name: str,
        state: TrainingState,
        metrics: dict[str, float] | None = None,
        *,
        log_offsets: dict[str, int] | None = None,
    ) -> None:
        """Write ``folder/name``; with the logs' lengths it can be resumed from."""
        if not self.writes:
            return
        resume = None
        if log_offsets is not None:
            packed = state.pack(self.device)
            fingerprint = self.provenance["data_fingerprint"]
            more = {"log_offsets": log_offsets, "data_fingerprint": fingerprint}
            resume = replace(packed, data={**packed.data, **more, **self.learns_from})
        progress = state.progress
        figures = {"epoch": progress.epoch, "step": progress.step, "metrics": metrics}
        trained = None
        if encoder := state.measured_encoder:
            trained = encoder.changed_weights() or None
            figures |= fingerprints(encoder)
        checkpoint = Checkpoint(
            state.measured,
            self.vocabulary,
            self.config,
            {**self.provenance, **figures},
            trained,
            self._encoder_weights(),
        )
        save_checkpoint(self.folder / name, checkpoint, resume=resume)

    def resume(self, state: TrainingState) -> dict[str, int] | None:
        """Bring ``state`` to where ``last/`` is; the logs' lengths there, None if there is none.

        Raises:
            CheckpointError: it is damaged, or of other data.
        """
        last = recover_folder(self.folder / LAST)
        if not last.exists():
            return None
        saved = load_resume_state(last)
        self._check_data(saved)
        measured = load_checkpoint(last)
        try:
            state.unpack(saved, measured, self.device)
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{last / RESUME_TENSORS} does not fit the run: {one_line(error)}"
            ) from error
        offsets: dict[str, int] = saved.data["log_offsets"]
        return offsets

    def best_metrics(self) -> dict[str, float]:
        """The figures of ``best/``."""
        metrics: dict[str, float] = load_checkpoint(self.folder / BEST).metrics["metrics"]
        return metrics

    def _encoder_weights(self) -> Path | None:
        """The run's own copy of ``encoder.weights``, which its checkpoints share."""
        weights = self.config.encoder.weights
        if weights is None:
            return None
        kept = next(self.folder.glob(f"{ENCODER_WEIGHTS}*{SUFFIX}"), None)
        return kept or self.folder / store_encoder_weights(weights, self.folder)

    def _check_data(self, saved: ResumeState) -> None:
        ours, theirs = self.provenance["data_fingerprint"], saved.data["data_fingerprint"]
        if ours != theirs:
            raise CheckpointError(
                f"the data is not what {self.folder} was trained on (fingerprint {ours[:12]}, the "
                f"run has {theirs[:12]}): give the same data, or start a new run"
            )
        for name, own in self.learns_from.items():
            if saved.data.get(name, own) != own:  # 0.1.0 did not have it
                raise CheckpointError(LEARNT_FROM[name].format(folder=self.folder))


def learnt_from(config: Config, data: "TrainingData") -> dict[str, str]:
    """The fingerprints of captions and models that a run reads again when it goes on.

    Raises:
        CheckpointError: such a model is not there.
    """
    names = list(config.objective.teachers) if config.objective.kind == "distil" else []
    start = config.training.init_from
    beside = data.old is not None or data.graded is not None
    if start is not None and (beside or config.training.average_start):
        names.append(start)
    digest = hashlib.sha256()
    for name in names:
        with open(find_checkpoint(name) / MODEL, "rb") as weights:
            digest.update(hashlib.file_digest(weights, "sha256").digest())
    values = (data.fingerprint(), digest.hexdigest())
    return dict(zip(LEARNT_FROM, values, strict=True))


def fingerprints(encoder: Encoder) -> dict[str, Any]:
    """What a checkpoint's ``metrics.json`` says of its encoder."""
    entries = {"encoder_fingerprint": encoder.fingerprint}
    if encoder.changed:
        entries["base_encoder_fingerprint"] = encoder.base_fingerprint
    return entries


def fit_encoder(encoder: Encoder, start: Checkpoint, source: str) -> None:
    """Make ``encoder``, as published, the one that ``start`` was trained with.

    Which part of a picture it sees (``encoder.squash``) is for the new run to say.

    Args:
        source: where ``start`` is from, for the error.

    Raises:
        CheckpointError: it is another encoder.
    """
    theirs = start.metrics.get("encoder_fingerprint")
    base = start.metrics.get("base_encoder_fingerprint", theirs)
    recipe = replace(encoder.preprocessing, squash=start.config.encoder.squash)
    if base not in (encoder.base_fingerprint, encoder.described(recipe)):
        raise CheckpointError(
            f"{source} was trained with encoder {base}, and this run has "
            f"{encoder.base_fingerprint}: set encoder.name = {start.config.encoder.name}, or start "
            "from another model"
        )
    if start.encoder is not None:
        load_trained(encoder, start.encoder)
    trained = encoder.changed_weights()
    if theirs != (trained_fingerprint(base, trained) if trained else base):
        raise CheckpointError(
            f"{source}: encoder.safetensors is not what metrics.json says; it was changed"
        )


def start_with(
    decoder: Decoder, weights: Mapping[str, Tensor], start: Checkpoint, config: Config
) -> None:
    """Give ``decoder`` the weights of ``start``.

    Args:
        weights: those, with rows for new words.

    Raises:
        CheckpointError: it is of another shape.
    """
    own = decoder.state_dict()
    if {name: w.shape for name, w in weights.items()} == {n: w.shape for n, w in own.items()}:
        decoder.load_state_dict(dict(weights))
        return
    there, here = (c.decoder.model_dump() for c in (start.config, config))
    settings = [name for name in there if name == "kind" or "dropout" not in name]
    wanted = {name: there[name] for name in settings if there[name] != here.get(name)}
    keeps = config.training.init_parts == "model" and config.objective.kind != "scst"
    alone = "; or, to keep its encoder alone: -s training.init_parts=encoder"
    raise CheckpointError(
        f"training.init_from = {config.training.init_from} has a decoder of another shape; this "
        "run needs "
        + " ".join(f"-s decoder.{name}={value}" for name, value in wanted.items())
        + alone * keeps
    )
