"""``showtell serve`` against captioning the same files offline.

The offline reference is ``Captioner.caption_stream`` with its own batches, measured in this process
right before and right after each round of the server, which is another process on the same
processor; its clients, 16 threads with one picture a request, run here. Every answer is compared
with the caption that the file got offline; a wrong one makes this script fail. ``--soak`` goes on
for some minutes with good requests and hostile ones (``_hostile.py``), and watches the server's
memory.

    python benchmarks/serve.py [--model RUN] [--photos FOLDER] [--rounds 3] [--soak 10]

Without ``--photos`` it uses Flickr8k's from the test data, or else makes some.
"""

import argparse
import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

from _harness import Figure, benchmark
from _server import Checked, batch_size, metric, serving, told
from features import find_photos

from showtell.core.device import choose_runtime

if TYPE_CHECKING:  # torch is imported after the allocator is tuned
    from showtell.inference.captioner import Captioner

MOST_SECONDS = 1.0
LEAST_SHARE = 0.7
MOST_GROWTH = 1.05  # of resident memory, over the second half of a soak


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """The start, the throughput, and the soak."""
    if options.quick:
        options.num, options.rounds, options.clients = 8, 1, 4
    with tempfile.TemporaryDirectory() as folder:
        photos = options.photos or find_photos(Path(folder), options.num if options.quick else None)
        paths = sorted(photos.glob("*.jpg"))[: options.num]
        with serving(options) as (process, port, seconds):
            yield Figure(
                "serve, from its start until it is ready",
                f"the {MOST_SECONDS:g} s that are allowed",
                seconds / MOST_SECONDS,
                1.0,
                True,
                f"{seconds:.1f} s, {options.model}",
            )
            captioner = load(options)
            checked = Checked(port, offline(captioner, paths)[1])
            with ThreadPoolExecutor(options.clients) as threads:
                yield throughput(checked, threads, captioner, options)
                checked.insist()
                yield soak(checked, threads, options.soak * 60)
                checked.insist()
            process.terminate()
            code = process.wait(60)
            assert code == 0, f"exit code {code} after SIGTERM"


def load(options: argparse.Namespace) -> "Captioner":
    """The same model in this process."""
    print(choose_runtime(options.device, threads=options.threads).describe())
    from showtell.inference.captioner import Captioner

    return Captioner.load(options.model, device=options.device)


def offline(captioner: "Captioner", paths: list[Path]) -> tuple[float, dict[Path, str]]:
    """Pictures/s, and the captions."""
    started = time.perf_counter()
    results = list(captioner.caption_stream(paths))
    rate = len(paths) / (time.perf_counter() - started)
    assert all(result.caption for result in results)
    return rate, {path: result.text for path, result in zip(paths, results, strict=True)}


def throughput(
    checked: Checked,
    threads: ThreadPoolExecutor,
    captioner: "Captioner",
    options: argparse.Namespace,
) -> Figure:
    """Rounds of offline, server, offline."""
    paths = list(checked.captions)
    list(threads.map(checked.ask, paths[: 2 * options.clients]))
    checked.seconds.clear()
    before, _ = offline(captioner, paths)
    shares, rates, offlines = [], [], []
    for _ in range(options.rounds):
        started = time.perf_counter()
        list(threads.map(checked.ask, paths))
        rates.append(len(paths) / (time.perf_counter() - started))
        after, _ = offline(captioner, paths)
        offlines.append((before + after) / 2)
        shares.append(rates[-1] / offlines[-1])
        before = after
    cuts = quantiles(checked.seconds, n=100, method="inclusive")
    runtime = captioner.runtime
    return Figure(
        "serve, pictures/s, one picture a request",
        "captioning the same files offline",
        median(shares),
        LEAST_SHARE,
        detail=f"{median(rates):.0f} pictures/s served, {median(offlines):.0f} offline; latency "
        f"p50 {cuts[49] * 1e3:.0f} ms, p99 {cuts[98] * 1e3:.0f} ms; {options.clients} clients, "
        f"{batch_size(checked.port):.1f} pictures a batch, {len(paths)} files, {options.model}, "
        f"{runtime.precision} on {runtime.device}; {len(checked.wrong)} of {len(checked.seconds)} "
        f"captions differ from offline; rounds {', '.join(f'{share:.2f}' for share in shares)}",
    )


def soak(checked: Checked, threads: ThreadPoolExecutor, seconds: float) -> Figure:
    """Good and hostile requests for some time; resident memory at each tenth of it."""
    name, reference = "serve, memory at the end of a soak", "memory at its middle"
    if not seconds:
        return Figure.missing(name, reference, "only `--soak MINUTES` does it")
    statuses = Counter[str]()
    checked.seconds.clear()
    tasks = checked.among_hostile(statuses)
    started = time.perf_counter()
    memory: list[float] = []
    while (elapsed := time.perf_counter() - started) < seconds:
        if elapsed >= len(memory) * seconds / 10:
            memory.append(metric(checked.port, "process_resident_memory_bytes") / 1e6)
        list(threads.map(lambda task: task(), itertools.islice(tasks, 160)))
    memory.append(metric(checked.port, "process_resident_memory_bytes") / 1e6)
    return Figure(
        name,
        reference,
        memory[-1] / memory[(len(memory) - 1) // 2],
        MOST_GROWTH,
        True,
        f"{seconds / 60:g} min; resident MB {', '.join(f'{value:.0f}' for value in memory)}; "
        f"{len(checked.seconds)} good requests, {len(checked.wrong)} answered wrongly; hostile "
        f"ones {told(statuses)}; open files {metric(checked.port, 'process_open_fds'):.0f}",
    )


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="default")
    parser.add_argument("--photos", type=Path, default=None)
    parser.add_argument("--num", type=int, default=256, help="pictures a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES")


if __name__ == "__main__":
    benchmark(measure, __doc__, options=_options)
