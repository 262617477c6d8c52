"""``showtell serve`` against captioning the same files offline: pictures/s as a share, in one run.

The reference is ``Captioner.caption_files`` with its batches of 32, measured in this process right
before and right after each round of the server, which is another process on the same processor;
its clients, 16 threads with one picture a request, run here. Every answer is compared with the
caption that the file got offline. Then 1,000 hostile requests among good ones: each must get the
status it deserves, and each good one its caption. ``--soak`` goes on with both for some minutes and
watches the server's memory.

    python benchmarks/serve.py --model RUN [--photos FOLDER] [--rounds 3] [--soak 10]
"""

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles

import hostile
from features import find_photos

from showtell.runtime import choose_runtime, tune_allocator

LEAST_SHARE = 0.7
NUM_HOSTILE = 1000
MOST_GROWTH = 0.05  # of resident memory, over the second half of a soak


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
        body, kind = hostile.multipart([(path.name, self.files[path])])
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


def main() -> None:
    """Run every measurement and print its line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--photos", type=Path, default=None)
    parser.add_argument("--num", type=int, default=256, help="pictures a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES")
    options = parser.parse_args()
    tune_allocator()
    with tempfile.TemporaryDirectory() as folder:
        photos = sorted((options.photos or find_photos(Path(folder))).glob("*.jpg"))
        paths = photos[: options.num]
        with serving(options.model) as (process, port, seconds):
            print(f"{choose_runtime().describe()}; {options.clients} clients, {len(paths)} files")
            print(f"started in {seconds:.1f} s (target < 3)")
            checked = throughput(port, paths, options)
            with ThreadPoolExecutor(options.clients) as threads:
                hostility(checked, threads, port)
                if options.soak:
                    soak(checked, threads, port, options.soak * 60)
            process.terminate()
            print(f"exit code after SIGTERM: {process.wait(60)}")


@contextmanager
def serving(model: str) -> Iterator[tuple[subprocess.Popen[str], int, float]]:
    """The server's process, its port, and the seconds until it was ready."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "showtell", "serve", "--model", model, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
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


def throughput(port: int, paths: list[Path], options: argparse.Namespace) -> Checked:
    """Rounds of offline, server, offline."""
    from showtell.captioner import Captioner

    captioner = Captioner.load(options.model)

    def offline() -> tuple[float, dict[Path, str]]:
        started = time.perf_counter()
        results = list(captioner.caption_files(paths))
        captions = {result.path: result.caption.text for result in results if result.caption}
        return len(paths) / (time.perf_counter() - started), captions

    list(captioner.caption_files(paths[:32]))
    before, captions = offline()
    checked = Checked(port, captions)
    shares, rates, offlines = [], [], []
    with ThreadPoolExecutor(options.clients) as threads:
        list(threads.map(checked.ask, paths[: 2 * options.clients]))
        checked.seconds.clear()
        for _ in range(options.rounds):
            started = time.perf_counter()
            list(threads.map(checked.ask, paths))
            rates.append(len(paths) / (time.perf_counter() - started))
            after, _ = offline()
            offlines.append((before + after) / 2)
            shares.append(rates[-1] / offlines[-1])
            before = after
    cuts = quantiles(checked.seconds, n=100)
    print(
        f"served {median(rates):.0f} pictures/s, offline {median(offlines):.0f}; share "
        f"{median(shares):.2f} (target >= {LEAST_SHARE}; rounds: "
        f"{', '.join(f'{share:.2f}' for share in shares)}); latency p50 {cuts[49] * 1e3:.0f} ms, "
        f"p99 {cuts[98] * 1e3:.0f} ms; {batch_size(port):.1f} pictures a batch; "
        f"{len(checked.wrong)} of {len(checked.seconds)} captions differ from offline"
    )
    assert not checked.wrong, checked.wrong[:3]
    return checked


def batch_size(port: int) -> float:
    """Mean pictures a batch since the server started."""
    return figure(port, "showtell_batch_pictures_sum") / figure(
        port, "showtell_batch_pictures_count"
    )


def figure(port: int, name: str) -> float:
    """A metric of the server."""
    [line] = [line for line in read(port, "/metrics").splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def mixed(checked: Checked, port: int, statuses: Counter[str]) -> Iterator[Callable[[], None]]:
    """Endless tasks: a good request, a hostile one, a good one, ..."""
    kinds = hostile.kinds(next(iter(checked.files.values())))
    rounds = zip(itertools.cycle(checked.files), itertools.cycle(kinds.items()), strict=False)

    def attack(name: str, what: hostile.Body | bytes, wanted: int) -> None:
        got = hostile.send(port, what, wanted)
        statuses["as deserved" if got == wanted else f"{name}: {got}, not {wanted}"] += 1

    for path, (name, (what, wanted)) in rounds:
        yield lambda path=path: checked.ask(path)
        yield lambda name=name, what=what, wanted=wanted: attack(name, what, wanted)


def hostility(checked: Checked, threads: ThreadPoolExecutor, port: int) -> None:
    """As many good requests as hostile ones, all mixed."""
    statuses = Counter[str]()
    checked.seconds.clear()
    tasks = itertools.islice(mixed(checked, port, statuses), 2 * NUM_HOSTILE)
    list(threads.map(lambda task: task(), tasks))
    print(
        f"{NUM_HOSTILE} hostile requests: {dict(statuses)}; {len(checked.seconds)} good ones among "
        f"them, {len(checked.wrong)} answered wrongly"
    )
    left = {n: figure(port, f"showtell_{n}") for n in ("pictures_waiting", "upload_bytes")}
    print(f"left behind: {left}")
    assert not checked.wrong, checked.wrong[:3]
    assert not any(left.values())


def soak(checked: Checked, threads: ThreadPoolExecutor, port: int, seconds: float) -> None:
    """Good and hostile requests for some time; resident memory at each tenth of it."""
    statuses = Counter[str]()
    checked.seconds.clear()
    endless = mixed(checked, port, statuses)
    started = time.perf_counter()
    memory: list[float] = []
    while (elapsed := time.perf_counter() - started) < seconds:
        if elapsed >= len(memory) * seconds / 10:
            memory.append(figure(port, "process_resident_memory_bytes") / 1e6)
        list(threads.map(lambda task: task(), itertools.islice(endless, 160)))
    memory.append(figure(port, "process_resident_memory_bytes") / 1e6)
    growth = memory[-1] / memory[len(memory) // 2] - 1
    print(
        f"soak of {seconds / 60:.0f} min: {len(checked.seconds)} good requests, "
        f"{len(checked.wrong)} answered wrongly, hostile: {dict(statuses)}; resident MB "
        f"{', '.join(f'{value:.0f}' for value in memory)}; {growth:+.1%} over the second half "
        f"(target <= {MOST_GROWTH:+.0%}); open files {figure(port, 'process_open_fds'):.0f}"
    )
    assert not checked.wrong, checked.wrong[:3]


if __name__ == "__main__":
    main()
