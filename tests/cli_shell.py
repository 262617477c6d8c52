"""Runs the command line as a user would, for tests of several folders."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from shared_cache import share_meteor

from showtell.cli import main

SMALL = (
    *("-s", "encoder.name=lite0", "-s", "encoder.views=0", "-s", "data.vocab_threshold=1"),
    *("-s", "decoder.embed_size=32", "-s", "decoder.hidden_size=64"),
    *("-s", "training.num_epochs=2", "-s", "training.batch_size=16"),
    *("--preset", "none"),
)


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Shell:
    """Calls ``showtell``, by default in this process, which spares the import of torch."""

    cache: Path

    def __post_init__(self) -> None:
        share_meteor(self.cache)

    @property
    def variables(self) -> dict[str, str]:
        return {"SHOWTELL_CACHE": str(self.cache), "NO_COLOR": "1", "COLUMNS": "100"}

    def __call__(self, *arguments: str | Path) -> Outcome:
        with self._as_program(arguments) as (out, err):
            try:
                main()
                code: object = 0
            except SystemExit as error:
                code = error.code
        return Outcome(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """The same in a process of its own, to be killed."""
        return subprocess.Popen(
            [sys.executable, "-m", "showtell", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | self.variables,
        )

    @contextlib.contextmanager
    def _as_program(
        self, arguments: tuple[str | Path, ...]
    ) -> Iterator[tuple[io.StringIO, io.StringIO]]:
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.object(sys, "argv", ["showtell", *map(str, arguments)]),
            mock.patch.dict(os.environ, self.variables),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            yield out, err
