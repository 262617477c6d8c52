"""The first caption from a cold start, the default model, one photo, against what is allowed.

Each start is a process of its own, after one that has brought the files into memory. Beside them in
turn the same Python importing torch and ending, which no captioner built on it can be without.

    python benchmarks/start.py [--model RUN] [--rounds 5]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from _harness import Figure, benchmark
from features import find_photos

MOST_SECONDS = 2.0
MOST_HELP_SECONDS = 0.4


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """One photo; then ``--help``, which everybody waits for."""
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as folder:
        photo = min(find_photos(Path(folder), 1 if options.quick else None).glob("*.jpg"))
        showtell = [sys.executable, "-m", "showtell"]
        caption = [*showtell, "caption", str(photo), "-m", options.model]
        commands = {
            "caption": [*caption, "--device", options.device],
            "torch": [sys.executable, "-c", "import torch"],
            "help": [*showtell, "--help"],
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                seconds = wall(command, options)
                if number:
                    took[name].append(seconds)
    middle = {name: median(values) for name, values in took.items()}
    yield Figure(
        "first caption from a cold start",
        f"the {MOST_SECONDS:g} s that are allowed",
        middle["caption"] / MOST_SECONDS,
        1.0,
        True,
        f"{middle['caption']:.2f} s, of which importing torch takes {middle['torch']:.2f} s; "
        f"{options.model}; rounds {', '.join(f'{value:.2f}' for value in took['caption'])} s",
    )
    yield Figure(
        "showtell --help",
        f"the {MOST_HELP_SECONDS:g} s that are allowed",
        middle["help"] / MOST_HELP_SECONDS,
        1.0,
        True,
        f"{middle['help']:.2f} s",
    )


def wall(command: list[str], options: argparse.Namespace) -> float:
    """Seconds from the start of a process to its end."""
    threads = {"OMP_NUM_THREADS": str(options.threads)} if options.threads else {}
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | threads)
    return time.perf_counter() - begin


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="default")
    parser.add_argument("--rounds", type=int, default=5)


if __name__ == "__main__":
    benchmark(measure, __doc__, options=_options)
