"""Prefetching: threads work ahead of the use of their results, in order and in bounded memory.

``work_ahead`` is for work that takes processors and releases the interpreter's lock, as Pillow does
while it decodes and scales pictures. ``fetch_ahead`` is for what waits for a network.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

NUM_FETCHERS = 32
MOST_WAITING = 1024  # items that ``fetch_ahead`` has begun and not yet passed on
MOST_FETCHED = 2**28
"""Bytes that ``fetch_ahead`` holds before it waits, besides those of the fetches under way."""


def work_ahead(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    *,
    batch_size: int,
    overlaps: bool,
    weigh: Callable[[Item], int] = lambda _: 1,
) -> Iterator[tuple[Item, Result]]:
    """Each item with what ``work`` makes of it, in order.

    Args:
        items: Any number; only a few batches of them and of their results are held at a time.
        work: Called in threads.
        batch_size: How much (in ``weigh``'s unit) the consumer takes at once.
        overlaps: Whether the consumer computes elsewhere, on a GPU. Then the threads always work
            ahead of it. On a processor they would take its cores from a network, whose own
            threads then wait for each other; so there a batch is prepared on all cores, and then
            consumed on all cores.
        weigh: How much an item counts: the results that it has, or the memory that it holds; by
            default one.
    """
    most_ahead = (4 if overlaps else 1) * batch_size
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    ahead = 0
    rest = iter(items)
    pool = ThreadPoolExecutor(num_workers(), thread_name_prefix="decode")
    try:
        while True:
            if overlaps or not waiting:
                while ahead < most_ahead:
                    try:
                        item = next(rest)
                    except StopIteration:
                        break
                    waiting.append((item, pool.submit(work, item)))
                    ahead += weigh(item)
            if not waiting:
                return
            item, future = waiting.popleft()
            ahead -= weigh(item)
            yield item, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def fetch_ahead(
    items: Iterable[Item],
    fetch: Callable[[Item], Item],
    *,
    is_remote: Callable[[Item], bool],
    size: Callable[[Item], int],
) -> Generator[Item, None, None]:
    """The items in order, each remote one as ``fetch`` gives it back.

    A host's answers may take long and its pictures are small, so many are asked for at a time,
    whatever the number of processors, and also while the consumer computes. While the host of one
    item does not answer, those behind it are fetched, up to ``MOST_WAITING``. Closing the generator
    does not wait for fetches under way.

    Args:
        items: Any number; those before the first remote one are passed on as they come.
        fetch: Called in threads; raises nothing.
        is_remote: Whether an item has to be fetched.
        size: The bytes that an item holds, fetched or not.
    """
    waiting: deque[Future[Item]] = deque()
    held = 0  # bytes of those that are there
    rest = iter(items)
    fetchers = _Fetchers(fetch)
    try:
        while True:
            while fetchers.has_room and len(waiting) < MOST_WAITING and held < MOST_FETCHED:
                try:
                    item = next(rest)
                except StopIteration:
                    break
                if is_remote(item):
                    waiting.append(fetchers.start(item))
                elif waiting:
                    waiting.append(Future())
                    waiting[-1].set_result(item)
                    held += size(item)
                else:
                    yield item
            if not waiting:
                return
            if fetchers.has_finished or not waiting[0].done():
                held += size(fetchers.next_finished())
            else:
                held -= size(waiting[0].result())
                yield waiting.popleft().result()
    finally:
        fetchers.close()


class _Fetchers(Generic[Item]):
    """Threads that fetch. They are daemons: a process that ends does not wait for them, as it does
    for those of ``concurrent.futures``, which a host that does not answer would hold up.
    """

    def __init__(self, fetch: Callable[[Item], Item]) -> None:
        self._fetch = fetch
        self._asked: SimpleQueue[tuple[Item, Future[Item]] | None] = SimpleQueue()
        self._finished: SimpleQueue[Future[Item]] = SimpleQueue()
        self._num_threads = self._num_asked = 0

    @property
    def has_room(self) -> bool:
        """Whether so few fetches are under way that threads may soon have none."""
        return self._num_asked < 2 * NUM_FETCHERS

    @property
    def has_finished(self) -> bool:
        """Whether ``next_finished`` has one without waiting."""
        return not self._finished.empty()

    def start(self, item: Item) -> Future[Item]:
        """Have an item fetched."""
        future: Future[Item] = Future()
        self._asked.put((item, future))
        self._num_asked += 1
        if self._num_threads < min(self._num_asked, NUM_FETCHERS):
            self._num_threads += 1
            Thread(target=self._work, name=f"fetch-{self._num_threads}", daemon=True).start()
        return future

    def next_finished(self) -> Item:
        """Wait for a fetch to finish, whichever is the next; each item comes once."""
        future = self._finished.get()
        self._num_asked -= 1
        return future.result()

    def close(self) -> None:
        """Begin no further fetch."""
        with suppress(Empty):
            while True:
                self._asked.get_nowait()
        for _ in range(self._num_threads):
            self._asked.put(None)

    def _work(self) -> None:
        while (task := self._asked.get()) is not None:
            self._finished.put(self._done(*task))
            del task  # a thread that waits holds no item

    def _done(self, item: Item, future: Future[Item]) -> Future[Item]:
        try:
            future.set_result(self._fetch(item))
        except BaseException as error:
            future.set_exception(error)
        return future


def num_workers() -> int:
    """Threads that decode: one for each core that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
