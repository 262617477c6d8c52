"""What answers say: each figure against arithmetic by hand, and one line for what does not fit."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_shell import Shell
from PIL import Image
from pytest import approx

from showtell.data.graded import read_graded
from showtell.errors import DataError
from showtell.metrics import evaluate
from showtell.rating.answers import graded_captions, read_answers
from showtell.rating.results import summarise
from showtell.rating.scales import scale_named
from showtell.rating.sheet import Item, Sheet, make_sheet
from showtell.rating.tables import to_text
from showtell.text.segment import choose_for_scores

Answer = Callable[[Item, int], str]  # of an item and the number of a caption in it


@pytest.fixture
def sheet_of(world: Path) -> Callable[[str], Sheet]:
    files = [world / "alpha.json", world / "beta.jsonl"]
    return lambda scale: make_sheet(files, world / "photos", scale_named(scale))


def write(path: Path, sheet: Sheet, answer: Callable[[Item], str], **more: str) -> Path:
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["sheet", "item", "picture", "answer", *more])
        writer.writeheader()
        for item in sheet.items:
            row = {"sheet": sheet.id, "item": item.id, "picture": item.picture}
            writer.writerow(row | {"answer": answer(item)} | more)
    return path


GRADES = {  # of alpha's and beta's caption by two raters
    "red.png": (("5", "4"), ("2", "1")),
    "blue.png": (("4", "4"), ("4", "5")),
    "green.png": (("3", "1"), ("3", "1")),
    "black.png": (("1", "2"), ("1", "2")),  # one caption of both: one question
    "white.png": (("5", "5"), ("1", "1")),
    "gray.png": (("2", "3"), ("1", "1")),
}


def grade_by(rater: int) -> Callable[[Item], str]:
    return lambda item: GRADES[item.picture][item.authors[0][0].system][rater]


def test_grades_from_one_to_five(sheet_of: Any, world: Path, tmp_path: Path) -> None:
    sheet = sheet_of("1-5")
    files = [
        write(tmp_path / f"{name}.csv", sheet, grade_by(n)) for n, name in enumerate(("ann", "bob"))
    ]
    answers = read_answers(files, sheet)
    found = summarise(sheet, answers, references=world / "people.json", metrics=["ROUGE-L"])
    assert found.raters == {"ann": 11, "bob": 11}
    alpha, beta = found.systems
    means = np.array([[4.5, 1.5], [4, 4.5], [2, 2], [1.5, 1.5], [5, 1], [2.5, 1]])
    assert (alpha.num_captions, alpha.num_ratings) == (6, 12)
    assert alpha.mean.value == approx(means[:, 0].mean())
    assert beta.mean.value == approx(means[:, 1].mean())
    low, high = alpha.mean.interval
    assert means[:, 0].min() < low < alpha.mean.value < high < 5
    assert alpha.shares["5"].value == approx(3 / 12)
    assert sum(share.value for share in beta.shares.values()) == approx(1)
    assert alpha.confident is None
    # Half of beta's six are red, blue and green: of their ratings 2, 1, 4, 5, 3, 1 three are wrong.
    assert beta.confident is not None
    assert beta.confident[0] == 0.7
    assert beta.confident[1].value == approx(3 / 6)
    [preference] = found.preferences
    assert (preference.wins, preference.losses, preference.ties) == (3, 1, 2)
    assert preference.share.value == approx(4 / 6)
    assert preference.p == approx(2 * 5 / 16)
    assert set(found.alphas) == {"ordinal", "interval"}
    assert [one.spread for one in found.disagreements] == [2, 2, *[1] * 5][
        : len(found.disagreements)
    ]
    assert found.disagreements[0].answers == {"ann": "3", "bob": "1"}
    assert found.disagreements[0].item.picture == "green.png"
    [correlation] = found.correlations
    assert (correlation.metric, correlation.num_captions) == ("ROUGE-L", 12)
    people = json.loads((world / "people.json").read_text(encoding="utf-8"))
    rows = json.loads((world / "alpha.json").read_text(encoding="utf-8"))
    lines = map(json.loads, (world / "beta.jsonl").read_text(encoding="utf-8").splitlines())
    said = [
        {row["image_id"]: row["caption"] for row in rows},
        {Path(row["path"]).stem: row["caption"] for row in lines},
    ]
    scores = [evaluate(each, people, metrics=["ROUGE-L"]).per_image for each in said]
    rouge = [[each[Path(name).stem]["ROUGE-L"] for each in scores] for name in GRADES]
    assert correlation.pearson == approx(np.corrcoef(means.ravel(), np.ravel(rouge))[0, 1])


def test_pairs(sheet_of: Any, world: Path, tmp_path: Path) -> None:
    sheet: Sheet = sheet_of("pairwise")

    def prefers(winners: dict[str, int]) -> Callable[[Item], str]:
        """The answer by which the captioner of this number wins; "same" for -1."""

        def answer(item: Item) -> str:
            winner = winners.get(item.picture, -1)
            return "=" if winner < 0 else "AB"[item.authors[0][0].system != winner]

        return answer

    ann = {"red.png": 0, "blue.png": 0, "green.png": 1, "white.png": 0, "gray.png": 0}
    bob = {"red.png": 0, "blue.png": 1, "green.png": 1, "white.png": 0}
    files = [
        write(tmp_path / "ann.csv", sheet, prefers(ann)),
        write(tmp_path / "bob.csv", sheet, prefers(bob)),
    ]
    found = summarise(
        sheet, read_answers(files, sheet), references=world / "people.json", metrics=["BLEU-1"]
    )
    assert found.systems == []
    [preference] = found.preferences
    # blue is a tie of two raters; black has equal captions, and counts as a sixth of all.
    assert (preference.first, preference.second) == ("alpha", "beta")
    assert (preference.wins, preference.losses, preference.ties, preference.equal) == (3, 1, 1, 1)
    assert preference.share.value == approx((3 + 0.5 + 0.5) / 6)
    assert list(found.alphas) == ["nominal", "ordinal"]
    assert found.disagreements[0].item.picture == "blue.png"
    assert found.correlations[0].num_captions == 5
    assert found.correlations[0].kendall > 0


def test_equal_captions_count_as_far_as_the_others_are_answered(
    sheet_of: Any, tmp_path: Path
) -> None:
    sheet: Sheet = sheet_of("pairwise")

    def first_wins(item: Item) -> str:
        is_asked = item.picture in ("red.png", "blue.png")
        return "AB"[item.authors[0][0].system != 0] if is_asked else ""

    answers = read_answers([write(tmp_path / "ann.csv", sheet, first_wins)], sheet)
    [preference] = summarise(sheet, answers).preferences
    assert (preference.wins, preference.ties, preference.equal) == (2, 0, 1)
    assert preference.share.value == approx((2 + 0.5 * 2 / 5) / (2 + 2 / 5))  # 2 of 5 answered


def test_references_of_what_was_rated_are_enough(
    sheet_of: Any, world: Path, tmp_path: Path
) -> None:
    people = json.loads((world / "people.json").read_text(encoding="utf-8"))
    some = tmp_path / "some.json"
    some.write_text(json.dumps({n: people[n] for n in ("red", "blue", "green")}), encoding="utf-8")
    sheet: Sheet = sheet_of("right/half/wrong")
    answers = read_answers(
        [write(tmp_path / "ann.csv", sheet, lambda item: "rhw"[len(item.captions[0]) % 3])], sheet
    )
    found = summarise(sheet, answers, references=some, metrics=["BLEU-1"])
    asked = [item for item in sheet.items if item.picture[:-4] in ("red", "blue", "green")]
    assert found.num_without_references == len(sheet.items) - len(asked)
    assert found.correlations[0].num_captions == sum(len(item.authors[0]) for item in asked)
    some.write_text(json.dumps({"other": ["a dog"]}), encoding="utf-8")
    found = summarise(sheet, answers, references=some, metrics=["BLEU-1"])
    assert found.correlations == [] and len(found.systems) == 2
    assert "11 answered questions left out of the correlations: no references" in to_text(found)


@pytest.mark.parametrize("scale", ["pairwise", "right/half/wrong"])
def test_a_digit_is_no_answer_where_it_could_mean_two_things(
    scale: str, sheet_of: Any, tmp_path: Path
) -> None:
    sheet: Sheet = sheet_of(scale)
    with pytest.raises(DataError, match="'2'"):
        read_answers([write(tmp_path / "ann.csv", sheet, lambda _: "2")], sheet)


def test_the_command_line(showtell: Shell, world: Path, tmp_path: Path) -> None:
    files = (world / "alpha.json", world / "beta.jsonl", world / "photos")
    assert showtell("rate", *files, "-o", tmp_path / "r.html").returncode == 0
    key = tmp_path / "r.key.json"
    sheet = Sheet.of_key(key)
    answers = write(
        tmp_path / "ann.csv", sheet, lambda item: "rhw"[len(item.captions[0]) % 3], rater="Ann B."
    )
    rows = [{"item": sheet.items[0].id, "answer": "Right", "note": "really?"}]
    (tmp_path / "bob.json").write_text(json.dumps(rows), encoding="utf-8")
    command = ("rate", "--read", answers, tmp_path / "bob.json", "--key", key)
    text = showtell(*command, "--references", world / "people.json")
    assert text.returncode == 0, text.stderr
    for part in (
        "scale right/half/wrong, 11 questions; answers of Ann B. 11, bob 1",
        "captioner  captions  ratings",
        "alpha against beta",
        "Krippendorff's alpha",
        "Kendall tau-b  Spearman  Pearson",
        f"note on {sheet.items[0].id} by bob: really?",
    ):
        assert part in text.stdout
    values = json.loads(showtell(*command, "--json").stdout)
    assert values["raters"] == {"Ann B.": 11, "bob": 1}
    assert [one["name"] for one in values["systems"]] == ["alpha", "beta"]
    assert values["correlations"] == []
    assert values["systems"][1]["most_confident_half"]["least"] == 0.7


def test_a_spreadsheet_may_write_semicolons_and_floats(sheet_of: Any, tmp_path: Path) -> None:
    sheet = sheet_of("1-5")
    file = tmp_path / "eve.csv"
    lines = [f"{item.id};{n % 5 + 1}.0;" for n, item in enumerate(sheet.items)]
    file.write_bytes("\r\n".join(["Item;Answer;Note", *lines, ""]).encode("utf-16"))
    answers = read_answers([file], sheet)
    assert [grade.code for grade in answers.grades["eve"].values()][:6] == [*"12345", "1"]


def test_spreadsheets_of_one_name_are_of_the_people_whose_folders_they_are_in(
    sheet_of: Any, tmp_path: Path
) -> None:
    sheet = sheet_of("1-5")
    files = [tmp_path / name / "rating.csv" for name in ("anna", "ben")]
    for rater, file in enumerate(files):
        file.parent.mkdir()
        write(file, sheet, grade_by(rater))
    found = read_answers(files, sheet)
    assert {name: len(grades) for name, grades in found.grades.items()} == {
        "anna/rating": 11,
        "ben/rating": 11,
    }
    # A person's answers in two forms, or given twice, are still one person's.
    again = files[0].with_suffix(".json")
    rows = [{"item": item.id, "answer": grade_by(0)(item)} for item in sheet.items]
    again.write_text(json.dumps(rows))
    assert list(read_answers([files[0], again, files[0]], sheet).grades) == ["rating"]
    dotted = write(tmp_path / "anna" / "of.may.csv", sheet, grade_by(0))
    assert list(read_answers([dotted], sheet).grades) == ["of.may"]
    deep = [tmp_path / name / "x" / "rating.csv" for name in ("anna", "ben")]
    for old, new in zip(files, deep, strict=True):
        new.parent.mkdir()
        old.rename(new)
    assert len(read_answers(deep, sheet).grades) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item,answer\n{0},6\n", r"a.csv: row 2, a: unknown answer '6'; expected one of 1, 2, 3"),
        ("item,answer\nqqq,5\n", r"a.csv: row 2: item qqq of sheet s\w+ is not in the key, which"),
        ("sheet,item,answer\nsx,{0},5\n", r"row 2: item q\w+ of sheet sx is not in the key"),
        ("item,answer\n{0},5\n{0},4\n", r"row 3, a: answers item q\w+ as 4, and before as 5"),
        ("item,answer\n{0},\n", "a.csv: no answers: every row's `answer` is empty"),
        ("picture,answer\n{0},5\n", "a.csv: no column item; found picture, answer; expected"),
        ("", "no column item and no column answer; found nothing|no text"),
        ("item,answer\n{0},5,6\n", "a.csv: row 2 has 3 cells, but the header names 2"),
        ('[{{"item": 5}}]', "a.csv: entry 0, counted from 0, has no item and answer"),
    ],
)
def test_answers_that_do_not_fit(text: str, message: str, sheet_of: Any, tmp_path: Path) -> None:
    sheet = sheet_of("1-5")
    file = tmp_path / "a.csv"
    file.write_text(text.format(sheet.items[0].id), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_answers([file], sheet)


def test_keys_that_do_not_fit(sheet_of: Any, world: Path, tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="is not the key of a rating sheet"):
        Sheet.of_key(file)
    value = sheet_of("1-5").to_key()
    file.write_text(json.dumps(value), encoding="utf-8")
    assert Sheet.of_key(file) == sheet_of("1-5")


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("scale", "change", "message"),
    [
        ("1-5", lambda item: item.pop("authors"), r"items\.0\.authors: field required"),
        ("1-5", lambda item: item["authors"][0][0].update(row="x"), r"0\.row: input should be a"),
        ("1-5", lambda item: item["authors"][0][0].update(row=-1), r"q\w+: no row -1 of"),
        ("1-5", lambda item: item["authors"][0][0].update(system=99), r"of a captioner 99"),
        ("1-5", lambda item: item.update(authors=[[]]), r"q\w+: expected 1 caption with"),
        ("1-5", lambda item: item.update(captions=["a", "b"]), "expected 1 caption with"),
        ("1-5", lambda item: item.update(captions=5), r"items\.0\.captions: input should be"),
        (
            "pairwise",
            lambda item: item["authors"][0].append(item["authors"][1][0]),
            "2 captions with authors",
        ),
    ],
)
def test_damaged_keys(
    scale: str, change: Change, message: str, sheet_of: Any, tmp_path: Path
) -> None:
    value = json.loads(json.dumps(sheet_of(scale).to_key()))
    change(value["items"][0])
    file = tmp_path / "key.json"
    file.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(
        DataError, match=f"key.json: the key of a rating sheet is damaged: .*{message}"
    ):
        Sheet.of_key(file)
    value["items"][0] = value["items"][1]
    file.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(DataError, match=r"two items are called q\w+"):
        Sheet.of_key(file)


def test_references_in_a_script_without_spaces_are_cut_into_words(tmp_path: Path) -> None:
    """Captions that share words but are not equal have scores that differ."""
    photos = tmp_path / "photos"
    photos.mkdir()
    people = {"a": ["一只棕色的狗在草地上跑"], "b": ["一个男人在海里冲浪"], "c": ["厨房里的桌子"]}
    one = {"a": "一只狗在草地上", "b": "一个男人在冲浪", "c": "一张床"}
    two = {"a": "猫", "b": "一个男人", "c": "厨房里有桌子"}
    for name in people:
        Image.new("RGB", (32, 32)).save(photos / f"{name}.png")
    for file, said in (("one", one), ("two", two)):
        rows = [{"image_id": name, "caption": text} for name, text in said.items()]
        (tmp_path / f"{file}.json").write_text(json.dumps(rows))
    (tmp_path / "people.json").write_text(json.dumps(people))
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    sheet = make_sheet(files, photos, scale_named("1-5"))
    segmentation, _ = choose_for_scores([text for texts in people.values() for text in texts])
    scores: dict[str, float] = {}
    for said in (one, two):
        found = evaluate(said, people, metrics=["ROUGE-L"], segmentation=segmentation)
        scores |= {said[name]: own["ROUGE-L"] for name, own in found.per_image.items()}
    assert len(set(scores.values())) > 3
    ranks = sorted(set(scores.values()))

    def grade(item: Item) -> str:
        return str(1 + 4 * ranks.index(scores[item.captions[0]]) // (len(ranks) - 1))

    answers = read_answers([write(tmp_path / "ann.csv", sheet, grade)], sheet)
    ratings = summarise(sheet, answers, references=tmp_path / "people.json", metrics=["ROUGE-L"])
    [rouge] = ratings.correlations
    assert rouge.num_captions == 6 and rouge.kendall > 0.9


def test_grades_become_numbers_from_0_to_1_to_train_on(sheet_of: Any, tmp_path: Path) -> None:
    sheet = sheet_of("1-5")
    files = [
        write(tmp_path / f"{name}.csv", sheet, grade_by(n)) for n, name in enumerate(("ann", "bob"))
    ]
    found = {
        (each.image, each.caption): each.grade
        for each in graded_captions(sheet, read_answers(files, sheet))
    }
    for item in sheet.items:
        mean = np.mean([int(g) for g in GRADES[item.picture][item.authors[0][0].system]])
        assert found[item.picture, item.captions[0]] == approx((mean - 1) / 4)
    assert len(found) == len(sheet.items) == 11


def test_of_two_captions_the_better_has_1(sheet_of: Any, tmp_path: Path) -> None:
    sheet = sheet_of("pairwise")
    first, second = sheet.items[:2]
    said = {first.id: "B", second.id: "same"}
    answers = read_answers(
        [write(tmp_path / "ann.csv", sheet, lambda item: said.get(item.id, ""))], sheet
    )
    grades = [(g.image, g.caption, g.grade) for g in graded_captions(sheet, answers)]
    assert grades == [
        (first.picture, first.captions[0], 0.0),
        (first.picture, first.captions[1], 1.0),
        (second.picture, second.captions[0], 0.5),
        (second.picture, second.captions[1], 0.5),
    ]


def test_the_command_writes_what_training_reads(
    sheet_of: Any, world: Path, tmp_path: Path, showtell: Shell
) -> None:
    page, graded = tmp_path / "rating.html", tmp_path / "graded.csv"
    files = [str(world / "alpha.json"), str(world / "beta.jsonl"), str(world / "photos")]
    showtell("rate", *files, "-o", str(page))
    sheet = Sheet.of_key(tmp_path / "rating.key.json")
    answers = write(tmp_path / "ann.csv", sheet, lambda _: "half")
    command = ["rate", "--read", str(answers), "--key", str(tmp_path / "rating.key.json")]
    said = showtell(*command, "--graded", str(graded))
    assert f"11 graded captions: {graded}" in said.stderr
    assert {row.grade for row in read_graded(graded)} == {0.5}
    again = showtell(*command, "--graded", str(graded))
    assert again.returncode == 1
    assert f"--graded {graded}" in again.stderr and "--overwrite" in again.stderr
    assert showtell(*command, "--graded", str(graded), "--overwrite").returncode == 0


def test_captions_that_changed_are_not_scored(world: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text((world / "alpha.json").read_text().replace("wall", "door"), encoding="utf-8")
    sheet = make_sheet([mine], world / "photos", scale_named("1-5"))
    answers = read_answers([write(tmp_path / "a.csv", sheet, lambda _: "3")], sheet)
    mine.write_text((world / "alpha.json").read_text(), encoding="utf-8")
    with pytest.raises(DataError, match="has changed since the sheet was made of it"):
        summarise(sheet, answers, references=world / "people.json", metrics=["BLEU-1"])
    mine.unlink()
    with pytest.raises(DataError, match="in the folder in which the sheet was made"):
        summarise(sheet, answers, references=world / "people.json", metrics=["BLEU-1"])
