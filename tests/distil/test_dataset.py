"""How the teacher's captions and people's become one data set."""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from tiny_pictures import paint
from tiny_run import Notes

from showtell.data.duplicates import Look
from showtell.data.records import Dataset, Record
from showtell.data.sources import load_dataset
from showtell.distil.dataset import (
    mix,
    open_mixture,
    split_human,
    styled,
    without_held_out,
    write_mixture,
)
from showtell.distil.filters import Filtered, Said
from showtell.errors import DataError
from showtell.text.segment import Segmentation


def said(num: int, folder: str = "/a") -> list[Said]:
    names = [f"{folder}/{number}.png" for number in range(num)]
    return [Said(name, name, f"a dog number {name}", 0.9) for name in names]


def human(*splits: str) -> Dataset:
    records = tuple(
        Record(f"h{n}", Path(f"h{n}.png"), ("one", "two"), split)  # type: ignore[arg-type]
        for n, split in enumerate(splits)
    )
    return Dataset("people", "jsonl", records)


def test_a_twentieth_is_held_out_twice_wherever_the_folder_lies() -> None:
    found = [
        {r.path.name: r.split for r in mix(said(200, at), None, human_weight=4, styles=()).records}
        for at in ("/a", "/somewhere/else")
    ]
    assert found[0] == found[1]
    splits = list(found[0].values())
    assert (splits.count("val"), splits.count("test")) == (10, 10)
    with pytest.raises(DataError, match="at least three are needed"):
        mix(said(2), None, human_weight=4, styles=())


def test_people_without_a_test_set_give_half_of_their_val() -> None:
    found = split_human(human(*["train"] * 6, *["val"] * 4))
    assert found.split_counts() == {"train": 6, "val": 2, "test": 2}
    assert "no picture as test" in found.notes[-1]
    marked = human("train", "train", "val", "test")
    assert split_human(marked) == marked
    with pytest.raises(DataError, match="1 picture to measure on"):
        split_human(human("train", "train", "val"))


def test_nothing_is_left_to_train_on() -> None:
    with pytest.raises(DataError, match="no picture is left to train on: all of the 2 are held ou"):
        mix([], human("val", "test"), human_weight=4, styles=())


def test_people_weigh_more_in_training_alone() -> None:
    mixture = mix(said(3), human("train", "val", "test"), human_weight=3, styles=("short",))
    by_id = {record.image_id: record for record in mixture.records}
    assert by_id["human/h0"].captions == ("one", "two") * 3
    assert by_id["human/h2"].captions == ("one", "two")
    assert mixture.counts == {
        "teacher train": 3,
        "human train": 1,
        "human val": 1,
        "human test": 1,
    }


def test_styles_of_a_pictures_captions() -> None:
    texts = ["a man with a dog", "a man", "a man with his dog on grass"]
    assert styled(texts, ()) == (texts, ())
    captions, styles = styled(texts, ("short", "detailed", "neutral"))
    assert dict(zip(captions[3:5], styles[3:5], strict=True)) == {
        "a man": "short",
        "a man with his dog on grass": "detailed",
    }
    assert captions[5:] == ["a person with a dog", "a person", "a person with their dog on grass"]
    assert styles == ("",) * 3 + ("short", "detailed") + ("neutral",) * 3
    assert styled(["a man", "a dog"], ("short",)) == (["a man", "a dog"], ("", ""))


def test_styles_of_captions_without_spaces() -> None:
    texts, cut = (
        ["一个男人和一只狗", "男人", "男人和狗坐在公园的草地上"],
        Segmentation.of("characters", "zh"),
    )
    captions, styles = styled(texts, ("short", "detailed"), cut)
    assert captions[3:] == texts[1:] and styles[3:] == ("short", "detailed")
    records = mix(
        [Said(f"/{n}.png", f"/{n}.png", text, 0.9) for n in range(3) for text in texts],
        None,
        human_weight=1,
        styles=("short",),
        segmentation=cut,
    ).records
    assert [r.captions[3:] for r in records if r.split == "train"] == [("男人",)]


def test_a_look_that_is_held_out() -> None:
    red, blue = (Look("0" * 64, colour) for colour in ((200, 0, 0), (0, 0, 200)))
    captions, found = said(2), Filtered()
    looks = {captions[0].picture: red, captions[1].picture: blue}
    people = human("train", "train", "val")
    kept, left = without_held_out(
        captions,
        people,
        looks=looks,
        human_looks={"h0": red, "h1": blue, "h2": blue},
        found=found,
    )
    assert kept == captions[:1]
    assert found.counts == {"looks like a held-out picture": 1}
    assert [record.image_id for record in left.records] == ["h0", "h2"]


def test_a_file_that_is_held_out_is_known_without_its_look(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(tmp_path)
    captions, found = said(2, str(tmp_path)), Filtered()
    held_out = Record("h0", tmp_path / "linked" / "1.png", ("one",), "test")
    people = Dataset("people", "jsonl", (held_out,))
    kept, left = without_held_out(captions, people, looks={}, human_looks={}, found=found)
    assert kept == captions[:1] and left == people


def test_a_picture_that_both_have_captioned_is_one_record(tmp_path: Path) -> None:
    paint(tmp_path, 4)
    captions = [
        Said(f"p{n}", str(tmp_path / f"p{n}.png"), text, 0.9)
        for n in range(4)
        for text in ("a dog runs", "a dog")
    ]
    people = Dataset(
        "people",
        "jsonl",
        tuple(
            Record(f"h{n}", tmp_path / f"p{n}.png", ("one", "two"), split)
            for n, split in enumerate(("train", "val", "test"))
        ),
    )
    mixture = mix(captions, people, human_weight=2, styles=("short",))
    assert mixture.counts == {
        "teacher train": 1,
        "human and teacher train": 1,
        "human val": 1,
        "human test": 1,
    }
    report = Notes()
    data = open_mixture(write_mixture(mixture.records, tmp_path), report)
    assert data.records == mixture.records and report.notes == []
    by_id = {record.image_id: record for record in data.records}
    own, said_by_teacher = ("one", "two"), ("a dog runs", "a dog", "a dog")
    assert by_id["human/h0"].captions == own * 2 + said_by_teacher
    assert by_id["human/h0"].styles == ("",) * 6 + ("short",)
    assert by_id["human/h1"].captions == by_id["human/h2"].captions == own
    assert by_id["teacher/p3"].captions == said_by_teacher


def test_the_data_set_reads_as_any_other(tmp_path: Path) -> None:
    records = []
    for number in range(4):
        picture = Image.new("RGB", (16, 16))
        ImageDraw.Draw(picture).point((number, 0), "white")
        picture.save(tmp_path / f"{number}.png")
        split = ("train", "train", "val", "test")[number]
        styles = ("", "short") if number == 0 else ()
        path = tmp_path / f"{number}.png"
        records.append(Record(f"teacher/{number}", path, ("a dog", "dog"), split, styles))  # type: ignore[arg-type]
    found = load_dataset(str(write_mixture(records, tmp_path)))
    assert found.records == tuple(records)
