"""Runs the command line as a user would, for tests of several folders."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SMALL = (
    *("-s", "encoder.name=lite0", "-s", "encoder.views=0", "-s", "data.vocab_threshold=1"),
    *("-s", "decoder.embed_size=32", "-s", "decoder.hidden_size=64"),
    *("-s", "training.num_epochs=2", "-s", "training.batch_size=16"),
)


@dataclass(frozen=True)
class Shell:
    """Runs ``showtell`` as a user would, in a process of its own."""

    cache: Path

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"SHOWTELL_CACHE": str(self.cache), "NO_COLOR": "1", "COLUMNS": "100"}

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "showtell", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment, check=False
        )
