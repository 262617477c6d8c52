"""``showtell caption`` into files, beside pictures or into them: what is shown, how it ends.

MERGED: ``showtell caption --engine ray``.
"""

import os
from pathlib import Path
from typing import Any

import typer

from showtell.bulk.inputs import Inputs
from showtell.bulk.run import caption_all, plan
from showtell.bulk.targets import Metadata, OneFile, Sidecars, Target
from showtell.cli.console import ConsoleReporter
from showtell.data.reading import printable
from showtell.errors import ConfigError
from showtell.inference.captioner import Captioner

STOPPED = 130  # what a shell reports for a program that SIGINT ended
MOST_ERRORS_SHOWN = 20


def caption_into(
    target: Target,
    captioner: Captioner,
    inputs: Inputs,
    *,
    strict: bool,
    alone: bool,
    **options: Any,
) -> bool:
    """Run ``caption_all`` before the user's eyes.

    Args:
        strict: whether any failure is one.
        alone: whether there is but one picture, which needs no summary.
        options: for ``caption_all``.

    Returns:
        Whether the exit code has to tell of a failure.
    """
    try:
        with ConsoleReporter() as report:
            shown = _Failures(report)
            summary = caption_all(
                captioner, inputs, target, report=report, on_failure=shown, **options
            )
            if not alone:
                report.note(summary.describe(target.failures))
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on where it stopped", err=True)
        raise typer.Exit(STOPPED) from None
    return summary.single_failed or (strict and bool(summary.num_failed))


def failures_file(names: list[str], output: Path | None) -> Path:
    """Beside the output; else in the folder that was named first, or in the current one."""
    if output is not None:
        return output.with_name("failures.jsonl")
    first = Path(names[0])
    return (first if first.is_dir() else Path()) / "failures.jsonl"


def make_target(
    kind: str, output: Path | None, failures: Path, *, overwrite: bool, alone: bool
) -> Target:
    """Where captions of a format go.

    Raises:
        MissingExtraError: what writes the format is not installed.
    """
    if kind == "sidecar":
        return Sidecars(failures, overwrite=overwrite)
    if kind == "xmp":
        return Metadata(failures, overwrite=overwrite)
    assert output is not None
    return OneFile(output, kind, failures, overwrite=overwrite, alone=alone)


def print_plan(inputs: Inputs, target: Target | None) -> set[str]:
    """Show what would be done with each picture; the paths that would fail."""
    failed: set[str] = set()
    num_kept = num_left = 0
    for planned in plan(inputs, target):
        path = printable(planned.path)
        if planned.error is not None:
            failed.add(planned.path)
            typer.echo(f"error: {printable(planned.error)}", err=True)
        elif planned.kept is not None:
            num_kept += 1
            typer.echo(f"keep {path}: {printable(planned.kept)}")
        else:
            num_left += 1
            typer.echo(f"caption {path}")
    failing = f", {len(failed):,} would fail" if failed else ""
    typer.echo(
        f"{num_left:,} to caption, {num_kept:,} kept{failing}; nothing was written", err=True
    )
    return failed


class _Failures:
    """Shows the first failures; a list has them all."""

    def __init__(self, report: ConsoleReporter) -> None:
        self.report = report
        self._num = 0

    def __call__(self, reason: str) -> None:
        self._num += 1
        if self._num <= MOST_ERRORS_SHOWN:
            self.report.note(f"error: {printable(reason)}")
        elif self._num == MOST_ERRORS_SHOWN + 1:
            self.report.note("further failures are only listed in the failures file")


def caption_on_ray(
    pictures: list[str],
    output: Path | None,
    kind: str,
    loading: dict[str, Any],
    decoding: dict[str, Any],
    *,
    address: str | None,
    workers: int | None,
    dedupe: bool,
    overwrite: bool,
) -> int:
    """Run the job on Ray; how many pictures and shards failed."""
    if output is None:
        raise ConfigError("--engine ray writes a file a shard: add -o FOLDER")
    if output.is_file():
        raise ConfigError(f"-o {output} is a file; --engine ray writes into a folder")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    from showtell.bulk.ray import Job, caption_shards
    from showtell.bulk.remote import name_of

    if os.path.exists(loading["model"]):  # actors have working folders of their own
        loading = loading | {"model": os.path.abspath(loading["model"])}
    job = Job(loading, decoding, name_of(output), kind, dedupe, overwrite)
    with ConsoleReporter() as report:
        return caption_shards(pictures, job, address=address, workers=workers, report=report)
