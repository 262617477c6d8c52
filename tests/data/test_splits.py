"""Splits are a partition, the same in every order of reading, and never empty when avoidable."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.data import splits
from showtell.data.records import Dataset, Record, Split, dataset_fingerprint
from showtell.data.splits import hash_order, hash_split, split_of, usable_splits
from showtell.errors import DataError

ids = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True)


def dataset(**counts: int) -> Dataset:
    """So many pictures of each split."""
    records = []
    for split, count in counts.items():
        known: Split = split  # type: ignore[assignment]
        records += [
            Record(f"{split}{n}", Path(f"{n}.jpg"), ("A cat .",), known) for n in range(count)
        ]
    return Dataset("set", "csv", tuple(records))


@settings(deadline=None)
@given(ids)
def test_hash_split_is_a_partition_whatever_the_order(image_ids: list[str]) -> None:
    drawn = hash_split(image_ids)
    assert set(drawn) == set(image_ids)
    assert drawn == hash_split(reversed(image_ids))
    counts = Counter(drawn.values())
    num = len(image_ids)
    for split, least in (("train", 1), ("val", 2), ("test", 3)):
        assert (counts[split] > 0) == (num >= least)
    if num >= 3:
        assert abs(counts["val"] - num / 10) <= 1
        assert counts["val"] == counts["test"]


def test_hash_order_stays_what_it_was() -> None:
    # printf a | sha256sum: ca97...; b: 3e23...; c: 2e7d...
    assert hash_order(["a", "b", "c"]) == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("name", "split"),
    [("restval", "train"), ("Dev", "val"), (" validation ", "val"), ("test", "test"), ("x", None)],
)
def test_usual_names(name: str, split: str | None) -> None:
    assert split_of(name) == split


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_usable_splits(train: int, val: int, test: int) -> None:
    before = dataset(train=train, val=val, test=test)
    if (train or val + test) < 2 and not (train and val):
        with pytest.raises(DataError, match="training needs at least 2"):
            usable_splits(before)
        return
    after = usable_splits(before)
    counts = after.split_counts()
    assert counts["train"]
    assert counts["val"]
    assert [record.image_id for record in after.records] == [r.image_id for r in before.records]
    assert usable_splits(after) is after
    assert len(after.notes) == (not (train and val))
    if train:
        assert after.split("test") == before.split("test")


def test_what_is_held_out_as_val(monkeypatch: pytest.MonkeyPatch) -> None:
    after = usable_splits(dataset(train=200, test=5))
    assert after.split_counts() == {"train": 190, "val": 10, "test": 5}
    assert after.notes == (
        "the data marks no picture as val, so 10 of 200 train pictures were held out as val by "
        "the hash of their ids",
    )
    monkeypatch.setattr(splits, "MAX_HELD_OUT", 7)
    assert usable_splits(dataset(train=200)).split_counts()["val"] == 7


def test_all_is_split_anew_where_nothing_is_for_training() -> None:
    after = usable_splits(dataset(val=64))
    assert after.split_counts() == {"train": 52, "val": 6, "test": 6}
    assert after.notes == (
        "the data marks no picture as train (only val), so all were split anew by the hash of "
        "their ids: 52 train, 6 val, 6 test",
    )


def test_select() -> None:
    data = dataset(train=3, val=1200)
    assert len(data.select("train")) == 3
    assert len(data.select("all")) == 1203
    with pytest.raises(DataError) as error:
        data.select("test")
    assert str(error.value) == (
        "set has no 'test' split; pictures in each split: train 3, val 1,200; "
        "--split all takes every one"
    )
    with pytest.raises(DataError, match=r"unknown split 'tests'. Did you mean 'test'\?"):
        data.select("tests")


def test_fingerprint_sees_ids_captions_splits_and_sizes_not_places(tmp_path: Path) -> None:
    def made(
        image_id: str = "1", caption: str = "A", split: Split = "val", size: int = 3, at: str = "x"
    ) -> str:
        path = tmp_path / at
        path.write_bytes(b"." * size)
        other = Record("0", tmp_path / "gone", ("A cat .",), "train")
        return dataset_fingerprint(
            Dataset(at, "csv", (Record(image_id, path, (caption,), split), other))
        )

    base = made()
    assert base == made(at="elsewhere")
    changed = {made("2"), made(caption="B"), made(split="test"), made(size=4)}
    assert len(changed | {base}) == 5
    turned = Dataset("", "csv", dataset(val=9).records[::-1])
    assert dataset_fingerprint(turned) == dataset_fingerprint(dataset(val=9))
