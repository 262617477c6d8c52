"""From pictures and features to captions, with decoders of random weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoder_cases import CASES, make, settings, vocabulary
from decoder_cases import features as wide_features
from PIL import Image
from tiny_decoder import TableDecoder, features
from tiny_encoder import tiny_encoder

import showtell
from showtell.config import Config, DecodingConfig
from showtell.core.device import choose_runtime
from showtell.decoders.registry import DECODERS, build_decoder
from showtell.decoding.constraints.named_words import named_words
from showtell.decoding.generate import generate
from showtell.errors import (
    CheckpointError,
    ConfigError,
    PictureTypeError,
    ShowtellError,
    VocabularyError,
)
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.captioner import Captioner
from showtell.inference.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from showtell.inference.loading import ModelRequest, load_request
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


def test_the_card_agrees_with_what_every_decoder_does() -> None:
    """Whether captions can have attention is known before any is made."""
    assert {kind for kind, _ in CASES} == set(DECODERS)
    found = {}
    models = []
    for kind, options in CASES:
        config = Config.load(None, [*settings(kind, options), "decoding.max_length=5"])
        checkpoint = Checkpoint(make(kind, options), vocabulary(), config, {})
        models.append(checkpoint)
        model = NativeCaptioner(checkpoint, RUNTIME, encoder=tiny_encoder())
        words = named_words(model.decoding, model.vocabulary)
        given = generate(
            model.steps, wide_features(2), model.decoding, words, with_attention=True
        ).attention
        assert model.card.attention == (given is not None), kind
        found[kind] = model.card.attention
        if model.card.attention:
            for caption in model.caption_features(wide_features(2), attention=True):
                assert len(caption.attention or ()) == len(caption.log_probs)
        else:
            with pytest.raises(ConfigError, match="does not attend to regions"):
                model.caption_features(wide_features(2), attention=True)
    assert set(found.values()) == {True, False}
    plain, looks = models[0], next(m for m in models if found[m.config.decoder.kind])
    both = NativeCaptioner(plain, RUNTIME, others=[looks])
    assert both.attends
    assert both.caption_features(wide_features(1), attention=True)[0].attention is not None


def sees(*changes: str, **options: object) -> NativeCaptioner:
    """With an encoder."""
    encoder = tiny_encoder()
    config = Config.load(
        None, ["decoder.embed_size=8", "decoder.hidden_size=8", "decoding.max_length=4", *changes]
    )
    torch.manual_seed(1)
    decoder = build_decoder(
        config.decoder, vocab_size=len(WORDS), feature_size=encoder.pooled_size
    ).eval()
    checkpoint = Checkpoint(decoder, WORDS, config, {})
    return NativeCaptioner(checkpoint, RUNTIME, encoder=encoder, **options)  # type: ignore[arg-type]


def test_one_picture_gives_a_caption_and_several_a_list(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 40, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    model = sees()
    one = model.caption(path)
    assert one.words
    ways = [path, str(path), path.read_bytes(), Image.open(path), pixels]
    assert [model.caption(way) for way in ways] == [one] * 5
    streamed = [found.caption for found in model.caption_stream([path])]
    assert streamed == model.caption([path]) == [one]
    assert model.caption_features(model.encode(views(model, pixels))) == [one]
    assert model.caption(()) == []
    for several in (ways, tuple(ways), iter(ways)):  # in a batch the last bit may differ
        found = model.caption(several)
        assert [caption.text for caption in found] == [one.text] * 5
        for caption in found:
            assert caption.log_probs == pytest.approx(one.log_probs, rel=1e-5)
    for wrong in (None, 3, [None], [path, 3]):
        with pytest.raises(PictureTypeError, match="not a picture: "):
            model.caption(wrong)  # type: ignore[call-overload]


def views(model: NativeCaptioner, pixels: np.ndarray) -> np.ndarray:
    return np.stack([model.encoder.preprocessing.eval_view(Image.fromarray(pixels))])


def test_decoding_may_be_changes_to_the_models_own() -> None:
    model, picture = sees("decoding.beam_size=2"), np.full((9, 9), 90, np.uint8)
    changed = model.decoding.with_changes({"num_captions": 2})
    assert changed.beam_size == 2
    [expected] = model.caption([picture], decoding=changed)
    assert expected.alternatives
    assert model.caption(picture, decoding={"num_captions": 2}) == expected
    with pytest.raises(ConfigError, match="beam_sise"):
        model.caption(picture, decoding={"beam_sise": 2})
    wrong: Any
    for wrong in ("beam", 3, []):
        with pytest.raises(ConfigError, match=r"decoding .*: expected settings by name, as \{"):
            model.caption(picture, decoding=wrong)


def test_an_encoder_in_use_is_shared_by_the_models_trained_with_it(tmp_path: Path) -> None:
    ours, other = tiny_encoder(width=5), tiny_encoder(seed=1, width=5)
    folder = checkpoint(tmp_path / "run" / "best", 1, encoder=ours.fingerprint)
    load = {"device": "cpu", "precision": "fp32"}
    model = NativeCaptioner.load(folder, encoders=[other, ours], **load)
    assert model.encoder is ours
    shared = load_request(ModelRequest(folder, **load), in_use=[model])
    assert isinstance(shared, NativeCaptioner) and shared.encoder is ours
    assert model.card.name == "run"
    assert (model.card.licence, model.card.calibrated, model.card.prompt) == (None, False, False)
    networks = (ours.backbone, model.decoder)
    assert model.card.num_parameters == sum(
        p.numel() for network in networks for p in network.parameters()
    )
    with pytest.raises(CheckpointError, match="was trained with encoder"):
        NativeCaptioner(load_checkpoint(folder), RUNTIME, encoder=other)


def test_the_front_door_gives_a_captioner(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", 1)
    assert showtell.load is not None and showtell.Captioner is Captioner
    for load in (showtell.load, showtell.Captioner.load):
        model = load(folder, device="cpu", precision="fp32")
        assert isinstance(model, NativeCaptioner) and isinstance(model, Captioner)
    with pytest.raises(CheckpointError, match="no model 'nowhere'"):
        showtell.load("nowhere")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"model": None}, CheckpointError, "model None: expected its folder or its name"),
        ({"model": 3}, CheckpointError, "model 3: expected"),
        ({"ensemble": "default"}, CheckpointError, "ensemble 'default': expected a list of models"),
        ({"ensemble": [None]}, CheckpointError, "model None: expected"),
        ({"device": None}, ConfigError, "device None: expected its name"),
        ({"settings": ["alt"]}, ConfigError, r"settings \['alt'\]: expected settings by name"),
        ({"cleaning": 3}, ConfigError, "cleaning 3: expected settings by name"),
    ],
)
def test_arguments_of_a_wrong_type(arguments: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Captioner.load(**arguments)
