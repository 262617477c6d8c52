"""New splits, samples, and several data sets as one."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from showtell.data.check_pictures import check_pictures, near_duplicates, same_groups
from showtell.data.divide import (
    Amount,
    only_split,
    parse_amount,
    sample_dataset,
    split_dataset,
)
from showtell.data.duplicates import Look, NearDuplicates, near_groups
from showtell.data.merge import merge_datasets
from showtell.data.records import Dataset, Record
from showtell.errors import DataError

TENTH = Amount(0.1, is_share=True)


def dataset_of(num: int, name: str = "set") -> Dataset:
    records = tuple(
        Record(f"{n:04d}", Path(f"{n}.jpg"), (f"caption {n}",), "train") for n in range(num)
    )
    return Dataset(name, "csv", records)


def drawing(path: Path, number: int, size: int = 96, quality: int = 95) -> Path:
    """Squares in places that the number says; the same at any size."""
    picture = Image.new("RGB", (96, 96), (20, 60, 40))
    draw = ImageDraw.Draw(picture)
    for step in range(6):
        x, y = (number * 37 + step * 29) % 72, (number * 53 + step * 43) % 72
        draw.rectangle((x, y, x + 20, y + 14), fill=(200, 40 * step % 255, 90 + 20 * step))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((size, size), Image.Resampling.LANCZOS).save(path, quality=quality)
    return path


@pytest.mark.parametrize(
    ("text", "total", "expected"),
    [("500", 9000, 500), ("0.1", 50, 5), ("10%", 50, 5), (" 12.5 %", 80, 10), ("0", 9, 0)],
)
def test_amounts(text: str, total: int, expected: int) -> None:
    assert parse_amount(text, "--val").of(total) == expected


@pytest.mark.parametrize("text", ["", "ten", "-1", "1.5", "150%", "1e3", "nan", "0.1.1"])
def test_no_amounts(text: str) -> None:
    with pytest.raises(DataError, match=r"--val .*expected a number of pictures such as 500"):
        parse_amount(text, "--val")


def test_a_split_is_exact_and_depends_on_the_ids_and_the_seed_alone() -> None:
    dataset = dataset_of(1000)
    split = split_dataset(dataset, TENTH, Amount(50, is_share=False))
    assert split.split_counts() == {"train": 850, "val": 100, "test": 50}
    backwards = replace(dataset, records=dataset.records[::-1])
    again = split_dataset(backwards, TENTH, Amount(50, is_share=False))
    assert {r.image_id: r.split for r in again.records} == {
        r.image_id: r.split for r in split.records
    }
    other = split_dataset(dataset, TENTH, Amount(50, is_share=False), seed=1)
    both = {r.image_id for r in other.split("val")} & {r.image_id for r in split.split("val")}
    assert 0 < len(both) < 30, "another seed, another tenth"
    assert split.notes == ("split anew with seed 0: 850 train, 100 val, 50 test",)


def test_groups_stay_together() -> None:
    dataset = dataset_of(300)
    groups = [list(range(start, start + 3)) for start in range(0, 240, 3)]
    for seed in range(5):
        split = split_dataset(dataset, TENTH, TENTH, seed=seed, groups=groups)
        assert split.split_counts() == {"train": 240, "val": 30, "test": 30}
        for group in groups:
            assert len({split.records[number].split for number in group}) == 1
        assert any(split.records[group[0]].split == "test" for group in groups)


def test_a_group_larger_than_a_split_is_for_training() -> None:
    split = split_dataset(dataset_of(20), TENTH, TENTH, groups=[range(15)])
    assert {split.records[number].split for number in range(15)} == {"train"}
    assert split.split_counts() == {"train": 16, "val": 2, "test": 2}


def test_a_split_into_which_no_group_fits_gets_the_smallest() -> None:
    """Four scenes of five frames, but for one of three: a tenth is two pictures."""
    groups = [range(0, 5), range(5, 10), range(10, 13), range(13, 18)]
    for seed in range(5):
        split = split_dataset(dataset_of(18), TENTH, TENTH, seed=seed, groups=groups)
        assert split.split_counts() == {"train": 10, "val": 5, "test": 3}
        assert {split.records[number].split for number in groups[2]} == {"test"}
        for group in groups:
            assert len({split.records[number].split for number in group}) == 1
        assert split.notes[1:] == (
            "test gets 3 pictures that look the same: there is no smaller group",
            "val gets 5 pictures that look the same: there is no smaller group",
        )
    none = Amount(0, is_share=False)
    split = split_dataset(dataset_of(18), TENTH, none, groups=groups)
    assert split.split_counts() == {"train": 15, "val": 3}
    # Test would get both of the small ones, and train keeps the large one.
    split = split_dataset(dataset_of(22), TENTH, TENTH, groups=[range(20)])
    assert split.split_counts() == {"train": 20, "val": 1, "test": 1}


def test_fewer_groups_than_splits() -> None:
    groups = [range(0, 5), range(5, 10)]
    with pytest.raises(DataError, match=r"2 groups of .* train, test and val need one each"):
        split_dataset(dataset_of(10), TENTH, TENTH, groups=groups)
    none = Amount(0, is_share=False)
    split = split_dataset(dataset_of(10), TENTH, none, groups=groups)
    assert split.split_counts() == {"train": 5, "val": 5}


def test_something_is_left_to_train_on() -> None:
    with pytest.raises(DataError, match="5 for val and 5 for test leave none to train on"):
        split_dataset(dataset_of(10), Amount(5, is_share=False), Amount(0.5, is_share=True))


def test_a_sample_keeps_the_shares_of_the_splits() -> None:
    dataset = split_dataset(dataset_of(1000), TENTH, Amount(0.02, is_share=True))
    sample = sample_dataset(dataset, Amount(100, is_share=False))
    assert sample.split_counts() == {"train": 88, "val": 10, "test": 2}
    assert {record.image_id for record in sample.records} <= {r.image_id for r in dataset.records}
    assert sample_dataset(dataset, Amount(100, is_share=False)).records == sample.records
    assert sample_dataset(dataset, Amount(100, is_share=False), seed=1).records != sample.records
    for num in range(1, 60):
        counts = sample_dataset(dataset, Amount(num, is_share=False)).split_counts()
        assert sum(counts.values()) == num
        assert num < 3 or len(counts) == 3, "no split is lost"
    everything = sample_dataset(dataset, Amount(1.0, is_share=True))
    assert everything.records == dataset.records
    for wrong in (0, 1001):
        with pytest.raises(DataError, match=f"{wrong:,} cannot be taken of them"):
            sample_dataset(dataset, Amount(wrong, is_share=False))
    assert only_split(dataset, "val").split_counts() == {"val": 100}


def test_near_groups_follow_chains_and_colours() -> None:
    def look(bits: int, red: int = 0) -> Look:
        return Look(f"{(1 << bits) - 1:064x}", (red, 0, 0))

    looks = [look(0), look(100), None, look(20), look(40), look(0, red=200), look(100)]
    assert near_groups(looks) == [[0, 3, 4], [1, 6]]
    found = NearDuplicates()
    for one in (look(0), look(20), look(100)):
        found.add(one)
    assert found.find_all(look(10)) == [0, 1]


def test_pictures_saved_anew_are_found_again(tmp_path: Path) -> None:
    pytest.importorskip("imagehash")
    paths = [drawing(tmp_path / f"{n}.jpg", n) for n in range(8)]
    paths.append(drawing(tmp_path / "small.jpg", 3, size=64))
    paths.append(drawing(tmp_path / "poor.jpg", 3, quality=40))
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(paths[5].read_bytes())
    for name in ("black.png", "black2.png"):  # plain pictures look like nothing
        Image.new("RGB", (50 + len(name), 50)).save(tmp_path / name)
        paths.append(tmp_path / name)
    paths.append(copy)
    records = [Record(p.name, p, ("x",), "val" if p == copy else "train") for p in paths]
    checks = check_pictures(records, looks=True)
    groups = [[records[number].image_id for number in group] for group in same_groups(checks)]
    assert groups == [["3.jpg", "small.jpg", "poor.jpg"], ["5.jpg", "copy.jpg"]]
    within, across = near_duplicates(records, checks)
    assert [problem.where for problem in within] == ["small.jpg", "poor.jpg"]
    assert across == [], "a copy is told as a copy"
    records[8] = replace(records[8], split="test")
    _, [problem] = near_duplicates(records, checks)
    assert problem.detail == "test; looks like 3.jpg (train)"
    without = check_pictures(records)
    assert same_groups(without) == [[5, 12]] and without[5].look is None


def test_merging(tmp_path: Path) -> None:
    pytest.importorskip("imagehash")
    first = [
        Record("1", drawing(tmp_path / "a/1.jpg", 1), ("one", "uno"), "train"),
        Record("2", drawing(tmp_path / "a/2.jpg", 2), ("two",), "val"),
        Record("3", drawing(tmp_path / "a/3.jpg", 3), ("three",), "train"),
    ]
    second = [
        Record("1", drawing(tmp_path / "b/1.jpg", 4), ("four",), "train"),
        Record("9", drawing(tmp_path / "b/9.jpg", 1), ("one", "eins"), "test"),
        Record("8", drawing(tmp_path / "b/8.jpg", 3, size=64), ("three again",), "val"),
    ]
    sets = [
        Dataset(str(tmp_path / "a"), "csv", tuple(first), notes=("a note",)),
        Dataset(str(tmp_path / "b.json"), "coco", tuple(second)),
    ]
    merged = merge_datasets(sets)
    assert [(r.image_id, r.captions, r.split) for r in merged.records] == [
        ("1", ("one", "uno", "eins"), "test"),
        ("2", ("two",), "val"),
        ("3", ("three",), "train"),
        ("b/1", ("four",), "train"),
        ("8", ("three again",), "val"),
    ]
    assert merged.format == "csv+coco"
    told = " ".join(merged.notes)
    for part in (
        "a: a note",
        "1 picture in more than one data set, joined with the captions of all",
        "1 of them are in different splits",
        "1 id taken by another data set",
        "1 group of pictures that look the same lie in different splits; `showtell data split`",
    ):
        assert part in told
    thrice = merge_datasets([sets[0], sets[0], sets[0]], near=False)
    assert Counter(r.image_id for r in thrice.records) == {"1": 1, "2": 1, "3": 1}
    assert [r.captions for r in thrice.records] == [("one", "uno"), ("two",), ("three",)]
    with pytest.raises(DataError, match="two data sets or more"):
        merge_datasets(sets[:1])


def test_copies_of_a_picture_follow_it_into_its_split(tmp_path: Path) -> None:
    path = drawing(tmp_path / "a/1.jpg", 1)
    for name in ("a/2.jpg", "b/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(path.read_bytes())
    first = (
        Record("x1", path, ("one",), "train"),
        Record("x2", tmp_path / "a/2.jpg", ("uno",), "train"),
        Record("y", drawing(tmp_path / "a/3.jpg", 3), ("three",), "train"),
    )
    second = (Record("z", tmp_path / "b/1.jpg", ("eins",), "test"),)
    sets = [Dataset("a", "csv", first), Dataset("b", "csv", second)]
    merged = merge_datasets(sets, near=False)
    assert [(r.image_id, r.captions, r.split) for r in merged.records] == [
        ("x1", ("one", "eins"), "test"),
        ("x2", ("uno",), "test"),
        ("y", ("three",), "train"),
    ]
    assert any("1 of them are in different splits" in note for note in merged.notes)
    backwards = merge_datasets(sets[::-1], near=False)
    assert [(r.image_id, r.captions, r.split) for r in backwards.records] == [
        ("z", ("eins", "one", "uno"), "test"),
        ("y", ("three",), "train"),
    ]


def test_merging_keeps_each_captions_style(tmp_path: Path) -> None:
    plain = Record("1", drawing(tmp_path / "a/1.jpg", 1), ("one", "uno"), "train")
    copy = drawing(tmp_path / "b/1.jpg", 1)
    styled = Record("1", copy, ("one", "one", "uno"), "train", ("short", "", "long"))
    sets = [Dataset(name, "jsonl", (record,)) for name, record in (("a", plain), ("b", styled))]
    [record] = merge_datasets(sets, near=False).records
    assert record.captions == ("one", "uno", "one", "uno")
    assert record.styles == ("", "", "short", "long")
    [record] = merge_datasets([sets[0], sets[0]], near=False).records
    assert record.styles == ()
