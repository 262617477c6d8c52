"""``showtell caption`` into files, beside pictures, into pictures or on Ray; and ``--dry-run``."""

import glob
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from showtell.bulk.formats import is_written_by_showtell
from showtell.bulk.inputs import Inputs
from showtell.bulk.journal import journal_of
from showtell.bulk.run import caption_all, plan
from showtell.bulk.targets import Metadata, OneFile, Sidecars, Target
from showtell.cli.console import ConsoleReporter, stopped
from showtell.data.reading import printable
from showtell.errors import ConfigError, UsageError
from showtell.inference.specs import spec_of

if TYPE_CHECKING:
    from showtell.cli.caption import Request

MOST_SHOWN = 20


def make_target(request: "Request", inputs: Inputs) -> Target:
    """Where the captions go.

    Raises:
        UsageError: two of the files to be written are the same.
        DataError: what is to be written is there, and is a person's.
        MissingExtraError: what writes the format is not installed.
    """
    writing = request.writing
    overwrite, kind = writing.overwrite, writing.kind.value
    failures = writing.failures or _failures_file(request.pictures, writing.output)
    target: Target
    if writing.output is not None:
        target = OneFile(
            writing.output,
            kind,
            failures,
            overwrite=overwrite,
            alone=inputs.is_one_picture,
            prune=writing.prune,
        )
    elif kind == Sidecars.kind:
        target = Sidecars(failures, overwrite=overwrite)
    else:
        target = Metadata(failures, overwrite=overwrite)
    _check_apart(writing.output, target)
    target.check()
    return target


def own_files(request: "Request") -> list[Path]:
    """The files of an earlier start of the same command; a person's are not among them."""
    writing = request.writing
    if writing.is_to_screen or (writing.output is not None and writing.output.is_dir()):
        return []  # a folder is refused later
    failures = writing.failures or _failures_file(request.pictures, writing.output)
    named = [(failures, "failures")]
    if writing.output is not None:
        named.append((writing.output, writing.kind.value))
    ours = [path for path, kind in named if is_written_by_showtell(path, kind)]
    if (output := writing.output) is not None:
        ours += output.parent.glob(f"{glob.escape(output.name)}.bak*")
    return [*ours, journal_of(output or failures)]


def _check_apart(output: Path | None, target: Target) -> None:
    failures = os.path.realpath(target.failures)
    for path, what in ((output, "-o"), (target.journal, "the journal of the run")):
        if path is not None and os.path.realpath(path) == failures:
            raise UsageError(
                f"--failures {target.failures} is also {what}: give another name for the failures"
            )


def _failures_file(names: list[str], output: Path | None) -> Path:
    """Beside the output, and its own; else in the folder that was named first, or in this one.

    Only ``.jsonl`` is left out, so that ``a.csv`` and ``a.jsonl`` have a list each.
    """
    if output is not None:
        return output.with_name(f"{output.name.removesuffix('.jsonl')}.failures.jsonl")
    first = Path(names[0])
    return (first if first.is_dir() else Path()) / "failures.jsonl"


def caption_into_files(request: "Request", inputs: Inputs, target: Target) -> bool:
    """Caption what has no caption yet; whether the exit code has to report a failure."""
    captioner, decoding = request.load()
    making = request.making
    try:
        with ConsoleReporter() as report:
            summary = caption_all(
                captioner,
                inputs,
                target,
                decoding=decoding,
                attention=making.attention,
                dedupe=making.dedupe,
                batch_size=making.batch_size,
                overwrite=request.writing.overwrite,
                report=report,
                on_failure=_Told(report, "error", "further failures are only listed in the file"),
                on_withheld=_Told(report, "withheld", "further captions are withheld"),
            )
            report.note(summary.describe(target.failures))
            if (cost := request.asking.cost(captioner)) is not None:
                report.note(cost)
    except KeyboardInterrupt:
        raise stopped() from None
    return summary.single_failed or (request.strict and bool(summary.num_failed))


class _Told:
    """Shows the first of many lines.

    Args:
        kind: what each begins with.
        rest: the line in place of all others.
    """

    def __init__(self, report: ConsoleReporter, kind: str, rest: str) -> None:
        self._report, self._kind, self._rest = report, kind, rest
        self._num = 0

    def __call__(self, line: str) -> None:
        self._num += 1
        if self._num <= MOST_SHOWN:
            self._report.note(f"{self._kind}: {printable(line)}")
        elif self._num == MOST_SHOWN + 1:
            self._report.note(self._rest)


def print_plan(request: "Request", inputs: Inputs, target: Target | None) -> bool:
    """Show what would be done with each picture; whether the run would fail.

    Args:
        target: where captions would go; None: to the screen.
    """
    failed: set[str] = set()
    num_kept = num_done = num_left = 0
    remote = None
    if spec_of(request.model.name) is not None:
        from showtell.bulk.estimate import Price, Sample, estimate, unasked
        from showtell.inference.loading import ModelRequest

        model = request.model
        settings = model.settings.backend()
        remote = unasked(ModelRequest(model.name, settings=settings, cleaning=model.cleaning))
        sample = Sample()
    writing = request.writing
    attention = request.making.attention
    for planned in plan(inputs, target, overwrite=writing.overwrite, attention=attention):
        path = printable(planned.path)
        if planned.error is not None:
            failed.add(planned.path)
            typer.echo(f"error: {printable(planned.error)}", err=True)
        elif planned.kept is not None:
            num_kept += 1
            num_done += planned.is_done
            typer.echo(f"keep {path}: {printable(planned.kept)}")
        else:
            num_left += 1
            if remote is not None and planned.picture is not None:
                sample.add(planned.picture)
            typer.echo(f"caption {path}")
    failing = f", {len(failed):,} would fail" if failed else ""
    by = f" ({num_done:,} of an earlier run, if by this model)" if num_done else ""
    typer.echo(
        f"{num_left:,} to caption, {num_kept:,} kept{by}{failing}; nothing was written", err=True
    )
    if remote is not None and sample.num:
        remote.tell = partial(typer.echo, err=True)
        found = estimate(remote, sample, measure=request.asking.measure)
        typer.echo(found.describe(remote, Price.given(request.asking.price)), err=True)
    return inputs.has_failed(failed) or (request.strict and bool(failed))


def caption_on_ray(request: "Request") -> bool:
    """Run the job on Ray; whether the exit code has to report a failure."""
    writing, cluster = request.writing, request.cluster
    if writing.output is None:
        raise UsageError("--engine ray writes one file for each shard: add -o FOLDER")
    if writing.output.is_file():
        raise ConfigError(f"-o {writing.output} is a file, but --engine ray writes into a folder")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    from showtell.bulk.ray import Job, caption_shards
    from showtell.bulk.remote import name_of

    loading = request.model.arguments()
    prefix = "hf:" if request.model.name.startswith("hf:") else ""
    folder = request.model.name.removeprefix(prefix)
    if os.path.exists(folder):  # actors have working folders of their own
        loading["model"] = prefix + os.path.abspath(folder)
    making = request.making
    output, file_format = name_of(writing.output), writing.kind.value
    job = Job(loading, making.decoding, output, file_format, making.dedupe, writing.overwrite)
    with ConsoleReporter() as report:
        num_failed = caption_shards(
            request.pictures, job, address=cluster.address, workers=cluster.workers, report=report
        )
    return request.strict and bool(num_failed)
