"""The built-in scenes in German and Chinese: the same pictures, and grammar that is exact."""

import re
from pathlib import Path

import pytest

from showtell.data.scenes import LANGUAGES, describe, image_ids, render_scenes, scene_of
from showtell.data.scenes.chinese import NOUNS as CHINESE_NOUNS
from showtell.data.scenes.german import COLOURS, NOUNS, TEXTURES, phrase
from showtell.data.scenes.world import COLOURS as ALL_COLOURS
from showtell.data.scenes.world import SHAPES, Thing
from showtell.data.sources import load_dataset
from showtell.errors import DataError

IDS = [image_id for image_id, _ in image_ids()]


def captions(image_id: str, language: str) -> tuple[str, ...]:
    return describe(*scene_of(image_id), language)


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_five_different_captions_of_the_same_picture(language: str) -> None:
    for image_id in IDS:
        scene, random = scene_of(image_id)
        assert len(set(describe(scene, random, language))) == 5
        english, other = scene_of(image_id)
        describe(english, other)
        # The picture is painted with what is left of the generator.
        assert random.random() == other.random()


def test_every_noun_and_colour_has_a_word() -> None:
    assert {*NOUNS} == {*CHINESE_NOUNS} == {*SHAPES}
    assert {*COLOURS} == {*ALL_COLOURS}


# Duden, "Deklination": masculine, feminine, neuter; nouns whose dative has an ending.
DECLINED = {
    ("star", "nominative"): "ein kleiner roter Stern",
    ("star", "dative"): "einem kleinen roten Stern",
    ("flower", "nominative"): "eine kleine rote Blume",
    ("flower", "dative"): "einer kleinen roten Blume",
    ("square", "nominative"): "ein kleines rotes Quadrat",
    ("square", "dative"): "einem kleinen roten Quadrat",
    ("heart", "nominative"): "ein kleines rotes Herz",
    ("heart", "dative"): "einem kleinen roten Herzen",
}
PLURAL = {
    ("circle", "nominative"): "drei kleine rote Kreise",
    ("circle", "dative"): "drei kleinen roten Kreisen",
    ("crescent", "dative"): "drei kleinen roten Mondsicheln",
    ("heart", "dative"): "drei kleinen roten Herzen",
}


@pytest.mark.parametrize(("shape", "case"), DECLINED, ids=str)
def test_german_declension(shape: str, case: str) -> None:
    thing = Thing(shape, "red", "plain", large=False)
    assert phrase(thing, case, size=True) == DECLINED[shape, case]  # type: ignore[arg-type]


@pytest.mark.parametrize(("shape", "case"), PLURAL, ids=str)
def test_german_plural(shape: str, case: str) -> None:
    thing = Thing(shape, "red", "plain", large=False)
    assert phrase(thing, case, count=3, size=True) == PLURAL[shape, case]  # type: ignore[arg-type]


# Which article stands before which adjective ending and noun, for each case that a word demands.
MASCULINE = "|".join(noun.singular for noun in NOUNS.values() if noun.gender == "m")
NEUTER = "|".join(noun.singular for noun in NOUNS.values() if noun.gender == "n")
FEMININE = "|".join(noun.singular for noun in NOUNS.values() if noun.gender == "f")
STEMS = "|".join([*COLOURS.values(), *TEXTURES.values(), "groß", "klein"])


def agrees(text: str) -> bool:
    """Whether an article, its adjectives and its noun fit in some one gender and case."""
    for article, ending, nouns in (
        ("ein", "er", MASCULINE),
        ("ein", "es", NEUTER),
        ("eine", "e", FEMININE),
        ("einem", "en", f"{MASCULINE}|{NEUTER.replace('Herz', 'Herzen')}"),
        ("einer", "en", FEMININE),
    ):
        if re.fullmatch(rf"{article}(?: (?:{STEMS}){ending})+ (?:{nouns})", text):
            return True
    return False


def test_every_german_phrase_agrees() -> None:
    found = re.compile(rf"\beine?[nmr]?(?: (?:{STEMS})e[rsnm]?)+ [A-Z]\w+")
    num = 0
    for image_id in IDS:
        for caption in captions(image_id, "de"):
            for text in found.findall(caption):
                if "Hintergrund" not in text:
                    assert agrees(text), caption
                    num += 1
            # What says where wants the dative, all else the nominative.
            assert not re.search(r"(?:links von|rechts von|über|unter|in) eine?n? ", caption)
            assert not re.search(r"(?:^|ist |sind )eine[mr] ", caption)
            assert not re.search(r"\beinen ", caption)
    assert num > 8_000


def test_chinese_measure_words() -> None:
    measures = dict(CHINESE_NOUNS.values())
    found = re.compile(rf"[一两三四五](.)[^一两三四五的]+的[大小]?({'|'.join(measures)})")
    num = 0
    for image_id in IDS:
        for caption in captions(image_id, "zh"):
            assert " " not in caption and "二" not in caption
            for measure, noun in found.findall(caption):
                assert measures[noun] == measure, caption
                num += 1
    assert num > 10_000


def test_each_says_the_same_facts() -> None:
    for image_id in IDS[:300]:
        scene, _ = scene_of(image_id)
        for caption in captions(image_id, "zh"):
            assert all(CHINESE_NOUNS[thing.shape][0] in caption for thing in scene.things)
        for caption in captions(image_id, "de"):
            assert all(COLOURS[thing.colour] in caption for thing in scene.things)


def test_sets_of_all_languages_have_the_same_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path))
    sets = {name: load_dataset(name) for name in ("scenes:10", "scenes:de:10", "scenes:zh:10")}
    paths = [[record.path for record in found.records] for found in sets.values()]
    assert paths[0] == paths[1] == paths[2]
    assert [found.format for found in sets.values()] == ["scenes"] * 3
    assert {found.records[0].captions[0] for found in sets.values()} == {
        captions(IDS[0], language)[0] for language in LANGUAGES
    }
    assert render_scenes(10, language="de")[0].captions == captions(IDS[0], "de")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scenes:fr", "scenes are captioned in en, de, zh; not fr"),
        ("scenes:de:5", "from 10 to 99,999"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(name)
