"""``showtell serve`` among hostile requests: what they do to good ones.

First 1,000 wrong requests among good ones: each must get the status that it deserves, and each good
one its caption. Then the costliest requests that are allowed and the bombs that are not, kind by
kind, one client after the other beside the good ones: how long the worst-off good client waits,
with and without, and the server's memory. Then 500 idle connections, of four kinds.

    python benchmarks/hostile.py [--model RUN] [--photos FOLDER] [--hostile 1000]

Without ``--photos`` it uses Flickr8k's from the test data, or else makes some.
"""

import argparse
import itertools
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import _hostile
from _harness import Figure, benchmark
from _server import DESERVED, Checked, metric, serving, told
from features import find_photos
from serve import load, offline

LONGER = 1.0  # seconds that a good client may wait longer beside a costly request
SETTLING = 10.0  # seconds within which the server gives up what was asked by clients that have gone
IDLE = {
    "without a word": b"",
    "with half a head": b"POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nX-",
    "without a body": _hostile.post(10**6),
    "with a bit of a body": _hostile.post(10**6) + b"--b\r\n",
}


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Wrong requests, costly ones, idle connections."""
    if options.quick:
        options.num, options.clients, options.hostile, options.idle = 8, 4, 24, 50
    with tempfile.TemporaryDirectory() as folder:
        photos = options.photos or find_photos(Path(folder), options.num if options.quick else None)
        paths = sorted(photos.glob("*.jpg"))[: options.num]
        captions = offline(load(options), paths)[1]
        with serving(options) as (_, port, _), ThreadPoolExecutor(options.clients) as threads:
            checked = Checked(port, captions)
            yield from wrong(checked, threads, options.hostile)
            yield from costly(checked, threads, options)
            yield from idle(checked, threads, options.idle, options.quick)
            checked.insist()


def wrong(checked: Checked, threads: ThreadPoolExecutor, num: int) -> Iterator[Figure]:
    """As many good requests as wrong ones, all mixed; nothing of them may be left behind."""
    statuses = Counter[str]()
    checked.seconds.clear()
    tasks = itertools.islice(checked.among_hostile(statuses), 2 * num)
    list(threads.map(lambda task: task(), tasks))
    num_good = len(checked.seconds)
    yield Figure(
        "serve, good requests among hostile ones, answered rightly",
        "all good ones",
        (num_good - len(checked.wrong)) / num_good,
        1.0,
        detail=f"{num_good} requests",
    )
    yield Figure(
        "serve, hostile requests, answered as they deserve",
        "all hostile ones",
        statuses[DESERVED] / statuses.total(),
        1.0,
        detail=told(statuses),
    )
    settle(checked)


def settle(checked: Checked) -> None:
    """Wait until nothing is left behind."""
    deadline = time.monotonic() + SETTLING
    while left := [
        name
        for name in ("showtell_pictures_waiting", "showtell_upload_bytes")
        if metric(checked.port, name)
    ]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.1)


def costly(
    checked: Checked, threads: ThreadPoolExecutor, options: argparse.Namespace
) -> Iterator[Figure]:
    """Kind by kind: one client sends it over and over, while the good ones ask."""
    photo = next(iter(checked.files.values()))
    words = load(options).vocabulary.spelling.texts[10:40]
    kinds = _hostile.costly(photo, list(words))
    if options.quick:
        kinds = dict(itertools.islice(kinds.items(), 1))
    num = 4 * options.clients
    for name, (make, deserved) in kinds.items():
        before = resident(checked.port)
        without = checked.worst_wait(threads, num)
        found = Counter[int]()
        is_over = threading.Event()

        def attack(make=make, deserved=deserved, found=found, is_over=is_over) -> None:
            for n in itertools.count():
                found[_hostile.send(checked.port, make(n), deserved)] += 1
                if is_over.is_set():
                    return

        attacker = threading.Thread(target=attack)
        attacker.start()
        time.sleep(0.5)
        beside = checked.worst_wait(threads, num)
        is_over.set()
        attacker.join()
        settle(checked)
        assert {*found} == {deserved}, f"{name}: {found}, not {deserved}"
        yield Figure(
            f"serve, longest wait of a good client beside {name}, less that without",
            "1 s",
            (beside - without) / LONGER,
            1.0,
            True,
            f"{beside:.2f} s beside, {without:.2f} s without; {found.total()} with status "
            f"{deserved}; resident MB {before:.0f} before, {resident(checked.port):.0f} after",
        )


def idle(checked: Checked, threads: ThreadPoolExecutor, num: int, quick: bool) -> Iterator[Figure]:
    """So many connections from the good clients' own address that ask for nothing."""
    for name, sent in itertools.islice(IDLE.items(), 1 if quick else None):
        num_good = 4 * threads._max_workers
        before, wrong = resident(checked.port), len(checked.wrong)
        without = checked.worst_wait(threads, num_good)
        with ExitStack() as stack:
            for _ in range(num):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", checked.port)))
                client.sendall(sent)
            beside = checked.worst_wait(threads, num_good)
        settle(checked)
        yield Figure(
            f"serve, good requests beside {num} connections {name}, answered rightly",
            "all good ones",
            (num_good - len(checked.wrong) + wrong) / num_good,
            1.0,
            detail=f"longest wait {beside:.2f} s beside, {without:.2f} s without; resident MB "
            f"{before:.0f} before, {resident(checked.port):.0f} after",
        )


def resident(port: int) -> float:
    """The server's memory in MB."""
    return metric(port, "process_resident_memory_bytes") / 1e6


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="default")
    parser.add_argument("--photos", type=Path, default=None)
    parser.add_argument("--num", type=int, default=64, help="photos that good clients ask about")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--hostile", type=int, default=1000, help="wrong requests")
    parser.add_argument("--idle", type=int, default=500, help="idle connections")


if __name__ == "__main__":
    benchmark(measure, __doc__, options=_options)
