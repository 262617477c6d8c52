"""Views: the squares of pixels that an encoder sees, cut from pictures by threads or by processes.

Features are extracted from the views that ``cut_ahead`` makes: threads decode each picture once
and cut all of its views, in order. Pillow lets go of the interpreter's lock while it decodes and
scales. A random view depends on the seed, the picture's id and the view's number alone: not on
order, on other pictures or on where a run was stopped.

Training of the encoder itself asks ``ViewWorkers`` for one view at a time. Each worker is a plain
child process, asked by a thread of its own over pipes. ``multiprocessing`` is not used: its workers
run the program's main file again, or inherit threads and a GPU by fork, and can outlive a killed
parent; these end as soon as the pipe does. A worker reads requests, a line of JSON each. It answers
with the length of an error message and the message, or with 0 and the pixels.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from showtell.core.prefetch import work_ahead
from showtell.errors import ImageError, MissingFormatError, ShowtellError, UnavailableError
from showtell.images.open import Pixels, open_image
from showtell.images.preprocess import Preprocessing


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to cut views of: its file as it was when the run began.

    Attributes:
        image_id: Random views follow from it.
        path: The file.
        size: Of the file, in bytes; 0 where there is none.
        mtime_ns: When the file was last changed, in ns; 0 where there is none.
        num_views: How many to cut: the evaluation view, then random ones.
        flips: Whether half of the random views are mirrored.
        digest: Of the file's bytes when its views were last made, if they are kept; nothing is cut
            if the file still holds these.
    """

    image_id: str
    path: Path
    size: int
    mtime_ns: int
    num_views: int
    flips: bool
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Cuts:
    """What became of a job whose picture could be read.

    Attributes:
        digest: Of the file's bytes.
        views: (3, S, S) each, the evaluation view first; empty where the digest is the job's.
    """

    digest: str
    views: list[Pixels]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a job's picture could not be read.

    Attributes:
        reason: One line.
        may_pass: Whether it is not the file's fault: its disk fails, or an extra is not installed.
    """

    reason: str
    may_pass: bool


def plan(image_id: str, path: Path, *, num_random: int, flips: bool) -> Job:
    """The job for one picture: its evaluation view and ``num_random`` random ones."""
    try:
        info = os.stat(path)
    except OSError:  # decoding will say what is wrong
        return Job(image_id, path, 0, 0, 1 + num_random, flips)
    return Job(image_id, path, info.st_size, info.st_mtime_ns, 1 + num_random, flips)


def view_generator(seed: int, image_id: str, view: int) -> np.random.Generator:
    """The source of chance for one random view: the same in any order, run and process."""
    digest = hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng([seed, view, int.from_bytes(digest[:8], "big")])


def cut(job: Job, recipe: Preprocessing, seed: int) -> Cuts | Unreadable:
    """Decode a picture and cut its views."""
    if job.digest and _digest(job.path) == job.digest:
        return Cuts(job.digest, [])
    try:
        image = open_image(job.path, min_side=recipe.decode_side)
    except ImageError as error:
        return Unreadable(str(error), isinstance(error, UnavailableError | MissingFormatError))
    views = [recipe.eval_view(image)]
    for view in range(1, job.num_views):
        rng = view_generator(seed, job.image_id, view)
        views.append(recipe.random_view(image, rng, flip=job.flips))
    return Cuts(_digest(job.path), views)


def _digest(path: Path) -> str:
    """Half of the sha256 of a file's bytes in hexadecimal; "" where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError:
        return ""


def cut_ahead(
    jobs: Sequence[Job], recipe: Preprocessing, *, seed: int, batch_size: int, overlaps: bool
) -> Iterator[tuple[Job, Cuts | Unreadable]]:
    """Each job with what ``cut`` makes of it, in order.

    Args:
        jobs: Any number; only a few batches' views are in memory at a time.
        recipe: The encoder's.
        seed: Of the random views.
        batch_size: Views that the encoder takes at once.
        overlaps: Whether the encoder works elsewhere, on a GPU (``work_ahead`` says why it asks).
    """
    return work_ahead(
        jobs,
        partial(cut, recipe=recipe, seed=seed),
        batch_size=batch_size,
        overlaps=overlaps,
        weigh=lambda job: job.num_views,
    )


def cut_view(
    path: Path, recipe: Preprocessing, *, seed: Sequence[int] | None, flips: bool
) -> Pixels | str:
    """One view of a picture, (3, S, S); or, where it cannot be decoded, the reason.

    Args:
        seed: of a random view; None is the evaluation view.
        flips: whether half of the random views are mirrored.
    """
    try:
        image = open_image(path, min_side=recipe.decode_side)
    except ImageError as error:
        return str(error)
    if seed is None:
        return recipe.eval_view(image)
    return recipe.random_view(image, np.random.default_rng(seed), flip=flips)


LENGTH_BYTES = 4  # of the error message's length, big-endian


def run_worker() -> None:
    """Answer requests until there are no more; the recipe is the last argument."""
    # A stop is the business of the program that asks; it still wants the step's pictures.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    settings = json.loads(sys.argv[-1])
    recipe = Preprocessing(
        **settings | {key: tuple(settings[key]) for key in ("mean", "std")},
    )
    answers = sys.stdout.buffer
    for line in sys.stdin.buffer:
        request = json.loads(line)
        view = cut_view(Path(request["path"]), recipe, seed=request["seed"], flips=request["flips"])
        message = view.encode("utf-8", "replace") if isinstance(view, str) else b""
        answers.write(len(message).to_bytes(LENGTH_BYTES, "big"))
        answers.write(message if isinstance(view, str) else view.transpose(1, 2, 0).tobytes())
        answers.flush()


# The same search path as here, however it came about.
PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from showtell.images.views import run_worker; run_worker()"
)

Worker = subprocess.Popen[bytes]


class ViewWorkers:
    """Cuts views in some processes, which start with the first request.

    Args:
        recipe: the encoder's.
        num_workers: processes; 0 cuts each view at once, in this one.
    """

    def __init__(self, recipe: Preprocessing, num_workers: int) -> None:
        self.recipe, self.num_workers = recipe, num_workers
        self._workers: list[Worker] = []
        self._free: SimpleQueue[Worker] = SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None

    def submit(
        self, path: Path, *, seed: Sequence[int] | None, flips: bool
    ) -> "Future[Pixels | str]":
        """Ask for one view, as ``cut_view`` gives it; (S, S, 3) underneath.

        Raises (when the result is asked for):
            ShowtellError: the worker process ended before it answered.
        """
        if self.num_workers == 0:
            done: Future[Pixels | str] = Future()
            done.set_result(cut_view(path, self.recipe, seed=seed, flips=flips))
            return done
        if self._threads is None:
            self._start()
        assert self._threads is not None
        request = {"path": str(path), "seed": seed, "flips": flips}
        return self._threads.submit(self._ask, json.dumps(request).encode() + b"\n")

    def close(self) -> None:
        """End every process; what was asked for and is not there yet is dropped."""
        threads, self._threads = self._threads, None
        if threads is None:
            return
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()  # it writes nothing but its answers
        threads.shutdown(wait=True)
        for worker in self._workers:
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                assert pipe is not None
                pipe.close()
        self._workers, self._free = [], SimpleQueue()

    def _start(self) -> None:
        recipe, search_path = json.dumps(asdict(self.recipe)), json.dumps(sys.path)
        for _ in range(self.num_workers):
            worker = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, search_path, recipe],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C at the terminal is not for them
            )
            self._workers.append(worker)
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(self.num_workers, thread_name_prefix="views")

    def _ask(self, request: bytes) -> Pixels | str:
        worker = self._free.get()
        try:
            assert worker.stdin is not None
            worker.stdin.write(request)
            length = int.from_bytes(_read(worker, LENGTH_BYTES), "big")
            if length:
                return bytes(_read(worker, length)).decode("utf-8", "replace")
            size = self.recipe.size
            pixels = np.frombuffer(_read(worker, 3 * size * size), np.uint8)
            return pixels.reshape(size, size, 3).transpose(2, 0, 1)
        except (OSError, EOFError):
            code = worker.wait()
            raise ShowtellError(
                f"a process that decodes pictures ended (exit code {code}): if memory ran out, "
                "set encoder.num_workers lower"
            ) from None
        finally:
            self._free.put(worker)


def _read(worker: Worker, length: int) -> bytearray:
    """Exactly ``length`` bytes of a worker's answer.

    Raises:
        EOFError: it ended before.
    """
    assert worker.stdout is not None
    data = bytearray(length)
    view, filled = memoryview(data), 0
    while filled < length:
        count = worker.stdout.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        filled += count
    return data
