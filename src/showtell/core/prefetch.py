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
MOST_LARGE = 4  # of the next items, which ``fetch_ahead`` fetches whatever their size


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
    fetch_small: Callable[[Item], Item | None] | None = None,
) -> Generator[Item, None, None]:
    """The items in order, each remote one as ``fetch`` gives it back.

    A host's answers may take long and its pictures are small, so many are asked for at a time,
    whatever the number of processors, and also while the consumer computes. While the host of one
    item does not answer, those behind it are fetched, up to ``MOST_WAITING``. Large items are
    fetched when they are among the next ``MOST_LARGE``, so that no more of them are held. Closing
    the generator does not wait for fetches under way.

    Args:
        items: Any number; those before the first remote one are passed on as they come.
        fetch: Called in threads; raises nothing.
        is_remote: Whether an item has to be fetched.
        size: The bytes that an item holds, fetched or not.
        fetch_small: Called in place of ``fetch`` for items that come later than the next
            ``MOST_LARGE``; gives None for a large one. None: no item is large.
    """
    waiting: deque[_Task[Item]] = deque()
    held = 0  # bytes of those that are there
    rest = iter(items)
    fetchers: _Fetchers[Item] = _Fetchers()
    try:
        while True:
            while fetchers.has_room and len(waiting) < MOST_WAITING and held < MOST_FETCHED:
                try:
                    item = next(rest)
                except StopIteration:
                    break
                if is_remote(item):
                    is_next = fetch_small is None or len(waiting) < MOST_LARGE
                    waiting.append(_Task(item, fetch if is_next else fetch_small))
                    fetchers.start(waiting[-1])
                elif waiting:
                    waiting.append(_Task(item))
                    held += size(item)
                else:
                    yield item
            if not waiting:
                return
            for place in range(min(MOST_LARGE, len(waiting))):
                if waiting[place].is_too_large:
                    waiting[place] = _Task(waiting[place].item, fetch)
                    fetchers.start_now(waiting[place])
            if fetchers.has_finished or not waiting[0].is_done:
                held += fetchers.next_finished().held(size)
            elif not waiting[0].is_too_large:  # else it became so just now
                held -= waiting[0].held(size)
                yield waiting.popleft().result
    finally:
        fetchers.close()


class _Fetchers(Generic[Item]):
    """Threads that fetch. They are daemons: a process that ends does not wait for them, as it does
    for those of ``concurrent.futures``, which a host that does not answer would hold up.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[_Task[Item] | None] = SimpleQueue()
        self._finished: SimpleQueue[_Task[Item]] = SimpleQueue()
        self._num_threads = self._num_asked = 0

    @property
    def has_room(self) -> bool:
        """Whether so few fetches are under way that threads may soon have none."""
        return self._num_asked < 2 * NUM_FETCHERS

    @property
    def has_finished(self) -> bool:
        """Whether ``next_finished`` has one without waiting."""
        return not self._finished.empty()

    def start(self, task: "_Task[Item]") -> None:
        """Have an item fetched."""
        self._asked.put(task)
        self._num_asked += 1
        if self._num_threads < min(self._num_asked, NUM_FETCHERS):
            self._num_threads += 1
            Thread(target=self._work, name=f"fetch-{self._num_threads}", daemon=True).start()

    def start_now(self, task: "_Task[Item]") -> None:
        """Have an item fetched before those that wait for a thread, in one of its own."""
        self._num_asked += 1
        Thread(target=self._do, args=(task,), name="fetch-now", daemon=True).start()

    def next_finished(self) -> "_Task[Item]":
        """Wait for a fetch to finish, whichever is the next; each comes once."""
        task = self._finished.get()
        self._num_asked -= 1
        return task

    def close(self) -> None:
        """Begin no further fetch."""
        with suppress(Empty):
            while True:
                self._asked.get_nowait()
        for _ in range(self._num_threads):
            self._asked.put(None)

    def _work(self) -> None:
        while (task := self._asked.get()) is not None:
            self._do(task)
            del task  # a thread that waits holds no item

    def _do(self, task: "_Task[Item]") -> None:
        task.do()
        self._finished.put(task)


class _Task(Generic[Item]):
    """An item on its way through ``fetch_ahead``.

    Args:
        item: The item as it came.
        fetch: Gives it fetched, or None where it is too large; None: there is nothing to fetch.
    """

    def __init__(self, item: Item, fetch: Callable[[Item], Item | None] | None = None) -> None:
        self.item = item
        self._fetch = fetch
        self._future: Future[Item | None] = Future()
        if fetch is None:
            self._future.set_result(item)

    def do(self) -> None:
        """Fetch it."""
        assert self._fetch is not None
        try:
            self._future.set_result(self._fetch(self.item))
        except BaseException as error:
            self._future.set_exception(error)

    @property
    def is_done(self) -> bool:
        """Whether it is there, or too large, or failed."""
        return self._future.done()

    @property
    def is_too_large(self) -> bool:
        """Whether it was found to be; a failure is raised here, too."""
        return self.is_done and self._future.result() is None

    @property
    def result(self) -> Item:
        """The item as it is passed on."""
        found = self._future.result()
        assert found is not None
        return found

    def held(self, size: Callable[[Item], int]) -> int:
        """The bytes that the fetched item holds."""
        found = self._future.result()
        return 0 if found is None else size(found)


def num_workers() -> int:
    """Threads that decode: one for each core that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
