"""Dynamic batching: pictures of many requests in one batch.

One thread computes, because a batch uses every core; meanwhile the next batch gathers. A model
behind another server has threads of its own, as many as that server may be asked at a time. Each
waits for the answer to one picture, so that no picture waits for another's, whatever their prompts.
Models that were trained with the same encoder share it, and pictures for any of them share its
batches. Each picture gets the caption that it would get alone.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from showtell.config import DecodingConfig
from showtell.core.memory import give_back_memory
from showtell.decoding.arrays import arrays_of
from showtell.encoders.features import Features
from showtell.errors import ImageError
from showtell.inference.backends.local import LocalCaptioner
from showtell.inference.caption import Caption
from showtell.inference.captioner import Captioner
from showtell.inference.stream import MOST_BETWEEN
from showtell.server.models import LoadedModel

MAX_ROWS = 512
"""Hypotheses that are searched at once: pictures times the beam."""


class QueueFullError(Exception):
    """So many pictures wait that no more are taken."""


class StoppingError(Exception):
    """The batcher was told to stop and takes no more pictures."""


@dataclass(eq=False, slots=True)
class Job:
    """One picture to caption.

    Attributes:
        view: what the model is to see: (3, S, S), or the whole picture.
        request: Any value that the pictures of one request share.
        number: The picture's place in its request; samples depend on it, and on no other picture.
        caption: The result. Whoever no longer waits cancels it.
    """

    model: LoadedModel
    view: Any
    settings: DecodingConfig
    attention: bool
    request: Hashable
    number: int
    caption: Future[Caption] = field(default_factory=Future)


class Batcher:
    """A bounded queue for each lane, and threads that empty it batch by batch.

    Args:
        max_waiting: How many pictures may have a place at a time.
        max_batch: Pictures a pass of the encoder.
        max_delay: Seconds that a first picture waits for others that are being decoded.
        on_batch: Called after each pass with its number of pictures and its seconds.
    """

    def __init__(
        self,
        *,
        max_waiting: int,
        max_batch: int = 32,
        max_delay: float = 0.02,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self.max_waiting, self.max_batch, self.max_delay = max_waiting, max_batch, max_delay
        self._on_batch = on_batch
        self._queues: defaultdict[str | None, deque[Job]] = defaultdict(deque)
        self._changed = threading.Condition()
        self._reserved = 0
        self._expected = 0
        self._is_stopping = False
        self._threads: dict[str | None, list[threading.Thread]] = {None: self._threads_of(None, 1)}

    @property
    def waiting(self) -> int:
        """Pictures that have a place: being decoded, queued, or worked on."""
        return self._reserved

    @property
    def queued(self) -> int:
        """Pictures that wait for a batch."""
        return sum(map(len, self._queues.values()))

    @property
    def is_alive(self) -> bool:
        """Whether what is submitted will be worked on."""
        threads = [thread for lane in list(self._threads.values()) for thread in lane]
        return all(thread.is_alive() for thread in threads) and not self._is_stopping

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads[None]:
            thread.start()

    def stop(self) -> None:
        """Take no more pictures, caption those that are queued, and end."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        for threads in self._threads.values():  # no more of them, as nothing is submitted
            for thread in threads:
                thread.join()

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Places for ``count`` pictures, held until they are answered.

        Raises:
            QueueFullError: there are not so many.
            StoppingError: ``stop`` was called.
        """
        with self._changed:
            self._refuse_if_stopping()
            if self._reserved + count > self.max_waiting:
                raise QueueFullError
            self._reserved += count
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= count

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Announce a picture: until the end of the block, a batch that is not full waits for it."""
        with self._changed:
            self._expected += 1
        try:
            yield
        finally:
            with self._changed:
                self._expected -= 1
                self._changed.notify_all()

    def submit(self, job: Job) -> Future[Caption]:
        """Queue a picture, for which a place must be reserved.

        Raises:
            StoppingError: ``stop`` was called; nobody would caption it.
        """
        with self._changed:
            self._refuse_if_stopping()
            lane = job.model.lane
            if lane is not None and lane not in self._threads:
                threads = self._threads_of(lane, job.model.concurrency or 1)
                for thread in threads:
                    thread.start()
                self._threads[lane] = threads
            self._queues[lane].append(job)
            self._changed.notify_all()
        return job.caption

    def _refuse_if_stopping(self) -> None:
        if self._is_stopping:
            raise StoppingError

    def _threads_of(self, lane: str | None, num: int) -> list[threading.Thread]:
        name = "caption" if lane is None else f"caption-{lane}"
        return [
            threading.Thread(target=self._run, args=(lane,), name=name, daemon=True)
            for _ in range(num)
        ]

    def _run(self, lane: str | None) -> None:
        num_since = 0
        while batch := self._next_batch(lane):
            started = time.perf_counter()
            self._work(batch)
            self._on_batch(len(batch), time.perf_counter() - started)
            if (num_since := num_since + len(batch)) > MOST_BETWEEN:
                give_back_memory()  # after the answers, as nobody should wait for it
                num_since = 0

    def _next_batch(self, lane: str | None) -> list[Job]:
        """The oldest picture with later ones for the same encoder; empty when it is time to end."""
        with self._changed:
            while True:
                while not self._queues[lane] and not self._is_stopping:
                    self._changed.wait()
                if not self._queues[lane]:
                    return []
                first = self._queues[lane][0].model
                most = self.max_batch if first.concurrency is None else 1
                self._gather(self._queues[lane], most)
                batch: list[Job] = []
                rest: deque[Job] = deque()
                encoder = first.captioner.encoder_key
                for job in self._queues[lane]:
                    is_same = job.model.captioner.encoder_key == encoder
                    (batch if is_same and len(batch) < most else rest).append(job)
                self._queues[lane] = rest
                if batch := [job for job in batch if job.caption.set_running_or_notify_cancel()]:
                    return batch

    def _gather(self, queue: deque[Job], most: int) -> None:
        until = time.perf_counter() + self.max_delay
        while self._expected and len(queue) < most:
            remaining = until - time.perf_counter()
            if remaining <= 0:
                break
            self._changed.wait(remaining)

    def _work(self, batch: list[Job]) -> None:
        captioner = batch[0].model.captioner
        if not isinstance(captioner, LocalCaptioner):
            self._describe(captioner, batch)
            return
        regions = any(job.model.captioner.attends for job in batch)
        try:
            features = captioner.encode(np.stack([job.view for job in batch]), regions=regions)
        except Exception as error:
            _fail(batch, error)
            return
        for rows in _groups(batch):
            jobs = [batch[row] for row in rows]
            try:
                self._decode(jobs, _take(features, rows))
            except Exception as error:
                _fail(jobs, error)

    def _describe(self, captioner: Captioner, batch: list[Job]) -> None:
        for rows in _groups(batch, most=captioner.batch_size):
            jobs = [batch[row] for row in rows]
            try:
                said = captioner.caption_views(
                    [job.view for job in jobs],
                    decoding=jobs[0].settings,
                    attention=jobs[0].attention,
                    first=jobs[0].number,
                )
            except Exception as error:
                _fail(jobs, error)
                continue
            for job, caption in zip(jobs, said, strict=True):
                if isinstance(caption, str):
                    job.caption.set_exception(ImageError(caption))
                else:
                    job.caption.set_result(caption)

    def _decode(self, jobs: list[Job], features: Features) -> None:
        first = jobs[0]
        assert isinstance(first.model.captioner, LocalCaptioner)
        captions = first.model.captioner.caption_features(
            features, decoding=first.settings, attention=first.attention, first=first.number
        )
        for job, caption in zip(jobs, captions, strict=True):
            job.caption.set_result(caption)


def _groups(batch: Sequence[Job], most: int = MAX_ROWS) -> Iterator[list[int]]:
    """Rows, ``most`` or fewer, that can be decoded together: the same settings of the same model.

    Samples depend on the pictures' numbers, which have to be consecutive within a group.
    """
    together: dict[Hashable, list[int]] = defaultdict(list)
    for row, job in enumerate(batch):
        key = (job.model, job.settings, job.attention)
        together[key if job.settings.method != "sample" else (*key, job.request)].append(row)
    for rows in together.values():
        settings = batch[rows[0]].settings
        size = min(most, max(1, MAX_ROWS // max(settings.beam_size, settings.num_captions)))
        group: list[int] = []
        for row in sorted(rows, key=lambda row: batch[row].number):
            follows = group and batch[row].number == batch[group[-1]].number + 1
            if len(group) == size or (group and settings.method == "sample" and not follows):
                yield group
                group = []
            group.append(row)
        yield group


def _take(features: Features, rows: list[int]) -> Features:
    arrays = arrays_of(features.pooled)
    index = arrays.from_host(np.array(rows))
    regions = None if features.regions is None else arrays.take(features.regions, index)
    return Features(arrays.take(features.pooled, index), regions)


def _fail(jobs: Sequence[Job], error: Exception) -> None:
    for job in jobs:
        if not job.caption.done():
            job.caption.set_exception(error)
