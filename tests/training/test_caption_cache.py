from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from showtell.training import corpus as caption_cache
from showtell.training.corpus import TokenizedCaptions, tokenize_cached

CAPTIONS = ["A dog, running.", "", "a cat é \0 sits"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path))
    monkeypatch.setattr(caption_cache, "WORTH_IT", 1)
    return tmp_path / "captions"


def assert_same(captions: Sequence[str]) -> None:
    found, expected = tokenize_cached(captions), TokenizedCaptions.tokenize(captions)
    assert found.words == expected.words
    for one, other in ((found.numbers, expected.numbers), (found.lengths, expected.lengths)):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_the_cache_gives_what_the_tokeniser_gives(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same(CAPTIONS)
    with monkeypatch.context() as patch:
        patch.delattr(TokenizedCaptions, "tokenize")
        tokenize_cached(CAPTIONS)
    # The same characters, parted elsewhere.
    assert_same(["A dog, running.a", "", " cat é \0 sits"])
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_file_is_read_past(cache: Path) -> None:
    assert_same(CAPTIONS)
    [file] = cache.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], whole[: len(whole) // 2], b"x" * 500):
        file.write_bytes(damaged)
        assert_same(CAPTIONS)
        assert file.read_bytes() == whole
