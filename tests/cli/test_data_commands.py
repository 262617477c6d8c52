"""``showtell data``: convert, split, merge, sample, download, and what it says to wrong input."""

import json
from pathlib import Path

import pytest
from cli_shell import Shell
from PIL import Image, ImageDraw

from showtell.data.sources import load_dataset


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(20):
        picture = Image.new("RGB", (64, 48), (10 * number, 80, 30))
        x = number * 17 % 44
        ImageDraw.Draw(picture).rectangle((x, 5, x + 18, 9 + number * 7 % 36), fill="white")
        picture.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(
            f"A picture of the number {number} and a dog\nA square"
        )
    return folder


def test_from_one_format_to_the_next(showtell: Shell, photos: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b"
    done = showtell("data", "split", photos, "-o", first, "--val", "4", "--test", "2")
    assert done.returncode == 0, done.stderr
    assert "20 pictures with 40 captions in" in done.stdout and "14 train, 4 val" in done.stdout
    done = showtell("data", "sample", first, "-n", "10", "-o", second, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["splits"] == {"train": 7, "val": 2, "test": 1}
    done = showtell("data", "merge", first, second, "-o", tmp_path / "c.csv")
    assert done.returncode == 0, done.stderr
    assert "10 pictures in more than one data set" in done.stderr
    done = showtell("data", "convert", tmp_path / "c.csv", "-o", tmp_path / "d", "--to", "coco")
    assert done.returncode == 0, done.stderr
    assert load_dataset(tmp_path / "d").split_counts() == {"train": 14, "val": 4, "test": 2}
    again = showtell("data", "convert", tmp_path / "c.csv", "-o", tmp_path / "d", "--to", "coco")
    assert again.returncode == 1 and "already exists" in again.stderr
    page = tmp_path / "page.html"
    done = showtell("data", "inspect", tmp_path / "d", "--page", page)
    assert done.returncode == 0 and page.is_file() and "language: English" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("convert", "PHOTOS", "-o", "OUT", "--to", "yolo"), "unknown format to write 'yolo'"),
        (("convert", "PHOTOS", "-o", "PHOTOS"), "is or holds the data that is read"),
        (("split", "PHOTOS", "-o", "OUT", "--val", "half"), "--val half: expected a number"),
        (("split", "PHOTOS", "-o", "OUT", "--val", "20"), "leave none to train on"),
        (("sample", "PHOTOS", "-o", "OUT", "-n", "21"), "21 cannot be taken of them"),
        (("merge", "PHOTOS", "-o", "OUT"), "merging needs two data sets or more"),
        (("download", "coco"), "unknown data set to download 'coco'. Did you mean 'coco2"),
        (("inspect", "PHOTOS", "--encoding", "klingon"), "unknown --encoding 'klingon'"),
        (("inspect", "PHOTOS", "--page", "PHOTOS"), "--page"),
    ],
)
def test_wrong_input(
    arguments: tuple[str, ...], expected: str, showtell: Shell, photos: Path, tmp_path: Path
) -> None:
    places = {"PHOTOS": photos, "OUT": tmp_path / "out"}
    done = showtell("data", *(places.get(argument, argument) for argument in arguments))
    assert done.returncode in (1, 2)
    assert expected in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_captions_of_a_model_that_nobody_edited_are_told_and_left_out(
    showtell: Shell, photos: Path, tmp_path: Path
) -> None:
    rows = [f"{n}.png,A square,0.8,b054eb666427,{'WAHR' if n < 6 else ''}\n" for n in range(20)]
    table, mine = photos / "captions.csv", tmp_path / "mine.jsonl"
    table.write_text(f"path,caption,confidence,model,edited\n{''.join(rows)}")
    looked = showtell("data", "inspect", table)
    [note] = [line for line in looked.stdout.splitlines() if "a model wrote" in line]
    assert note.startswith("note: a model wrote 14 of 20 captions, and nobody edited them")
    command = f"showtell data convert {table} -o mine.jsonl --only-edited"
    assert note.endswith(f"leave them out: {command}")
    done = showtell("data", "convert", table, "-o", mine, "--only-edited")
    assert done.returncode == 0, done.stderr
    assert "left out: 14 captions that a model wrote and nobody edited" in done.stderr
    kept = load_dataset(mine)
    assert {record.image_id for record in kept.records} == {f"{n}.png" for n in range(6)}
    assert kept.split_counts() == {"train": 4, "val": 1, "test": 1}  # drawn of what is kept
    assert "a model wrote" not in showtell("data", "inspect", mine).stdout
    table.unlink()
    refused = showtell("data", "convert", photos, "-o", tmp_path / "b.jsonl", "--only-edited")
    assert refused.returncode == 1
    assert "(folder) cannot say which captions a person edited" in refused.stderr


def test_a_download_asks_first(
    showtell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = showtell("data", "download", "coco2017", "--to", tmp_path / "coco")
    assert done.returncode == 2
    assert "Creative Commons" in done.stderr and "add --yes" in done.stderr
    assert not (tmp_path / "coco").exists()


def test_a_folder_without_captions_says_what_to_do(showtell: Shell, photos: Path) -> None:
    for text in photos.glob("*.txt"):
        text.unlink()
    done = showtell("data", "inspect", photos)
    assert done.returncode == 1
    assert f"showtell caption {photos} --format sidecar" in done.stderr
