"""Files to score: what is read, and one line for everything that does not fit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from showtell.errors import ScoringError
from showtell.metrics.coco_io import read_references, read_results, score_files

COCO = {
    "images": [{"id": 1}, {"id": 2}, {"id": 3}],
    "annotations": [
        {"id": 1, "image_id": 1, "caption": "A dog runs."},
        {"id": 2, "image_id": 2, "caption": "A cat sits."},
        {"id": 3, "image_id": 1, "caption": "The dog is running."},
    ],
}
KARPATHY = {
    "images": [
        {"cocoid": 1, "split": "test", "filename": "a.jpg", "sentences": [{"raw": "A dog runs."}]},
        {"cocoid": 2, "split": "test", "filename": "b.jpg", "sentences": [{"raw": "A cat sits."}]},
        {"cocoid": 9, "split": "train", "filename": "c.jpg", "sentences": [{"raw": "A car."}]},
    ]
}
RESULTS = [{"image_id": 1, "caption": "a dog"}, {"image_id": 2, "caption": "a cat sits"}]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path / "cache"))


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def score(folder: Path, results: Any, references: Any, **options: Any) -> Any:
    files = write(folder / "results.json", results), write(folder / "references.json", references)
    return score_files(*files, metrics=["BLEU-1", "ROUGE-L"], **options)


@pytest.mark.parametrize("references", [COCO, KARPATHY], ids=["coco", "karpathy"])
def test_both_kinds_of_references(references: Any, tmp_path: Path) -> None:
    scores = score(tmp_path, RESULTS, references)
    assert scores.num_images == 2
    assert list(scores.per_image) == ["1", "2"]
    assert scores.per_image["2"]["BLEU-1"] == pytest.approx(1.0, abs=1e-6)


def test_karpathy_by_file_name_and_another_split(tmp_path: Path) -> None:
    scores = score(tmp_path, [{"image_id": "c.jpg", "caption": "a car"}], KARPATHY)
    assert list(scores.per_image) == ["c.jpg"]


def test_references_are_tokenised_once(tmp_path: Path) -> None:
    first = score(tmp_path, RESULTS, COCO)
    (kept,) = (tmp_path / "cache" / "references").iterdir()
    changed = kept.read_text(encoding="utf-8").replace("cat", "horse")
    kept.write_text(changed, encoding="utf-8")
    again = score(tmp_path, RESULTS, COCO)
    assert again.per_image["1"] == first.per_image["1"]
    assert again.per_image["2"] != first.per_image["2"]
    kept.write_text("cut short", encoding="utf-8")
    assert score(tmp_path, RESULTS, COCO).metrics == first.metrics


def test_subset(tmp_path: Path) -> None:
    assert score(tmp_path, RESULTS[:1], COCO, subset=True).num_images == 1
    with pytest.raises(ScoringError, match=r"no caption for 1 of the 2 images of .*: 2; --subset"):
        score(tmp_path, RESULTS[:1], COCO)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ('[{"image_id": 1,\n "caption" "a"}]', r"results.json:2:12: bad JSON"),
        ({"1": "a dog"}, "expected a list of captions .* found a dict"),
        ([], "no captions to score"),
        ([{"image_id": 1}, {"caption": "a"}, 5], "3 of 3 entries lack .*: number 0, 1, 2"),
        ([{"image_id": True, "caption": "a"}], "1 of 1 entries lack"),
        ([{"image_id": 1, "caption": None}], "1 captions are not strings: of images 1"),
        ([*RESULTS, *RESULTS], "2 images have more than one caption: 1, 2"),
        ([*RESULTS, {"image_id": 7, "caption": "a"}], "1 of 3 captions are of images .*: 7"),
    ],
)
def test_bad_results(results: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=message) as caught:
        score(tmp_path, results, COCO)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ("{", "references.json:1:2: bad JSON"),
        ([], "expected COCO annotations"),
        ({"images": [{}], "annotations": []}, "entry 0 of images has no id"),
        ({"images": [], "annotations": [{"caption": "a"}]}, "entry 0 of annotations has no image"),
        ({"annotations": [{"id": 5, "image_id": 1, "caption": 3}]}, "1 annotations .*: 5"),
        ({"images": [{"cocoid": 1}]}, "entry 0 of images lacks a name or sentences"),
        ({"images": [{"cocoid": 1, "sentences": [{"raw": 1}]}]}, "image 1 is not a string"),
        ({"images": []}, "no image with sentences"),
    ],
)
def test_bad_references(references: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=message):
        score(tmp_path, RESULTS, references)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=re.escape(f"no file {tmp_path / 'none.json'}")):
        read_results(tmp_path / "none.json")
    with pytest.raises(ScoringError, match="is a folder"):
        read_references(tmp_path, {})
