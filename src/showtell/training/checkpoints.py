"""A run's checkpoints: best/, last/ and epoch-NNN/, and going on or setting out from one."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from showtell.checkpoint import (
    Checkpoint,
    ResumeState,
    load_checkpoint,
    load_resume_state,
    recover_folder,
    save_checkpoint,
)
from showtell.config import Config
from showtell.errors import CheckpointError
from showtell.models.base import Decoder
from showtell.text.vocabulary import Vocabulary
from showtell.training.state import TrainingState


class Checkpoints:
    """Writes and reads the checkpoints of one run.

    Args:
        folder: the run's.
        provenance: what is written into each checkpoint's ``metrics.json`` beside the figures.
        device: whose random state is kept.
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
        writes: bool = True,
    ) -> None:
        self.folder, self.vocabulary, self.config = folder, vocabulary, config
        self.provenance, self.device, self.writes = provenance, device, writes
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
            resume = replace(packed, data=packed.data | more)
        progress = state.progress
        figures = {"epoch": progress.epoch, "step": progress.step, "metrics": metrics}
        checkpoint = Checkpoint(
            state.measured, self.vocabulary, self.config, {**self.provenance, **figures}
        )
        save_checkpoint(self.folder / name, checkpoint, resume=resume)

    def resume(self, state: TrainingState) -> dict[str, int] | None:
        """Bring ``state`` to where ``last/`` is; the logs' lengths there, None if there is none.

        Raises:
            CheckpointError: it is damaged, or of other data.
        """
        last = recover_folder(self.folder / "last")
        if not last.exists():
            return None
        saved = load_resume_state(last)
        self._check_data(saved)
        state.unpack(saved, load_checkpoint(last).decoder, self.device)
        offsets: dict[str, int] = saved.data["log_offsets"]
        return offsets

    def best_metrics(self) -> dict[str, float]:
        """The figures of ``best/``."""
        metrics: dict[str, float] = load_checkpoint(self.folder / "best").metrics["metrics"]
        return metrics

    def _check_data(self, saved: ResumeState) -> None:
        ours, theirs = self.provenance["data_fingerprint"], saved.data["data_fingerprint"]
        if ours != theirs:
            raise CheckpointError(
                f"the data is not what {self.folder} was trained on (fingerprint {ours[:12]}, the "
                f"run has {theirs[:12]}): give the same data, or start a new run"
            )


def load_start(folder: Path, encoder_fingerprint: str) -> Checkpoint:
    """The checkpoint that ``training.init_from`` names.

    Args:
        encoder_fingerprint: of the encoder that its features are from.

    Raises:
        CheckpointError: there is none, or it has another encoder or decoder.
    """
    start = load_checkpoint(folder)
    theirs = start.metrics.get("encoder_fingerprint")
    if theirs != encoder_fingerprint:
        raise CheckpointError(
            f"training.init_from = {folder} was trained with encoder {theirs}, and this run has "
            f"{encoder_fingerprint}: set encoder.name = {start.config.encoder.name}, or start "
            "from another model"
        )
    return start


def start_with(decoder: Decoder, start: Checkpoint, config: Config) -> None:
    """Give ``decoder`` the weights of ``start``.

    Raises:
        CheckpointError: it is of another shape.
    """
    weights, own = start.decoder.state_dict(), decoder.state_dict()
    if {name: w.shape for name, w in weights.items()} == {n: w.shape for n, w in own.items()}:
        decoder.load_state_dict(weights)
        return
    there, here = (c.decoder.model_dump() for c in (start.config, config))
    settings = [name for name in there if name == "kind" or "dropout" not in name]
    wanted = {name: there[name] for name in settings if there[name] != here.get(name)}
    raise CheckpointError(
        f"training.init_from = {config.training.init_from} has a decoder of another shape; this "
        "run needs " + " ".join(f"-s decoder.{name}={value}" for name, value in wanted.items())
    )
