"""How long a model takes: from the shell to a caption, and picture by picture."""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from showtell.captioner import Captioner
from showtell.errors import CheckpointError
from showtell.features.images import open_image

REPEATS = 3
NUM_SINGLE = 10


@dataclass(frozen=True)
class Speed:
    """Times on the machine that made the card.

    Attributes:
        first: seconds from starting ``showtell caption`` on one picture to its end.
        single: seconds a picture, one at a time, from the file to the caption.
        many: pictures a second, 32 at a time.
        runtime: device, precision and threads.
    """

    first: float
    single: float
    many: float
    runtime: str


def measure_speed(model: Path, pictures: Sequence[Path]) -> Speed:
    """Time a model; the least of some repeats, as other work can only add to it.

    Raises:
        CheckpointError: the command fails.
    """
    command = [sys.executable, "-m", "showtell", "caption", str(pictures[0]), "-m", str(model)]
    first = min(_seconds(command) for _ in range(REPEATS))
    captioner = Captioner.load(model)
    list(captioner.caption_stream(pictures[:1]))  # torch makes its kernels ready
    single = []
    for path in (list(pictures) * NUM_SINGLE)[:NUM_SINGLE]:
        started = time.perf_counter()
        image = open_image(path, min_side=captioner.encoder.preprocessing.decode_side)
        captioner.caption([image])
        single.append(time.perf_counter() - started)
    batch = (list(pictures) * 32)[:32]
    rates = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        list(captioner.caption_stream(batch))
        rates.append(len(batch) / (time.perf_counter() - started))
    return Speed(first, statistics.median(single), max(rates), captioner.runtime.describe())


def _seconds(command: Sequence[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CheckpointError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return time.perf_counter() - started
