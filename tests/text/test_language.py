"""The language of a set of captions, its scripts, and single captions of another language."""

import pytest

from showtell.text.language import (
    LANGUAGES,
    NAMES,
    guess_language,
    language_of,
    letters_of,
    main_script,
    other_language,
)

ENGLISH = [
    "a man riding a wave on top of a surfboard",
    "two dogs play with a ball",
    "children in a park",
]
OTHERS = {
    "de": "ein Mann reitet auf einer Welle",
    "fr": "un homme sur une planche de surf",
    "es": "un hombre con una tabla de surf en el mar",
    "it": "un uomo con una tavola da surf nel mare",
    "pt": "um homem com uma prancha de surf no mar",
    "nl": "een man op een surfplank in het water",
    "zh": "一个男人在海里冲浪",
    "ja": "波に乗っている男性",
    "ru": "мужчина на доске для сёрфинга",
    "ko": "파도를 타는 남자",
    "ar": "رجل يركب موجة",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog", "LATIN"),
        ("Ein größerer Hund", "LATIN"),
        ("Собака бежит", "CYRILLIC"),
        ("一只狗在草地上", "CJK"),
        ("犬が草の上を走る", "KANA"),
        ("개가 달린다", "HANGUL"),
        ("สุนัขวิ่ง", "THAI"),
        ("كلب يجري", "ARABIC"),
        ("12 ...", ""),
    ],
)
def test_scripts(text: str, expected: str) -> None:
    assert main_script(text) == letters_of([text]).script == expected


@pytest.mark.parametrize(
    ("language", "captions"),
    [
        ("en", ["A dog runs through the grass", "Two men are in a boat on the lake"]),
        ("de", ["Ein Hund läuft durch das Gras", "Zwei Männer sind in einem Boot auf dem See"]),
        ("fr", ["Un chien court dans les champs", "Deux hommes sont sur un bateau avec lui"]),
        ("es", ["Un perro corre por el campo", "Dos hombres están en una barca con perros"]),
        ("nl", ["Een hond rent door het gras", "Twee mannen zitten op een bank bij het meer"]),
        ("pl", ["Pies biegnie przez pole", "Dwie kobiety siedzą na ławce w parku i na trawie"]),
        ("zh", ["一只狗在草地上", "两个人在船上"]),
        (None, ["Blue bird", "Red car"]),
        (None, []),
    ],
)
def test_language_of_a_set(language: str | None, captions: list[str]) -> None:
    assert language_of(captions) == language
    assert guess_language(captions) == (None if language == "en" else language)


def test_single_captions_of_another_language() -> None:
    assert not any(other_language(text, "en") for text in ENGLISH)
    for language, text in OTHERS.items():
        assert language in LANGUAGES
        assert not other_language(text, language), language
        assert other_language(text, "en") == NAMES[language]
        assert language_of([text] * 3) == language
    assert language_of([*ENGLISH, OTHERS["de"]]) == "en"
    assert not other_language("surfboard", "en") and not other_language("surfboard", "de")
    assert other_language(ENGLISH[0], "de") == "English"
    assert other_language(ENGLISH[0], "zh") == "English"
    assert other_language("surfboard", "zh") == "Latin"


def test_english_words_that_look_like_other_languages() -> None:
    for text in ("A fish 's fin", "it's mother's face", "A FedEx van"):
        assert not other_language(text, "en"), text


def test_clearly_another_language() -> None:
    one, four = "Ein Hund", "Ein Mann und ein Hund auf dem Rasen"
    assert other_language(one, "en") == other_language(four, "en") == "German"
    assert not other_language(one, "en", clearly=True)
    assert other_language(four, "en", clearly=True) == "German"


def test_japanese_without_kana_may_be_japanese_where_it_is_short() -> None:
    assert not other_language("紅色的花", "ja")
    assert other_language("一个男人在海里冲浪和一只狗", "ja") == "Chinese"
    assert other_language("波に乗っている男性", "zh") == "Japanese"


def test_every_language_has_a_name() -> None:
    assert set(LANGUAGES) <= set(NAMES)
