"""What a card says, computed from small sets whose answers are plain."""

from pathlib import Path

import pytest

from showtell.data.records import Record
from showtell.errors import ConfigError
from showtell.metrics import evaluate, object_hallucination
from showtell.publish.card import (
    inventions_section,
    people_section,
    render_card,
    table,
    words_section,
)
from showtell.publish.measure import count_people, unknown_words, words_of


def record(name: str, *captions: str) -> Record:
    return Record(name, Path(name), captions, "val")


PICTURES = [
    record("1", "A woman runs .", "two women run", "someone runs"),
    record("2", "A lady sits .", "a woman sits", "a person sits"),
    record("3", "A man rides .", "a guy rides", "he rides"),
    record("4", "a boy and a girl", "a boy jumps", "a boy"),
    record("5", "a man", "a person", "nobody"),
]


def test_people_are_counted_by_what_two_references_say() -> None:
    said = {"1": "a man runs", "2": "A woman sits.", "3": "a man and a dog", "4": "a boy", "5": "x"}
    named = count_people(PICTURES, said)
    num_of = {group: sum(said.values()) for group, said in named.counts.items()}
    # One reference of picture 5 is not enough, and people see a boy and a girl in picture 4.
    assert num_of == {"woman": 2, "man": 1, "boy": 0, "girl": 0}
    assert named.counts["woman"]["man"] == named.counts["woman"]["woman"] == 1
    assert named.wrong_sex(["woman", "girl"]) == (1, 2)
    assert named.wrong_sex(["man", "boy"]) == (0, 1)
    text = people_section(named)
    assert "Of 2 captions" in text and "1 (50%) say a man or boy" in text


def test_a_caption_may_name_several_or_none() -> None:
    said = {"1": "a woman and a boy", "2": "a dog", "3": "men", "4": "", "5": ""}
    named = count_people(PICTURES, said)
    assert named.counts["woman"]["several"] == named.counts["woman"]["none"] == 1
    assert named.counts["man"]["man"] == 1


def test_inventions_are_told_where_objects_are_named() -> None:
    references = {"1": ["a dog runs"], "2": ["a cat on a chair"], "3": ["a red circle"]}
    said = {"1": "a man and a dog", "2": "a cat", "3": "a circle"}
    scores = {
        title: evaluate(
            {name: said[name] for name in names},
            {name: references[name] for name in names},
            metrics=object_hallucination.NAMES,
        ).with_intervals()
        for title, names in (("all", "123"), ("shapes", "3"))
    }
    _, _, everything, shapes = inventions_section(scores).splitlines()
    # Three objects named, the man invented, in one caption of three; two of three true ones named.
    assert everything.startswith("| all | 3 | 0.333 [")
    assert "| 0.333 [" in everything and "| 0.667 [" in everything
    assert shapes == "| shapes | 1 | none | 0.000 [0.000, 0.000] | none |"


def test_unknown_words_are_those_that_two_people_say() -> None:
    pictures = [
        record("1", "A pizza on a table", "pizza with cheese", "a plate"),
        record("2", "a pizza", "one pizza", "cheese"),
        record("3", "a dog", "a dog", "dog"),
    ]
    known = words_of(["A dog on a table .", "one with a plate"])
    found = unknown_words(pictures, known)
    assert found.words == (("pizza", 2),)
    assert (found.num_pictures, found.num_affected) == (3, 2)
    assert "Of 2 of 3 pictures" in words_section(found)
    assert "None of the words" in words_section(unknown_words(pictures[2:], known))


def test_a_template_gets_its_sections_or_an_error() -> None:
    assert render_card("# {{name}}\n\n{{ figures }}\n\n", {"name": "x", "figures": "y"}) == (
        "# x\n\ny\n"
    )
    with pytest.raises(ConfigError, match=r"unknown section .figure.\. Did you mean .figures."):
        render_card("{{figure}}", {"figures": ""})
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
