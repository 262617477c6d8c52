"""What every captioner promises, whatever computes its captions: ``Captioner`` and its ``card``."""

import io
import math
import pickle
import re
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_hf
from captioner_cases import CASES
from PIL import Image

from showtell import Caption, Captioner, DecodingConfig
from showtell.errors import ConfigError, ImageError
from showtell.inference.stream import Originals

SHORT = {"max_length": 8}
visited: set[str] = set()


@pytest.fixture(scope="module", params=CASES)
def captioner(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    torchvision_operators: Any,
) -> Captioner:
    visited.add(request.param)
    return CASES[request.param](tmp_path_factory.mktemp("model"))


def test_the_card_and_the_settings(captioner: Captioner) -> None:
    card = captioner.card
    assert card.name and re.fullmatch(r"[a-z][a-z0-9_-]+", card.kind)
    assert card.num_parameters is None or card.num_parameters > 0
    assert isinstance(captioner.decoding, DecodingConfig)
    assert captioner.resolve({"max_length": 8}).max_length == 8
    assert captioner.resolve(None) == captioner.decoding
    assert re.fullmatch(r"[0-9a-f]{12}", captioner.fingerprint)
    names = set(DecodingConfig.model_fields)
    assert card.decoding is None or card.decoding <= names


def test_what_its_users_ask_it(captioner: Captioner) -> None:
    card = captioner.card
    assert captioner.attends == card.attention
    assert card.calibrated == (captioner.calibration is not None)
    assert captioner.decoder_kind and captioner.encoder_name
    assert captioner.encoder_key == captioner.encoder_key and hash(captioner.encoder_key)
    is_own = card.kind == "showtell"
    assert (captioner.vocabulary is not None) == (captioner.segmentation is not None) == is_own
    assert captioner.trained_on is None
    assert captioner.stores_features == hasattr(captioner, "stored_features")
    runtime = captioner.runtime
    assert captioner.overlaps == (runtime is None or runtime.device != "cpu")
    said = captioner.describe_runtime()
    assert said and "\n" not in said
    assert runtime is None or runtime.describe() in said


def test_other_instructions(captioner: Captioner) -> None:
    other = captioner.with_prompt("Which animals are there?")
    assert type(other) is type(captioner)
    if captioner.card.prompt:
        assert other.with_prompt("Which animals are there?") is other
        assert other.fingerprint != captioner.fingerprint
        assert other.calibration is None
    elif captioner.card.kind == "showtell":
        assert other is captioner


def test_views_have_the_captions_of_their_pictures(captioner: Captioner) -> None:
    pictures, settings = tiny_hf.pictures(3), captioner.resolve(SHORT)
    views = [captioner.recipe.eval_view(picture) for picture in pictures]
    found = captioner.caption_views(views, decoding=settings, first=0)
    captions = [said for said in found if isinstance(said, Caption)]
    expected = captioner.caption(pictures, decoding=settings)
    assert captions == [replace(caption, thumbnail=None) for caption in expected]


def test_one_picture_or_several(captioner: Captioner) -> None:
    pictures = tiny_hf.pictures(5)
    together = captioner.caption(pictures, decoding=SHORT)
    assert [type(caption) for caption in together] == [Caption] * 5
    alone = [captioner.caption(p, decoding=SHORT, first=n) for n, p in enumerate(pictures)]
    assert [c.text for c in alone] == [c.text for c in together]
    assert len({c.log_probs or c.text for c in together}) > 1
    assert captioner.caption([], decoding=SHORT) == []
    for one, other in zip(alone, together, strict=True):
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-3)
        assert pickle.loads(pickle.dumps(one)) == one


def test_views_are_held_a_batch_at_a_time(
    captioner: Captioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, held = type(captioner.recipe), [0]
    cut = kind.eval_view

    def counted(recipe: Any, image: Image.Image) -> Any:
        view = cut(recipe, image).copy()
        held.append(held[-1] + 1)
        weakref.finalize(view, lambda: held.append(held[-1] - 1))
        return view

    monkeypatch.setattr(kind, "eval_view", counted)
    number = 2 * captioner.batch_size + 1
    pictures = [tiny_hf.pictures(3)[n % 3] for n in range(number)]
    texts = [caption.text for caption in captioner.caption(pictures, decoding=SHORT)]
    assert max(held) == captioner.batch_size
    assert texts == [texts[n % 3] for n in range(number)]


def test_threads_may_call_it_at_the_same_time(captioner: Captioner) -> None:
    pictures = [Image.new("RGB", (40, 30), (20 * n, 250 - 20 * n, 99)) for n in range(8)]
    alone = [captioner.caption(each, decoding=SHORT) for each in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda each: captioner.caption(each, decoding=SHORT), pictures)
    assert [c.text for c in together] == [c.text for c in alone]


def test_all_ways_to_give_a_picture(captioner: Captioner, tmp_path: Path) -> None:
    image = tiny_hf.pictures(1)[0]
    file = io.BytesIO()
    image.save(file, "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(file.getvalue())
    given: list[Any] = [image, path, str(path), file.getvalue(), np.asarray(image)]
    said = {captioner.caption(one, decoding=SHORT).text for one in given}
    assert len(said) == 1
    with pytest.raises(ImageError):
        captioner.caption(b"no picture", decoding=SHORT)


def test_words_and_confidence(captioner: Captioner) -> None:
    for caption in captioner.caption(tiny_hf.pictures(3), decoding=SHORT):
        assert caption.text == " ".join(caption.words)
        if not captioner.card.likelihoods:
            continue
        is_remote = captioner.card.kind in ("openai", "ollama")  # which do not tell the end's
        assert len(caption.log_probs) == len(caption.words) + (not is_remote)
        assert all(value <= 1e-6 for value in caption.log_probs)
        assert 0 <= caption.confidence <= 1
        if not captioner.card.calibrated:
            assert caption.confidence == pytest.approx(math.exp(caption.mean_log_prob))


def test_low_confidence_is_withheld(captioner: Captioner) -> None:
    if not captioner.card.likelihoods:
        pytest.skip("it has no confidence")
    image = tiny_hf.pictures(1)[0]
    plain = captioner.caption(image, decoding=SHORT)
    caption = captioner.caption(image, decoding=SHORT | {"min_confidence": 1.0})
    assert (caption.text, caption.withheld) == ("", plain.text)


def test_alternatives(captioner: Captioner) -> None:
    if not captioner.card.alternatives:
        pytest.skip("it gives one caption")
    settings = SHORT | {"method": "beam", "beam_size": 3, "num_captions": 3, "length_penalty": 0.0}
    for caption in captioner.caption(tiny_hf.pictures(2), decoding=settings):
        every = [caption, *caption.alternatives]
        assert len(every) == 3
        assert len({c.text for c in every}) > 1
        log_probs = [c.log_prob for c in every]
        assert log_probs == sorted(log_probs, reverse=True)
        assert all(other.alternatives == () for other in caption.alternatives)


def test_samples_repeat(captioner: Captioner) -> None:
    known = captioner.card.decoding
    if known is not None and not {"method", "seed"} <= known:
        pytest.skip("it draws no samples of its own")
    pictures = tiny_hf.pictures(3)
    settings = SHORT | {"method": "sample", "seed": 4}
    said = [c.text for c in captioner.caption(pictures, decoding=settings)]
    again = [captioner.caption(p, decoding=settings, first=n) for n, p in enumerate(pictures)]
    assert [c.text for c in again] == said
    other = captioner.caption(pictures, decoding=settings | {"seed": 5})
    assert [c.text for c in other] != said


def test_what_it_cannot_do_is_said_before_any_work(captioner: Captioner) -> None:
    image, known = tiny_hf.pictures(1)[0], captioner.card.decoding
    if captioner.card.attention:
        caption = captioner.caption(image, decoding=SHORT, attention=True)
        assert caption.attention is not None
        assert len(caption.attention) == len(caption.words) + 1
    else:
        with pytest.raises(ConfigError, match="attention"):
            captioner.caption(image, attention=True)
        with pytest.raises(ConfigError, match="attention"):
            next(captioner.caption_stream(_never(), attention=True))
    if known is not None and "no_bad_endings" not in known:
        with pytest.raises(ConfigError, match="no_bad_endings = True"):
            captioner.caption(image, decoding={"no_bad_endings": True})
    with pytest.raises(ConfigError, match="beam_sise"):
        captioner.caption(image, decoding={"beam_sise": 3})


def _never() -> Iterator[Path]:
    raise AssertionError("a picture was asked for")
    yield Path()


def test_a_stream_keeps_the_order_and_goes_on_after_failures(
    captioner: Captioner, tmp_path: Path
) -> None:
    paths = []
    for number, image in enumerate(tiny_hf.pictures(5)):
        paths.append(tmp_path / f"{number}.png")
        image.save(paths[-1])
    paths[2].write_bytes(paths[2].read_bytes()[:60])
    paths.append(tmp_path / "missing.png")
    found = list(captioner.caption_stream(paths, decoding=SHORT, batch_size=2))
    assert [result.path for result in found] == paths
    assert [result.error is None for result in found] == [True, True, False, True, True, False]
    assert all(str(result.path) in result.error for result in found if result.error is not None)
    kept = [path for path in paths if path not in (paths[2], paths[5])]
    said = [c.text for c in captioner.caption(kept, decoding=SHORT)]
    assert [result.text for result in found if result.error is None] == said


class Endless:
    """One picture again and again; ``asked`` is how often."""

    def __init__(self, path: Path) -> None:
        self.path, self.asked = path, 0

    def __iter__(self) -> Iterator[Path]:
        while True:
            self.asked += 1
            yield self.path


def test_a_stream_is_lazy(captioner: Captioner, tmp_path: Path) -> None:
    tiny_hf.pictures(1)[0].save(tmp_path / "0.png")
    paths = Endless(tmp_path / "0.png")
    results = captioner.caption_stream(paths, decoding=SHORT, batch_size=2)
    assert next(results).caption is not None
    assert paths.asked < 20
    results.close()  # type: ignore[attr-defined]


def test_a_stream_that_is_stopped_ends(captioner: Captioner, tmp_path: Path) -> None:
    tiny_hf.pictures(1)[0].save(tmp_path / "0.png")
    paths = Endless(tmp_path / "0.png")
    results = captioner.caption_stream(
        paths, decoding=SHORT, batch_size=2, is_stopped=lambda: paths.asked > 5
    )
    assert all(result.caption is not None for result in results)
    assert paths.asked == 6


def test_pictures_that_look_the_same_share_a_caption(captioner: Captioner, tmp_path: Path) -> None:
    pytest.importorskip("imagehash")
    first = Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 100).convert("RGB")
    paths = [tmp_path / name for name in ("0.png", "1.png", "2.png")]
    for path, image in zip(paths, (first, tiny_hf.pictures(1)[0], first), strict=True):
        image.save(path)
    found = list(captioner.caption_stream(paths, decoding=SHORT, originals=Originals()))
    assert found[2].same_as == paths[0]
    assert found[2].caption == found[0].caption


def test_every_kind_was_visited() -> None:
    """native, onnx, six architectures of hf, and two kinds of servers."""
    assert visited == set(CASES)
    assert len(visited) == 10
