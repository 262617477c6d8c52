"""From features to captions, with a decoder of random weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_decoder import TableDecoder, features

from showtell.config import Config, DecodingConfig
from showtell.core.device import choose_runtime
from showtell.decoders.registry import build_decoder
from showtell.errors import (
    CheckpointError,
    ConfigError,
    ShowtellError,
    VocabularyError,
)
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import Checkpoint, save_checkpoint
from showtell.text.vocabulary import WordVocabulary

RUNTIME = choose_runtime("cpu", "fp32")
WORDS = WordVocabulary({"a": 4, "dog": 3, "ball": 2, "on": 1}, 1)


def captioner(*changes: str, attends: bool = False) -> NativeCaptioner:
    decoder = TableDecoder(0, attends=attends)
    decoder.needs_regions = attends
    config = Config.load(None, ["decoding.max_length=4", *changes])
    return NativeCaptioner(Checkpoint(decoder, WORDS, config, {}), RUNTIME)  # type: ignore[arg-type]


def test_the_best_caption_carries_the_others() -> None:
    model = captioner("decoding.beam_size=5", "decoding.num_captions=3")
    for caption in model.caption_features(features(3)):
        said = [caption, *caption.alternatives]
        assert len({c.text for c in said}) == 3
        scores = [c.log_prob / len(c.log_probs) ** 0.7 for c in said]
        assert scores == sorted(scores, reverse=True)
        for c in said:
            assert c.text == " ".join(c.words)
            assert len(c.log_probs) == len(c.words) + 1
            mean = torch.tensor(c.log_probs).mean().exp().item()
            assert c.confidence == pytest.approx(mean, rel=1e-5)
            assert c.attention is None
        assert all(not c.alternatives for c in caption.alternatives)


def test_attention_has_a_row_a_word_and_one_for_the_end() -> None:
    [caption] = captioner(attends=True).caption_features(features(1), attention=True)
    assert caption.attention is not None
    assert len(caption.attention) == len(caption.words) + 1
    assert {len(row) for row in caption.attention} == {3}
    with pytest.raises(ConfigError, match="'show_tell' does not attend"):
        captioner().caption_features(features(1), attention=True)


def test_samples_follow_the_pictures_number() -> None:
    model = captioner()
    config = DecodingConfig(method="sample", num_captions=4, max_length=4)
    together = model.caption_features(features(3), decoding=config)
    for i in range(3):
        assert model.caption_features(features(1, i), decoding=config, first=i) == [together[i]]


def test_no_caption_is_an_empty_one_without_confidence() -> None:
    """Two of four words may come, so no three different pairs of them in a row can."""
    rules = DecodingConfig(
        max_length=4, min_length=4, no_repeat_ngram=1, no_bad_endings=True, method="greedy"
    )
    captions = captioner().caption_features(features(3), decoding=rules)
    for caption in captions:
        if not caption.log_probs:
            assert (caption.text, caption.words, caption.confidence) == ("", (), 0.0)
            assert caption.log_prob == float("-inf")
        else:
            assert len(caption.words) == 4
    assert {bool(caption.log_probs) for caption in captions} == {True, False}


def test_wrong_words_show_at_once() -> None:
    with pytest.raises(VocabularyError, match="did you mean 'dog'"):
        captioner('decoding.required_words=["dogg"]')
    with pytest.raises(ShowtellError, match="is not among"):
        captioner().caption_features(features(1), decoding=DecodingConfig(forbidden_words=("x",)))


def checkpoint(folder: Path, seed: int, words: WordVocabulary = WORDS, encoder: str = "e") -> Path:
    torch.manual_seed(seed)
    config = Config.load(None, ["decoder.embed_size=8", "decoder.hidden_size=8"])
    decoder = build_decoder(config.decoder, vocab_size=len(words), feature_size=5)
    metrics = {"feature_size": 5, "encoder_fingerprint": encoder}
    save_checkpoint(folder, Checkpoint(decoder.eval(), words, config, metrics))
    return folder


def test_an_ensemble_of_checkpoints(tmp_path: Path) -> None:
    one, two = checkpoint(tmp_path / "1", 1), checkpoint(tmp_path / "2", 2)
    inputs = features(1)._replace(pooled=torch.randn(2, 5))
    load = {"device": "cpu", "precision": "fp32"}
    alone = NativeCaptioner.load(one, **load).caption_features(inputs)
    same = NativeCaptioner.load(one, ensemble=[one], **load).caption_features(inputs)
    both = NativeCaptioner.load(one, ensemble=[two], **load).caption_features(inputs)
    assert [c.text for c in same] == [c.text for c in alone]
    assert [c.log_prob for c in same] == pytest.approx([c.log_prob for c in alone])
    assert [c.log_prob for c in both] != pytest.approx([c.log_prob for c in alone])
    other_words = checkpoint(tmp_path / "3", 1, WordVocabulary({"a": 1, "cat": 1}, 1))
    with pytest.raises(VocabularyError, match="different vocabularies"):
        NativeCaptioner.load(one, ensemble=[other_words], **load)
    with pytest.raises(CheckpointError, match="different encoders"):
        NativeCaptioner.load(one, ensemble=[checkpoint(tmp_path / "4", 1, encoder="f")], **load)


def test_a_calibration_gives_the_confidence_and_keeps_the_order() -> None:
    raw = captioner().caption_features(features(3))
    decoder = TableDecoder(0)
    decoder.needs_regions = False
    metrics = {"calibration": {"slope": 2.0, "offset": 0.5, "cider": 0.25}}
    config = Config.load(None, ["decoding.max_length=4"])
    checkpoint = Checkpoint(decoder, WORDS, config, metrics)  # type: ignore[arg-type]
    calibrated = NativeCaptioner(checkpoint, RUNTIME)
    found = calibrated.caption_features(features(3))
    assert [c.text for c in found] == [c.text for c in raw]
    for before, after in zip(raw, found, strict=True):
        expected = 1 / (1 + 1 / (before.confidence**2 * torch.tensor(0.5).exp().item()))
        assert after.confidence == pytest.approx(expected, rel=1e-5)
    ensemble = NativeCaptioner(checkpoint, RUNTIME, others=[checkpoint])
    assert ensemble.caption_features(features(3))[0].confidence == pytest.approx(raw[0].confidence)
    with pytest.raises(CheckpointError, match=r"metrics\.json is damaged: calibration: slope = -1"):
        wrong = {"calibration": metrics["calibration"] | {"slope": -1}}
        NativeCaptioner(replace(checkpoint, metrics=wrong), RUNTIME)


def test_what_is_less_sure_is_withheld_and_marked() -> None:
    config = DecodingConfig(beam_size=5, num_captions=3, max_length=4)
    every = captioner().caption_features(features(3), decoding=config)
    said = [c for caption in every for c in (caption, *caption.alternatives)]
    limit = sorted(c.confidence for c in said)[len(said) // 2]
    strict = config.with_changes({"min_confidence": limit})
    kept = captioner().caption_features(features(3), decoding=strict)
    shown = [c for caption in kept for c in (caption, *caption.alternatives)]
    assert {c.withheld is None for c in shown} == {True, False}
    for before, after in zip(said, shown, strict=True):
        assert after.confidence == before.confidence
        assert after.words == before.words
        if before.confidence >= limit:
            assert (after.text, after.withheld) == (before.text, None)
        else:
            assert (after.text, after.withheld) == ("", before.text)
