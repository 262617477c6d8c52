"""Real captioned photos are read as the field counts them; skipped where they are absent."""

from pathlib import Path

import pytest

from showtell.data.sources import load_dataset
from showtell.errors import DataError


@pytest.mark.parametrize(
    ("place", "format"),
    [
        ("flickr8k", "flickr8k"),
        ("flickr8k/Flickr8k.token.txt", "flickr8k"),
        ("flickr8k/dataset_flickr8k.json", "karpathy"),
    ],
)
def test_flickr8k(test_data: Path, place: str, format: str) -> None:
    dataset = load_dataset(test_data / place)
    assert dataset.format == format
    assert not dataset.problems
    counts = {
        split: (len(records), sum(len(record.captions) for record in records))
        for split in ("train", "val", "test")
        if (records := dataset.split(split))
    }
    assert counts == {"train": (6_000, 30_000), "val": (1_000, 5_000)}


def test_both_forms_of_flickr8k_say_the_same(test_data: Path) -> None:
    tokens = load_dataset(test_data / "flickr8k").records
    karpathy = load_dataset(test_data / "flickr8k" / "dataset_flickr8k.json").records
    assert {record.image_id: record for record in tokens} == {
        record.image_id: record for record in karpathy
    }


def test_coco_sample(test_data: Path) -> None:
    dataset = load_dataset(test_data / "coco" / "captions_val2017_sample.json")
    assert dataset.format == "coco"
    assert not dataset.problems
    assert dataset.split_counts() == {"val": 64}
    assert sum(len(record.captions) for record in dataset.records) == 320


def test_two_coco_files_in_a_folder_are_not_guessed_at(test_data: Path) -> None:
    with pytest.raises(DataError, match=r"give one annotations file of several: captions_karp"):
        load_dataset(test_data / "coco")
