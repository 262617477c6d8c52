"""Worker processes that cut views while a network trains.

Each is a plain child process, asked by a thread of its own over pipes (``view_worker.py``). Not
``multiprocessing``, whose workers run the program's main file again, or inherit threads and a GPU
by fork, and can outlive a killed parent: these end as soon as the pipe does. Knows nothing of
encoders or of the order in which views are needed.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from showtell.errors import ShowtellError
from showtell.features.images import Pixels, Preprocessing
from showtell.features.view_worker import LENGTH_BYTES, cut_view

# The same search path as here, however it came about.
PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from showtell.features.view_worker import main; main()"
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
