"""The server that scripts measure, as a process, and the clients who ask it.

Good clients hold each answer against the caption that the file got offline.
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import _hostile

DESERVED = "as deserved"


@contextmanager
def serving(options: argparse.Namespace) -> Iterator[tuple[subprocess.Popen[str], int, float]]:
    """The server's process, its port, and the seconds until it was ready."""
    command = [sys.executable, "-m", "showtell", "serve", "--model", options.model, "--port", "0"]
    threads = {"OMP_NUM_THREADS": str(options.threads)} if options.threads else {}
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--device", options.device],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | threads,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r":(\d+)$", line.strip())
        assert found, line + process.stderr.read()
        port = int(found[1])
        read(port, "/readyz")
        yield process, port, time.perf_counter() - started
    finally:
        process.kill()


def read(port: int, path: str) -> str:
    """What a GET gives."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def metric(port: int, name: str) -> float:
    """A number of the server's own."""
    [line] = [line for line in read(port, "/metrics").splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def batch_size(port: int) -> float:
    """Mean pictures a batch since the server started."""
    name = "showtell_batch_pictures"
    return metric(port, f"{name}_sum") / metric(port, f"{name}_count")


def told(statuses: Counter[str]) -> str:
    """How often what came of hostile requests."""
    return ", ".join(f"{what}: {num}" for what, num in statuses.items())


class Checked:
    """Asks for captions of files and holds them against those that they got offline."""

    def __init__(self, port: int, captions: dict[Path, str]) -> None:
        self.port, self.captions = port, captions
        self.files = {path: path.read_bytes() for path in captions}
        self.seconds: list[float] = []
        self.wrong: list[tuple[Path, object]] = []
        self._local = threading.local()

    def ask(self, path: Path) -> None:
        """One request, on this thread's own connection."""
        if not hasattr(self._local, "connection"):
            self._local.connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        body, kind = _hostile.multipart([(path.name, self.files[path])])
        started = time.perf_counter()
        for attempt in (1, 2):  # an idle connection may have been closed
            try:
                self._local.connection.request("POST", "/v1/captions", body, {"Content-Type": kind})
                answer = self._local.connection.getresponse()
                found = json.loads(answer.read())
                break
            except OSError:
                self._local.connection.close()
                if attempt == 2:
                    raise
        self.seconds.append(time.perf_counter() - started)
        caption = found["results"][0].get("caption") if answer.status == 200 else found
        if caption != self.captions[path]:
            self.wrong.append((path, caption))

    def worst_wait(self, threads: ThreadPoolExecutor, num: int) -> float:
        """Seconds that one of ``num`` requests took at most."""
        self.seconds.clear()
        list(threads.map(self.ask, itertools.islice(itertools.cycle(self.files), num)))
        return max(self.seconds)

    def insist(self) -> None:
        """End here if an answer was wrong."""
        assert not self.wrong, f"{len(self.wrong)} wrong captions, as {self.wrong[:3]}"

    def among_hostile(self, statuses: Counter[str]) -> Iterator[Callable[[], None]]:
        """Endless tasks: a good request, a hostile one, a good one, ...; counts what came of it."""
        kinds = _hostile.kinds(next(iter(self.files.values())))
        rounds = zip(itertools.cycle(self.files), itertools.cycle(kinds.items()), strict=False)

        def attack(name: str, what: _hostile.Body | bytes, wanted: int) -> None:
            got = _hostile.send(self.port, what, wanted)
            statuses[DESERVED if got == wanted else f"{name}: {got}, not {wanted}"] += 1

        for path, (name, (what, wanted)) in rounds:
            yield lambda path=path: self.ask(path)
            yield lambda name=name, what=what, wanted=wanted: attack(name, what, wanted)
