"""Tables of constraints: kept by settings and device, up to a number of bytes, never changed."""

import pytest
import torch
from tiny_decoder import SPELLING, VOCAB

from showtell.decoding.constraints import TABLES, build_constraints
from showtell.decoding.constraints.cache import Table, TableCache
from showtell.decoding.constraints.ngrams import NoRepeatNgram
from showtell.decoding.constraints.words import WordRules, WordSettings

CPU, META = torch.device("cpu"), torch.device("meta")
SETTINGS = WordSettings(
    SPELLING, max_tokens=4, min_words=1, max_words=4, forbidden=("w4",), required=("w5 w6",)
)


class Numbers(Table):
    def __init__(self, size: int) -> None:
        self.values = torch.arange(size, dtype=torch.uint8)


def tensors(table: Table) -> dict[str, torch.Tensor]:
    own = {name: part for name, part in vars(table).items() if isinstance(part, torch.Tensor)}
    for name, part in vars(table).items():
        if isinstance(part, Table):
            own.update({f"{name}.{key}": value for key, value in tensors(part).items()})
    return own


@pytest.mark.parametrize(
    "build", [lambda: WordRules(SETTINGS), lambda: NoRepeatNgram(2, SPELLING, 4)]
)
def test_another_device_gets_a_copy(build) -> None:
    table = build()
    before = tensors(table)
    assert table.num_bytes == sum(part.nbytes for part in before.values()) > 0
    assert table.to(CPU) is table
    moved = table.to(META)
    assert {part.device for part in tensors(moved).values()} == {META}
    assert moved.num_bytes == table.num_bytes
    assert all(part is before[name] for name, part in tensors(table).items())


def test_the_device_is_part_of_the_key() -> None:
    cache = TableCache()
    one, two = (cache.get("a", device, lambda: Numbers(8)) for device in (CPU, META))
    assert (one.values.device, two.values.device) == (CPU, META)
    assert cache.get("a", CPU, lambda: Numbers(0)) is one
    assert cache.get("a", META, lambda: Numbers(0)) is two


def test_bytes_and_number_are_bounded() -> None:
    cache = TableCache(max_bytes=100, max_tables=3)
    tables = {name: cache.get(name, CPU, lambda: Numbers(40)) for name in "ab"}
    assert cache.get("a", CPU, lambda: Numbers(0)) is tables["a"]
    cache.get("c", CPU, lambda: Numbers(40))
    assert (len(cache), cache.num_bytes) == (2, 80)
    assert cache.get("a", CPU, lambda: Numbers(0)) is tables["a"]
    assert cache.get("b", CPU, lambda: Numbers(40)) is not tables["b"]  # the one not used longest
    too_large = cache.get("d", CPU, lambda: Numbers(101))
    assert len(too_large.values) == 101
    assert cache.num_bytes <= 100
    assert cache.get("d", CPU, lambda: Numbers(101)) is not too_large
    for name in "efghi":
        cache.get(name, CPU, lambda: Numbers(1))
    assert len(cache) == 3


def test_the_same_settings_share_a_table_that_search_leaves_as_it_is() -> None:
    def rules() -> Table:
        [*_, found] = build_constraints(
            SPELLING, max_tokens=4, no_repeat_ngram=2, required=["w5"], bad_endings=["w4"]
        )
        return found

    table = rules()
    before = {name: part.clone() for name, part in tensors(table).items()}
    table(torch.zeros(3, VOCAB), torch.tensor([[4], [5], [6]]), 1)
    assert rules() is table
    assert tensors(table).keys() == before.keys()
    assert all(torch.equal(part, before[name]) for name, part in tensors(table).items())
    assert TABLES.num_bytes <= TABLES.max_bytes
