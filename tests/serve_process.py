"""`showtell serve` as a process of its own, to be stopped, killed and started again."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from cli_shell import Shell


class ServeProcess:
    """A server; a restart keeps its address."""

    def __init__(self, shell: Shell, *models: Path, options: tuple[str, ...] = (), **env: str):
        self._shell, self._options, self._env = shell, options, env
        self._models = [part for model in models for part in ("--model", str(model))]
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Returns when it listens and has its models."""
        command = [sys.executable, "-m", "showtell", "serve", "--port", str(self.port)]
        self._process = subprocess.Popen(
            [*command, *self._models, *self._options],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | self._shell.variables | self._env,
        )
        assert self._process.stderr is not None
        said = ""
        for line in self._process.stderr:
            said += line
            if found := re.search(r"at http://[^:]+:(\d+)", line):
                self.port = int(found[1])
                return
        self._end()
        raise AssertionError(f"showtell serve ended: {said}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        self._process.send_signal(number)
        self._end()

    def kill(self) -> None:
        """As a crash does: what was accepted is not answered."""
        self.stop(signal.SIGKILL)

    def __enter__(self) -> "ServeProcess":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._process.poll() is None:
            self.stop()

    def _end(self) -> None:
        self._process.wait(60)
        assert self._process.stderr is not None
        self._process.stderr.close()
