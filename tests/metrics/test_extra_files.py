"""Metrics that need more: COCO's instances, training captions, pictures, several captions."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_encoders import save_bert, save_clip

from showtell.errors import ScoringError, UsageError
from showtell.metrics.clip_score import ClipScore
from showtell.metrics.coco_io import score_files
from showtell.metrics.extra_files import Extras, find_pictures
from showtell.metrics.nbest import score_nbest

SAID = {"1": "a dog on a bench", "2": "a cat"}
PEOPLE = {"1": ["a dog outside", "a red dog"], "2": ["the cat sits", "an animal"]}
INSTANCES = {
    "categories": [{"id": 15, "name": "bench"}, {"id": 1, "name": "person"}],
    "annotations": [
        {"image_id": 1, "category_id": 15},
        {"image_id": 1, "category_id": 15},
        {"image_id": 2, "category_id": 1},
    ],
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    values: dict[str, Any] = {
        "said": SAID,
        "people": PEOPLE,
        "instances": INSTANCES,
        "training": {"7": ["A cat.", "a bench"]},
        "several": {"1": ["a dog runs", "a red dog", "a dog runs"], "2": ["a cat"]},
    }
    paths = {name: tmp_path / f"{name}.json" for name in values}
    for name, value in values.items():
        paths[name].write_text(json.dumps(value), "utf-8")
    return paths


def test_instances_add_to_what_references_mention(files: dict[str, Path], tmp_path: Path) -> None:
    def chair(extras: Extras) -> list[float]:
        scores = score_files(
            files["said"], files["people"], metrics=[], extras=extras, cache=tmp_path
        )
        return [scores.metrics[name] for name in ("CHAIR-i", "CHAIR-s", "object-recall")]

    # Without the instances the bench is invented; with them it is there, and so is a person.
    assert chair(Extras(check=True)) == [1 / 3, 1 / 2, 1.0]
    assert chair(Extras(check=True, instances=files["instances"])) == [0.0, 0.0, 3 / 4]
    scores = score_files(
        files["said"], files["people"], extras=Extras(instances=files["instances"]), metrics=[]
    )
    assert scores.signature.startswith("CHAIR.1-instances|")


def test_novel_captions(files: dict[str, Path]) -> None:
    extras = Extras(train_captions=files["training"])
    scores = score_files(files["said"], files["people"], metrics=[], extras=extras)
    assert scores.metrics == {"novel": 0.5}


def test_only_the_training_captions_of_a_file_with_splits(files: dict[str, Path]) -> None:
    images = [
        {"imgid": number, "split": split, "sentences": [{"raw": text}]}
        for number, (split, text) in enumerate([("train", "a cat"), ("test", "a dog on a bench")])
    ]
    files["training"].write_text(json.dumps({"images": images}), "utf-8")
    extras = Extras(train_captions=files["training"])
    scores = score_files(files["said"], files["people"], metrics=[], extras=extras)
    assert scores.metrics == {"novel": 0.5}


def test_scores_by_models(
    files: dict[str, Path], tmp_path: Path, torchvision_operators: Any
) -> None:
    clip, bert, pictures = tmp_path / "clip", tmp_path / "bert", tmp_path / "pictures" / "val"
    save_clip(clip)
    save_bert(bert)
    pictures.mkdir(parents=True)
    for number, colour in ((1, "red"), (2, "blue")):
        Image.new("RGB", (40, 50), colour).save(pictures / f"COCO_val2014_{number:012d}.jpg")
    extras = Extras(clip=str(clip), pictures=pictures.parent, bert=str(bert), bert_layer=2)
    scores = score_files(files["said"], files["people"], metrics=[], extras=extras)
    assert list(scores.metrics) == ["CLIPScore", "RefCLIPScore", "BERTScore"]
    assert scores.signature.startswith("CLIPScore.1-clip+BERTScore.1-bert-L2|")
    paths = [find_pictures(pictures, SAID)[image_id] for image_id in SAID]
    alone = ClipScore(str(clip)).statistics(list(SAID.values()), paths, list(PEOPLE.values()))
    assert [scores.metrics[name] for name in alone.names] == alone.figures().tolist()


def test_several_captions_of_a_picture(files: dict[str, Path]) -> None:
    scores = score_nbest(files["several"], files["people"])
    assert list(scores.metrics) == ["Div-1", "Div-2", "self-CIDEr"]
    assert scores.metrics["Div-1"] == 4 / 9  # of image 1: a, dog, runs, red
    assert "1 images have a single caption, and are left out of the means" in scores.warnings
    assert "|captions:1-3|images:2|" in scores.signature
    with pytest.raises(ScoringError, match=r"caption: 1; keep one of each \(`showtell score`"):
        score_files(files["several"], files["people"])


def test_captions_as_showtell_caption_writes_them(files: dict[str, Path]) -> None:
    rows = [
        {"path": "1.jpg", "caption": "a dog", "alternatives": [{"caption": "a red dog"}]},
        {"path": "2.jpg", "caption": "a cat", "alternatives": [{"caption": "a cat"}]},
    ]
    files["several"].write_text("\n".join(map(json.dumps, rows)), "utf-8")
    scores = score_nbest(files["several"], files["people"], metrics=["Div-1"])
    assert scores.per_image == {"1": {"Div-1": 3 / 5}, "2": {"Div-1": 2 / 4}}
    # The other metrics are of the best captions.
    said = score_files(files["several"], files["people"], metrics=["length"])
    assert said.metrics == {"length": 2.0}


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ({"clip": "x"}, "--clip MODEL and --images FOLDER need each other"),
        ({"pictures": Path()}, "--clip MODEL and --images FOLDER need each other"),
        ({"bert_layer": 3}, "--bert-layer needs --bert MODEL"),
    ],
)
def test_options_that_need_others(
    files: dict[str, Path], extras: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        score_files(files["said"], files["people"], extras=Extras(**extras))


def test_files_that_do_not_fit(files: dict[str, Path], tmp_path: Path) -> None:
    files["instances"].write_text(json.dumps(INSTANCES | {"annotations": []}), "utf-8")
    with pytest.raises(ScoringError, match="has none of the 2 images of the captions"):
        score_files(
            files["said"], files["people"], metrics=[], extras=Extras(instances=files["instances"])
        )
    for name in ("1.jpg", "2.jpg", "02.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(ScoringError, match="more than one picture for 1 of 2 images: 2; a"):
        find_pictures(tmp_path, SAID)
    with pytest.raises(ScoringError, match="no picture for 1 of 1 images: 3; a"):
        find_pictures(tmp_path, ["3"])
    with pytest.raises(ScoringError, match="no such folder"):
        find_pictures(tmp_path / "none", SAID)
