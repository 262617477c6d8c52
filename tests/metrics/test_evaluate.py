"""``evaluate``, ``References`` and ``Scores``: order, signature, warnings, errors."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from showtell.errors import MissingExtraError, ScoringError
from showtell.metrics import METRICS, CiderD, References, evaluate, meteor, spice
from showtell.metrics.meteor import tables as meteor_tables

CANDIDATES = {"1": "a dog runs on the grass", "2": "two men with a"}
REFERENCES = {
    "1": ["A dog runs on grass.", "The dog is running."],
    "2": ["Two men talk.", "Some men with hats.", "Men."],
}
FAST = [name for name in METRICS if name not in ("METEOR", "SPICE")]


def test_order_signature_and_bad_endings() -> None:
    scores = evaluate(CANDIDATES, REFERENCES, metrics=reversed(FAST))
    assert list(scores.metrics) == FAST
    assert list(scores.per_image["1"]) == FAST
    assert scores.bad_endings == 0.5
    assert scores.warnings == []
    parts = scores.signature.split("|")
    assert parts[0] == "BLEU.1+ROUGE-L.1+CIDEr-D.1"
    assert parts[1].startswith("tok:ptb-corenlp3.4.1-coco-")
    assert parts[2:5] == ["refs:2-3", "images:2", "df:references"]


def test_prepared_references_give_the_same() -> None:
    prepared = References(REFERENCES)
    again = [evaluate(CANDIDATES, prepared, metrics=FAST) for _ in range(2)]
    assert again[0] == again[1] == evaluate(CANDIDATES, REFERENCES, metrics=FAST)


def test_dict_and_table() -> None:
    scores = evaluate(CANDIDATES, REFERENCES, metrics=FAST)
    assert "per_image" not in scores.to_dict()
    assert scores.to_dict(per_image=True)["per_image"] == scores.per_image
    assert scores.signature in scores.table()
    assert len(scores.table(per_image=True).splitlines()) == len(FAST) + 3 + 2 + 2


def test_ids_that_are_numbers_become_strings() -> None:
    candidates: Any = {int(image_id): said for image_id, said in CANDIDATES.items()}
    references: Any = {int(image_id): said for image_id, said in REFERENCES.items()}
    scores = evaluate(candidates, references, metrics=FAST)
    assert scores == evaluate(CANDIDATES, REFERENCES, metrics=FAST)
    assert scores.table(per_image=True).splitlines()[-1].startswith("2 ")
    twice: Any = {1: ["a"], "1": ["a"]}
    with pytest.raises(ScoringError, match="two image ids are the same text, as 1 and '1' are"):
        evaluate(dict.fromkeys(twice, "a"), twice, metrics=FAST)


def test_one_image_warns_that_cider_is_zero() -> None:
    scores = evaluate({"1": "a dog"}, {"1": ["a dog"]}, metrics=["CIDEr-D"])
    assert scores.metrics == {"CIDEr-D": 0.0}
    assert "single image is always 0" in scores.warnings[0]


def test_captions_without_words() -> None:
    scores = evaluate({"1": "", "2": "..."}, {"1": ["a"], "2": [""]}, metrics=FAST)
    assert all(map(math.isfinite, scores.metrics.values()))
    assert scores.per_image["2"]["ROUGE-L"] == 1.0  # two empty captions are one equal empty word
    assert "2 captions have no words: 1, 2" in scores.warnings


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ({}, {}, "no references"),
        ({"1": "a"}, {"1": ["a"], "2": ["b"]}, "1 of 2 images have no caption to score: 2"),
        (
            {1: "a", 2: "b"},
            {"1": ["a"], "2": ["b"]},
            "2 of 2 images have no caption to score: 1, 2; some ids are numbers in one and strings",
        ),
        ({"1": "a", "2": "b"}, {"1": ["a"]}, "1 captions are of images without references: 2"),
        ({"1": None}, {"1": ["a"]}, "1 captions are not strings: of images 1"),
        ({"1": "a"}, {"1": []}, "1 images have no reference caption: 1"),
        ({"1": "a"}, {"1": "a"}, "references of 1 images are not lists of strings: 1"),
        ({"1": "a"}, {"1": [5]}, "references of 1 images are not lists of strings: 1"),
    ],
)
def test_what_does_not_fit(candidates: Any, references: Any, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        evaluate(candidates, references, metrics=FAST)


def test_unknown_metric() -> None:
    with pytest.raises(ScoringError, match=r"unknown metric 'CIDEr'.* Did you mean 'CIDEr-D'"):
        evaluate(CANDIDATES, REFERENCES, metrics=["CIDEr"])


def test_without_the_extra_meteor_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meteor_tables, "find_spec", lambda name: None)
    monkeypatch.setattr(spice, "find_spec", lambda name: None)
    meteor._tables.cache_clear()
    assert list(evaluate(CANDIDATES, REFERENCES).metrics) == FAST
    for name in ("METEOR", "SPICE"):
        with pytest.raises(MissingExtraError, match=rf"{name} .* pip install .*\[meteor\]"):
            evaluate(CANDIDATES, REFERENCES, metrics=[name])


def test_tables_that_cannot_be_written_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("pycocoevalcap")
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("SHOWTELL_CACHE", str(blocked))
    meteor._tables.cache_clear()
    scores = evaluate(CANDIDATES, REFERENCES)
    assert list(scores.metrics) == FAST
    assert "METEOR is left out: cannot write METEOR's tables" in scores.warnings[0]


def test_spice_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr(spice.shutil, "which", lambda name: None)
    monkeypatch.setattr(spice, "_MODELS", ("no-such-models.jar",))
    with pytest.raises(ScoringError, match=r"Java runtime .*; no-such-models.jar in .*lib"):
        spice.find_program()


def test_cider_d_errors() -> None:
    with pytest.raises(ScoringError, match="1 images have no reference caption: 2"):
        CiderD({"1": ["a"], "2": []})
    with pytest.raises(ScoringError, match="no references for 1 images: 9"):
        CiderD({"1": ["a"]}).score(["9"], ["a"])


@pytest.mark.parametrize(
    ("image_ids", "hypotheses", "message"),
    [
        (["1", "2"], ["a", "b", "c"], "2 image ids and 3 hypotheses were given; each hypothesis"),
        (["1", "2"], ["a"], "2 image ids and 1 hypotheses"),
        (["1"], "a", "expected a list of hypotheses, but got the string 'a'"),
        ("12", ["a", "b"], "expected a list of image ids, but got the string '12'"),
        (["1"], [None], "expected a hypothesis as a string, .* but got None"),
        (["1"], [["a dog"]], r"a list of words or of token ids, but got \['a dog'\]"),
        (["1"], [[["a"]]], "but got a list of lists"),
        (["1"], [[0.5]], r"but got \[0.5\]"),
        (["1"], [[5, 6]], "the references are words, but the hypotheses token ids; give both"),
        (["1", "2"], ["a", [5]], "a hypothesis is of words and another of token ids"),
        ([1], ["a"], "no references for 1 images: 1; some ids are numbers in one and strings"),
    ],
)
def test_what_cider_d_cannot_score(image_ids: Any, hypotheses: Any, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        CiderD({"1": ["a dog"], "2": ["a cat"]}).score(image_ids, hypotheses)


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ("a dog", "references of 1 images are a string, not a list of them: 1"),
        ([None], "expected a reference as a string, .* but got None"),
        ([5, 6], "but got 5"),
        (["a dog", [5, 6]], "a reference is of words and another of token ids"),
    ],
)
def test_what_cider_d_cannot_refer_to(captions: Any, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        CiderD({"1": captions})


def test_cider_d_of_nothing() -> None:
    assert CiderD({"1": ["a"]}).score([], []).shape == (0,)
    assert CiderD({"1": [""], "2": [""]}).score(["1"], ["a b"]).tolist() == [0.0]


def test_scoring_imports_no_torch(tmp_path: Path) -> None:
    """A reward for self-critical training, or a score, costs no import of torch."""
    program = """
import json, sys
from pathlib import Path
from showtell.metrics import CiderD, evaluate
from showtell.metrics.coco_io import score_files
people = {"1": ["a dog runs"], "2": ["a cat sits"]}
assert CiderD(people).score(["1", "2"], ["a dog", "a cat"]).sum() > 0
evaluate({"1": "a dog", "2": "a cat"}, people, metrics=["BLEU-4"])
file = Path(sys.argv[1], "captions.json")
file.write_text(json.dumps(people))
score_files(file, file, metrics=["ROUGE-L"], cache=file.parent)
assert "torch" not in sys.modules, "torch was imported"
"""
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True)
