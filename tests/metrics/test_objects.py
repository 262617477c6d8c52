"""Metrics as objects, as a function and as pycocoevalcap's classes; what importing them costs."""

import pickle
import subprocess
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from showtell.errors import ScoringError
from showtell.metrics import (
    BLEU,
    METEOR,
    ROUGEL,
    CaptionMetrics,
    CIDEr,
    compute,
    drop_in,
    evaluate,
)

CAPTIONS = ["a dog runs on the grass", "two men with a", "A cat sits; it sleeps.", "a red bus"]
PEOPLE = [
    ["A dog runs on grass.", "The dog is running."],
    ["Two men talk.", "Some men with hats.", "Men."],
    ["The cat sits on a sofa 5 1/2 metres long."],
    ["A red bus drives.", "The bus is red."],
]
IDS = [139, 285, 632, 724]
FAST = ["BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D"]


def whole(metrics: Any = None) -> dict[str, float]:
    names = list(map(str, IDS))
    return evaluate(
        dict(zip(names, CAPTIONS, strict=True)),
        dict(zip(names, PEOPLE, strict=True)),
        metrics=metrics,
    ).metrics


def test_batches_give_what_the_whole_gives() -> None:
    expected = whole(FAST)
    for metric, name in (
        (CIDEr(), "CIDEr-D"),
        (ROUGEL(), "ROUGE-L"),
        (BLEU(), "BLEU-4"),
        (BLEU(1), "BLEU-1"),
    ):
        for start in (0, 1, 3):
            stop = {0: 1, 1: 3, 3: 4}[start]
            metric.update(CAPTIONS[start:stop], PEOPLE[start:stop])
        assert metric.compute() == metric.compute() == expected[name]
        assert list(metric.scores().per_image) == ["0", "1", "2", "3"]
        metric.reset()
        with pytest.raises(ScoringError, match="no captions to score: call update"):
            metric.compute()


def test_what_can_be_read_only_once_is_read_once() -> None:
    metric = CIDEr()
    people = ((text for text in texts) for texts in PEOPLE)
    metric.update((text for text in CAPTIONS), people, iter(IDS))
    assert metric.compute() == whole(["CIDEr-D"])["CIDEr-D"]


def test_meteor() -> None:
    pytest.importorskip("pycocoevalcap")
    metric = METEOR()
    metric.update(CAPTIONS, PEOPLE)
    assert metric.compute() == whole(["METEOR"])["METEOR"]


def test_several_metrics_and_the_function() -> None:
    collected = CaptionMetrics(FAST)
    collected.update(dict(zip(IDS, CAPTIONS, strict=True)), dict(zip(IDS, PEOPLE, strict=True)))
    assert collected.compute() == whole(FAST)
    assert "refs:1-3" in collected.scores().signature
    assert compute(predictions=CAPTIONS, references=PEOPLE, metrics=FAST) == whole(FAST)
    one_each = [said[0] for said in PEOPLE]  # a string is one reference, not a list of letters
    assert compute(predictions=one_each, references=one_each, metrics=["ROUGE-L"]) == {
        "ROUGE-L": 1.0
    }


def test_processes_are_merged_and_what_their_samplers_repeat_counts_once() -> None:
    parts = [CIDEr(), CIDEr()]
    parts[0].update(CAPTIONS[:3], PEOPLE[:3], IDS[:3])
    parts[1].update([*CAPTIONS[3:], CAPTIONS[0]], [*PEOPLE[3:], PEOPLE[0]], [IDS[3], IDS[0]])
    sent = [pickle.loads(pickle.dumps(part)) for part in parts]  # as all_gather_object does
    assert CIDEr.merged(sent).compute() == whole(FAST)["CIDEr-D"]
    parts[0].merge_state(parts[1])
    assert parts[0].compute() == whole(FAST)["CIDEr-D"]
    assert repr(parts[0]) == "<CIDEr of 5 captions>"
    with pytest.raises(ScoringError, match="<ROUGEL of 0 captions> cannot be merged into <CIDEr"):
        parts[0].merge_state(ROUGEL())  # type: ignore[arg-type]


def test_what_a_figure_does_not_say_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="CIDEr-D of a single image is always 0"):
        assert compute(predictions=["a dog"], references=["a dog"], metrics=["CIDEr-D"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compute(predictions=CAPTIONS, references=PEOPLE, metrics=FAST)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], ["b", "c"]), "1 predictions, 2 sets of references and 1 image ids were given"),
        ((["a"], ["b"], [1, 2]), "1 predictions, 1 sets of references and 2 image ids"),
        ((["a", None], ["b", "c"]), "1 predictions are not strings: number 1, counted from 0"),
        ((["a"], [None]), "1 references are neither a string nor a list of strings: number 0"),
        ((["a"], [[3]]), "1 references are neither a string nor a list of strings: number 0"),
        (("a dog", ["a dog"]), "must be two lists, or two dicts by image id; got str and list"),
        ((["a"], ["b"], []), "1 predictions, 1 sets of references and 0 image ids"),
        (({1: "a"}, ["a"]), "must be two lists, or two dicts by image id; got dict and list"),
        (({1: "a"}, {2: ["a"]}), r"1 predictions have no references \(1\), and 1 references .*2"),
        (({1: "a"}, {1: ["a"]}, [1]), "image_ids were given, but the predictions already have"),
    ],
)
def test_what_does_not_fit(arguments: Any, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        CIDEr().update(*arguments)


@pytest.mark.parametrize("module", ["numpy", "torch"])
def test_ids_as_arrays(module: str) -> None:
    ids = pytest.importorskip(module).asarray([7, 9])
    metric = ROUGEL()
    metric.update(["a", "b"], ["a", "b"], ids)
    assert list(metric.scores().per_image) == ["7", "9"]
    metric.update([], [], ids[:0])


def test_ids_that_do_not_fit() -> None:
    metric = ROUGEL()
    metric.update(["a", "b"], ["a", "b"], [1, "1"])
    with pytest.raises(ScoringError, match=r"1 images came again with another caption .*: 1"):
        metric.compute()
    metric.reset()
    metric.update(["a"], ["a"], [1])
    metric.update(["a"], ["a"])
    with pytest.raises(ScoringError, match="some captions came with an image id and some without"):
        metric.compute()
    bare = ROUGEL()
    bare.update(["a"], [[]])
    with pytest.raises(ScoringError, match="1 images have no reference caption: 0"):
        bare.compute()


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "tokenised"])
def test_pycocoevalcap_s_classes(raw: bool, official: Any) -> None:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    texts = {i: [{"caption": c} for c in said] for i, said in zip(IDS, PEOPLE, strict=True)}
    said = {i: [{"caption": c, "id": 3}] for i, c in zip(IDS, CAPTIONS, strict=True)}
    tokenizer = drop_in.PTBTokenizer()
    gts, res = tokenizer.tokenize(texts), tokenizer.tokenize(said)
    ours = (texts, said) if raw else (gts, res)
    theirs = [Bleu(4), Rouge(), Cider()]
    for mine, scorer in zip(
        (drop_in.Bleu(4), drop_in.Rouge(), drop_in.Cider()), theirs, strict=True
    ):
        score, each = mine.compute_score(*ours)  # type: ignore[attr-defined]
        expected, per_image = official(scorer, {i: words[0] for i, words in res.items()}, gts)
        assert np.allclose(score, expected, rtol=0, atol=1e-12)
        assert np.allclose(each, per_image, rtol=0, atol=1e-12)
        assert np.shape(each) == np.shape(per_image)
        assert mine.method() == scorer.method()  # type: ignore[attr-defined]
    mean, each = drop_in.Meteor().compute_score(*ours)
    assert mean == whole(["METEOR"])["METEOR"]
    assert len(each) == 4


def test_tokenised_text_is_not_tokenised_again(official: Any) -> None:
    """What is a word to one pass of the tokeniser need not be to the next."""
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    gts = {1: ["sign : `` 5\xa01/2 -lrb- No. st.", "A  sign"], 2: ["a  dog "], 3: [""], 4: ["a"]}
    res = {1: "Sign : `` 5\xa01/2 -lrb- no. st.", 2: "a  dog", 3: "", 4: "A dog."}
    for mine, theirs in (
        (drop_in.Bleu(), Bleu()),
        (drop_in.Rouge(), Rouge()),
        (drop_in.Cider(), Cider()),
    ):
        found = mine.compute_score(gts, {i: [c] for i, c in res.items()})  # type: ignore[attr-defined]
        expected = official(theirs, res, gts)
        for ours, other in zip(found, expected, strict=True):
            assert np.allclose(ours, other, rtol=0, atol=1e-12), mine.method()  # type: ignore[attr-defined]


def test_coco_eval_cap(capsys: pytest.CaptureFixture[str]) -> None:
    def coco(captions: dict[int, list[str]]) -> Any:
        annotations = {i: [{"caption": c} for c in said] for i, said in captions.items()}
        return SimpleNamespace(imgToAnns=annotations, getImgIds=lambda: list(annotations))

    people = coco(dict(zip(IDS, PEOPLE, strict=True)))
    said = coco({i: [c] for i, c in zip(IDS, CAPTIONS, strict=True)})
    table = drop_in.COCOEvalCap(people, said)
    table.evaluate()
    expected = whole()
    assert table.eval["CIDEr"] == expected["CIDEr-D"]
    assert len(table.eval) == len(expected)
    assert [each["image_id"] for each in table.evalImgs] == IDS
    assert set(table.imgToEval[139]) == {"image_id", *table.eval}
    assert f"Bleu_4: {expected['BLEU-4']:.3f}" in capsys.readouterr().out
    table.params["image_id"] = IDS[:2]
    table.evaluate()
    assert list(table.imgToEval) == IDS[:2]


@pytest.mark.parametrize(
    ("gts", "res", "message"),
    [
        ({1: ["a"]}, {2: ["a"]}, r"1 images of gts have no caption in res \(1\), and 1 .* \(2\)$"),
        ({1: ["a"]}, {"1": ["a"]}, "some ids are numbers in one and strings in the other"),
        ({1: ["a"]}, {1: ["a", "b"]}, "1 images of res do not have exactly one caption: 1"),
        ({1: ["a"]}, {1: "a"}, "the captions of image 1 are not a list: 'a'"),
        ({1: []}, {1: ["a"]}, "1 images of gts have no reference: 1"),
        ({1: ["a"]}, {1: [5]}, "a caption of image 1 is not a string: 5"),
        ({1: ["a"]}, {1: [{"text": "a"}]}, "as an entry of image 1, but got .*'text'"),
    ],
)
def test_what_pycocoevalcap_asserts(gts: Any, res: Any, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        drop_in.Cider().compute_score(gts, res)


def test_importing_metrics_imports_numpy_alone() -> None:
    """No extra and none of the other dependencies: ``pip install --no-deps`` and NumPy would do."""
    code = """
import sys
import showtell.metrics, showtell.metrics.drop_in
from showtell.metrics import BLEU, METEOR, ROUGEL, CIDEr, compute
compute(predictions=["a dog", "a cat"], references=["a dog", "a cat"], metrics=["CIDEr-D"])
packages = {name.partition(".")[0] for name in sys.modules}
print(sorted(packages - set(sys.stdlib_module_names)))
folders = {name.split(".")[1] for name in sys.modules if name.startswith("showtell.")}
print(sorted(folders))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages, folders = map(eval, done.stdout.splitlines())
    assert [name for name in packages if not name.startswith("_")] == ["numpy", "showtell"]
    assert folders == ["core", "errors", "metrics", "text", "version"]
