"""What people see besides results: notes and progress on standard error, errors as one line.

``ConsoleReporter`` draws while a command works. ``exit_code_for`` turns an exception into a line
and an exit code. ``Command`` and ``Commands`` add to usage errors what was probably meant.
"""

import errno
import os
import shlex
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import typer
from typer.core import TyperCommand, TyperGroup

from showtell.core.files import CannotWriteError
from showtell.core.progress import StepReport
from showtell.errors import (
    MissingExtraError,
    SaidElsewhereError,
    ShowtellError,
    UsageError,
    reason_of,
)

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ConsoleReporter:
    """Draws notes, progress bars and the notebook's log lines; use it in a ``with``.

    Args:
        quiet: whether it draws nothing: of the processes of a run, one speaks.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._name = ""
        self._lines = _Lines()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = self._task = None
            self._name = ""

    def note(self, text: str) -> None:
        """A sentence for the user."""
        if self._bars is not None:
            self._bars.console.print(text, markup=False)
        elif not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def progress(self, task: str, done: int, total: int, unit: str, *, num_failed: int = 0) -> None:
        """Move the bar of ``task``; a new task takes the place of the one before.

        Where standard error is a file, whoever follows it gets a line a minute.
        """
        if self.quiet:
            return
        if not sys.stderr.isatty():
            if line := self._lines.line(task, done, total, unit, time.monotonic()):
                self.note(line)
            return
        if self._bars is None:
            self._bars = _bars()
            self._bars.start()
        if task != self._name:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task, self._name = self._bars.add_task(task, speed=""), task
        assert self._task is not None
        speed = self._bars.tasks[0].speed
        text = f"{speed:,.0f} {unit}/s" if speed else ""
        if num_failed:
            text += f", {num_failed:,} failed"
        self._bars.update(self._task, completed=done, total=total or None, speed=text)
        if total and done >= total:
            self._bars.remove_task(self._task)
            self._task, self._name = None, ""

    def watch(self, task: str, unit: str) -> Callable[[int, int], None]:
        """A callback of (done, total) for library functions."""
        return lambda done, total: self.progress(task, done, total, unit)

    def step(self, report: StepReport) -> None:
        """Move the epoch's bar; print the log line when it is due."""
        task = f"epoch {report.epoch}/{report.num_epochs}"
        self.progress(task, report.items_done, report.items_total, report.unit)
        if report.shown:
            self.note(report.line)

    def epoch(self, epoch: int, values: dict[str, Any]) -> None:
        """One line of validation figures."""
        shown = ("val_loss", "val_perplexity", "BLEU-4", "CIDEr-D", "bad_endings")
        figures = ", ".join(f"{name} {values[name]:.4f}" for name in shown if name in values)
        self.note(f"Epoch {epoch} validation: {figures}")


class _Lines:
    """Progress where no bar can be drawn: where a task is, its rate and the time left."""

    EVERY = 60.0  # seconds

    def __init__(self) -> None:
        self._task = ""
        self._began = self._said = 0.0
        self._done_before = 0

    def line(self, task: str, done: int, total: int, unit: str, now: float) -> str | None:
        """What to say at ``now``, in seconds; None where a line has been said within a minute.

        A task that takes less than a minute says nothing. One that goes on where it was stopped
        counts its rate from there.
        """
        if task != self._task:
            self._task, self._began, self._said, self._done_before = task, now, now, done
        if now - self._said < self.EVERY:
            return None
        self._said = now
        rate = (done - self._done_before) / (now - self._began)
        of_all = f" of {total:,}" if total else ""
        line = f"{task}: {done:,}{of_all} {unit}, {rate:,.{0 if rate >= 10 else 1}f}/s"
        if rate and total > done:
            line += f", {max(1, round((total - done) / rate / 60)):,} min left"
        return line


def _bars() -> "Progress":
    """Bars on standard error. Only who draws one imports rich: a lone photo need not wait."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True, highlight=False, soft_wrap=True),
        transient=True,
    )


TRAINING_PACKAGES = ("torch", "safetensors")
FAILED = 1
INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended
WRONG_USAGE = 2
BROKEN_PIPE = 141  # what a shell reports for a program that SIGPIPE ended


def stopped() -> typer.Exit:
    """Say how to go on with a command that Ctrl-C has stopped; what to raise, then."""
    typer.echo("stopped; to resume, run the same command again", err=True)
    return typer.Exit(INTERRUPTED)


def exit_code_for(error: Exception) -> int:
    """Print what went wrong in one line; give the code to exit with."""
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()  # else Python complains once more while it ends
        return BROKEN_PIPE
    if isinstance(error, SaidElsewhereError):
        return FAILED
    if isinstance(error, ShowtellError):
        say(str(error))
        if isinstance(error, UsageError):
            return WRONG_USAGE
    elif isinstance(error, OSError):
        say(_describe_os_error(error))
    elif isinstance(error, ModuleNotFoundError) and error.name in TRAINING_PACKAGES:
        say(str(MissingExtraError("train", "this command computes in torch and")))
    else:
        say(
            f"unexpected {type(error).__name__}: {' '.join(str(error).split())} "
            "(a bug in showtell; --debug shows where)"
        )
    return FAILED


def say(text: str) -> None:
    """One line on standard error."""
    print(f"error: {text}", file=sys.stderr)


def _describe_os_error(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    reason = reason_of(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}; free some space and run the same command again"
    if isinstance(error, CannotWriteError):
        return f"cannot write {error.filename}: {reason}"
    return f"{reason}{where}"


PREFIX = "Value error, "  # pydantic's, by which typer checks a choice


class Command(TyperCommand):
    """A command of ``showtell``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the arguments apart; an error names what was given and what was probably meant."""
        given = list(args)  # parsing empties the list
        if not ctx.resilient_parsing:
            self._refuse_second_model(given)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if error.message.startswith("Input should"):  # pydantic names no value
                value = cast(Any, error.__cause__).errors()[0]["input"]
                error.message = f"{value!r}: {error.message[0].lower()}{error.message[1:]}"
            error.message = error.message.removeprefix(PREFIX)
            raise
        except Exception as error:
            if _is_unknown_option(error):
                self._suggest_settings(error, given)
            raise

    def _refuse_second_model(self, given: list[str]) -> None:
        """
        Raises:
            UsageError: ``--model`` is given twice to a command that takes one: the parser would
                forget the first.
        """
        option = next((one for one in self.params if "--model" in one.opts), None)
        if option is None or cast(Any, option).multiple:
            return
        if sum(text.partition("=")[0] in option.opts for text in given) > 1:
            known = {name for parameter in self.params for name in parameter.opts}
            advice = "; --ensemble MODEL averages another with it" * ("--ensemble" in known)
            raise UsageError(f"--model is given twice, and {self.name} takes one{advice}")

    def _suggest_settings(self, error: Any, given: list[str]) -> None:
        """Name the settings that an unknown option may stand for, where the command has ``-s``.

        A setting that the command has an option for is named by it.
        """
        option = error.option_name
        known = {name for parameter in self.params for name in parameter.opts}
        if "-s" not in known or any(name.startswith(f"{option}-") for name in known):
            return
        from showtell.cli.options import PLAIN
        from showtell.config import Config
        from showtell.config.section import settings_like

        plain = {name: short for short, name in PLAIN.items()} if known >= PLAIN.keys() else {}
        place = next((n for n, text in enumerate(given) if text.partition("=")[0] == option), -1)
        after = given[place].partition("=")[2] or next(iter(given[place + 1 :]), "")
        value = "..." if not after or after.startswith("-") else after
        if found := settings_like(option.lstrip("-").replace("-", "_"), Config):
            meant = " or ".join(
                f"{plain[name]} {value}" if name in plain else f"-s {name}={value}"
                for name in found
            )
            error.message += f"; did you mean {meant}?"
            error.possibilities = None


class Commands(TyperGroup):
    """The commands of ``showtell``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the arguments apart; an option of a command that stands before it is told so."""
        given = list(args)  # parsing empties the list
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if _is_unknown_option(error):
                self._suggest_order(error, given)
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; pictures in its place are captioned by ``caption``."""
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            if hasattr(error, "message") and os.path.exists(args[0]):  # a private class, as above
                command = f"showtell caption {shlex.join(args)}"
                error.message = f"No such command {args[0]!r}; to caption it: {command}"
            raise

    def _suggest_order(self, error: Any, given: list[str]) -> None:
        """Name the command to type where an unknown option is one of a command.

        It is the command that was typed after it, or else ``caption``.
        """
        option = error.option_name
        having = [
            name
            for name, command in self.commands.items()
            if any(option in parameter.opts for parameter in command.params)
        ]
        if name := next((text for text in given if text in having), ""):
            given.remove(name)
        elif "caption" in having and not any(text in self.commands for text in given):
            name = "caption"
        if name:
            command = shlex.join(["showtell", name, *given])
            error.message = f"{option} belongs after the command: {command}"
            error.possibilities = None


def _is_unknown_option(error: Exception) -> bool:
    """Whether an error is of an option that is not known; its class is private."""
    return hasattr(error, "option_name") and hasattr(error, "possibilities")
