"""Scores of captions in other languages: on their own words, and without English lists."""

import json
import math
from importlib.util import find_spec
from pathlib import Path

import pytest

from showtell.errors import ScoringError
from showtell.metrics import evaluate
from showtell.metrics.coco_io import score_files
from showtell.metrics.evaluate import CHECKS
from showtell.text.segment import PTB, Segmentation

PEOPLE = {
    "1": ["一只棕色的狗在草地上奔跑", "一只狗在绿色的草地上跑"],
    "2": ["两个女人坐在公园的长椅上", "公园里有两个女人"],
    "3": ["桌子上有一个红色的苹果", "一个苹果放在桌子上"],
}
SAID = {"1": "一只狗在草地上奔跑", "2": "两个女人坐在长椅上", "3": "一张桌子上有苹果"}
GERMAN = {
    "1": ["ein Hund läuft auf der Wiese", "der Hund rennt über das Gras"],
    "2": ["zwei Frauen sitzen im Park auf einer Bank", "Frauen sitzen im Park"],
}
SAID_IN_GERMAN = {"1": "ein Hund läuft über die Wiese", "2": "eine Frau sitzt auf der Bank am"}
ZH = Segmentation.of("characters", "zh")


def test_whole_sentences_are_no_words() -> None:
    whole = evaluate(SAID, PEOPLE, metrics=["BLEU-1", "CIDEr-D"])
    assert whole.metrics["BLEU-1"] < 1e-6  # nothing matches where a sentence is a word
    cut = evaluate(SAID, PEOPLE, metrics=["BLEU-1", "CIDEr-D"], segmentation=ZH)
    assert cut.metrics["BLEU-1"] > 0.8
    assert cut.metrics["CIDEr-D"] > 1
    assert "|tok:characters-v1-zh|" in cut.signature


def test_scores_do_not_depend_on_who_cuts() -> None:
    """Lists of words are scored as the texts that they were cut from."""
    words = {key: ZH.words(text) for key, text in SAID.items()}
    people = {key: [ZH.words(text) for text in texts] for key, texts in PEOPLE.items()}
    names = ["BLEU-4", "ROUGE-L", "CIDEr-D"]
    ours = evaluate(SAID, PEOPLE, metrics=names, segmentation=ZH).metrics
    assert ours == evaluate(words, people, metrics=names).metrics


def test_meteor_is_left_out_with_a_reason() -> None:
    scores = evaluate(SAID, PEOPLE, segmentation=ZH)
    assert "METEOR" not in scores.metrics
    assert "METEOR is left out: METEOR has no stemmer for Chinese (zh)" in scores.warnings
    with pytest.raises(ScoringError, match="no stemmer for Chinese"):
        evaluate(SAID, PEOPLE, metrics=["METEOR"], segmentation=ZH)


def test_meteor_in_german() -> None:
    pytest.importorskip("snowballstemmer", reason="the extra languages is not installed")
    german = Segmentation.of("spaces", "de")
    scores = evaluate(SAID_IN_GERMAN, GERMAN, metrics=["METEOR"], segmentation=german)
    assert 0.2 < scores.metrics["METEOR"] < 1
    assert "METEOR.1.5-de-exact-stem-snowball" in scores.signature
    assert "|tok:spaces-v1-de|" in scores.signature


def test_english_lists_are_left_out() -> None:
    german = Segmentation.of("spaces", "de")
    scores = evaluate(SAID_IN_GERMAN, GERMAN, families=CHECKS, segmentation=german)
    assert {"length", "repeats-2"} <= scores.metrics.keys()
    assert not {"CHAIR-i", "gender-error", "bad-endings"} & scores.metrics.keys()
    assert math.isnan(scores.bad_endings)
    assert scores.to_dict()["bad_endings"] is None
    assert "bad endings" not in scores.table()
    left_out = [warning for warning in scores.warnings if "for English only" in warning]
    assert len(left_out) == 2 and all("German (de)" in warning for warning in left_out)
    # "am" is a bad ending in English, and the caption ends in it.
    assert evaluate(SAID_IN_GERMAN, GERMAN, metrics=["BLEU-1"]).bad_endings == 0.5
    with pytest.raises(ScoringError, match="CHAIR-i: left out, for English only"):
        evaluate(SAID_IN_GERMAN, GERMAN, metrics=["CHAIR-i"], segmentation=german)


def test_english_is_the_default() -> None:
    said, people = {"1": "a dog", "2": "a cat"}, {"1": ["the dog"], "2": ["a black cat"]}
    one = evaluate(said, people, metrics=["BLEU-1", "CIDEr-D"])
    two = evaluate(said, people, metrics=["BLEU-1", "CIDEr-D"], segmentation=PTB)
    assert one == two
    assert "|tok:ptb-corenlp3.4.1-coco-v2|" in one.signature


def write(folder: Path, said: dict[str, str], people: dict[str, list[str]]) -> tuple[Path, Path]:
    results, references = folder / "said.json", folder / "people.json"
    results.write_text(
        json.dumps([{"image_id": key, "caption": text} for key, text in said.items()])
    )
    references.write_text(json.dumps(people))
    return results, references


def test_files_of_chinese_captions_are_cut_by_their_letters(tmp_path: Path) -> None:
    files = write(tmp_path, SAID, PEOPLE)
    found = score_files(*files, cache=tmp_path)
    kind = "words-icu" if find_spec("icu4py") else "characters-v1"
    assert f"|tok:{kind}" in found.signature
    assert any("Chinese (zh), without spaces" in warning for warning in found.warnings)
    again = score_files(*files, cache=tmp_path)  # from the cache of tokenised references
    assert again == found
    asked = score_files(*files, segmentation="characters", cache=tmp_path)
    assert "|tok:characters-v1-zh|" in asked.signature
    official = score_files(*files, segmentation="ptb", language="en", cache=tmp_path)
    assert official.metrics["BLEU-1"] < 1e-6


def test_files_of_german_captions_stay_equal_to_the_official_scores(tmp_path: Path) -> None:
    files = write(tmp_path, SAID_IN_GERMAN, GERMAN)
    names = ["BLEU-4", "ROUGE-L", "CIDEr-D"]
    found = score_files(*files, metrics=names, cache=tmp_path)
    assert found.metrics == evaluate(SAID_IN_GERMAN, GERMAN, metrics=names).metrics
    assert any("--language de" in warning for warning in found.warnings)
    assert "|tok:ptb-corenlp3.4.1-coco-v2|" in found.signature
    own = score_files(*files, metrics=names, language="de", cache=tmp_path)
    assert "|tok:spaces-v1-de|" in own.signature
