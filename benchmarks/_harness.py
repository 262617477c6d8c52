"""What all benchmarks share: their options, their figures, and how these are told.

`make bench` runs every script of this folder that imports this module and whose name does not begin
with "_". Such a script

- has a docstring whose first line says what is measured against what;
- ends in ``benchmark(measure, __doc__)``, where ``measure(options)`` yields ``Figure`` objects,
  each with a ratio to a reference that was measured in the same run, or to a limit that is named;
- by way of ``benchmark`` takes ``--quick`` (sizes so tiny that only the script is tried out),
  ``--json`` (one object on standard output and nothing else there), ``--device`` and
  ``--threads``; it may take further options, all with a default;
- ends within some minutes, and within some seconds with ``--quick``;
- yields ``Figure.missing(...)`` where this machine lacks what it needs (a GPU, photos).

Work whose memory is measured, or that must start afresh, goes through ``part``: the same script
in a process of its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self
from unittest import mock

from showtell.core.memory import tune_process

FOLDER = Path(__file__).resolve().parent
Measure = Callable[[argparse.Namespace], Iterable["Figure"]]
Part = Callable[[argparse.Namespace], dict[str, Any]]
_parts: dict[str, Part] = {}  # of the running script


@dataclass(frozen=True)
class Figure:
    """A ratio.

    Attributes:
        name: what was measured; the same in every run, as the one before is found by it.
        reference: what ``ratio`` is a multiple or a share of.
        ratio: None where it could not be measured here.
        target: what ``ratio`` is to reach, or not to exceed; None where nothing was promised.
        lower_is_better: whether ``target`` is the most that it may be.
        detail: the figures behind the ratio, with units; or why there is none.
    """

    name: str
    reference: str
    ratio: float | None
    target: float | None = None
    lower_is_better: bool = False
    detail: str = ""

    @classmethod
    def missing(cls, name: str, reference: str, reason: str) -> Self:
        """What this machine cannot show."""
        return cls(name, reference, None, detail=reason)

    @property
    def verdict(self) -> str:
        """``ok``, ``short``, or ``-`` where nothing was promised or measured."""
        if self.ratio is None or self.target is None:
            return "-"
        is_met = self.ratio <= self.target if self.lower_is_better else self.ratio >= self.target
        return "ok" if is_met else "short"

    @property
    def aim(self) -> str:
        """The target, as in ``>= 30``."""
        if self.target is None:
            return "-"
        return f"{'<=' if self.lower_is_better else '>='} {self.target:g}"

    def line(self) -> str:
        """For people."""
        if self.ratio is None:
            return f"{self.name}: not measured: {self.detail}"
        shown = f"{self.ratio:.3g} of {self.reference}"
        aim = f" (target {self.aim}: {self.verdict})" if self.target is not None else ""
        return f"{self.name}: {shown}{aim}; {self.detail}"


def scripts() -> list[Path]:
    """Those that `make bench` runs."""
    return [
        path
        for path in sorted(FOLDER.glob("[!_]*.py"))
        if "from _harness import" in path.read_text()
    ]


def benchmark(
    measure: Measure,
    doc: str,
    *,
    options: Callable[[argparse.ArgumentParser], object] = lambda parser: None,
    parts: dict[str, Part] | None = None,
) -> None:
    """Run a script: parse its options, measure, and tell the figures as they come.

    Args:
        options: adds the script's own.
        parts: what ``part`` may ask for, by name.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does the script work?")
    parser.add_argument("--json", action="store_true", help="the figures as JSON, nothing else")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", default="{}", help=argparse.SUPPRESS)
    options(parser)
    chosen = parser.parse_args()
    tune_process()  # as the commands that it measures do
    _parts.update(parts or {})
    if chosen.part:
        with redirect_stdout(sys.stderr):
            found = _run_part(chosen, chosen.part, json.loads(chosen.arguments))
        print(json.dumps(found))
        return
    figures = []
    with redirect_stdout(sys.stderr if chosen.json else sys.stdout):
        for figure in measure(chosen):
            figures.append(figure)
            print(figure.line(), flush=True)
    if chosen.json:
        print(json.dumps({"title": doc.splitlines()[0], "figures": [asdict(f) for f in figures]}))


def part(options: argparse.Namespace, name: str, /, **arguments: Any) -> dict[str, Any]:
    """What a part of the running script gives, in a process of its own; it may print freely.

    With ``--quick`` it is the script's own process, which has imported everything already.
    """
    if options.quick:
        with redirect_stdout(sys.stderr), mock.patch.dict(os.environ):
            return json.loads(json.dumps(_run_part(options, name, arguments)))
    command = [sys.executable, sys.argv[0], "--part", name, "--arguments", json.dumps(arguments)]
    command += ["--device", options.device, *(["--quick"] if options.quick else [])]
    if options.threads:
        command += ["--threads", str(options.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _run_part(options: argparse.Namespace, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return _parts[name](argparse.Namespace(**vars(options) | arguments))


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """How long it takes, the device's part included."""
    wait_for(device)
    start = time.perf_counter()
    work()
    wait_for(device)
    return time.perf_counter() - start


def wait_for(device: str) -> None:
    """Until the device has done what it was given."""
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()


def peak_bytes() -> int:
    """The most memory that this process had resident, mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent b of values = a sizes**b, by least squares on logarithms; 1 is linear."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def test_data() -> Path:
    """Where the photos and captions for tests lie, there or not."""
    return Path(os.environ.get("SHOWTELL_TEST_DATA", FOLDER.parent.parent / "shared" / "data"))
