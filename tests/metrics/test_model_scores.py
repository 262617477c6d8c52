"""CLIPScore and BERTScore of tiny models, beside plain calls of transformers' own classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_encoders import save_bert, save_clip

from showtell.errors import ScoringError
from showtell.metrics.bert_score import BertScore
from showtell.metrics.clip_score import ClipScore

CAPTIONS = ["a red dog runs", "the cat sits on a blue square", ""]
REFERENCES = [
    ["A dog runs on grass.", "the red dog"],
    ["a cat on a square", "the cat sits", "a blue picture of the cat on the grass"],
    ["a circle"],
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, torchvision_operators: Any) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("clip")
    return folder, save_clip(folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory, torchvision_operators: Any) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("bert")
    return folder, save_bert(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(len(CAPTIONS))]
    for path in paths:
        size = tuple(random.integers(33, 60, 2))
        Image.fromarray(random.integers(0, 255, (*size, 3), np.uint8)).save(path)
    return paths


@torch.no_grad()
def test_clip_score_is_that_of_the_paper(clip: tuple[Path, Any], pictures: list[Path]) -> None:
    from transformers import AutoTokenizer, CLIPImageProcessorPil

    folder, model = clip
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)

    def text_vector(text: str) -> torch.Tensor:
        ids = tokenizer(["A photo depicts " + text], truncation=True, max_length=12)
        return _unit(model.get_text_features(torch.tensor(ids["input_ids"])).pooler_output[0])

    expected = []
    for caption, path, references in zip(CAPTIONS, pictures, REFERENCES, strict=True):
        pixels = processor([Image.open(path)], return_tensors="pt")["pixel_values"]
        seen = _unit(model.get_image_features(pixels).pooler_output[0])
        said = text_vector(caption)
        clip_score = 2.5 * max(float(said @ seen), 0)
        nearest = max(max(float(said @ text_vector(text)) for text in references), 0)
        both = clip_score + nearest
        expected.append([clip_score, 2 * clip_score * nearest / both if both else 0])

    found = ClipScore(str(folder)).statistics(CAPTIONS, pictures, REFERENCES)
    assert found.names == ("CLIPScore", "RefCLIPScore")
    assert np.ptp(np.array(expected)[:, 0]) > 0.1  # the pictures and captions differ
    np.testing.assert_allclose(found.per_image, expected, atol=2e-6)
    np.testing.assert_allclose(found.figures(), np.mean(expected, axis=0), atol=2e-6)


# By bert-score 0.3.13 with ``save_bert``'s model (torch 2.13.0, transformers 5.24.0):
# ``score(CAPTIONS, REFERENCES, model_type=FOLDER, num_layers=LAYER)``, the F1 of two captions. With
# this transformers it cannot read an empty one.
BY_BERT_SCORE = {2: [0.7339919, 0.9197741], 3: [0.5868707, 0.9067675]}


@pytest.mark.parametrize("layer", [2, 3])
@torch.no_grad()
def test_bert_score_is_that_of_the_paper(bert: tuple[Path, Any], layer: int) -> None:
    from transformers import AutoTokenizer

    folder, model = bert
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def vectors(text: str) -> torch.Tensor:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        states = model(ids, output_hidden_states=True).hidden_states[layer][0]
        return states / states.norm(dim=-1, keepdim=True)

    expected = []
    for caption, references in zip(CAPTIONS, REFERENCES, strict=True):
        scores = [0.0]
        for reference in references if caption else []:
            cosines = vectors(caption) @ vectors(reference).T
            # The first and last tokens may be matched, and have no weight.
            precision = float(cosines.max(dim=1).values[1:-1].mean())
            recall = float(cosines.max(dim=0).values[1:-1].mean())
            scores.append(2 * precision * recall / (precision + recall))
        expected.append(max(scores))

    found = BertScore(str(folder), layer).statistics(CAPTIONS, REFERENCES)
    assert found.names == ("BERTScore",)
    assert expected[2] == 0.0 < min(expected[:2])
    np.testing.assert_allclose(found.per_image[:, 0], expected, atol=2e-6)
    if torch.__version__.startswith("2.13."):  # another may draw other weights
        np.testing.assert_allclose(found.per_image[:2, 0], BY_BERT_SCORE[layer], atol=2e-6)
    assert BertScore(str(folder)).layer == 3


def _unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


def test_what_is_no_such_model(
    clip: tuple[Path, Any], bert: tuple[Path, Any], tmp_path: Path
) -> None:
    with pytest.raises(ScoringError, match=r"--clip .*: expected a CLIP; this is a BertModel"):
        ClipScore(str(_with_preprocessor(bert[0], clip[0])))
    with pytest.raises(ScoringError, match=r"--bert .*: expected an encoder of text; this is a"):
        BertScore(str(clip[0]))
    with pytest.raises(ScoringError, match=r"--bert-layer 7: .* has layers 0 to 3"):
        BertScore(str(bert[0]), 7)
    for name in (str(tmp_path), "somebody/no-such-model"):
        with pytest.raises(ScoringError, match=f"--bert {name}: no model that transformers can"):
            BertScore(name)


def test_weights_that_could_run_code_are_refused(bert: tuple[Path, Any], tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((bert[0] / name).read_bytes())
    torch.save(bert[1].state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ScoringError, match=r"model\.safetensors"):
        BertScore(str(tmp_path))


def _with_preprocessor(bert: Path, clip: Path) -> Path:
    name = "preprocessor_config.json"
    (bert / name).write_bytes((clip / name).read_bytes())
    return bert
