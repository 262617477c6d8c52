"""Equal to pycocoevalcap 1.2 on two published result files, to 1e-6 and each image to 1e-9."""

from typing import Any

import numpy as np
import pytest
from pytest import approx

from showtell.metrics import evaluate
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


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN)
def test_result_file(name: str, coco_results: dict[str, Any], official: Any) -> None:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    coco = coco_results[name]
    ids = list(coco.references)
    scores = evaluate(coco.candidates, coco.references)
    assert scores.num_images == 5000
    assert scores.metrics == approx(GOLDEN[name], abs=1e-12)
    assert list(scores.metrics) == list(GOLDEN[name])

    captions = dict(zip(ids, joined(tokenize_all([coco.candidates[i] for i in ids])), strict=True))
    flat = iter(joined(tokenize_all([c for said in coco.references.values() for c in said])))
    references = {i: [next(flat) for _ in said] for i, said in coco.references.items()}
    bleu, each = official(Bleu(4), captions, references)
    columns = {f"BLEU-{n + 1}": (bleu[n], each[n]) for n in range(4)}
    columns["ROUGE-L"] = official(Rouge(), captions, references)
    columns["CIDEr-D"] = official(Cider(), captions, references)
    for metric, (corpus, images) in columns.items():
        ours = [scores.per_image[i][metric] for i in ids]
        assert np.abs(np.array(ours) - np.array(images)).max() < 1e-9, metric
        assert scores.metrics[metric] == approx(corpus, abs=1e-9)


@pytest.mark.slow
def test_meteor_of_every_image(
    coco_results: dict[str, Any], meteor_jar: Any, official: Any
) -> None:
    coco = coco_results["hdetach"]
    ids = list(coco.references)
    scores = evaluate(coco.candidates, coco.references, metrics=["METEOR"])
    captions = joined(tokenize_all([coco.candidates[i] for i in ids]))
    flat = iter(joined(tokenize_all([c for said in coco.references.values() for c in said])))
    references = {i: [next(flat) for _ in said] for i, said in coco.references.items()}
    corpus, images = official(meteor_jar, dict(zip(ids, captions, strict=True)), references)
    ours = [scores.per_image[i]["METEOR"] for i in ids]
    assert np.abs(np.array(ours) - np.array(images)).max() < 1e-9
    assert scores.metrics["METEOR"] == approx(corpus, abs=1e-9)
