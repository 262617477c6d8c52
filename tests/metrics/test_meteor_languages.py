"""METEOR in other languages than English equals the original program."""

import pytest

from showtell.errors import MissingExtraError, ScoringError
from showtell.metrics.meteor import languages
from showtell.metrics.meteor.languages import statistics_of_words, version_of, why_not

# Golden: meteor-1.5.jar of pycocoevalcap 1.2, Java 17: -l LANGUAGE -m "exact stem" -r 2, without
# -norm. The score of each caption, then that of all three.
SAID = {
    "de": (
        ["ein kleiner hund läuft über die grüne wiese", "der mann isst einen apfel"],
        [
            ["kleine hunde laufen auf einer grünen wiese", "ein hund rennt über das gras"],
            ["ein mann hat äpfel gegessen", "eine katze schläft"],
        ],
        [0.3991489361702128, 0.23399999999999999],
    ),
    "fr": (
        ["un petit chien court dans l' herbe verte", "le chat dort"],
        [
            ["des petits chiens courent sur l' herbe", "un chien dans un champ vert"],
            ["le chat dormait", "un oiseau vole"],
        ],
        [0.2064516129032258, 0.5150950100156269],
    ),
    "es": (
        ["un perro pequeño corre por la hierba", "el gato duerme"],
        [
            ["perros pequeños corren en la hierba", "un perro en el campo"],
            ["el gato durmió", "un pájaro vuela"],
        ],
        [0.5876379751526788, 0.5312912672739607],
    ),
    "it": (
        ["un piccolo cane corre sul prato verde", "il gatto dorme"],
        [
            ["piccoli cani corrono su un prato verde", "un cane nel campo"],
            ["i gatti dormono", "un uccello vola"],
        ],
        [0.4723390291247231, 0.24491653362022675],
    ),
    "ru": (
        ["маленькая собака бежит по зелёной траве", "две женщины сидят на скамейке"],
        [
            ["маленькие собаки бегут по траве", "собака в поле"],
            ["две женщина сидит на скамейках", "люди в парке"],
        ],
        [0.304038202733671, 0.7],
    ),
    "fi": (
        ["pieni koira juoksee vihreällä nurmikolla", "kaksi naista istuu penkillä"],
        [
            ["pienet koirat juoksevat nurmikolla", "koira pellolla"],
            ["kaksi nainen istuu penkeillä", "ihmisiä puistossa"],
        ],
        [0.10909090909090911, 0.37700079154498517],
    ),
}


@pytest.mark.parametrize("language", SAID)
def test_equals_the_original(language: str) -> None:
    pytest.importorskip("snowballstemmer", reason="the extra languages is not installed")
    said, references, scores = SAID[language]
    found = statistics_of_words(
        [text.split() for text in said],
        [[text.split() for text in each] for each in references],
        language,
    )
    assert found.per_image[:, 0].tolist() == pytest.approx(scores, abs=1e-12)


def test_the_score_of_all_is_that_of_the_sums() -> None:
    pytest.importorskip("snowballstemmer", reason="the extra languages is not installed")
    said, references, _ = SAID["it"]
    found = statistics_of_words(
        [text.split() for text in [*said, "due donne sedute su una panchina"]],
        [
            [text.split() for text in each]
            for each in [*references, ["due donna seduta su panchine", "gente nel parco"]]
        ],
        "it",
    )
    assert found.figures()[0] == pytest.approx(0.4502175241203818, abs=1e-12)


def test_nothing_said_or_matched_is_nothing() -> None:
    pytest.importorskip("snowballstemmer", reason="the extra languages is not installed")
    found = statistics_of_words([[], ["hund"]], [[["hund"]], [["katze"]]], "de")
    assert found.per_image.tolist() == [[0.0], [0.0]]
    assert statistics_of_words([["hund"]], [[["hund"]]], "de").figures()[0] == 1.0


def test_where_it_cannot_be_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    error = why_not("zh")
    assert isinstance(error, ScoringError) and "no stemmer for Chinese (zh)" in str(error)
    monkeypatch.setattr(languages, "find_spec", lambda name: None)
    assert isinstance(why_not("de"), MissingExtraError)


def test_the_signature_names_language_and_stemmer() -> None:
    pytest.importorskip("snowballstemmer", reason="the extra languages is not installed")
    assert version_of("de").startswith("1.5-de-exact-stem-snowball")
