"""What ``data inspect`` finds, on a set with one of everything wrong."""

import json
from pathlib import Path

import pytest
from PIL import Image

from showtell.cli.data import inspection_text
from showtell.data.inspect import Checks, Inspection, inspect_dataset
from showtell.data.sources import load_dataset

NUM_PICTURES = 100  # more than one task's worth


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    rows = ["path,caption,split"]
    for number in range(NUM_PICTURES):
        split = "train" if number < 80 else "val"
        Image.new("RGB", (10 + number, 20), (number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,A grey cat .,{split}")
    rows.append("0.png,Two owls at night,train")
    (tmp_path / "90.png").write_bytes((tmp_path / "3.png").read_bytes())
    (tmp_path / "5.png").write_bytes((tmp_path / "4.png").read_bytes())
    for name, raw in (("cut.jpg", b""), ("empty.jpg", b""), ("text.jpg", b"not a picture")):
        if name == "cut.jpg":
            Image.effect_noise((300, 200), 60).save(tmp_path / name)
            raw = (tmp_path / name).read_bytes()[:3000]
        (tmp_path / name).write_bytes(raw)
        rows.append(f"{name},A dog,val")
    rows.append("gone.jpg,A bird,val")
    path = tmp_path / "set.csv"
    path.write_text("\n".join(rows))
    return path


def examples(inspection: Inspection) -> dict[str, list[tuple[str, str]]]:
    return {
        group.kind: [(Path(problem.where).name, problem.detail) for problem in group.examples]
        for group in inspection.problems
    }


def test_everything_at_once(flawed: Path) -> None:
    seen: list[tuple[int, int]] = []
    inspection = inspect_dataset(
        load_dataset(flawed), progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (103, 103)
    assert [done for done, _ in seen] == [64, 103]
    assert {name: (c.num_pictures, c.num_captions) for name, c in inspection.splits.items()} == {
        "train": (80, 81),
        "val": (23, 23),
    }
    assert inspection.captions_per_picture == {"min": 1, "mean": 104 / 103, "max": 2}
    assert inspection.caption_lengths == {2: 3, 3: 100, 4: 1}
    assert inspection.words_from == "train"
    assert inspection.num_running_words == 3 * 80 + 4
    sizes = {size.threshold: (size.num_words, size.coverage) for size in inspection.vocabulary}
    assert sizes[1] == (7, 1.0)
    assert sizes[2] == sizes[5] == (3, 240 / 244)
    assert inspection.frequent_words[:3] == (("a", 80), ("grey", 80), ("cat", 80))
    assert inspection.num_repeated_captions == 99 + 2
    assert inspection.repeated_captions == (("A grey cat .", 100), ("A dog", 3))
    assert inspection.widths == {"min": 10, "median": 58.5, "max": 109}
    assert inspection.num_leaks == 1
    found = examples(inspection)
    [(gone, where)] = found["missing picture"]
    assert gone == "gone.jpg"
    assert where.startswith("no gone.jpg in ")
    assert str(flawed.parent) in where
    assert found["same picture in two splits"] == [
        ("90.png", "val; the same file as 3.png (train)")
    ]
    assert ("5.png", "train; the same file as 4.png (train)") in found["same picture twice"]
    broken = dict(found["broken picture"])
    assert list(broken) == ["cut.jpg", "empty.jpg", "text.jpg"]
    assert "truncated" in broken["cut.jpg"]
    assert broken["empty.jpg"] == "the file is empty"
    assert "is not a picture that can be read" in broken["text.jpg"]
    assert inspection.problems[0].kind == "broken picture", "the most frequent kind comes first"


def test_pictures_without_captions_are_opened_too(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        Image.effect_noise((30, 20), 60).save(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_text("a grey cat")
    (tmp_path / "b.txt").write_text(" ")
    for name in ("b", "c"):
        (tmp_path / f"{name}.png").write_bytes(b"not a picture")
    seen: list[tuple[int, int]] = []
    for _ in range(2):  # the second is read from the cache
        dataset = load_dataset(tmp_path)
        inspection = inspect_dataset(dataset, progress=lambda *done: seen.append(done))
        found = examples(inspection)
        assert sorted(name for name, _ in found["image without captions"]) == [
            "b.png",
            "c.png",
            "d.png",
        ]
        broken = dict(found["broken picture without captions"])
        assert broken.keys() == {"b.png", "c.png"}
        assert "is not a picture" in broken["b.png"]
        assert "broken picture" not in found
        assert inspection.widths == {"min": 30, "median": 30, "max": 30}
    assert seen == [(4, 4)] * 2


def test_it_goes_through_json(flawed: Path) -> None:
    inspection = inspect_dataset(load_dataset(flawed))
    value = json.loads(json.dumps(inspection.to_dict()))
    assert value["caption_lengths"] == {"2": 3, "3": 100, "4": 1}
    assert value["splits"]["val"] == {"num_pictures": 23, "num_captions": 23}
    assert value["problems"][0]["count"] == 3


def test_one_of_a_thing_is_singular(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    path = tmp_path / "set.csv"
    path.write_text("path,caption,split\na.png,Cat,train\n")
    lines = inspection_text(inspect_dataset(load_dataset(path))).splitlines()
    assert " train:         1 picture            1 caption" in lines
    assert "1 word in all (train captions)" in lines
    assert "  vocab_threshold 1:       1 word, 100.00% of all words" in lines


def test_pictures_may_be_left_out(flawed: Path) -> None:
    inspection = inspect_dataset(load_dataset(flawed), checks=Checks(pictures=False))
    assert (inspection.widths, inspection.heights, inspection.num_leaks) == (None, None, None)
    kinds = [group.kind for group in inspection.problems]
    assert kinds == ["missing picture", "caption of many pictures"]


def test_words_are_of_all_captions_where_none_is_for_training(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    path = tmp_path / "set.csv"
    path.write_text("path,caption,split\na.png,A cat,test\n")
    inspection = inspect_dataset(load_dataset(path))
    assert (inspection.words_from, inspection.num_running_words) == ("all", 2)
