"""Styles in torch and in exports: the same captions, and no style is ever said."""

import pytest
from decoder_cases import CASES, vocabulary
from export.test_onnx import pictures, same
from tiny_export import native

import showtell
from showtell import Captioner
from showtell.errors import ConfigError
from showtell.export.onnx import export_captioner
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import Checkpoint
from showtell.text.vocabulary import SPECIAL_WORDS, WordVocabulary


def styled() -> NativeCaptioner:
    """A model of random weights whose last two words are styles."""
    plain = native(*CASES[0])
    words = vocabulary().words[len(SPECIAL_WORDS) : -2]
    known = WordVocabulary(dict.fromkeys(words, 1), 1).with_styles(["short", "detailed"])
    checkpoint = Checkpoint(plain.decoder, known, plain.config, plain.metrics)
    return NativeCaptioner(checkpoint, plain.runtime, encoder=plain.encoder, name="tiny")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Captioner, Captioner]:
    """The model in torch, and its export."""
    theirs, folder = styled(), tmp_path_factory.mktemp("styled") / "model"
    export_captioner(theirs, folder)
    return theirs, showtell.load(folder)


@pytest.mark.parametrize("method", ["beam", "sample", "diverse"])
def test_exports_have_a_models_styles(both: tuple[Captioner, Captioner], method: str) -> None:
    theirs, ours = both
    images = pictures(6)
    said = {}
    for style in (None, "short", "detailed"):
        changes = {"method": method, "style": style, "max_length": 6}
        found = ours.caption(images, decoding=changes)
        for one, other in zip(found, theirs.caption(images, decoding=changes), strict=True):
            same(one, other)
        said[style] = [caption.text for caption in found]
    assert said[None] != said["short"] != said["detailed"]
    assert not any("Style" in text for texts in said.values() for text in texts)
    with pytest.raises(ConfigError, match="has learnt only detailed, short"):
        ours.caption(images[0], decoding={"style": "poetic"})
