"""Every kind of bad input is a clear error or a counted, listed skip."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from showtell.data.records import Dataset
from showtell.data.sources import load_dataset
from showtell.errors import DataError

Picture = Callable[..., None]


def coco(root: Path, images: Any, annotations: Any, name: str = "captions_val2017.json") -> Path:
    path = root / name
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def said(image_id: Any, caption: Any = "A cat .") -> dict[str, Any]:
    return {"image_id": image_id, "caption": caption}


def problems(dataset: Dataset) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in dataset.problems]


def failure(data: Path | str, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        load_dataset(data, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_coco_problems_are_all_listed_at_once(tmp_path: Path, picture: Picture) -> None:
    for number in range(5):
        picture(tmp_path / f"{number}.jpg", number)
    (tmp_path / "9.jpg").mkdir()
    images: list[Any] = [{"id": n, "file_name": f"{n}.jpg"} for n in (0, 1, 2, 9, 7)]
    images += [
        {"id": 1, "file_name": "3.jpg"},
        {"id": 8, "file_name": "2.jpg"},
        {"id": 20},
        "nonsense",
        {"id": None, "file_name": "4.jpg"},
        {"id": 21, "file_name": "../4.jpg"},
        {"id": 22, "file_name": str(tmp_path / "4.jpg")},
    ]
    annotations: list[Any] = [
        *(said(0), said("0", " An animal . "), said(0, " \n"), said(0, 5), said(0, "\ud800")),
        *(said(2), said(99), said(7), said(8), {"image_id": 0}, None),
    ]
    dataset = load_dataset(coco(tmp_path, images, annotations))
    assert [record.image_id for record in dataset.records] == ["0", "2"]
    assert dataset.records[0].captions == ("A cat .", "An animal .")
    assert problems(dataset) == [
        ("missing picture", "9"),
        ("missing picture", "7"),
        ("duplicate id", "1"),
        ("two ids for one picture", "8"),
        ("bad image entry", "{'id': 20}"),
        ("bad image entry", "nonsense"),
        ("bad image entry", "{'id': None, 'file_name': '4.jpg'}"),
        ("path outside the picture folder", "21"),
        ("path outside the picture folder", "22"),
        ("empty caption", "0"),
        ("caption is not text", "0"),
        ("caption is not text", "0"),
        ("annotation without its image", "99"),
        ("bad annotation", "{'image_id': 0}"),
        ("bad annotation", "None"),
        ("image without captions", "1"),
    ]


def test_no_picture_found_says_where_it_looked(tmp_path: Path) -> None:
    path = coco(tmp_path, [{"id": 1, "file_name": "1.jpg"}], [said(1)])
    message = failure(path)
    assert message.startswith(f"{path}: none of its 1 picture can be found; looked for '1.jpg' in ")
    assert f"{tmp_path}/val2017 (not there)" in message
    assert message.endswith("say where the pictures are with --images DIR")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"images": [\n{"id": oops}]}', ":2:8: bad JSON: "),
        ('{"images": [', ":1:13: bad JSON: "),
        ("", ":1:1: bad JSON: Expecting value"),
        ('{"images": {}, "annotations": []}', "expected a list 'images' at the top level"),
        ('{"images": [], "extra": []}', "lists pictures without captions; give a captions_*.json"),
        ('"images"', "expected a JSON object, found a str"),
        ("[" * 200_000, "JSON that cannot be read"),
        ('{"images": [], "annotations": []}', "holds no captioned picture: 0 pictures listed"),
    ],
)
def test_bad_coco_files(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "captions_val2017.json"
    path.write_text(text)
    message = failure(path, format="coco")
    assert str(path) in message
    assert expected in message


def test_bad_json_is_told_even_where_the_format_is_not(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text('{\n  "a": oops}')
    assert f"{path}:2:8: bad JSON" in failure(path)


def test_cocos_other_annotations(tmp_path: Path, picture: Picture) -> None:
    picture(tmp_path / "1.jpg")
    path = coco(
        tmp_path, [{"id": 1, "file_name": "1.jpg"}], [{"image_id": 1, "bbox": []}], "instances.json"
    )
    assert "none of its 1 annotations has a caption (COCO's instances" in failure(path)


def test_karpathy_problems(tmp_path: Path, picture: Picture) -> None:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    images = [
        {"filename": "a.jpg", "split": "train", "sentences": [{"raw": "A cat ."}, {}, 3]},
        {"filename": "b.jpg", "split": "holdout", "sentences": [{"raw": "A cat ."}]},
        {"filename": "c.jpg", "split": "val", "sentences": [{"raw": "A cat ."}]},
        {"filename": "a.jpg", "split": "val", "sentences": [{"raw": "A cat ."}]},
        {"split": "val"},
    ]
    path = tmp_path / "dataset_own.json"
    path.write_text(json.dumps({"images": images}))
    dataset = load_dataset(path)
    assert [record.captions for record in dataset.records] == [("A cat .",)]
    assert [kind for kind, _ in problems(dataset)] == [
        *("caption is not text", "caption is not text", "unknown split", "missing picture"),
        *("duplicate id", "bad image entry"),
    ]
    assert "'holdout'; known: train, training, restval" in dataset.problems[2].detail


def test_flickr8k_bad_lines(tmp_path: Path, picture: Picture) -> None:
    picture(tmp_path / "a.jpg")
    path = tmp_path / "own.token.txt"
    path.write_text("a.jpg#0\tA cat .\nno tab here\na.jpg#1\t \r\n\nb.jpg.1#0\tA dog .\n")
    dataset = load_dataset(path)
    assert problems(dataset) == [
        ("bad line", "own.token.txt:2"),
        ("empty caption", "own.token.txt:3"),
        ("missing picture", "b.jpg.1"),
    ]
    path.write_text("nothing\n")
    assert "has no line NAME.jpg#0<tab>CAPTION" in failure(path, format="flickr8k")


def test_folder_problems(tmp_path: Path, picture: Picture) -> None:
    for name in ("ok.JPG", "bare.png", "latin.jpg", "blank.jpg", "new\nline 🦉.jpg"):
        picture(tmp_path / name)
    (tmp_path / "ok.txt").write_text("A cat .\n")
    (tmp_path / "latin.txt").write_bytes("A cat .\nUn caf\xe9 .\n".encode("latin-1"))
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "new\nline 🦉.txt").write_text("An owl .")
    (tmp_path / "orphan.txt").write_text("Nobody .")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.txt").write_text("A folder .")
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    os.symlink(tmp_path, tmp_path / "loop")
    os.symlink("itself.jpg", tmp_path / "itself.jpg")
    dataset = load_dataset(tmp_path)
    assert [record.image_id for record in dataset.records] == ["new\nline 🦉.jpg", "ok.JPG"]
    assert sorted(problems(dataset)) == [
        ("annotation without its image", "folder.txt"),
        ("annotation without its image", "orphan.txt"),
        ("image without captions", "bare.png"),
        ("image without captions", "blank.jpg"),
        ("unreadable captions", "latin.jpg"),
    ]
    detail = next(p.detail for p in dataset.problems if p.kind == "unreadable captions")
    assert "latin.txt:2: byte 0xe9 is not UTF-8; it looks like cp1252" in detail


def test_a_file_name_that_is_not_utf8(tmp_path: Path, picture: Picture) -> None:
    picture(tmp_path / "ok.jpg")
    (tmp_path / "ok.txt").write_text("A cat .")
    try:
        (tmp_path / "\udcff.jpg").write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    dataset = load_dataset(tmp_path)
    assert problems(dataset) == [("bad file name", "\\udcff.jpg")]


def test_pictures_beside_the_split_folders(tmp_path: Path, picture: Picture) -> None:
    for place in ("train", "val", "."):
        picture(tmp_path / place / "a.jpg")
        (tmp_path / place / "a.txt").write_text("A cat .")
    dataset = load_dataset(tmp_path)
    assert dataset.split_counts() == {"train": 1, "val": 1}
    assert problems(dataset) == [("no split", "a.jpg")]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "is empty; its first line must name the columns"),
        (
            b"place,words\n1,A cat\n",
            "no column for the picture; found columns: place, words; the first line must name one "
            "of path, image,",
        ),
        (b"path,words\n1,A cat\n", "no column for the caption; found columns: path, words"),
        (b"path,caption\na.jpg,caf\xe9\n", ":2: byte 0xe9 is not UTF-8"),
        (b"\xff\xfep\0a\0\x00\xd8\n\0", ":1: byte 0x00 is not UTF-16; save the file as UTF-8"),
        (b"path,caption\na\0.jpg,A cat\n", "holds NUL characters"),
        (b"path,caption\n", "holds no captioned picture: 0 pictures listed"),
    ],
)
def test_bad_tables(tmp_path: Path, raw: bytes, expected: str) -> None:
    path = tmp_path / "set.csv"
    path.write_bytes(raw)
    message = failure(path)
    assert str(path) in message
    assert expected in message


def test_rows_that_do_not_fit_together(tmp_path: Path, picture: Picture) -> None:
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    path = tmp_path / "set.csv"
    path.write_text(
        "image_id,path,caption,split\n1,a.jpg,A cat,train\n1,a.jpg,A grey cat,\n1,b.jpg,A dog,\n"
        "1,a.jpg,A cat,val\n2,b.jpg,,val\n3,,A bird,val\n4,c.jpg,A bird,holdout\n5,a.jpg,A fox,\n"
    )
    dataset = load_dataset(path)
    assert [record.captions for record in dataset.records] == [("A cat", "A grey cat")]
    assert problems(dataset) == [
        ("duplicate id", "1"),
        ("conflicting splits", "1"),
        ("empty caption", "set.csv: row 6"),
        ("bad row", "set.csv: row 7"),
        ("unknown split", "4"),
        ("two ids for one picture", "5"),
        ("image without captions", "2"),
    ]
    assert dataset.problems[0].detail == "set.csv: row 4: b.jpg, but the id was a.jpg before"


def test_own_tables_may_name_files_anywhere(tmp_path: Path, picture: Picture) -> None:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "deep" / "b.jpg")
    picture(tmp_path / "deep" / "inner" / "C.JPG")
    path = tmp_path / "deep" / "set.csv"
    path.write_text(f"path,caption\n../a.jpg,A\n{tmp_path}/deep/b.jpg,B\ninner\\c.jpg,C\n")
    dataset = load_dataset(path)
    assert [record.path.name for record in dataset.records] == ["a.jpg", "b.jpg", "C.JPG"]
    assert dataset.notes[1:] == (
        "2 picture paths are absolute or climb with '..'; they were followed as written",
        "1 picture found under names that differ from the annotations' in upper and lower "
        "case or in Unicode form",
    )


def test_web_addresses_are_not_fetched(tmp_path: Path, picture: Picture) -> None:
    picture(tmp_path / "a.jpg")
    path = tmp_path / "set.csv"
    path.write_text("path,caption\na.jpg,A\nhttps://example.com/b.jpg,B\n")
    detail = load_dataset(path).problems[0].detail
    assert detail == "https://example.com/b.jpg is a web address; download it first"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('{"path": "a.jpg", "caption": "A"}\n{"path": oops}\n', ":2:10: bad JSON"),
        ("\n\n", "is empty; each line is an object with path and captions"),
        (
            '{"place": 1, "caption": "A"}\n',
            ":1: no key for the picture, here or in any",
        ),
        ("[1, 2", ":1:6: bad JSON"),
    ],
)
def test_bad_json_lines(tmp_path: Path, picture: Picture, lines: str, expected: str) -> None:
    picture(tmp_path / "a.jpg")
    path = tmp_path / "set.jsonl"
    path.write_text(lines)
    message = failure(path)
    assert message.startswith(str(path))
    assert expected in message


def test_odd_json_lines_are_listed(tmp_path: Path, picture: Picture) -> None:
    picture(tmp_path / "a.jpg")
    path = tmp_path / "set.jsonl"
    rows = [
        *({"path": "a.jpg", "captions": ["A cat", None]}, 7, {"path": 3, "caption": "B"}),
        *({"path": "b.jpg"}, {"path": "a\0.jpg", "caption": "C"}),
        {"path": "\ud800.jpg", "caption": "D"},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    dataset = load_dataset(path)
    assert [record.captions for record in dataset.records] == [("A cat",)]
    assert problems(dataset) == [
        ("caption is not text", "set.jsonl:1"),
        ("bad row", "set.jsonl:2"),
        ("bad row", "set.jsonl:3"),
        ("missing picture", "b.jpg"),
        ("missing picture", "a\\x00.jpg"),
        ("bad id", "\\ud800.jpg"),
    ]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "set.csv"
    path.write_text("path,caption\n")
    path.chmod(0)
    assert failure(path) == f"cannot read {path}: Permission denied"
