"""The sections of a report that come from the runs' folders alone: figures, curves, settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from showtell.config.toml import flatten
from showtell.inference.files import RUN_FILE
from showtell.metrics import METRICS, evaluate
from showtell.metrics.bootstrap import Interval
from showtell.report.captions import CaptionedRun
from showtell.report.changes import CHECKED, MISSING, is_shown, why_no_chair
from showtell.report.page import (
    Cell,
    Figure,
    Section,
    facts,
    figures,
    heading,
    notes,
    paragraph,
    side_by_side,
    table,
)
from showtell.report.reading import Epoch, RunFolder, mean_speed

INTERVALS = (
    "95 % intervals, from 1,000 resamples of the validation pictures; a run with another seed may "
    "differ by more"
)
SHOWN = ("val_loss", "val_perplexity", *METRICS, "bad_endings")
PLACES = (
    "data_at",
    "images_at",
    "features_at",
    "old_at",
)  # where things lay tells nothing of the run


def lead(runs: Sequence[RunFolder]) -> str:
    """The top of the page: one line that says what this is, and warnings."""
    if len(runs) > 1:
        return notes([f"{run.name}: {n}" for run in runs for n in (*_state(run), *run.notes)])
    [run] = runs
    shown = {
        "decoder": _setting(run, "decoder", "kind"),
        "encoder": _setting(run, "encoder", "name"),
        "data": Path(str(run.provenance.get("data", MISSING))).name,
        "epochs": _epochs_of(run),
        "steps": f"{run.log.last_step:,}",
        "time": _duration(run),
        "tokens a second": _speed(run),
    }
    return facts(shown) + notes([*_state(run), *run.notes])


def final_figures(runs: Sequence[RunFolder], captioned: Sequence[CaptionedRun]) -> Section:
    """The figures of each run's best checkpoint; of a single run also those of its captions."""
    if len(runs) == 1:
        body = _best_figures(runs[0])
        for run in captioned:
            body += _of_captions(run, runs[0].kept)
        return Section("figures", "Final figures", body)
    epochs = [run.kept for run in runs]
    rows: list[list[str | Cell]] = [
        ["best epoch", *(str(epoch.epoch) if epoch else MISSING for epoch in epochs)],
        ["epochs", *map(_epochs_of, runs)],
        ["steps", *(f"{run.log.last_step:,}" for run in runs)],
        ["time", *map(_duration, runs)],
        ["speed (tokens a second)", *map(_speed, runs)],
    ]
    for name in SHOWN:
        if any(name in epoch.values for epoch in epochs if epoch):
            rows.append([_title(name), *(_measured(epoch, name) for epoch in epochs)])
    title = "On the validation pictures, by the best checkpoint"
    body = table(title, ["", *(run.name for run in runs)], rows)
    if len({run.provenance.get("data_fingerprint") for run in runs}) > 1:
        different = "The runs were made on different data: their figures cannot be compared."
        body = notes([different]) + body
    body = notes([run.averaged for run in runs if run.averaged]) + body
    return Section("figures", "Final figures", body)


def _best_figures(run: RunFolder) -> str:
    best = run.kept
    if best is None:
        return notes(["Left out: the log holds no validation yet."])
    about = f"On the validation pictures, after the best epoch, which is number {best.epoch}."
    if run.averaged:
        about = "On the validation pictures, by the best checkpoint."
    if best.intervals:
        about += f" In brackets: {INTERVALS}."
    shown = {_title(n): _measured(best, n) for n in SHOWN if n in best.values}
    kept = notes([run.averaged] if run.averaged else [])
    return paragraph(about, soft=True) + kept + facts(shown)


def _measured(epoch: Epoch | None, name: str) -> str | Cell:
    if epoch is None or name not in epoch.values:
        return MISSING
    interval = str(Interval(*epoch.intervals[name])) if name in epoch.intervals else ""
    return Cell(_number(name, epoch.values[name]), interval)


def _of_captions(run: CaptionedRun, best: Epoch | None) -> str:
    """CHAIR, lengths and endings, and the metrics whose intervals the log lacks."""
    logged = best.intervals if best else {}
    cut = run.captioner.vocabulary.segmentation
    checks = evaluate(run.texts, run.references, metrics=(), families=CHECKED, segmentation=cut)
    rows: list[list[str | Cell]] = []
    for scores in (run.scores.with_intervals(), checks.with_intervals()):
        rows += [
            [_title(name), _number(name, value), _interval(name, scores.intervals[name])]
            for name, value in scores.metrics.items()
            if is_shown(name, scores) and name in scores.intervals and name not in logged
        ]
    reason = why_no_chair(checks)
    return table(
        f"Captions by the {run.checkpoint} checkpoint, on {run.which_pictures}",
        ["", "value", "95 % interval"],
        rows,
    ) + (paragraph(reason, soft=True) if reason else "")


def _interval(name: str, found: Interval) -> str:
    if name == "bad-endings":
        return f"[{found.low:.1%}, {found.high:.1%}]"
    return str(found)


def curves(runs: Sequence[RunFolder], drawings: Sequence[Figure]) -> Section:
    """All curves; for a single run also a table with a row for each epoch."""
    if not drawings:
        return Section("curves", "Curves", notes([_no_curves(runs)]))
    has_intervals = any(epoch.intervals for run in runs for epoch in run.log.epochs)
    about = paragraph(
        "Curves over steps are means of neighbouring steps."
        + (" Their band is where 80 % of these steps lie." if len(runs) == 1 else "")
        + (f" The band of a metric shows {INTERVALS}." if has_intervals else ""),
        soft=True,
    )
    body = about + figures(drawings)
    if len(runs) == 1 and runs[0].log.epochs:
        body += _epochs(runs[0])
    return Section("curves", "Curves", body)


def settings(runs: Sequence[RunFolder]) -> Section:
    """All settings of a single run; of several runs those that differ."""
    flat = [flatten(run.settings) for run in runs]
    names = list(dict.fromkeys(name for values in flat for name in values))
    if len(runs) == 1:
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(name.partition(".")[0] if "." in name else "run", []).append(name)
        body = side_by_side(
            table(group, ["setting", "value"], _rows(members, flat), numbers=False)
            for group, members in groups.items()
        )
        if not names:
            body = paragraph("Left out: config.toml is missing or cannot be read.")
        return Section("settings", "Settings", body)
    differing = [n for n in names if len({_text(values.get(n)) for values in flat}) > 1]
    head = ["setting", *(run.name for run in runs)]
    body = (
        table("Settings that differ", head, _rows(differing, flat), numbers=False)
        if differing
        else paragraph("The runs have the same settings.")
    )
    same = len(names) - len(differing)
    return Section("settings", "Settings", body + paragraph(f"{same} settings are the same."))


def provenance(runs: Sequence[RunFolder]) -> Section:
    """What is needed to make a run again: fingerprints, versions, machine."""
    flat = [flatten({k: v for k, v in run.provenance.items() if k not in PLACES}) for run in runs]
    names = list(dict.fromkeys(name for values in flat for name in values))
    title, body = RUN_FILE, ""
    if len(runs) > 1:
        title = "What differs"
        names = [n for n in names if len({_text(values.get(n)) for values in flat}) > 1]
        if not names:
            body = paragraph("Data, encoder, versions and machine are the same.")
    elif not names:
        body = paragraph(f"Left out: {RUN_FILE} is missing or cannot be read.")
    if names:
        head = ["", *(run.name for run in runs)] if len(runs) > 1 else ["", "value"]
        body = table(title, head, _rows(names, flat), numbers=False)
    return Section("provenance", "Fingerprints", body + _checkpoints(runs))


def _checkpoints(runs: Sequence[RunFolder]) -> str:
    """Which checkpoint made each run's captions, and whether it belongs to the run."""
    rows = []
    for run in runs:
        found = run.checkpoint
        fingerprints = [
            "same" if found.get(name) == run.provenance.get(name) else _text(found.get(name))
            for name in ("encoder_fingerprint", "data_fingerprint")
        ]
        position = [_text(found.get(name)) for name in ("epoch", "step")]
        rows.append([run.name, run.checkpoint_name or MISSING, *position, *fingerprints])
    head = ["run", "checkpoint", "epoch", "step", "encoder fingerprint", "data fingerprint"]
    title = "The best checkpoint (metrics.json), its fingerprints beside the run's"
    return heading("Checkpoint") + table(title, head, rows, numbers=False)


def _epochs(run: RunFolder) -> str:
    names = [name for name in SHOWN if any(name in e.values for e in run.log.epochs)]
    best = run.best_epoch
    rows: list[list[str | Cell]] = [
        [
            str(epoch.epoch),
            f"{epoch.step:,}",
            *(_measured(epoch, name) for name in names),
        ]
        for epoch in run.log.epochs
    ]
    marked = run.log.epochs.index(best) if best else None
    head = ["epoch", "step", *map(_title, names)]
    title = "Validation after each epoch; the best is marked"
    return heading("Epoch by epoch") + table(title, head, rows, best_row=marked)


def _state(run: RunFolder) -> list[str]:
    done = _epochs_done(run)
    if run.num_epochs is None or done >= run.num_epochs:
        return []
    return [
        f"{done} of {run.num_epochs} epochs are done: the run is still going on, was stopped, or "
        "ran out of patience"
    ]


def _no_curves(runs: Sequence[RunFolder]) -> str:
    names = " and ".join(run.name for run in runs)
    return f"Left out: metrics.jsonl of {names} holds no step and no epoch."


def _epochs_of(run: RunFolder) -> str:
    return f"{_epochs_done(run)} of {run.num_epochs or MISSING}"


def _epochs_done(run: RunFolder) -> int:
    return run.log.epochs[-1].epoch if run.log.epochs else 0


def _duration(run: RunFolder) -> str:
    _, seconds = run.log.series("seconds")
    if not len(seconds):
        return MISSING
    minutes, rest = divmod(round(seconds[-1]), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _speed(run: RunFolder) -> str:
    found = mean_speed(run.log)
    return MISSING if found is None else f"{found:,.0f}"


def _setting(run: RunFolder, section: str, name: str) -> str:
    values = run.settings.get(section, {})
    return str(values.get(name, MISSING)) if isinstance(values, dict) else MISSING


def _title(name: str) -> str:
    return {
        "val_loss": "validation loss",
        "val_perplexity": "validation perplexity",
        "bad_endings": "bad endings",
        "bad-endings": "bad endings",
        "object-recall": "object recall",
        "length": "length in words",
    }.get(name, name)


def _number(name: str, value: float) -> str:
    if name in ("bad_endings", "bad-endings"):
        return f"{value:.1%}"
    return f"{value:.2f}" if name == "val_perplexity" else f"{value:.4f}"


def _rows(names: Sequence[str], columns: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [[name, *(_text(column.get(name)) for column in columns)] for name in names]


def _text(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
