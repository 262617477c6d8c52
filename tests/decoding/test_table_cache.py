"""Tables of constraints: kept by settings, up to a number of bytes, never changed."""

import numpy as np
import pytest
from tiny_decoder import SPELLING, VOCAB

from showtell.decoding.constraints import TABLES, build_constraints
from showtell.decoding.constraints.cache import Table, TableCache
from showtell.decoding.constraints.repeats import NoRepeat
from showtell.decoding.constraints.words import WordRules, WordSettings

SETTINGS = WordSettings(
    SPELLING, max_tokens=4, min_words=1, max_words=4, forbidden=("w4",), required=("w5 w6",)
)


class Numbers(Table):
    def __init__(self, size: int) -> None:
        self.values = np.zeros(size, np.uint8)


def arrays(table: Table) -> dict[str, np.ndarray]:
    own = {name: part for name, part in vars(table).items() if isinstance(part, np.ndarray)}
    for name, part in vars(table).items():
        if isinstance(part, Table):
            own.update({f"{name}.{key}": value for key, value in arrays(part).items()})
    return own


@pytest.mark.parametrize(
    "build", [lambda: WordRules(SETTINGS), lambda: NoRepeat(SPELLING, 4, ngram=2, around=["w4"])]
)
def test_bytes_are_those_of_all_arrays(build) -> None:
    table = build()
    assert table.num_bytes == sum(part.nbytes for part in arrays(table).values()) > 0


def test_bytes_and_number_are_bounded() -> None:
    cache = TableCache(max_bytes=100, max_tables=3)
    tables = {name: cache.get(name, lambda: Numbers(40)) for name in "ab"}
    assert cache.get("a", lambda: Numbers(0)) is tables["a"]
    cache.get("c", lambda: Numbers(40))
    assert (len(cache), cache.num_bytes) == (2, 80)
    assert cache.get("a", lambda: Numbers(0)) is tables["a"]
    assert cache.get("b", lambda: Numbers(40)) is not tables["b"]  # the one not used longest
    too_large = cache.get("d", lambda: Numbers(101))
    assert len(too_large.values) == 101
    assert cache.num_bytes <= 100
    assert cache.get("d", lambda: Numbers(101)) is not too_large
    for name in "efghi":
        cache.get(name, lambda: Numbers(1))
    assert len(cache) == 3


def test_the_same_settings_share_a_table_that_search_leaves_as_it_is() -> None:
    def rules() -> Table:
        [*_, found] = build_constraints(
            SPELLING, max_tokens=4, no_repeat_ngram=2, required=["w5"], bad_endings=["w4"]
        )
        return found

    table = rules()
    before = {name: part.copy() for name, part in arrays(table).items()}
    table(np.zeros((3, VOCAB), np.float32), np.array([[4], [5], [6]]), 1)
    assert rules() is table
    assert arrays(table).keys() == before.keys()
    assert all(np.array_equal(part, before[name]) for name, part in arrays(table).items())
    assert TABLES.num_bytes <= TABLES.max_bytes
