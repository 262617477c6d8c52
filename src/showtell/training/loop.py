"""The story of one run: step, log, save; after each epoch evaluate and keep the best.

The encoder is frozen and its features are read from a store, so what trains is the decoder with
its image embedding. Everything random follows from the seed and the position in the run, or from
a generator whose state is saved: a run stopped anywhere goes on to the same weights.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from showtell.captioner import Captioner
from showtell.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_resume_state,
    recover_folder,
    save_checkpoint,
)
from showtell.config import Config
from showtell.data.sampler import epoch_batches
from showtell.errors import CheckpointError, ShowtellError
from showtell.evaluation import load_features
from showtell.models.base import Features
from showtell.models.decoders import build_decoder
from showtell.models.language_model import LanguageModel
from showtell.models.prefix_lm import PrefixLm
from showtell.progress import Reporter, StepReport
from showtell.runtime import Runtime
from showtell.training.losses import CaptionLoss, cross_entropy, perplexity
from showtell.training.optimizer import build_optimizer, learning_rate
from showtell.training.run_log import RunLog, step_line
from showtell.training.setup import TrainingData
from showtell.training.state import Progress, pack, unpack
from showtell.training.stop import StopNow, StopRequest
from showtell.training.validation import validate

FEW_STEPS, ENOUGH_STEPS = 300, 1000
VIEW_STREAM = 1  # keeps the views' random numbers apart from the sampler's


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        best_epoch: the epoch whose checkpoint is ``best/``, from 1.
        metrics: of that epoch.
        stopped: whether it was asked to stop before its end.
    """

    best_epoch: int
    metrics: dict[str, float]
    stopped: bool


class Run:
    """One training run in one folder.

    Args:
        provenance: what is written into each checkpoint's ``metrics.json`` beside the figures;
            must have ``feature_size``, ``encoder_fingerprint`` and ``data_fingerprint``, and
            ``region_size`` where that is another than ``feature_size``.
        language_model: whose weights the decoder begins with, for ``prefix_lm``.
        resume: go on from ``folder/last`` where there is one.
    """

    def __init__(
        self,
        *,
        config: Config,
        data: TrainingData,
        folder: Path,
        runtime: Runtime,
        provenance: dict[str, Any],
        report: Reporter,
        language_model: LanguageModel | None = None,
        resume: bool = False,
    ) -> None:
        self.config, self.data, self.folder = config, data, folder
        self.runtime, self.provenance, self.report = runtime, provenance, report
        self.progress = Progress()
        self.log_offsets: dict[str, int] | None = None
        torch.manual_seed(config.seed)
        self.vocabulary = data.vocabulary
        self.decoder = build_decoder(
            config.decoder,
            vocab_size=len(self.vocabulary),
            feature_size=provenance["feature_size"],
            region_size=provenance.get("region_size"),
        ).to(runtime.device)
        if language_model is not None:
            assert isinstance(self.decoder, PrefixLm)
            language_model.fill(self.decoder)
        self.optimizer = build_optimizer(self.decoder, config.optimizer)
        for leftover in folder.glob(".*.tmp"):  # of a process that was killed while saving
            shutil.rmtree(leftover, ignore_errors=True)
        if resume:
            self._resume()
        self.captioner = Captioner(self.decoder, self.vocabulary, config, runtime)
        steps_per_epoch = -(-len(data.train) // config.training.batch_size)
        self.num_steps = steps_per_epoch * config.training.num_epochs
        if self.num_steps < FEW_STEPS:
            report.note(
                f"{config.training.num_epochs} epochs are only {self.num_steps} steps, too few to "
                f"learn much; -s training.num_epochs={-(-ENOUGH_STEPS // steps_per_epoch)} makes "
                f"about {ENOUGH_STEPS:,}"
            )

    def run(self) -> TrainingResult:
        """Train to the end, to an early stop, or until a stop is requested.

        Raises:
            ShowtellError: the loss is no longer a number, or a file cannot be written; the last
                checkpoint is intact.
        """
        settings = self.config.training
        run_log = RunLog(
            self.folder,
            settings.log_file,
            self.log_offsets,
            event_files=settings.tensorboard,
            next_step=self.progress.step + 1,
        )
        with run_log as log, StopRequest() as stop:
            try:
                while self.progress.epoch < settings.num_epochs and not self._out_of_patience():
                    self._train_epoch(log, stop)
                    self._finish_epoch(log, stop)
            except StopNow:
                self._save("last", log=log)
            except OSError as error:
                raise CheckpointError(
                    f"cannot write into {self.folder}: {error.strerror or error}; what was saved "
                    "before is intact: make room, then go on with --resume"
                ) from error
        best = self._best_metrics()
        return TrainingResult(self.progress.best_epoch, best, stop.requested)

    def _train_epoch(self, log: RunLog, stop: StopRequest) -> None:
        """The steps of one epoch that are still to be done."""
        config, progress = self.config, self.progress
        epoch = progress.epoch + 1
        batches = epoch_batches(
            self.data.train.lengths,
            config.training.batch_size,
            seed=config.seed,
            epoch=epoch,
            pictures=self.data.train.pictures if self._by_picture else None,
        )
        self.decoder.train()
        started = last_save = time.monotonic()
        seconds_before = progress.seconds
        for batch in batches[progress.batch :]:
            if stop.requested:
                raise StopNow
            rate = learning_rate(progress.step, self.num_steps, config.optimizer)
            loss = self._step(batch, rate)
            progress.batch += 1
            progress.step += 1
            now = time.monotonic()
            progress.seconds = seconds_before + now - started
            self._log_step(log, epoch, batches, rate, loss)
            if now - last_save > 60 * config.training.save_minutes:
                self._save("last", log=log)
                last_save = now

    def _step(self, captions: NDArray[np.int64], rate: float) -> CaptionLoss:
        """One update of the weights."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        inputs, targets = self.data.train.tensors(captions, self.runtime.device)
        features = self._features(captions)
        with self.runtime.autocast():
            loss = cross_entropy(
                self.decoder,
                features,
                inputs,
                targets,
                label_smoothing=self.config.training.label_smoothing,
            )
        if not torch.isfinite(loss.objective):
            raise ShowtellError(
                f"the loss is {loss.objective.item()} at step {self.progress.step + 1}: "
                "lower optimizer.lr or set training.precision to fp32; "
                f"the last good state is {self.folder / 'last'}"
            )
        self.optimizer.zero_grad()
        loss.objective.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.decoder.parameters(), self.config.optimizer.max_grad_norm)
        self.optimizer.step()
        return loss

    def _features(self, captions: NDArray[np.int64]) -> Features:
        """A random view of each caption's picture; with regions, one for all its captions."""
        rows, index = self.data.train.pictures[captions], None
        if self.decoder.needs_regions:
            rows, inverse = np.unique(rows, return_inverse=True)
            index = torch.from_numpy(inverse)
        rng = np.random.default_rng((self.config.seed, self.progress.step, VIEW_STREAM))
        views = rng.integers(0, self.config.encoder.views + 1, len(rows))
        features = load_features(
            self.data.store,
            rows,
            views,
            regions=self.decoder.needs_regions,
            dtype=self.runtime.dtype,
        )
        return features._replace(picture_of=index).to(self.runtime.device)

    @property
    def _by_picture(self) -> bool:
        """Whether batches hold whole pictures."""
        asked = self.config.training.batch_by
        return asked == "picture" or (asked == "auto" and self.decoder.needs_regions)

    def _log_step(
        self,
        log: RunLog,
        epoch: int,
        batches: list[NDArray[np.int64]],
        rate: float,
        loss: CaptionLoss,
    ) -> None:
        settings, step, num_steps = self.config.training, self.progress.batch, len(batches)
        nll = loss.nll.item()
        line = step_line(epoch, settings.num_epochs, step, num_steps, nll)
        log.step(
            line,
            {
                "epoch": epoch,
                "step": self.progress.step,
                "loss": nll,
                "perplexity": perplexity(nll),
                "objective": loss.objective.item(),
                "lr": rate,
                "tokens": loss.num_tokens,
                "seconds": round(self.progress.seconds, 3),
            },
        )
        shown = step % settings.print_every == 0 or step == num_steps
        self.report.step(
            StepReport(
                epoch,
                settings.num_epochs,
                step,
                num_steps,
                line,
                captions_done=min(step * settings.batch_size, len(self.data.train)),
                captions_total=len(self.data.train),
                shown=shown,
            )
        )

    def _finish_epoch(self, log: RunLog, stop: StopRequest) -> None:
        """Validate, log, save."""
        started = time.monotonic()
        self.decoder.eval()
        values = validate(self.captioner, self.data, report=self.report, stop=stop)
        progress = self.progress
        progress.seconds += time.monotonic() - started
        progress.epoch, progress.batch = progress.epoch + 1, 0
        score = (values["CIDEr-D"], -values["val_loss"])
        better = score > progress.best
        if better:
            progress.best, progress.best_epoch = score, progress.epoch
        log.epoch({"epoch": progress.epoch, "step": progress.step, "validation": values})
        if better:
            self._save("best", values)
        if progress.epoch % self.config.training.save_every == 0:
            self._save(f"epoch-{progress.epoch:03d}", values)
        self._save("last", values, log=log)
        self.report.epoch(progress.epoch, values)

    def _save(
        self, name: str, metrics: dict[str, float] | None = None, *, log: RunLog | None = None
    ) -> None:
        """Write a checkpoint; with ``log`` it can be resumed from."""
        resume = None
        if log is not None:
            resume = pack(
                self.progress,
                self.optimizer,
                self.runtime.device,
                log.offsets(),
                self.provenance["data_fingerprint"],
            )
        figures = {"epoch": self.progress.epoch, "step": self.progress.step, "metrics": metrics}
        checkpoint = Checkpoint(
            self.decoder, self.vocabulary, self.config, {**self.provenance, **figures}
        )
        save_checkpoint(self.folder / name, checkpoint, resume=resume)

    def _resume(self) -> None:
        last = recover_folder(self.folder / "last")
        if not last.exists():
            self.report.note(f"{self.folder} holds no state yet; starting from the beginning")
            return
        state = load_resume_state(last)
        if state.data["data_fingerprint"] != self.provenance["data_fingerprint"]:
            raise CheckpointError(
                f"the data is not what {self.folder} was trained on (fingerprint "
                f"{self.provenance['data_fingerprint'][:12]}, the run has "
                f"{state.data['data_fingerprint'][:12]}): give the same data, or start a new run"
            )
        checkpoint = load_checkpoint(last)
        self.vocabulary = checkpoint.vocabulary
        self.decoder.load_state_dict(checkpoint.decoder.state_dict())
        self.progress = unpack(state, self.optimizer, self.runtime.device)
        self.log_offsets = state.data["log_offsets"]
        self.report.note(
            f"going on after epoch {self.progress.epoch}, step {self.progress.batch} of the next"
        )

    def _out_of_patience(self) -> bool:
        patience = self.config.training.patience
        if patience is None or self.progress.epochs_without_better < patience:
            return False
        self.report.note(
            f"no better CIDEr-D in {patience} epochs: stopping at epoch {self.progress.epoch}"
        )
        return True

    def _best_metrics(self) -> dict[str, float]:
        if not self.progress.best_epoch:
            return {}
        metrics: dict[str, float] = load_checkpoint(self.folder / "best").metrics["metrics"]
        return metrics
