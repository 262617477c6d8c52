"""Odd captions are found, and usual ones are left alone."""

from pathlib import Path

import pytest

from showtell.data.check_captions import (
    check_captions,
    has_markup,
    looks_like_tags,
    pictures_of_captions,
)
from showtell.data.records import Record


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A <b>bold</b> dog", "<b>"),
        ("<start> A dog", "<start>"),
        ("cats &amp; dogs", "&amp;"),
        ("see https://example.com/x", "https://example.com/x"),
        ("a [dog](http://x)", "](http://x)"),
        ("a **dog**", "**d"),
        ("# A dog", "# "),
        ("a dog [UNK]", "[UNK]"),
        ("a cafÃ© at night", "Ã©"),
        ("a caf\ufffd", "\ufffd"),
        ("A dog .", ""),
        ("5 < 6 and 7 > 3", ""),
        ("A man & a dog; R&B", ""),
        ("player #4 in a t-shirt", ""),
        ("Un café à Paris", ""),
    ],
)
def test_markup(caption: str, expected: str) -> None:
    assert has_markup(caption) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1girl, solo, red_hair, outdoors", True),
        ("dog, grass, running", True),
        ("sunset，beach，palm tree", True),
        ("red car, city street, night, people walking", True),
        ("A dog, a cat, and a bird", False),
        ("man, woman, child.", False),
        ("Tired, hungry, and wet, the dog sleeps", False),
        ("A man in a red, white, blue shirt", False),
        ("dog, cat", False),
        ("", False),
    ],
)
def test_tags(text: str, expected: bool) -> None:
    assert looks_like_tags(text) is expected


def record(name: str, *captions: str) -> Record:
    return Record(name, Path(f"{name}.jpg"), captions, "train")


def test_captions_of_another_language_than_the_rest() -> None:
    english = [record(str(n), "A man and a dog are in the park", "The dog runs") for n in range(20)]
    odd = [
        record("german", "Ein Mann und ein Hund sind auf dem Rasen"),
        record("chinese", "一只狗"),
        record("name", "The restaurant Le Coq d'Or on the corner"),
        record("short", "Ein Hund"),
    ]
    language, problems = check_captions([*english, *odd])
    assert language == "English"
    found = [(p.where, p.detail) for p in problems if p.kind == "another language"]
    assert found == [
        ("german", "German: Ein Mann und ein Hund sind auf dem Rasen"),
        ("chinese", "Chinese: 一只狗"),
    ]


def test_a_caption_that_says_nothing() -> None:
    records = [record(str(n), f"A dog number {n} in the park", "Image.") for n in range(30)]
    records += [record(f"x{n}", "A dog on the grass .") for n in range(3)]
    assert pictures_of_captions(records).most_common(2) == [
        ("image", 30),
        ("a dog on the grass", 3),
    ]
    [problem] = check_captions(records)[1]
    assert problem.kind == "caption of many pictures"
    assert problem.detail == "30 pictures have: Image."
    twice = [record("1", "A dog", "A dog"), record("2", "A cat")]
    assert not pictures_of_captions(twice), "a picture that repeats its own caption is one picture"


def test_captions_of_as_many_pictures_stay_in_order() -> None:
    """Examples are the first ones, so the order must not change from run to run."""
    captions = [f"A dog number {n}" for n in range(100)]
    counts = pictures_of_captions([record("1", *captions), record("2", *captions)])
    assert list(counts) == [caption.lower() for caption in captions]
