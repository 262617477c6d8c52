"""Equal to pycocoevalcap 1.2: on two published result files, and METEOR on random captions as well.

All that runs METEOR's program is here, as it takes 16 seconds to start.
"""

import json
import random
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
from odd_captions import GOLDEN as ODD
from odd_captions import official_scores
from pytest import approx

from showtell.metrics import evaluate
from showtell.metrics.meteor import statistics_of_words
from showtell.text.tokenizer import tokenize_all

# Made by pycocoevalcap 1.2 (CoreNLP 3.4.1 and METEOR 1.5 under Java 17) from the two files.
GOLDEN = {
    "hdetach": {
        "BLEU-1": 0.7253655299381174,
        "BLEU-2": 0.554822305031515,
        "BLEU-3": 0.4151743285118971,
        "BLEU-4": 0.30951527018930675,
        "METEOR": 0.24941953920633622,
        "ROUGE-L": 0.5295410682780958,
        "CIDEr-D": 0.9691520560637937,
    },
    "sg2caps": {
        "BLEU-1": 0.7506738544474236,
        "BLEU-2": 0.5840347006681071,
        "BLEU-3": 0.4357912384981358,
        "BLEU-4": 0.32079170731446666,
        "METEOR": 0.26080591327442604,
        "ROUGE-L": 0.5486483602057575,
        "CIDEr-D": 1.0469586119040082,
    },
}


def joined(captions: list[list[str]]) -> list[str]:
    return [" ".join(words) for words in captions]


def tokenised(
    candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The words of both, between single spaces."""
    said = joined(tokenize_all(list(candidates.values())))
    flat = iter(joined(tokenize_all([c for people in references.values() for c in people])))
    return (
        dict(zip(candidates, said, strict=True)),
        {i: [next(flat) for _ in people] for i, people in references.items()},
    )


def first(coco: Any, num: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Captions and references of the first ``num`` images."""
    references = dict(islice(coco.references.items(), num))
    return {image_id: coco.candidates[image_id] for image_id in references}, references


@pytest.mark.slow(7)
@pytest.mark.parametrize("name", GOLDEN)
def test_result_file(name: str, coco_results: dict[str, Any]) -> None:
    pytest.importorskip("pycocoevalcap")
    scores = evaluate(coco_results[name].candidates, coco_results[name].references)
    assert scores.num_images == 5000
    assert scores.metrics == approx(GOLDEN[name], abs=1e-12)
    assert list(scores.metrics) == list(GOLDEN[name])


@pytest.mark.parametrize("num", [500, pytest.param(5000, marks=pytest.mark.costly)])
@pytest.mark.parametrize("name", GOLDEN)
def test_every_image(name: str, num: int, coco_results: dict[str, Any], official: Any) -> None:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    given = first(coco_results[name], num)
    scores = evaluate(*given, metrics=[metric for metric in GOLDEN[name] if metric != "METEOR"])
    captions, references = tokenised(*given)
    assert len(captions) == num
    bleu, each = official(Bleu(4), captions, references)
    columns = {f"BLEU-{n + 1}": (bleu[n], each[n]) for n in range(4)}
    columns["ROUGE-L"] = official(Rouge(), captions, references)
    columns["CIDEr-D"] = official(Cider(), captions, references)
    assert list(columns) == list(scores.metrics)
    for metric, (corpus, images) in columns.items():
        ours = [scores.per_image[i][metric] for i in captions]
        assert np.abs(np.array(ours) - np.array(images)).max() < 1e-9, metric
        assert scores.metrics[metric] == approx(corpus, abs=1e-9)


@pytest.mark.slow(20)
@pytest.mark.parametrize("num", [1000, pytest.param(5000, marks=pytest.mark.costly)])
def test_meteor_of_every_image(
    num: int, coco_results: dict[str, Any], meteor_jar: Any, official: Any
) -> None:
    given = first(coco_results["hdetach"], num)
    scores = evaluate(*given, metrics=["METEOR"])
    captions, references = tokenised(*given)
    assert len(captions) == num
    corpus, images = official(meteor_jar, captions, references)
    ours = [scores.per_image[i]["METEOR"] for i in captions]
    assert np.abs(np.array(ours) - np.array(images)).max() < 1e-9
    assert scores.metrics["METEOR"] == approx(corpus, abs=1e-9)


METEOR_WORDS = """
a a a the the man men is of in dog dogs 's with and sitting sits standing boy child big large little
bicycle bike bikes riding rides motor vehicle car auto close-up t.v. 4:15 st. no. 5 $ n't -lrb-
bar-b-q u.s. couch sofa couple group two people persons next to abandoned empty c++ foo.bar etc. v.
mr. ' : σκύλος ძაღლი một chó दौड़ собака é̂ כֶּלֶב
"""


def test_meteor_of_random_captions(meteor_jar: Any, official: Any) -> None:
    """Captions that try the normaliser, the alignment and ties between references."""
    rng = random.Random(0)
    words = METEOR_WORDS.split()
    pairs = [
        [" ".join(rng.choices(words, k=rng.randint(0, 14))) for _ in range(1 + rng.randint(1, 5))]
        for _ in range(3_000)
    ]
    references = {str(n): said for n, (_, *said) in enumerate(pairs)}
    heard = {str(n): caption for n, (caption, *_) in enumerate(pairs)}

    corpus, images = official(meteor_jar, heard, references)
    found = statistics_of_words(
        [caption.split() for caption in heard.values()],
        [[reference.split() for reference in said] for said in references.values()],
    )
    assert np.abs(found.per_image[:, 0] - np.array(images)).max() < 1e-9
    assert found.figures()[0] == pytest.approx(corpus, abs=1e-9)


def test_the_golden_values_of_odd_captions_are_the_official_program_s(meteor_jar: Any) -> None:
    case = "an empty caption"
    assert official_scores(case, meteor_jar) == json.loads(ODD.read_text(encoding="utf-8"))[case]
