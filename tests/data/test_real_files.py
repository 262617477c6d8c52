"""Files as people have them: read whole, or listed; nothing is lost without a word."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_archives import jpeg

from showtell.data.ids import IdNumbers, id_text
from showtell.data.pictures import PICTURE_SUFFIXES, SidecarFinder
from showtell.data.records import Dataset
from showtell.data.sources import load_dataset
from showtell.errors import DataError, install_line

Picture = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path, picture: Picture) -> Path:
    """A folder with pictures p0.jpg to p3.jpg."""
    for number in range(4):
        picture(tmp_path / f"p{number}.jpg", 40 * number)
    return tmp_path


def load(folder: Path, text: str | bytes, name: str = "captions.csv", **options: Any) -> Dataset:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_dataset(path, **options)


def captions(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {record.image_id: record.captions for record in dataset.records}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,caption\np0.jpg,A dog, running, fast\n", "A dog, running, fast"),
        ('image, caption\np0.jpg, "A dog, running"\n', "A dog, running"),
        ('image,caption\np0.jpg,"A dog, running" \n', "A dog, running"),
        ('image,caption\np0.jpg,"Stop" says the sign\n', '"Stop" says the sign'),
        ('image\tcaption\np0.jpg\t"Stop" says the sign\n', '"Stop" says the sign'),
        ('image\tcaption\np0.jpg\t"Stop, says the sign\n', '"Stop, says the sign'),
        ('image,caption\np0.jpg,A "dog", running\n', 'A "dog", running'),
        ('image,caption\np0.jpg,"A dog\n"\n', "A dog"),
        ('image,caption\np0.jpg,"A ""dog"", running\nfast"\n', 'A "dog", running\nfast'),
        ("image,caption\np0.jpg,A dog,,\n", "A dog"),
        ("image,caption\r\np0.jpg,A dog, running\r\n", "A dog, running"),
        ("image,caption\rp0.jpg,A dog, running\r", "A dog, running"),
        ("caption;image\nA dog, running;p0.jpg\n", "A dog, running"),
        ("image|caption\np0.jpg|A dog | a cat", "A dog | a cat"),
    ],
)
def test_a_caption_is_read_whole(folder: Path, text: str, said: str) -> None:
    assert captions(load(folder, text)) == {"p0.jpg": (said,)}


OURS = "path,caption,confidence,log_prob,model,edited\n"


@pytest.mark.parametrize(
    ("edited", "is_edited"),
    [
        *((value, True) for value in ("true", "TRUE", "x", "yes", "1", "WAHR", "VRAI", "ok")),
        *((value, False) for value in ("", " ", "false", "FALSE", "no", "0", "0.0", "None")),
        *(
            (value, False)
            for value in ("FALSCH", "nein", "FAUX", "non", "FALSO", "NÃO", "ЛОЖЬ", "YANLIŞ")
        ),
    ],
)
def test_what_counts_as_edited(folder: Path, edited: str, is_edited: bool) -> None:
    text = f"{OURS}p0.jpg,A dog,0.8,-5,b054eb666427,{edited}\np1.jpg,A cat,,,,\n"
    rows = [
        {"path": "p0.jpg", "caption": "A dog", "log_prob": -5, "model": "m", "edited": edited},
        {"path": "p1.jpg", "caption": "A cat"},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    note = "a model wrote 1 of 2 captions, and nobody edited them"
    for content, name in ((text, "captions.csv"), (lines, "captions.jsonl")):
        dataset = load(folder, content, name)
        assert any(line.startswith(note) for line in dataset.notes) is not is_edited
        kept = captions(load(folder, content, name, only_edited=True))
        assert kept == ({"p0.jpg": ("A dog",)} if is_edited else {}) | {"p1.jpg": ("A cat",)}


def test_only_a_models_rows_are_untouched(folder: Path) -> None:
    """JSON has true and false. ``model`` alone may be a camera. A row without one is a person's."""
    row = {"path": "p0.jpg", "caption": "A dog", "confidence": None, "model": "default"}
    for edited, is_noted in ((True, False), (False, True), (None, True)):
        dataset = load(folder, json.dumps(row | {"edited": edited}), "captions.jsonl")
        assert any("a model wrote" in note for note in dataset.notes) is is_noted
    assert any("a model wrote" in note for note in load(folder, json.dumps(row), "a.jsonl").notes)
    for text in ("path,caption,model\np0.jpg,A dog,Canon\n", f"{OURS}p0.jpg,A dog,,,,\n"):
        assert not any("a model wrote" in note for note in load(folder, text).notes)
        everything = load(folder, text, only_edited=True)
        assert captions(everything) == {"p0.jpg": ("A dog",)}
        assert "no caption is marked as a model's own, so all are kept" in everything.notes


def test_where_nobody_edited_anything_nothing_is_left(folder: Path) -> None:
    text = f"{OURS}p0.jpg,A dog,0.8,-5,m,\np1.jpg,A cat,0.8,-5,m,no\n"
    with pytest.raises(DataError, match=r"a model wrote all 2; write true into `edited`"):
        load(folder, text, only_edited=True)


def test_stray_quotes_in_two_rows_do_not_swallow_the_rows_between(folder: Path) -> None:
    text = 'image\tcaption\np0.jpg\t"Stop\np1.jpg\tA cat\np2.jpg\tA "bus"\np3.jpg\tgo"\n'
    dataset = load(folder, text, "captions.tsv")
    assert captions(dataset) == {
        "p0.jpg": ('"Stop',),
        "p1.jpg": ("A cat",),
        "p2.jpg": ('A "bus"',),
        "p3.jpg": ('go"',),
    }
    assert "captions.tsv: the quotes of 1 cell enclose only a part; kept as text" in dataset.notes


def test_rows_of_another_shape_are_listed_or_rejoined_with_a_note(folder: Path) -> None:
    rows = "p0.jpg,A dog, running\np1.jpg\np2.jpg,A bus\n,,\n\np3.jpg,A, b\n"
    dataset = load(folder, "image,caption\n" + rows)
    assert captions(dataset)["p0.jpg"] == ("A dog, running",)
    assert captions(dataset)["p3.jpg"] == ("A, b",)
    assert (
        dataset.notes[0]
        == "captions.csv: the caption of 2 rows has unquoted delimiters; kept whole"
    )
    assert [(p.kind, p.where, p.detail) for p in dataset.problems] == [
        (
            "bad row",
            "captions.csv: row 3",
            "has 1 cell where the header has 2",
        )
    ]
    dataset = load(folder, "image,caption,split\np0.jpg,A dog, running,train\np1.jpg,A cat,train\n")
    assert captions(dataset) == {"p1.jpg": ("A cat",)}
    assert "has 4 cells where the header has 3" in dataset.problems[0].detail


def test_many_stray_quotes_take_no_time(folder: Path) -> None:
    rows = 'p0.jpg,"A dog\n' * 30_000 + 'p1.jpg,"""A cat\n' * 30_000
    dataset = load(folder, "image,caption\n" + rows)
    assert {image_id: len(said) for image_id, said in captions(dataset).items()} == {
        "p0.jpg": 30_000,
        "p1.jpg": 30_000,
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", "image,caption\r\np0.jpg,Ein Bär\r\n"),
        ("c.jsonl", '{"path": "p0.jpg", "caption": "Ein Bär"}\n'),
        ("c.json", '[{"path": "p0.jpg", "caption": "Ein Bär"}]'),
        ("d.json", '{"p0.jpg": "Ein Bär"}'),
        ("p0.txt", "Ein Bär"),
    ],
)
def test_encodings(folder: Path, encoding: str, name: str, text: str) -> None:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    dataset = load_dataset(folder if name == "p0.txt" else path)
    assert captions(dataset) == {"p0.jpg": ("Ein Bär",)}


def test_a_first_row_without_captions_condemns_nothing(folder: Path) -> None:
    text = '{"path": "p0.jpg", "captions": []}\n{"path": "p1.jpg", "captions": ["A cat"]}\n'
    dataset = load(folder, text, "c.jsonl")
    assert captions(dataset) == {"p1.jpg": ("A cat",)}
    assert [(p.kind, p.where) for p in dataset.problems] == [("image without captions", "p0.jpg")]


def test_json_lines_in_a_json_file(folder: Path) -> None:
    text = '{"path": "p0.jpg", "text": "A dog"}\n{"path": "p1.jpg", "text": "A cat"}\n'
    assert captions(load(folder, text, "c.json")) == {"p0.jpg": ("A dog",), "p1.jpg": ("A cat",)}


def test_a_key_that_comes_twice_keeps_both_captions(folder: Path) -> None:
    text = '{"p0.jpg": "A dog", "p1.jpg": "A cat", "p0.jpg": "A puppy"}'
    assert captions(load(folder, text, "c.json"))["p0.jpg"] == ("A dog", "A puppy")


@pytest.mark.parametrize("spelling", [139, 139.0, "139", "139.0", "000000000139"])
@pytest.mark.parametrize("other", [139, 139.0, "00139", "COCO_val2014_000000000139.jpg"])
def test_spellings_of_one_coco_id(folder: Path, spelling: Any, other: Any) -> None:
    value = {
        "images": [{"id": spelling, "file_name": "p0.jpg"}, {"id": 140, "file_name": "p1.jpg"}],
        "annotations": [
            {"image_id": other, "caption": "A dog"},
            {"image_id": 140, "caption": "A cat"},
        ],
    }
    dataset = load(folder, json.dumps(value), "captions_val2017.json")
    assert captions(dataset) == {str(id_text(spelling)): ("A dog",), "140": ("A cat",)}
    assert not dataset.problems
    was_respelled = id_text(spelling) != id_text(other)
    assert any("spelled the id" in note for note in dataset.notes) == was_respelled


def test_an_ambiguous_spelling_is_listed(folder: Path) -> None:
    value = {
        "images": [{"id": "7", "file_name": "p0.jpg"}, {"id": "007", "file_name": "p1.jpg"}],
        "annotations": [
            {"image_id": 7, "caption": "A dog"},
            {"image_id": "07", "caption": "A cat"},
            {"image_id": float("nan"), "caption": "A cat"},
        ],
    }
    dataset = load(folder, json.dumps(value), "captions_val2017.json")
    assert captions(dataset) == {"7": ("A dog",)}
    problem = dataset.problems[0]
    assert (problem.kind, problem.where) == ("annotation without its image", "07")
    assert problem.detail == "could be of 7 or 007"
    assert dataset.problems[1].kind == "bad annotation"


def test_ids_that_are_no_numbers_are_left_alone() -> None:
    assert IdNumbers(["cat", "1a", "12"]).find("cat") == []
    assert IdNumbers(["cat", "1a", "12"]).find("012.0") == ["12"]
    assert [id_text(value) for value in (True, None, 1.5, float("inf"), [])] == [None] * 5


def test_rejected_captions_and_captions_without_words_are_counted(folder: Path) -> None:
    value = {
        "images": [{"id": n, "file_name": f"p{n}.jpg"} for n in range(2)],
        "annotations": [
            {"image_id": 0, "caption": "A can", "is_rejected": False, "is_precanned": False},
            {"image_id": 0, "caption": "spam", "is_rejected": True, "is_precanned": False},
            {"image_id": 0, "caption": "Quality issues", "is_precanned": True},
            {"image_id": 0, "caption": "..."},
            {"image_id": 1, "caption": "spam", "is_rejected": True},
        ],
    }
    dataset = load(folder, json.dumps(value), "captions_val.json")
    assert captions(dataset) == {"0": ("A can",)}
    assert dataset.problem_counts() == {
        "rejected caption": 3,
        "caption without a word": 1,
        "image without captions": 1,
    }
    assert "left out: 1 caption without any word" in dataset.notes
    assert "left out: 3 captions that the annotators rejected" in dataset.notes


def test_karpathys_form_without_split_and_raw(folder: Path) -> None:
    images = [{"filename": "p0.jpg", "cocoid": 5.0, "sentences": [{"tokens": ["a", "dog"]}]}]
    images += [{"filename": f"p{n}.jpg", "sentences": [{"raw": "A cat"}]} for n in (1, 2)]
    dataset = load(folder, json.dumps({"images": images}), "dataset_x.json")
    assert captions(dataset)["5"] == ("a dog",)
    assert dataset.split_counts() == {"train": 1, "val": 1, "test": 1}


def test_hugging_faces_rows_of_karpathys_split(folder: Path) -> None:
    rows = [{"filepath": "val2014", "filename": "p0.jpg", "sentences": ["A dog", {"raw": "A pup"}]}]
    assert captions(load(folder, json.dumps(rows), "c.json")) == {"p0.jpg": ("A dog", "A pup")}


def test_a_name_without_suffix_that_two_pictures_have_is_listed(
    folder: Path, picture: Picture
) -> None:
    picture(folder / "p0.png")
    dataset = load(folder, "image,caption\np0,A dog\np1,A cat\n")
    assert captions(dataset) == {"p1": ("A cat",)}
    assert dataset.problems[0].kind == "missing picture"
    assert dataset.problems[0].detail.endswith("p0.png; add the suffix")
    assert "1 picture named without the suffix of the file" in dataset.notes


@pytest.mark.parametrize("page", ["bulk.md", "data.md"])
def test_the_docs_name_every_suffix(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    assert len(PICTURE_SUFFIXES) == 22
    assert sorted(suffix for suffix in PICTURE_SUFFIXES if f"`{suffix}`" not in text) == []


@pytest.mark.usefixtures("without_heif")
def test_one_rule_for_pictures_in_folders(folder: Path, picture: Picture) -> None:
    for name in ("a.jfif", "b.JPE"):
        (folder / "p0.jpg").rename(folder / name)
        picture(folder / "p0.jpg")
        (folder / name).with_suffix(".txt").write_text(f"Of {name}")
    for name in ("IMG.HEIC", "x.svg", "y.heic", "z.nef", "._a.jfif", ".thumbnails/t.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
        (folder / name).with_suffix(".txt").write_text("A thing")
    (folder / "__MACOSX").mkdir()
    picture(folder / "__MACOSX" / "q.jpg")
    (folder / "__MACOSX" / "q.txt").write_text("A thing")
    dataset = load_dataset(folder)
    assert captions(dataset) == {"a.jfif": ("Of a.jfif",), "b.JPE": ("Of b.JPE",)}
    assert dataset.notes[-1] == (
        "left out: 1 .svg, 1 .nef "
        "(showtell does not read these kinds; convert them to JPEG or PNG); "
        f"2 .heic, for which showtell needs an extra: {install_line('heif')}"
    )
    assert dataset.problem_counts() == {"image without captions": 4}


@pytest.mark.usefixtures("without_heif")
def test_one_rule_for_pictures_in_lists(folder: Path) -> None:
    (folder / "x.heic").touch()
    dataset = load(folder, "image,caption\nx.heic,A cat\np0.jpg,A dog\n")
    assert captions(dataset) == {"p0.jpg": ("A dog",)}
    assert not dataset.problems
    assert dataset.notes[-1].startswith("left out: 1 .heic, for which")


def test_sidecars_of_pictures_of_one_stem(folder: Path, picture: Picture) -> None:
    picture(folder / "p0.png", 7)
    (folder / "p0.TXT").write_text("The photo")
    (folder / "p0.png.caption").write_text("The drawing")
    (folder / "p1.caption").write_text("Another")
    dataset = load_dataset(folder)
    assert captions(dataset) == {
        "p0.jpg": ("The photo",),
        "p0.png": ("The drawing",),
        "p1.jpg": ("Another",),
    }


def test_split_folders_with_equal_names(tmp_path: Path, picture: Picture) -> None:
    for number, split in enumerate(("train", "validation", "test")):
        picture(tmp_path / split / "0.jpg", number)
        (tmp_path / split / "metadata.csv").write_text(f"file_name,text\n0.jpg,Of {split}\n")
    dataset = load_dataset(tmp_path)
    assert {(r.image_id, r.path, r.split, r.captions) for r in dataset.records} == {
        (f"{name}/0.jpg", tmp_path / name / "0.jpg", split, (f"Of {name}",))
        for name, split in (("train", "train"), ("validation", "val"), ("test", "test"))
    }


def test_a_pipe_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="is a pipe or a device, expected a file"):
        load_dataset(tmp_path / "pipe.csv")


@pytest.mark.parametrize(
    ("names", "texts"),
    [
        (["cat.jpg", "CAT.TXT"], {"cat.jpg": "CAT.TXT"}),
        (["cat.jpg", "CAT.TXT", "cat.txt"], {"cat.jpg": "cat.txt"}),
        (["cat.jpg", "cat.TXT"], {"cat.jpg": "cat.TXT"}),
        (["cat.jpg", "CAT.jpg", "CAT.TXT"], {"cat.jpg": "", "CAT.jpg": "CAT.TXT"}),
        (["cat.jpg", "cat.caption", "cat.jpg.txt"], {"cat.jpg": "cat.jpg.txt"}),
        (["cat.jpg", "dog.txt"], {"cat.jpg": ""}),
    ],
)
def test_which_text_is_a_pictures(names: list[str], texts: dict[str, str]) -> None:
    assert {picture: SidecarFinder(names).find(picture) for picture in texts} == texts


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.csv", "ID,Caption\np0,A dog\n"),
        ("captions.csv", "id,name,caption\n17,p0.jpg,A dog\n"),
        ("captions.tsv", "image_id\tcaption\np0\tA dog\n"),
        ("captions.jsonl", '{"image_id": "p0", "caption_str": "A dog"}\n'),
        ("captions.json", '[{"id": "p0.jpg", "caption": "A dog"}]'),
    ],
)
def test_an_id_names_the_picture_where_nothing_else_does(
    name: str, text: str, folder: Path
) -> None:
    [record] = load(folder, text, name).records
    assert record.captions == ("A dog",)
    assert Path(record.path).name == "p0.jpg"


def test_a_number_names_a_picture(folder: Path) -> None:
    (folder / "p0.jpg").rename(folder / "139.jpg")
    rows = [{"image_id": 139, "caption": "A dog"}, {"image_id": 140.0, "caption": "A cat"}]
    dataset = load(folder, json.dumps(rows), "captions.json")
    assert captions(dataset) == {"139": ("A dog",)}
    assert [(problem.kind, problem.where) for problem in dataset.problems] == [
        ("missing picture", "140")
    ]


@pytest.mark.parametrize("flag", ["is_rejected", "is_precanned"])
@pytest.mark.parametrize("value", [True, 1, 1.0, "true", "True", "1"])
def test_a_rejected_caption_is_left_out_however_the_flag_is_written(
    flag: str, value: object, folder: Path
) -> None:
    annotations = [
        {"image_id": 0, "caption": "Quality issues", flag: value},
        {"image_id": 0, "caption": "A can", flag: 0},
        {"image_id": 0, "caption": "A tin", flag: "false"},
    ]
    coco = {"images": [{"id": 0, "file_name": "p0.jpg"}], "annotations": annotations}
    dataset = load(folder, json.dumps(coco), "train.json")
    assert captions(dataset) == {"0": ("A can", "A tin")}
    assert len(dataset.problems) == 1


@pytest.mark.parametrize("suffix", [".pjpeg", ".PJP", ".jif", ".jpe", ".JFIF"])
def test_a_jpeg_by_any_of_its_suffixes(suffix: str, folder: Path) -> None:
    (folder / "p0.jpg").rename(folder / f"p0{suffix}")
    (folder / "p0.txt").write_text("A dog")
    assert captions(load_dataset(folder)) == {f"p0{suffix}": ("A dog",)}


def test_tags_beside_sentences_and_tags_alone(tmp_path: Path) -> None:
    for number, name in enumerate(("both", "tags", "list")):
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(60 * number))
    (tmp_path / "both.txt").write_text("1girl, solo, red_hair, outdoors")
    (tmp_path / "both.caption").write_text("A girl with red hair")
    (tmp_path / "tags.txt").write_text("dog, grass, running")
    (tmp_path / "list.txt").write_text("A dog, a cat, and a bird")
    (tmp_path / "list.caption").write_text("Another text")
    dataset = load_dataset(tmp_path)
    assert {record.image_id: record.captions for record in dataset.records} == {
        "both.jpg": ("A girl with red hair",),
        "tags.jpg": ("dog, grass, running",),
        "list.jpg": ("A dog, a cat, and a bird",),
    }
    assert "1 text file with tags ignored: the sentences beside them were read" in dataset.notes
    assert any("the captions of 1 picture are lists of tags" in n for n in dataset.notes)
    assert not dataset.problems
