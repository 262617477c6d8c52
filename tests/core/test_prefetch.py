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
