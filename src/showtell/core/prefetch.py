"""Prefetching: threads work ahead of the use of their results, in order and in bounded memory.

``work_ahead`` is for work that takes processors and releases the interpreter's lock, as Pillow does
while it decodes and scales pictures. ``fetch_ahead`` is for what waits for a network.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

NUM_FETCHERS = 32
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
    whatever the number of processors, and also while the consumer computes.

    Args:
        items: Any number; those before the first remote one are passed on as they come.
        fetch: Called in threads; raises nothing.
        is_remote: Whether an item has to be fetched.
        size: The bytes that an item holds, fetched or not.
    """
    waiting: deque[Future[Item]] = deque()
    rest = iter(items)
    pool = ThreadPoolExecutor(NUM_FETCHERS, thread_name_prefix="fetch")
    try:
        while True:
            held = sum(size(future.result()) for future in waiting if future.done())
            while len(waiting) < 2 * NUM_FETCHERS and held < MOST_FETCHED:
                try:
                    item = next(rest)
                except StopIteration:
                    break
                if is_remote(item):
                    waiting.append(pool.submit(fetch, item))
                elif waiting:
                    waiting.append(Future())
                    waiting[-1].set_result(item)
                    held += size(item)
                else:
                    yield item
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def num_workers() -> int:
    """Threads that decode: one for each core that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
