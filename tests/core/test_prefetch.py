"""Fetching ahead: many at a time, in order, in bounded memory."""

import threading
from collections.abc import Iterator

import pytest

from showtell.core import prefetch
from showtell.core.prefetch import NUM_FETCHERS, fetch_ahead


def test_as_many_at_a_time_as_there_are_fetchers_and_in_order() -> None:
    together = threading.Barrier(NUM_FETCHERS, timeout=60)

    def fetch(item: int) -> int:
        together.wait()
        return -item

    items = range(2 * NUM_FETCHERS + 1)
    fetched = fetch_ahead(items, fetch, is_remote=bool, size=lambda _: 0)
    assert list(fetched) == [-item for item in items]


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "MOST_FETCHED", 3)
    given: list[int] = []

    def items() -> Iterator[int]:
        for item in range(1, 200):
            given.append(item)
            yield item

    fetched = fetch_ahead(items(), lambda item: item, is_remote=lambda i: i == 1, size=lambda _: 1)
    assert [next(fetched) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert len(given) <= 9
    assert list(fetched) == list(range(6, 200))


def test_a_host_that_does_not_answer_does_not_hold_up_those_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prefetch, "NUM_FETCHERS", 2)
    monkeypatch.setattr(prefetch, "MOST_WAITING", 20)
    given: list[int] = []
    fetched: list[int] = []
    are_there = threading.Event()

    def items() -> Iterator[int]:
        for item in range(60):
            given.append(item)
            yield item

    def fetch(item: int) -> int:
        if item == 0:
            assert are_there.wait(60)
        fetched.append(item)
        if len(fetched) == 19:
            are_there.set()
        return item

    ahead = fetch_ahead(items(), fetch, is_remote=lambda _: True, size=lambda _: 0)
    assert next(ahead) == 0
    assert fetched[:19] == list(range(1, 20)) and len(given) == 20
    assert list(ahead) == list(range(1, 60))


def test_closing_waits_for_no_fetch_and_begins_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "NUM_FETCHERS", 1)
    fetched: list[int] = []
    threads: set[threading.Thread] = set()
    is_begun, goes_on = threading.Event(), threading.Event()

    def fetch(item: int) -> int:
        threads.add(threading.current_thread())
        if item == 2:
            is_begun.set()
            assert goes_on.wait(60)
        fetched.append(item)
        return item

    ahead = fetch_ahead([1, 2, 3], fetch, is_remote=lambda _: True, size=lambda _: 0)
    assert next(ahead) == 1
    assert is_begun.wait(60)
    ahead.close()
    assert fetched == [1]
    goes_on.set()
    [thread] = threads
    thread.join(60)
    assert fetched == [1, 2] and thread.daemon


def test_a_bug_in_a_fetch_is_raised() -> None:
    def fetch(item: int) -> int:
        raise KeyError(item)

    with pytest.raises(KeyError, match="7"):
        next(fetch_ahead([7], fetch, is_remote=lambda _: True, size=lambda _: 0))


def test_large_ones_are_fetched_when_they_are_among_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of the first of them once; those behind only once there is room for them."""
    monkeypatch.setattr(prefetch, "MOST_LARGE", 2)
    begun: list[int] = []
    tried: list[int] = []
    threads: list[threading.Thread] = []

    def fetch(item: int) -> int:
        threads.append(threading.current_thread())
        begun.append(item)
        return -item

    def fetch_small(item: int) -> int | None:
        tried.append(item)
        return None if item % 2 else -item

    ahead = fetch_ahead(
        range(1, 40), fetch, is_remote=bool, size=lambda _: 0, fetch_small=fetch_small
    )
    for number in range(1, 40):
        assert next(ahead) == -number
        assert max(begun) <= number + 1
    assert sorted(begun) == [1, 2, *range(3, 40, 2)]
    assert sorted(tried) == list(range(3, 40))
    assert all(thread.daemon for thread in threads)
