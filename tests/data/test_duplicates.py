"""The index of looks finds what comparing with every look finds."""

import numpy as np
import pytest

from showtell.data import duplicates
from showtell.data.duplicates import MOST_BITS, MOST_COLOUR, Look, NearDuplicates


def looks_of(bits: np.ndarray, colours: np.ndarray) -> list[Look]:
    packed = np.packbits(bits, axis=1)
    pairs = zip(packed, colours.tolist(), strict=True)
    return [Look(row.tobytes().hex(), tuple(colour)) for row, colour in pairs]


@pytest.mark.parametrize("num_kinds", [40, 1])
def test_an_index_finds_the_same_pairs(monkeypatch: pytest.MonkeyPatch, num_kinds: int) -> None:
    monkeypatch.setattr(duplicates, "LEAST_INDEXED", 8)
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, (num_kinds, 256), dtype=np.uint8)
    bits = kinds[rng.integers(0, num_kinds, 300)]
    for row in bits:  # two of a kind differ in up to 28 bits: often just about the limit of 24
        row[rng.choice(256, rng.integers(0, 15), replace=False)] ^= 1
    spread = bits[:2].copy() * 0
    spread[:, ::16] = 1  # a bit in each part
    spread[0, 1:128:16] = spread[1, 1::16] = 1  # and a second one in half of them, or in all
    bits = np.concatenate([bits, bits[:1] ^ spread])
    colours = rng.integers(100, 140, (len(bits), 3))
    colours[[0, -2, -1]] = 120
    looks = looks_of(bits, colours)
    found = NearDuplicates()
    num_pairs = 0
    for number, look in enumerate(looks):
        differing = (bits[:number] != bits[number]).sum(axis=1)
        gaps = np.abs(colours[:number] - colours[number]).max(axis=1, initial=0)
        near = np.nonzero((differing <= MOST_BITS) & (gaps <= MOST_COLOUR))[0].tolist()
        assert found.find_all(look) == near
        nearest = min(near, key=lambda other: (differing[other], other), default=None)
        assert found.find(look) == nearest
        assert found.add(look) == number
        num_pairs += len(near)
    assert num_pairs > 300
    assert 0 in found.find_all(looks[-2]) and 0 not in found.find_all(looks[-1])
