"""Runs in the tiny world, as tests need them: whole, stopped, resumed; or as a process to kill."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import torch
from tiny_world import VIEWS, WIDTH, tiny_config, tiny_records

from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.core.distributed import ALONE, Processes
from showtell.core.progress import SilentReporter, StepReport
from showtell.data.records import Dataset
from showtell.encoders.concepts import Classes
from showtell.encoders.store import FeatureStore
from showtell.inference.checkpoint import load_checkpoint
from showtell.training.loop import Run, TrainingResult
from showtell.training.prepare import Given, prepare
from showtell.training.teachers import Teachers


class Notes(SilentReporter):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class StopAt(SilentReporter):
    """Does what Ctrl-C does, after a step."""

    def __init__(self, step: int) -> None:
        self.left = step

    def step(self, report: StepReport) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def make_run(
    folder: Path,
    dataset: Dataset,
    store: FeatureStore,
    config: Config,
    *,
    report: SilentReporter | None = None,
    resume: bool = False,
    fingerprint: str = "data-1",
    region_size: int = WIDTH,
    processes: Processes = ALONE,
    classes: Classes | None = None,
    teachers: Teachers | None = None,
) -> Run:
    report = report or SilentReporter()
    folder.mkdir(exist_ok=True)
    source = config.training.init_from
    start = load_checkpoint(source) if source else None
    vocabulary = start.vocabulary if start else teachers.vocabulary if teachers else None
    return Run(
        config=config,
        data=prepare(
            dataset,
            config.data,
            store,
            report,
            Given(vocabulary=vocabulary, classes=classes, feature_size=WIDTH),
        ),
        folder=folder,
        runtime=choose_runtime("cpu", "fp32"),
        provenance={
            "feature_size": WIDTH,
            "region_size": region_size,
            "encoder_fingerprint": "tiny-1",
            "data_fingerprint": fingerprint,
        },
        report=report,
        start=start,
        teachers=teachers,
        resume=resume,
        processes=processes,
    )


def run(
    folder: Path, dataset: Dataset, store: FeatureStore, config: Config, **options: Any
) -> TrainingResult:
    return make_run(folder, dataset, store, config, **options).run()


def scst_config(start: Path, *changes: str) -> Config:
    """Self-critical training that starts from ``start``, of 10 steps in each of 3 epochs."""
    return tiny_config(
        "objective.kind=scst",
        f"training.init_from={start}",
        "training.batch_size=4",
        "optimizer.lr=0.002",
        *changes,
    )


def same_weights(one: Path, two: Path) -> bool:
    a, b = (load_checkpoint(path).decoder.state_dict() for path in (one, two))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """The steps in metrics.jsonl."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if "loss" in entry]


def log_of(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without times, which differ from run to run; and the text log."""
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for entry in entries:
        entry.pop("seconds", None)
        entry.pop("reward_share", None)
    text = (folder / "training_log.txt").read_text()
    return [*entries, {"text": text}]


def main(folder: str, store: str, *settings: str) -> None:
    """Train ``folder``, or go on with it; where torchrun's variables say so, as one of several.

    With ``--stop-second-at=N`` the second of these, and no other, is asked to stop after N steps.
    """
    processes = Processes.from_environment()
    stops = [int(one.partition("=")[2]) for one in settings if one.startswith("--stop-second-at=")]
    report = StopAt(*stops) if stops and processes.rank == 1 else None
    with processes.joined("cpu"):
        run(
            Path(folder),
            Dataset("tiny", "folder", tiny_records()),
            FeatureStore.open(Path(store), fingerprint="tiny-1", views=VIEWS),
            tiny_config(*(one for one in settings if not one.startswith("--"))),
            resume=True,
            report=report,
            processes=processes,
        )
