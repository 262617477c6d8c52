"""Files to score: what is read, and one line for everything that does not fit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from showtell.errors import ScoringError
from showtell.metrics.caption_files import read_references, read_results
from showtell.metrics.coco_io import read_pair, read_pairs, score_files

COCO = {
    "images": [{"id": 1}, {"id": 2}, {"id": 3}],
    "annotations": [
        {"id": 1, "image_id": 1, "caption": "A dog runs."},
        {"id": 2, "image_id": 2, "caption": "A cat sits."},
        {"id": 3, "image_id": 1, "caption": "The dog is running."},
    ],
}
KARPATHY = {
    "images": [
        {"cocoid": 1, "split": "test", "filename": "a.jpg", "sentences": [{"raw": "A dog runs."}]},
        {"cocoid": 2, "split": "test", "filename": "b.jpg", "sentences": [{"raw": "A cat sits."}]},
        {"cocoid": 9, "split": "train", "filename": "c.jpg", "sentences": [{"raw": "A car."}]},
    ]
}
RESULTS = [{"image_id": 1, "caption": "a dog"}, {"image_id": 2, "caption": "a cat sits"}]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path / "cache"))


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_another_encoding_is_named_and_no_option_that_score_lacks(tmp_path: Path) -> None:
    path = tmp_path / "said.csv"
    rows = "image_id,caption\n1,Ein Mann mit Hut steht über der Straße\n2,Une fenêtre près de là\n"
    path.write_bytes(rows.encode("cp1252"))
    with pytest.raises(ScoringError) as error:
        read_results(path)
    assert re.fullmatch(
        r".*said.csv:2: byte 0xfc is not UTF-8; it looks like cp1252 \('.*'\): "
        "save the file as UTF-8",
        str(error.value),
    )


def score(folder: Path, results: Any, references: Any, **options: Any) -> Any:
    files = write(folder / "results.json", results), write(folder / "references.json", references)
    return score_files(*files, metrics=["BLEU-1", "ROUGE-L"], **options)


@pytest.mark.parametrize("references", [COCO, KARPATHY], ids=["coco", "karpathy"])
def test_both_kinds_of_references(references: Any, tmp_path: Path) -> None:
    scores = score(tmp_path, RESULTS, references)
    assert scores.num_images == 2
    assert list(scores.per_image) == ["1", "2"]
    assert scores.per_image["2"]["BLEU-1"] == pytest.approx(1.0, abs=1e-6)


def test_karpathy_by_file_name_and_another_split(tmp_path: Path) -> None:
    scores = score(tmp_path, [{"image_id": "c.jpg", "caption": "a car"}], KARPATHY)
    assert list(scores.per_image) == ["c.jpg"]


def test_captions_of_several_splits(tmp_path: Path) -> None:
    said = [*RESULTS, {"image_id": 9, "caption": "a car"}]
    assert list(score(tmp_path, said, KARPATHY).per_image) == ["1", "2", "9"]
    with pytest.raises(ScoringError, match=r"no caption for 1 of the 3 images.*--subset"):
        score(tmp_path, said[1:], KARPATHY)
    with pytest.raises(ScoringError, match=r"1 of 3 captions are of images that .*: 7$"):
        score(tmp_path, [*said[1:], {"image_id": 7, "caption": "x"}], KARPATHY)


def test_references_are_tokenised_once(tmp_path: Path) -> None:
    first = score(tmp_path, RESULTS, COCO)
    (kept,) = (tmp_path / "cache" / "references").iterdir()
    changed = kept.read_text(encoding="utf-8").replace("cat", "horse")
    kept.write_text(changed, encoding="utf-8")
    again = score(tmp_path, RESULTS, COCO)
    assert again.per_image["1"] == first.per_image["1"]
    assert again.per_image["2"] != first.per_image["2"]
    kept.write_text("cut short", encoding="utf-8")
    assert score(tmp_path, RESULTS, COCO).metrics == first.metrics


def test_subset(tmp_path: Path) -> None:
    assert score(tmp_path, RESULTS[:1], COCO, subset=True).num_images == 1
    with pytest.raises(ScoringError, match=r"no caption for 1 of the 2 images of .*: 2; --subset"):
        score(tmp_path, RESULTS[:1], COCO)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ('[{"image_id": 1,\n "caption" "a"}]', r"results.json:2:12: bad JSON"),
        (COCO, "expected a list of captions .* found a dict"),
        ([], "no captions to score"),
        ([{"image_id": 1}, {"caption": "a"}, 5], "3 of 3 entries lack .*: number 0, 1, 2"),
        ([{"image_id": True, "caption": "a"}], "1 of 1 entries lack"),
        ([{"image_id": 1, "caption": None}], "1 captions are not strings: of images 1"),
        ([*RESULTS, *RESULTS], "2 images have more than one caption: 1, 2; remove the duplicates"),
        ([*RESULTS, {"image_id": 7, "caption": "a"}], "1 of 3 captions are of images .*: 7"),
    ],
)
def test_bad_results(results: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=message) as caught:
        score(tmp_path, results, COCO)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ("{", "references.json:1:2: bad JSON"),
        ([], "no image with sentences; expected COCO annotations"),
        ("5", "expected a list of captions .* found a int"),
        ({"images": [{}], "annotations": []}, "entry 0 of images has no id"),
        ({"images": [], "annotations": [{"caption": "a"}]}, "entry 0 of annotations has no image"),
        ({"annotations": [{"id": 5, "image_id": 1, "caption": 3}]}, "1 annotations .*: 5"),
        ({"images": [{"cocoid": 1}]}, "entry 0 of images lacks a name or sentences"),
        ({"images": [{"cocoid": 1, "sentences": [{"raw": 1}]}]}, "image 1 is not a string"),
        ({"images": []}, "no image with sentences"),
    ],
)
def test_bad_references(references: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=message):
        score(tmp_path, RESULTS, references)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=re.escape(f"no file {tmp_path / 'none.json'}")):
        read_results(tmp_path / "none.json")
    with pytest.raises(ScoringError, match="is a folder"):
        read_references(tmp_path)


IDS = {
    "number": 139,
    "float": 139.0,
    "leading zeros": "000000000139",
    "float as text": "139.0",
    "file name": "COCO_val2014_000000000139.jpg",
    "file name of 2017": "000000000139.jpg",
    "path": "val2014/COCO_val2014_000000000139.jpg",
}


@pytest.mark.parametrize("theirs", IDS.values(), ids=IDS)
@pytest.mark.parametrize("ours", IDS.values(), ids=IDS)
def test_ways_of_writing_an_id_are_one_image(ours: Any, theirs: Any, tmp_path: Path) -> None:
    people = {
        "annotations": [
            {"image_id": theirs, "caption": "A woman stands in a kitchen."},
            {"image_id": 285, "caption": "A big brown bear sits in grass."},
        ]
    }
    results = [
        {"image_id": 285, "caption": "a bear in grass"},
        {"image_id": ours, "caption": "a woman in a kitchen"},
    ]
    scores = score(tmp_path, results, people)
    [name, _] = scores.per_image
    assert name == (theirs if isinstance(theirs, str) else "139")
    assert scores.per_image[name]["BLEU-1"] > 0.5
    notes = [note for note in scores.warnings if "written differently" in note]
    assert len(notes) == (str(ours).removesuffix(".0") != str(theirs).removesuffix(".0")) or (
        "139.0" in (ours, theirs)  # a text, so it is not 139 to the letter
    )


def test_ids_that_are_all_written_in_another_way_need_no_note(tmp_path: Path) -> None:
    """Files of ``showtell caption`` have paths, COCO's references have numbers."""
    people = {str(number): ["a dog"] for number in (139, 285)}
    paths = [f"photos/{number:012}.jpg" for number in (139, 285)]
    scores = score(tmp_path, [{"path": path, "caption": "a dog"} for path in paths], people)
    assert list(scores.per_image) == ["139", "285"]
    assert not scores.warnings


def test_an_id_that_could_be_two_images_is_not_guessed(tmp_path: Path) -> None:
    people = {"annotations": [{"image_id": i, "caption": "a dog"} for i in ("7", "007", "7.jpg")]}
    exact = score(tmp_path, [{"image_id": "007", "caption": "a dog"}], people, subset=True)
    assert list(exact.per_image) == ["007"]
    assert not any("written differently" in note for note in exact.warnings)
    with pytest.raises(ScoringError, match=r"1 of 1 captions are of images .*: 0007"):
        score(tmp_path, [{"image_id": "0007", "caption": "a dog"}], people, subset=True)
    twice = [{"image_id": i, "caption": "a dog"} for i in ("139", "000139")]
    with pytest.raises(ScoringError, match="1 images have more than one caption: 139"):
        score(tmp_path, twice, {"annotations": [{"image_id": 139, "caption": "a dog"}]})


def test_results_by_file_name_of_cocos_images(tmp_path: Path) -> None:
    people = {
        "images": [{"id": 71, "file_name": "beach.jpg"}, {"id": 72, "file_name": "hill.jpg"}],
        "annotations": [
            {"image_id": 71, "caption": "A beach."},
            {"image_id": 72, "caption": "A hill."},
        ],
    }
    results = [
        {"path": "photos/hill.jpg", "caption": "a hill"},
        {"path": "beach.jpg", "caption": "a"},
    ]
    scores = score(tmp_path, results, people)
    assert list(scores.per_image) == ["beach.jpg", "hill.jpg"]
    assert scores.per_image["hill.jpg"]["BLEU-1"] == pytest.approx(1.0, abs=1e-6)


def test_files_that_go_by_different_names_have_one_id_for_an_image(tmp_path: Path) -> None:
    """COCO's id, the number in a Karpathy file, which is another image's id, and the file name."""
    words = ["a dog runs", "a cat sits", "two men ride"]
    images = [
        {"filename": f"p{n}.jpg", "cocoid": n + 1, "imgid": n, "sentences": [{"raw": said}]}
        for n, said in enumerate(words)
    ]
    people = write(tmp_path / "people.json", {"images": images})
    by_id = write(tmp_path / "a.json", {str(n + 1): said for n, said in enumerate(words)})
    by_number = write(tmp_path / "b.json", {str(n): said for n, said in enumerate(words)})
    by_name = write(tmp_path / "c.json", {f"p{n}.jpg": said for n, said in enumerate(words)})
    expected = dict(zip("123", words, strict=True))
    for subset in (False, True):
        for pair in read_pairs([by_id, by_number, by_name], people, subset=subset):
            assert pair.candidates == expected
            assert pair.references == {image_id: [said] for image_id, said in expected.items()}
    for pair in read_pairs([by_name, by_name], people):
        assert list(pair.candidates) == ["p0.jpg", "p1.jpg", "p2.jpg"]


def test_names_of_one_kind_that_are_one_image_by_another(tmp_path: Path) -> None:
    images = [
        {"filename": name, "imgid": n, "sentences": [{"raw": "a dog"}]}
        for n, name in enumerate(["a.jpg", "a.jpg", "b.jpg"])
    ]
    people = write(tmp_path / "people.json", {"images": images})
    by_number = write(tmp_path / "a.json", {"0": "a dog", "1": "a dog", "2": "a dog"})
    by_name = write(tmp_path / "b.json", {"a.jpg": "a dog", "b.jpg": "a dog"})
    assert list(read_pair(by_number, people).candidates) == ["0", "1", "2"]
    with pytest.raises(ScoringError, match=r"a.json: 1 images have more than one .*: a.jpg; keep"):
        read_pairs([by_number, by_name], people)


@pytest.mark.parametrize("keys", [[], ["cocoid"]], ids=["by name", "with an id"])
def test_no_reference_of_an_image_that_a_karpathy_file_lists_again_is_lost(
    keys: list[str], tmp_path: Path
) -> None:
    said = [("a.jpg", "A dog runs fast."), ("a.jpg", "The blue sky."), ("b.jpg", "A cat.")]
    images = [
        {"filename": name, "split": "test", "sentences": [{"raw": text}]} | dict.fromkeys(keys, n)
        for n, (name, text) in zip((7, 7, 8), said, strict=True)
    ]
    results = [
        {"path": "a.jpg", "caption": "a dog runs fast"},
        {"path": "b.jpg", "caption": "a cat"},
    ]
    scores = score(tmp_path, results, {"images": images})
    assert scores.metrics["ROUGE-L"] == 1.0
    assert "|refs:1-2|" in scores.signature and not scores.warnings


def test_images_with_one_file_name_are_one_where_captions_go_by_it(tmp_path: Path) -> None:
    names = ["a.jpg", "a.jpg", "b.jpg"]
    people = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": [
            {"image_id": n, "caption": caption}
            for n, caption in enumerate(["A dog runs fast.", "The sky.", "A cat."])
        ],
    }
    results = {"a.jpg": "a dog runs fast", "b.jpg": "a cat"}
    scores = score(tmp_path, results, people)
    assert scores.metrics["ROUGE-L"] == 1.0
    assert scores.warnings == [
        "1 names stand for several images of the references, whose captions are taken together: "
        "a.jpg"
    ]
    by_id = score(tmp_path, {"0": "a dog runs fast", "1": "the sky", "2": "a cat"}, people)
    assert by_id.metrics["ROUGE-L"] == 1.0
    assert by_id.num_images == 3 and not by_id.warnings


RESULT_FILES = {
    "results.json": json.dumps(RESULTS),
    "rows.jsonl": '{"path": "1.jpg", "caption": "a dog", "confidence": 0.5}\n\n'
    '{"path": "2.jpg", "caption": "a cat sits", "confidence": 0.5}\n',
    "rows.json": '{"image_id": 1, "caption": "a dog"}\n{"image_id": 2, "caption": "a cat sits"}\n',
    "table.csv": "path,caption,confidence\r\n1.jpg,a dog,0.5\r\n2.jpg,a cat sits,0.5\r\n",
    "table.tsv": "image_id\tcaption\n1\ta dog\n2\ta cat sits\n",
    "by_image.json": '{"1": "a dog", "2": ["a cat sits"]}',
}
REFERENCE_FILES = {
    "coco.json": json.dumps(COCO),
    "karpathy.json": json.dumps(KARPATHY),
    "rows.csv": "image,caption\n1.jpg,A dog runs.\n2.jpg,A cat sits.\n1.jpg,The dog is running.\n",
    "spaces.csv": "image id,Caption 1,caption-2\n1,A dog runs.,The dog is running.\n"
    "2,A cat sits.,\n",
    "columns.csv": "image_id,caption_1,caption_2\n1,A dog runs.,The dog is running.\n"
    "2,A cat sits.,\n",
    "lists.csv": "image_id,captions\n1,\"['A dog runs.', 'The dog is running.']\"\n2,A cat sits.\n",
    "splits.csv": "image_id,caption,split\n9,A car.,train\n1,A dog runs.,test\n"
    "2,A cat sits.,test\n",
    "rows.jsonl": '{"path": "1.jpg", "captions": ["A dog runs.", "The dog is running."]}\n'
    '{"path": "2.jpg", "captions": ["A cat sits."]}\n',
    "by_image.json": '{"1": ["A dog runs."], "2": ["A cat sits."]}',
}


@pytest.mark.parametrize(
    "row",
    [
        {"path": "a.jpg", "caption": "a dog"},
        {"image_id": 1, "caption": "a dog", "confidence": 0.5},
    ],
)
def test_one_row_is_no_captions_by_image(row: dict[str, Any], tmp_path: Path) -> None:
    [entry] = read_results(write(tmp_path / "one.json", row))
    assert (entry.image_id, entry.captions) == (str(next(iter(row.values()))), ["a dog"])
    [entry] = read_references(write(tmp_path / "row.json", row | {"caption": ["a", "b"]}))
    assert entry.captions == ["a", "b"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("references", REFERENCE_FILES)
@pytest.mark.parametrize("results", RESULT_FILES)
def test_every_form_of_file(results: str, references: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "refs").mkdir()
    ours, theirs = tmp_path / results, tmp_path / "refs" / references
    ours.write_bytes(RESULT_FILES[results].encode(encoding))
    theirs.write_bytes(REFERENCE_FILES[references].encode(encoding))
    scores = score_files(ours, theirs, metrics=["BLEU-1"])
    assert scores.num_images == 2
    assert [round(each["BLEU-1"], 3) for each in scores.per_image.values()] == [0.607, 1.0]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "caption,image_id\na dog, running,1\n",
            r"t.csv: row 2 has 3 cells, but the header names 2; a cap",
        ),
        ("image_id,caption\n1\n", "t.csv: row 2 has 1 cells, but the header names 2"),
        ("image_id,words\n1,a dog\n", "1 of 1 entries lack an image_id .* or a caption"),
        ("image_id,caption\n", "no captions to score"),
        ("", "no captions to score"),
    ],
)
def test_no_row_of_a_table_is_cut_or_passed_over(table: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=message):
        read_results(write(tmp_path / "t.csv", table))


@pytest.mark.parametrize(
    ("row", "caption", "note"),
    [
        ("1.jpg,a dog, running fast", "a dog, running fast", "has unquoted delimiters; kept whole"),
        ('1.jpg, "a dog, running"', "a dog, running", ""),
        ('1.jpg,"a dog" runs, fast', '"a dog" runs, fast', "kept whole"),
        ('1.jpg,"a dog', '"a dog', "the quotes of 1 cell enclose only a part; kept as text"),
    ],
)
def test_the_caption_of_a_table_is_never_cut(
    row: str, caption: str, note: str, tmp_path: Path
) -> None:
    notes: list[str] = []
    file = write(tmp_path / "t.csv", f"image,caption\n{row}\n2.jpg,a cat\n")
    assert [entry.captions for entry in read_results(file, notes)] == [[caption], ["a cat"]]
    references: list[str] = []
    assert [e.captions for e in read_references(file, references)] == [[caption], ["a cat"]]
    assert references == notes
    assert note in "; ".join(notes)
    assert bool(notes) == bool(note)


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (["captions.jsonl", "sizes.csv"], r"; did you mean .*captions.jsonl\?$"),
        (
            ["annotations/captions_val.json", "annotations/instances_val.json"],
            r"mean \S*captions_val.json\?$",
        ),
        (["dataset.json", "read_me.txt"], r"; did you mean .*dataset.json\?$"),
        (["photo.jpg"], "is a folder, expected a file$"),
    ],
)
def test_a_folder_in_place_of_a_file(names: list[str], meant: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    with pytest.raises(ScoringError, match=meant):
        read_references(tmp_path)
