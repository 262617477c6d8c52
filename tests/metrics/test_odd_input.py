"""Odd captions, references and ids: answered as the official scorer answers, or in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_captions import CASES, GOLDEN, USUAL, images_of
from pytest import approx

from showtell.metrics import compute, drop_in, evaluate, meteor
from showtell.metrics.coco_io import score_files
from showtell.metrics.references import split_spaces

# Made by tests/odd_captions.py: pycocoevalcap 1.2 (CoreNLP 3.4.1, METEOR 1.5) under Java 17.
OFFICIAL = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES)
def test_odd_captions(case: str) -> None:
    captions, references = images_of(case)
    scores = evaluate(captions, references)
    expected = OFFICIAL[case]
    for metric, value in scores.metrics.items():
        assert value == approx(expected["corpus"][metric], abs=1e-12), metric
    for image_id, each in scores.per_image.items():
        theirs = expected["images"][image_id]
        assert each == approx({metric: theirs[metric] for metric in each}, abs=1e-12), image_id
    assert ("METEOR" in scores.metrics) == meteor.is_installed()


@pytest.mark.parametrize("character", ["\r", "\v", "\f", "\u2028", "\u2029"])
def test_a_line_break_inside_a_caption_is_a_space(character: str) -> None:
    """pycocoevalcap moves the captions after it to other images: CIDEr-D 0.876 instead of 3.935."""
    captions, references = images_of("one reference")
    spaced = evaluate(captions, references)
    captions["x"] = captions["x"].replace(" ", character, 1)
    scores = evaluate(captions, references)
    assert scores.per_image == spaced.per_image
    [warning] = scores.warnings
    assert warning.startswith("1 images have a line break inside a caption or reference")
    references["dog"][1] = references["dog"][1].replace(" ", character, 1)
    assert evaluate(captions, references).warnings[0].endswith("another image: dog, x")


@pytest.mark.parametrize("space", ["\n", "\t", "\u3000", "\xa0", "\x85", "  "])
def test_white_space_in_tokenised_text(space: str, official: Any) -> None:
    """BLEU and CIDEr cut at any white space, ROUGE-L at plain spaces alone."""
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    gts = {
        1: [f"a dog on the{space}mat", f"the dog{space}"],
        2: ["a cat sits on it", " the  cat"],
        3: ["two men ride", "men riding a bus"],
    }
    for res in (
        {1: "a dog on the mat", 2: "a cat on it", 3: "men ride"},
        {1: f"a dog on the{space}mat", 2: "a cat on it", 3: f"men ride{space}"},
    ):
        for ours, theirs in (
            (drop_in.Bleu(), Bleu()),
            (drop_in.Rouge(), Rouge()),
            (drop_in.Cider(), Cider()),
        ):
            found = ours.compute_score(gts, {i: [said] for i, said in res.items()})  # type: ignore[attr-defined]
            expected = official(theirs, res, gts)
            for one, other in zip(found, expected, strict=True):
                assert np.allclose(one, other, rtol=0, atol=1e-12), ours.method()  # type: ignore[attr-defined]


def test_white_space_splits_the_words_of_its_own_caption_alone() -> None:
    words = [["a dog\t", "runs"], ["", "a"], ["5\xa01/2"], ["a", "dog"], []]
    assert split_spaces(words) == [["a", "dog", "runs"], ["a"], ["5", "1/2"], ["a", "dog"], []]
    assert split_spaces(words)[3] is words[3]


def test_references_without_words_alone() -> None:
    """pycocoevalcap fails: ValueError, max() arg is an empty sequence."""
    with pytest.warns(UserWarning, match="2 images have only references without words: 0, 1"):
        scores = compute(predictions=["a cat", "a dog"], references=[[""], ["!", ""]])
    assert max(scores.values()) < 1e-6


def test_half_of_a_character() -> None:
    """A lone surrogate, as broken JSON has it: pycocoevalcap fails with UnicodeEncodeError."""
    captions, references = images_of("one reference")
    expected = evaluate(captions, references)
    captions["x"] += " \ud83d"
    assert evaluate(captions, references).per_image == expected.per_image


@pytest.mark.parametrize("write", [str, int, float, "{:012d}.jpg".format])
def test_ids_of_any_type(write: Any, tmp_path: Path) -> None:
    """pycocotools takes ids that are equal in Python alone: \"139\" is not 139."""
    results, references = tmp_path / "results.json", tmp_path / "references.json"
    people = [
        {"image_id": number, "caption": caption}
        for number, (_, said) in enumerate(USUAL.values(), 139)
        for caption in said
    ]
    said = [
        {"image_id": write(number), "caption": caption}
        for number, (caption, _) in enumerate(USUAL.values(), 139)
    ]
    references.write_text(json.dumps({"annotations": people}), encoding="utf-8")
    results.write_text(json.dumps(said), encoding="utf-8")
    scores = score_files(results, references, metrics=["CIDEr-D"], cache=tmp_path)
    expected = evaluate(
        {str(n): caption for n, (caption, _) in enumerate(USUAL.values(), 139)},
        {str(n): people for n, (_, people) in enumerate(USUAL.values(), 139)},
        metrics=["CIDEr-D"],
    )
    assert scores.per_image == expected.per_image
