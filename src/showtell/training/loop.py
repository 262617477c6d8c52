"""The story of one run: train an epoch step by step, validate, keep the best, until the end.

If the encoder is frozen, its features are read from a store, and the decoder trains with its image
embedding. If the encoder trains too, the pictures are read instead.

A run that was stopped at any moment resumes to the same weights, to the bit: all random numbers
depend on the seed and the position in the run, or on a generator whose state is saved.
``Run._resume`` restores the state, which ``checkpoints.py`` reads. Several processes can train
together; only the first writes files.
"""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.core.distributed import ALONE, Processes
from showtell.core.messages import counted
from showtell.core.progress import Reporter, StepReport
from showtell.decoders.language_model import LanguageModel
from showtell.decoders.layers import freeze_batch_norms, share_batch_norms
from showtell.encoders.encoder import Encoder
from showtell.errors import CheckpointError, ShowtellError, reason_of
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import Checkpoint
from showtell.inference.files import BEST, LAST
from showtell.training.checkpoints import Checkpoints, learnt_from
from showtell.training.first_decoder import build_first_decoder, check_agreement
from showtell.training.objectives import build_objective
from showtell.training.objectives.base import Loss
from showtell.training.objectives.losses import perplexity
from showtell.training.prepare import TrainingData
from showtell.training.run_log import NoLog, RunLog, open_log, step_line
from showtell.training.state import TrainingState, learning_rate
from showtell.training.step import compile_decoder, take_step
from showtell.training.stop import StopNow, StopRequest
from showtell.training.teachers import Teachers
from showtell.training.validation import validate, validation_data, watch_stop

if TYPE_CHECKING:
    from showtell.training.from_start import BeforeAndAfter

FEW_STEPS, ENOUGH_STEPS = 200, 1000
MOST_SKIPPED = 3  # steps in a row whose loss or gradient is not finite


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        best_epoch: the epoch whose checkpoint is ``best/``, from 1.
        metrics: of that epoch.
        stopped: whether it was asked to stop before its end.
        seconds: that it has trained and validated for, from its first step on.
        from_start: what it has changed of the model that it started from, where that was measured.
    """

    best_epoch: int
    metrics: dict[str, float]
    stopped: bool
    seconds: float
    from_start: "BeforeAndAfter | None" = None


class Run:
    """One training run in one folder.

    Args:
        provenance: what is written into each checkpoint's ``metrics.json`` beside the figures;
            must have ``feature_size``, ``encoder_fingerprint`` and ``data_fingerprint``, and
            ``region_size`` where that is another than ``feature_size``.
        start: the checkpoint whose weights it starts with; ``data`` has its vocabulary.
        reads_anew: whether it was trained with another encoder.
        encoder: where it trains, or is not as it was published.
        language_model: whose weights the decoder begins with, for ``prefix_lm``.
        teachers: of ``objective.kind = distil``.
        resume: go on from ``folder/last`` where there is one.
        processes: that train together, each with a ``Run`` like this.

    Raises:
        ConfigError: another process has other data or settings.
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
        start: Checkpoint | None = None,
        reads_anew: bool = False,
        encoder: Encoder | None = None,
        language_model: LanguageModel | None = None,
        teachers: Teachers | None = None,
        resume: bool = False,
        processes: Processes = ALONE,
    ) -> None:
        self.config, self.data, self.folder = config, data, folder
        self.runtime, self.report, self.processes = runtime, report, processes
        self.provenance = provenance
        torch.manual_seed(config.seed)
        decoder = build_first_decoder(
            config,
            data,
            provenance,
            runtime,
            language_model=language_model,
            start=start,
            reads_anew=reads_anew,
        )
        if config.training.batch_norm == "frozen":
            freeze_batch_norms(decoder)
        self.state = TrainingState.of(decoder, config, encoder and encoder.to(runtime.device))
        self.checkpoints = Checkpoints(
            folder,
            vocabulary=data.vocabulary,
            config=config,
            provenance=provenance,
            device=runtime.device,
            learns_from=learnt_from(config, data),
            writes=processes.is_first,
        )
        self.log_offsets: dict[str, int] | None = None
        if resume:
            self._resume()
        if processes.are_many:
            share_batch_norms(decoder, processes.sum_)
            check_agreement(processes, config, data, runtime, decoder)
        self.captioner = NativeCaptioner(
            Checkpoint(self.state.measured, data.vocabulary, config, {}),
            runtime,
            encoder=self.state.measured_encoder,
            trust_model=True,  # the person's own settings
        )
        report.note(self.state.describe(config))
        if config.training.compile:
            report.note(compile_decoder(decoder))
        self.objective = build_objective(
            config,
            data,
            runtime,
            regions=decoder.needs_regions,
            encoder=self.state.encoder,
            teachers=teachers,
        )
        steps_per_epoch = -(-self.objective.num_items // config.training.batch_size)
        self.num_steps = steps_per_epoch * config.training.num_epochs
        if config.training.init_from is None and not resume and self.num_steps < FEW_STEPS:
            self._note_few_steps(steps_per_epoch)

    def run(self) -> TrainingResult:
        """Train to the end, to an early stop, or until a stop is requested.

        Raises:
            ShowtellError: several losses or gradients in a row were not finite, or a file cannot be
                written; the last checkpoint is intact.
        """
        settings, state = self.config.training, self.state
        log_of_run = open_log(
            self.folder,
            settings,
            self.log_offsets,
            next_step=state.progress.step + 1,
            writes=self.processes.is_first,
        )
        processes = self.processes
        with closing(self.objective), log_of_run as log, StopRequest(processes) as stop:
            try:
                while state.progress.epoch < settings.num_epochs and not self._out_of_patience():
                    self._train_epoch(log, stop)
                    self._finish_epoch(log, stop)
            except StopNow:
                self.checkpoints.save(LAST, state, log_offsets=log.offsets())
            except OSError as error:
                raise CheckpointError(
                    f"cannot write into {self.folder}: {reason_of(error)}; what was saved "
                    "before is intact: free some space, then resume (train: --resume; else the "
                    "same command)"
                ) from error
        best_epoch = state.progress.best_epoch
        best = self.processes.from_first(self.checkpoints.best_metrics) if best_epoch else {}
        return TrainingResult(best_epoch, best, stop.is_due(), state.progress.seconds)

    def _train_epoch(self, log: RunLog | NoLog, stop: StopRequest) -> None:
        """The steps of one epoch that are still to be done."""
        progress, settings = self.state.progress, self.config.training
        epoch = progress.epoch + 1
        batches = self.objective.batches(epoch)
        self.state.train()
        self.objective.expect(batches[progress.batch :], progress.step)
        started = last_step = last_save = time.monotonic()
        seconds_before = progress.seconds
        for batch in batches[progress.batch :]:
            if stop.is_due():
                raise StopNow
            rate = learning_rate(progress.step, self.num_steps, self.config.optimizer)
            step = take_step(
                self.state,
                self.objective,
                batch,
                rate=rate,
                config=self.config,
                processes=self.processes,
            )
            progress.batch += 1
            progress.step += 1
            now = time.monotonic()
            progress.seconds = seconds_before + now - started
            if step.fault is None:
                progress.num_skipped = 0
                self._log_step(log, len(batches), rate, step.loss, now - last_step)
            else:
                self._skip(step.fault)
            last_step = now
            if now - last_save > 60 * settings.save_minutes:
                self.checkpoints.save(LAST, self.state, log_offsets=log.offsets())
                last_save = now

    def _finish_epoch(self, log: RunLog | NoLog, stop: StopRequest) -> None:
        """Validate, log, and save the checkpoints: best, every ``save_every``-th epoch, last."""
        started = time.monotonic()
        self.state.eval()
        watch = watch_stop(stop, self.report, "encoding")
        with validation_data(self.data, self.captioner, self.folder, watch) as data:
            found = validate(self.captioner, data, report=self.report, stop=stop)
        values, progress = found.values, self.state.progress
        progress.seconds += time.monotonic() - started
        progress.epoch, progress.batch = progress.epoch + 1, 0
        score = (values["CIDEr-D"], -values["val_loss"])
        better = score > progress.best
        if better:
            progress.best, progress.best_epoch = score, progress.epoch
        log.epoch(
            {
                "epoch": progress.epoch,
                "step": progress.step,
                "validation": values,
                "intervals": found.intervals,
            }
        )
        if better:
            self.checkpoints.save(BEST, self.state, values)
        if progress.epoch % self.config.training.save_every == 0:
            self.checkpoints.save(f"epoch-{progress.epoch:03d}", self.state, values)
        self.checkpoints.save(LAST, self.state, values, log_offsets=log.offsets())
        self.report.epoch(progress.epoch, values)

    def _out_of_patience(self) -> bool:
        patience = self.config.training.patience
        if patience is None or self.state.progress.epochs_without_better < patience:
            return False
        self.report.note(
            f"no better CIDEr-D in {patience} epochs: stopping at epoch {self.state.progress.epoch}"
        )
        return True

    def _skip(self, fault: str) -> None:
        """Say that a step was skipped.

        Raises:
            ShowtellError: it is one too many in a row.
        """
        progress = self.state.progress
        progress.num_skipped += 1
        if progress.num_skipped <= MOST_SKIPPED:
            self.report.note(f"step {progress.step} is skipped: {fault}; the weights are unchanged")
            return
        raise ShowtellError(
            f"{fault} at step {progress.step}, and {MOST_SKIPPED} steps before it were skipped "
            "for similar reasons: start a new run with a lower optimizer.lr or "
            f"training.precision=fp32; every checkpoint in {self.folder} is from before these steps"
        )

    def _log_step(
        self, log: RunLog | NoLog, num_steps: int, rate: float, loss: Loss, seconds: float
    ) -> None:
        """``seconds``: of this step, with whatever was done since the one before."""
        settings, progress = self.config.training, self.state.progress
        epoch, step = progress.epoch + 1, progress.batch
        figures = {name: float(value) for name, value in loss.figures.items()}
        if "perplexity" in self.objective.shown:
            figures["perplexity"] = perplexity(figures["loss"])
        line = step_line(epoch, settings.num_epochs, step, num_steps, figures, self.objective.shown)
        log.step(
            line,
            {
                "epoch": epoch,
                "step": progress.step,
                **figures,
                "lr": rate,
                "tokens": loss.num_tokens,
                "seconds": round(progress.seconds, 3),
                **{f"{part}_share": round(s / seconds, 4) for part, s in loss.seconds.items()},
            },
        )
        total = self.objective.num_items
        self.report.step(
            StepReport(
                epoch,
                settings.num_epochs,
                step,
                num_steps,
                line,
                items_done=min(step * settings.batch_size, total),
                items_total=total,
                unit=self.objective.unit,
                shown=step % settings.print_every == 0 or step == num_steps,
            )
        )

    def _note_few_steps(self, steps_per_epoch: int) -> None:
        num_epochs = self.config.training.num_epochs
        enough = -(-ENOUGH_STEPS // steps_per_epoch)
        self.report.note(
            f"{counted(self.num_steps, 'step')} in {counted(num_epochs, 'epoch')}: too few to "
            f"learn much; --epochs {enough} (for distil: -s training.num_epochs={enough}) makes "
            f"about {ENOUGH_STEPS:,}"
        )

    def _resume(self) -> None:
        self.log_offsets = self.checkpoints.resume(self.state)
        if self.log_offsets is None:
            self.report.note(f"{self.folder} holds no state yet; starting from the beginning")
            return
        progress = self.state.progress
        num_epochs = self.config.training.num_epochs
        if progress.epoch >= num_epochs:
            self.report.note(
                f"the run is finished ({progress.epoch} of {num_epochs} epochs); "
                f"--resume --epochs {2 * progress.epoch} trains further"
            )
            return
        self.report.note(
            f"resuming after epoch {progress.epoch}, step {progress.batch} of the next"
        )
