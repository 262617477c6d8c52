"""The tokeniser without Java: golden captions, context between captions, odd input."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.text import ptb
from showtell.text.tokenizer import PUNCTUATION, tokenize, tokenize_all, tokenize_as_scored

FOLDER = Path(__file__).parent
GOLDEN = json.loads((FOLDER / "golden_tokens.json").read_text(encoding="utf-8"))
SCRIPTS = json.loads((FOLDER / "golden_scripts.json").read_text(encoding="utf-8"))["captions"]


def test_golden_captions() -> None:
    captions = [caption for caption, _ in GOLDEN["captions"]]
    assert len(captions) == 71
    found = tokenize_all([*captions, "x"])[:-1]
    wrong = [
        (caption, words, expected)
        for (caption, expected), words in zip(GOLDEN["captions"], found, strict=True)
        if words != expected
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man, riding a horse.", "a man riding a horse"),
        ("I cannot see it.", "i can not see it"),
        ("the dog's toys", "the dog 's toys"),
        ("a 4-way stop at 4:15 pm", "a 4-way stop at 4:15 pm"),
        ("a bag (of chips)", "a bag -lrb- of chips -rrb-"),
        ("the shop on Main St.", "the shop on main st."),
        ("", ""),
        (" \t ", ""),
        ("a\ndog\r\nruns", "a dog runs"),
    ],
)
def test_words(caption: str, words: str) -> None:
    assert tokenize(caption) == words.split()


@pytest.mark.parametrize("golden", SCRIPTS, ids=lambda golden: golden["language"])
def test_every_script_is_scored_as_officially_and_read_in_whole_words(
    golden: dict[str, str],
) -> None:
    caption, official = golden["caption"], golden["official"].split()
    assert tokenize_all([caption, "x"])[0] == official
    assert tokenize_as_scored(caption) == official
    assert tokenize(caption) == golden.get("whole", golden["official"]).split()


def test_every_golden_script_is_visited() -> None:
    assert len(SCRIPTS) == 30
    assert sum("whole" in golden for golden in SCRIPTS) == 14


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("🐶\u200d👩 a\u200d b", "a b"),  # a joiner is part of a word only between its letters
        ("\ufe0f ❤\ufe0f 1\ufe0f\u20e3", "❤ 1"),
        ("𞤀𞤣𞤤𞤢𞤥", "𞤢𞤣𞤤𞤢𞤥"),  # Adlam, beyond the first 65,536 characters
        ("ſet 'ſa", "ſet ſa"),
    ],
)
def test_words_outside_ascii(caption: str, words: str) -> None:
    assert tokenize(caption) == words.split()


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=40))
def test_ascii_has_the_same_words_in_training_and_scoring(text: str) -> None:
    assert tokenize(text) == tokenize_as_scored(text)


def test_an_initial_at_the_end_depends_on_the_next_caption() -> None:
    assert tokenize_all(["the letter K.", "A dog"])[0][-1] == "k"
    assert tokenize_all(["the letter K.", "Two dogs"])[0][-1] == "k."
    assert tokenize_all(["the letter K.", "", " The dog"])[0][-1] == "k"
    assert tokenize("the letter K.")[-1] == "k."
    assert tokenize_all(["house no.", "5 dogs"])[0][-1] == "no."
    assert tokenize_all(["house no.", "five dogs"])[0][-1] == "no"


def test_the_same_caption_again_gives_the_same_words() -> None:
    caption = "Dogs, cats and a t.v. at No. 5 Main St."
    assert tokenize(caption) == tokenize(caption) == tokenize_all([caption, "x"])[0]


def test_a_result_can_be_changed_by_its_owner() -> None:
    tokenize("a plain caption").append("changed")
    assert tokenize("a plain caption") == ["a", "plain", "caption"]


@given(st.text(max_size=40))
def test_any_text_gives_lower_case_words_without_spaces(text: str) -> None:
    for word in tokenize(text):
        assert word and word not in PUNCTUATION
        assert not set(word) & set(" \t\n\r")


@given(st.lists(st.sampled_from(["the", "dog", "runs", "red", "on"]), max_size=12))
def test_plain_words_stay(words: list[str]) -> None:
    assert tokenize(" ".join(words).capitalize() + ".") == words


def test_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; import showtell.text.tokenizer; "
        "print([m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rules_for_all_scripts_name_ranges_of_characters() -> None:
    """Ninety thousand characters one by one took seconds to compile, in a server's request."""
    characters = ptb._all_characters()
    assert len(characters.letters + characters.digits + characters.marks) < 20_000
    letter = re.compile(f"[{characters.letters}]")
    for first, last in ("az", "ÀÖ", "가힣", "一鿿", "\U00020000\U0002a6df"):
        assert all(letter.match(chr(code)) for code in range(ord(first), ord(last) + 1))
    assert not any(map(letter.match, "5×\u0301\u30fb\U0001f600"))
