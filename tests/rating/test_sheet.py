"""The sheet: blind, in an order that the seed decides, the same as page and as CSV."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_shell import Outcome, Shell
from page_parser import parse_page
from PIL import Image

from showtell.errors import DataError
from showtell.rating.scales import SCALES, scale_named
from showtell.rating.sheet import Sheet, make_sheet


def make(showtell: Shell, world: Path, output: Path, *options: str) -> Outcome:
    files = (world / "alpha.json", world / "beta.jsonl", world / "photos")
    return showtell("rate", *files, "-o", output, *options)


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found
    value: dict[str, Any] = json.loads(found[1])
    return value


@pytest.mark.parametrize("scale", SCALES)
def test_page_and_table_have_the_same_questions_and_no_names(
    scale: str, showtell: Shell, world: Path, tmp_path: Path
) -> None:
    page = tmp_path / "rating.html"
    result = make(showtell, world, page, "--scale", scale)
    assert result.returncode == 0, result.stderr
    assert "about " in result.stdout
    key = Sheet.of_key(tmp_path / "rating.key.json")
    data = data_of(page)
    assert data["sheet"] == key.id
    with open(tmp_path / "rating.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["item"] for row in rows] == [item["id"] for item in data["items"]]
    assert [row["item"] for row in rows] == [item.id for item in key.items]
    assert [tuple(item["captions"]) for item in data["items"]] == [i.captions for i in key.items]
    assert {row["one_of"] for row in rows} == {
        " / ".join(grade.code for grade in SCALES[scale].grades)
    }
    for path in (page, tmp_path / "rating.csv"):
        text = path.read_text(encoding="utf-8")
        assert not re.search("alpha|beta", text.replace("alphabet", ""))
    assert [system.name for system in key.systems] == ["alpha", "beta"]
    assert len(key.items) == (5 if scale == "pairwise" else 11)
    assert len(key.equal) == (scale == "pairwise")
    said = {item.picture: set(item.captions) for item in (*key.items, *key.equal)}
    assert set(said) == {path.name for path in (world / "photos").iterdir()}
    if scale == "pairwise":
        assert said["red.png"] == {"a red wall", "a wall"}
        assert {item.authors[0][0].system for item in key.items} == {0, 1}  # A is not always one
    else:
        [black] = [item for item in key.items if item.picture == "black.png"]
        assert [author.system for author in black.authors[0]] == [0, 1]
        assert black.authors[0][1].confidence == 0.6


def test_the_page_is_whole_and_escaped(showtell: Shell, world: Path, tmp_path: Path) -> None:
    page = tmp_path / "rating.html"
    assert make(showtell, world, page).returncode == 0
    parsed = parse_page(page)
    assert "Does the caption describe the picture?" in parsed.words
    urls = [v for tag, name, v in parsed.attributes if name in ("src", "href") and v]
    assert urls == ["data:,"]
    data = data_of(page)  # a caption with </script> has not ended the script
    assert "<b>snow</b> & ice </script>" in [item["captions"][0] for item in data["items"]]
    assert all(source.startswith("data:image/jpeg;base64,") for source in data["sources"].values())
    cells = (tmp_path / "rating.csv").read_text(encoding="utf-8")
    assert ",'=1+1," in cells  # no formula
    assert not re.search(r"\b\d{5,}\b", ",".join(item["id"] for item in data["items"]))


def test_the_seed_decides(showtell: Shell, world: Path, tmp_path: Path) -> None:
    pages = [tmp_path / f"{name}.html" for name in "abc"]
    for page, seed in zip(pages, "112", strict=True):
        assert make(showtell, world, page, "--sample", "4", "--seed", seed).returncode == 0
    same, again, other = (page.read_text(encoding="utf-8") for page in pages)
    assert same == again != other
    assert len({item["picture"] for item in data_of(pages[0])["items"]}) == 4


def test_linked_pictures(showtell: Shell, world: Path, tmp_path: Path) -> None:
    page = tmp_path / "rating.html"
    result = make(showtell, world, page, "--link")
    assert "6 pictures of 6 are links from the page" in result.stderr
    for source in data_of(page)["sources"].values():
        assert (tmp_path / source).is_file()


def test_what_is_left_out_is_said(showtell: Shell, world: Path, tmp_path: Path) -> None:
    rows = [
        {"image_id": "red", "caption": "a wall"},
        {"image_id": "blue", "caption": " "},
        {"image_id": "none", "caption": "a cat"},
    ]
    one = tmp_path / "one.json"
    one.write_text(json.dumps(rows), encoding="utf-8")
    result = showtell(
        "rate", one, world / "alpha.json", world / "photos", "-o", tmp_path / "r.html",
        "--sample", "3",
    )  # fmt: skip
    assert result.returncode == 0
    for note in (
        "one.json: left out 1 caption with no picture: none",
        "one.json: left out 1 empty caption",
        "left out: 5 pictures without a caption in every file",
        "3 pictures were asked for, and there are 1",
    ):
        assert note in result.stderr


def test_a_picture_that_cannot_be_read_is_linked(
    showtell: Shell, world: Path, tmp_path: Path
) -> None:
    (tmp_path / "red.png").write_bytes(b"no picture")
    result = showtell("rate", world / "alpha.json", tmp_path, "-o", tmp_path / "r.html")
    assert result.returncode == 0
    assert "linked, not put into the page" in result.stderr
    assert data_of(tmp_path / "r.html")["sources"] == {"red.png": "red.png"}


def test_ids_find_pictures_as_they_find_references(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "val2014").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "val2014" / "COCO_val2014_000000000139.jpg")
    (tmp_path / "one.json").write_text('[{"image_id": 139, "caption": "a"}]', encoding="utf-8")
    sheet = make_sheet([tmp_path / "one.json"], tmp_path, scale_named("1-5"))
    assert sheet.items[0].picture == "val2014/COCO_val2014_000000000139.jpg"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["alpha.json"], 2, "give files of captions and the folder of their pictures; got "),
        (["alpha.json", "beta.jsonl"], 1, "the last argument is the folder of the pictures"),
        (["alpha.json", "photos", "--scale", "pairwise"], 1, "pairwise compares captioners"),
        (["alpha.json", "alpha.json", "photos"], 1, "a file of captions was given twice"),
        (["alpha.json", "."], 1, "is of a picture"),
        (["alpha.json", "photos", "-o", "page.txt"], 2, "the name of a sheet must end in .html"),
        (["alpha.json", "photos", "--key", "k.json"], 2, "--key, --references, --graded"),
        (["nothing.json", "photos"], 1, "no file"),
        (["alpha.json", "photos", "--scale", "1-6"], 2, "'1-6' is not one of '1-5', 'pairwise'"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], code: int, message: str, showtell: Shell, world: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.png").write_bytes(b"")
    given = [
        str(world / one) if (world / one).exists() and one != "." else one for one in arguments
    ]
    given = [str(tmp_path / "empty") if one == "." else one for one in given]
    output = [] if "-o" in arguments else ["-o", str(tmp_path / "r.html")]
    result = showtell("rate", *given, *output)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "r.html").exists()


def test_files_that_are_there_are_kept(showtell: Shell, world: Path, tmp_path: Path) -> None:
    (tmp_path / "rating.csv").write_text("answers of a week", encoding="utf-8")
    result = make(showtell, world, tmp_path / "rating.html")
    assert result.returncode == 1
    assert "rating.csv already exists" in result.stderr
    assert make(showtell, world, tmp_path / "rating.html", "--overwrite").returncode == 0


def test_sheets_that_differ_share_no_id(world: Path, tmp_path: Path) -> None:
    other = tmp_path / "alpha.json"
    rows = json.loads((world / "alpha.json").read_text(encoding="utf-8"))
    other.write_text(json.dumps([row | {"caption": row["caption"] + "s"} for row in rows]))
    two, photos = [world / "alpha.json", world / "beta.jsonl"], world / "photos"
    graded, pairs = scale_named("right/half/wrong"), scale_named("pairwise")
    sheets = [
        make_sheet(two, photos, graded),
        make_sheet([other, two[1]], photos, graded),
        make_sheet(two, photos, graded, seed=1),
        make_sheet(two, photos, pairs),
        make_sheet(two[::-1], photos, pairs),
    ]
    ids = [{sheet.id, *(item.id for item in (*sheet.items, *sheet.equal))} for sheet in sheets]
    assert sum(map(len, ids)) == len(set().union(*ids))
    assert make_sheet(two, photos, graded) == sheets[0]


def test_files_of_one_name_in_two_folders(tmp_path: Path) -> None:
    rows = []
    for kind in ("cats", "dogs"):
        (tmp_path / "pets" / kind).mkdir(parents=True)
        for number in (1, 2):
            path = f"pets/{kind}/00{number}.png"
            Image.new("RGB", (8, 8)).save(tmp_path / path)
            rows.append({"path": path, "caption": f"{kind} {number}"})
    file = tmp_path / "pets.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def said(folder: str) -> dict[str, str]:
        sheet = make_sheet([file], tmp_path / folder, scale_named("right/half/wrong"))
        return {item.picture: item.captions[0] for item in sheet.items}

    assert said("pets/cats") == {"001.png": "cats 1", "002.png": "cats 2"}
    (tmp_path / "pets" / "cats").rename(tmp_path / "felines")
    with pytest.raises(
        DataError,
        match=r"rows 0 and 2, counted from 0, are captions of one picture, \S+felines/001.png: "
        r"pets/cats/001.png and pets/dogs/001.png; give the folder, pets, that these paths start",
    ):
        said("felines")
    (tmp_path / "felines").rename(tmp_path / "pets" / "cats")
    assert said("pets") == {f"{k}/00{n}.png": f"{k} {n}" for k in ("cats", "dogs") for n in (1, 2)}
