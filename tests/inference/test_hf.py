"""Captioners of transformers behind ``hf:``: tiny random ones, loaded from files by the real code.

What they say is compared with transformers' own ``generate``, called as its documentation does.
"""

import functools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_hf
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import showtell
from showtell.errors import CheckpointError, ConfigError, ShowtellError
from showtell.inference.backends.hf import HfCaptioner
from showtell.inference.backends.hf import captioner as backend
from showtell.inference.backends.hf.captioner import words_of
from showtell.inference.backends.hf.network import Tokens
from showtell.inference.caption import Calibration
from showtell.inference.specs import PROMPTS, CaptionerError
from showtell.text.clean import Cleaning

WAYS = {
    "greedy": ({"method": "greedy"}, {"num_beams": 1}),
    "beam": (
        {"method": "beam", "beam_size": 3, "num_captions": 3, "length_penalty": 0.6},
        {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 0.6},
    ),
    "no repeats": (
        {"method": "beam", "beam_size": 2, "no_repeat_ngram": 2},
        {"num_beams": 2, "no_repeat_ngram_size": 2},
    ),
}
NUM_TOKENS = 12


@pytest.fixture(scope="session")
def folders(
    tmp_path_factory: pytest.TempPathFactory, torchvision_operators: Any
) -> dict[str, Path]:
    """A tiny captioner of each kind, saved."""
    place = tmp_path_factory.mktemp("hf")
    return {kind: tiny_hf.save_captioner(kind, place / kind) for kind in tiny_hf.KINDS}


@pytest.fixture(scope="session")
def captioners(folders: dict[str, Path]) -> dict[str, HfCaptioner]:
    """The same, loaded."""
    found = {}
    for kind, folder in folders.items():
        loaded = showtell.load(f"hf:{folder}", device="cpu", precision="fp32")
        assert isinstance(loaded, HfCaptioner)
        found[kind] = loaded
    return found


@functools.cache
def theirs(kind: str, folder: Path) -> tuple[Any, Any, Any]:
    """A model, what makes its inputs, and its tokeniser, by transformers' own classes."""
    import transformers

    model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype="float32").eval()
    if kind == "vision-encoder-decoder":
        words = transformers.AutoTokenizer.from_pretrained(folder)
        return model, transformers.AutoImageProcessor.from_pretrained(folder), words
    processor = transformers.AutoProcessor.from_pretrained(folder)
    return model, processor, processor.tokenizer


def generated(kind: str, folder: Path, image: Any, settings: dict[str, Any]) -> list[str]:
    """What transformers says of one picture."""
    model, processor, words = theirs(kind, folder)
    if kind == "vision-encoder-decoder":
        inputs = processor(image, return_tensors="pt")
    else:
        text: dict[str, Any] = {}
        if kind == "florence2":
            text = {"text": "<CAPTION>"}
        elif kind == "llava":
            talk: list[dict[str, Any]] = [
                {"type": "image"},
                {"type": "text", "text": PROMPTS["short"]},
            ]
            talk[0]["image"] = image
        if kind == "llava":
            inputs = processor.apply_chat_template(
                [{"role": "user", "content": talk}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        else:
            inputs = processor(images=image, return_tensors="pt", **text)
    with torch.no_grad():
        ids = model.generate(**inputs, do_sample=False, **settings)
    if kind == "llava":  # gives the prompt back, too
        ids = ids[:, inputs["input_ids"].shape[1] :]
    return [" ".join(t.split()) for t in words.batch_decode(ids, skip_special_tokens=True)]


@pytest.mark.parametrize("kind", tiny_hf.KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_captions_are_those_of_generate(
    kind: str, way: str, folders: dict[str, Path], captioners: dict[str, HfCaptioner]
) -> None:
    """Alone, in one batch, and in a stream whose last batch is smaller."""
    ours, settings = WAYS[way]
    decoding = ours | {"max_length": NUM_TOKENS}
    pictures, model = tiny_hf.pictures(3), captioners[kind]
    settings = settings | {"max_new_tokens": NUM_TOKENS}
    expected = [generated(kind, folders[kind], image, settings) for image in pictures]
    assert len({words[0] for words in expected}) > 1, "the pictures all look the same to it"
    num = ours.get("num_captions", 1)
    alone = [model.caption(image, decoding=decoding) for image in pictures]
    together = model.caption(pictures, decoding=decoding)
    for found in (alone, together):
        said = [[c.text, *(other.text for other in c.alternatives)] for c in found]
        assert said == [words[:num] for words in expected]


def with_files(folder: Path, place: Path, **changes: dict[str, Any]) -> Path:
    """A copy of a model's folder with changes to its JSON files, by their stems."""
    shutil.copytree(folder, place)
    for name, values in changes.items():
        path = place / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return place


@pytest.mark.parametrize("kind", ["git", "vision-encoder-decoder", "florence2"])
def test_lengths_are_those_of_the_model(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    own = {"max_length": 8, "min_length": 7}
    folder = with_files(folders[kind], tmp_path / "model", generation_config=own)
    model = showtell.load(f"hf:{folder}", device="cpu", precision="fp32")
    assert (model.decoding.min_length, model.decoding.max_length) == (6, 7)
    for image in tiny_hf.pictures(3):
        assert [model.caption(image).text] == generated(kind, folder, image, {})


def test_a_template_that_begins_the_text_itself(folders: dict[str, Path], tmp_path: Path) -> None:
    """As those of Gemma 3 and Pixtral: a text that begins twice gives other captions."""
    folder = with_files(folders["llava"], tmp_path / "model")
    template = folder / "chat_template.jinja"
    template.write_text("{{ bos_token }}" + template.read_text())
    words = json.loads((folder / "tokenizer.json").read_text())
    begin = next(one["id"] for one in words["added_tokens"] if one["content"] == "<s>")
    special = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
    words["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [special, text[0]],
        "pair": [special, *text],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [begin], "tokens": ["<s>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(words))
    model = showtell.load(f"hf:{folder}", device="cpu", precision="fp32")
    assert isinstance(model, HfCaptioner)
    pictures = tiny_hf.pictures(2)
    ids = model.network.inputs(pictures, model.prompt)["input_ids"]
    assert (ids == begin).sum(1).tolist() == [1, 1]
    for image in pictures:
        said = generated("llava", folder, image, {"max_new_tokens": NUM_TOKENS})
        assert [model.caption(image, decoding={"max_length": NUM_TOKENS}).text] == said


def test_a_template_beside_the_words_is_one(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = with_files(folders["llava"], tmp_path / "model")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    config = folder / "tokenizer_config.json"
    values = json.loads(config.read_text()) | {"chat_template": template}
    config.write_text(json.dumps(values))
    models = [
        showtell.load(f"hf:{place}", device="cpu", precision="fp32")
        for place in (folder, folders["llava"])
    ]
    [image] = tiny_hf.pictures(1)
    one, two = (model.caption(image, decoding={"max_length": 8}).text for model in models)
    assert one == two


def test_a_model_that_cannot_generate_is_one_line(
    captioners: dict[str, HfCaptioner], monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(**_: Any) -> None:
        raise ValueError("Image features and image tokens do not match\nat all")

    model = captioners["llava"]
    monkeypatch.setattr(model.network._model, "generate", generate)
    said = f"{model.spec} failed: ValueError: Image features and image tokens do not match (--debug"
    with pytest.raises(CaptionerError, match=re.escape(said)):
        model.caption(tiny_hf.pictures(1))


def test_a_caption_that_is_cut_is_noted_and_ends_with_a_sentence(
    captioners: dict[str, HfCaptioner], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "1.png"
    tiny_hf.pictures(1)[0].save(path)
    model = captioners["llava"]
    assert model.decoding.max_length == 200
    for text, caption in (("A dog runs. It is. It lo", "A dog runs. It is."), ("A do", "A do")):
        row = Tokens([7, 8], [-1.0, -1.0], ended=False)
        monkeypatch.setattr(model.network, "run", lambda *_, row=row, **__: [[row]])
        monkeypatch.setattr(backend, "_text", lambda _, ids, text=text: text if ids else "")
        monkeypatch.setattr(model, "cleaning", Cleaning(tidy=True))
        [result] = model.caption_stream([path])
        assert result.text == caption
        assert result.notes == ("the answer was cut at the most tokens that --max-length allows",)
    monkeypatch.setattr(model.network, "run", lambda *_, **__: [[replace(row, ended=True)]])
    [result] = model.caption_stream([path])
    assert result.notes == ()


def test_every_kind_was_visited(captioners: dict[str, HfCaptioner]) -> None:
    assert [model.network.kind for model in captioners.values()] == list(tiny_hf.KINDS)
    families = {kind: model.network.family.value for kind, model in captioners.items()}
    assert set(families.values()) == {"plain", "task", "words", "chat"}
    assert len(captioners) == 6


@pytest.mark.parametrize("kind", tiny_hf.KINDS)
def test_log_probs_are_transformers_own(kind: str, captioners: dict[str, HfCaptioner]) -> None:
    """The words' and the end's sum up to what ``compute_transition_scores`` says of the tokens."""
    model, [image] = captioners[kind], tiny_hf.pictures(1)
    settings = {"method": "beam", "beam_size": 3, "max_length": NUM_TOKENS, "length_penalty": 1.0}
    caption = model.caption(image, decoding=settings)
    inputs = model.network.inputs([image], model.prompt)
    with torch.no_grad():
        found = model.network._model.generate(
            **inputs,
            max_new_tokens=NUM_TOKENS,
            num_beams=3,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
    scores = model.network._writer.compute_transition_scores(
        found.sequences, found.scores, found.beam_indices, normalize_logits=False
    )
    assert caption.log_prob == pytest.approx(float(scores.sum()), abs=1e-3)
    assert len(caption.log_probs) == len(caption.words) + 1
    assert 0 < caption.confidence < 1
    assert caption.text == " ".join(caption.words)


def test_samples_depend_on_seed_and_number_alone(captioners: dict[str, HfCaptioner]) -> None:
    model, pictures = captioners["vision-encoder-decoder"], tiny_hf.pictures(4)
    settings = {"method": "sample", "num_captions": 2, "max_length": 8, "seed": 5, "top_p": 0.95}
    before = torch.random.get_rng_state()
    together = model.caption(pictures, decoding=settings)
    alone = [model.caption(p, decoding=settings, first=n) for n, p in enumerate(pictures)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [c.text for c in alone] == [c.text for c in together]
    assert [c.alternatives[0].text for c in alone] == [c.alternatives[0].text for c in together]
    assert all(c.log_prob >= c.alternatives[0].log_prob for c in together)
    other = model.caption(pictures, decoding=settings | {"seed": 6})
    assert [c.text for c in other] != [c.text for c in together]


def test_samples_have_the_models_probabilities(captioners: dict[str, HfCaptioner]) -> None:
    """Of 2000 first tokens, as many are the likeliest as its probability says."""
    model, [image] = captioners["git"], tiny_hf.pictures(1)
    hot = {"method": "sample", "max_length": 1, "num_captions": 100, "temperature": 2.0}
    ids: list[int] = []
    for seed in range(20):
        settings = model.resolve(hot | {"seed": seed})
        [rows] = model.network.run([image], None, settings)
        ids += [row.ids[0] for row in rows]
    with torch.no_grad():
        step = model.network._model.generate(
            **model.network.inputs([image], None),
            max_new_tokens=1,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
    expected = (step.logits[0][0] / 2).softmax(-1)
    best = int(expected.argmax())
    share = ids.count(best) / len(ids)
    deviation = float((expected[best] * (1 - expected[best]) / len(ids)).sqrt())
    assert abs(share - float(expected[best])) < 4 * deviation


@pytest.mark.parametrize(
    ("kind", "decoding", "said"),
    [
        ("blip", {"forbidden_words": ["dog"]}, "forbidden_words = dog has no meaning for hf:"),
        (
            "git",
            {"naming": 1.0, "no_bad_endings": True},
            "no_bad_endings = True, naming = 1.0 have",
        ),
        ("blip", {"method": "diverse", "beam_size": 4}, "method = diverse has no meaning"),
    ],
)
def test_settings_without_meaning_are_named(
    kind: str, decoding: dict[str, Any], said: str, captioners: dict[str, HfCaptioner]
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        captioners[kind].caption(tiny_hf.pictures(1), decoding=decoding)
    with pytest.raises(ConfigError, match=re.escape(said)):
        next(captioners[kind].caption_stream([], decoding=decoding))


def test_attention_is_refused(captioners: dict[str, HfCaptioner]) -> None:
    with pytest.raises(ConfigError, match="cannot say where it looked"):
        captioners["blip"].caption(tiny_hf.pictures(1), attention=True)


def test_prompts(folders: dict[str, Path]) -> None:
    load = {"device": "cpu", "precision": "fp32"}
    for prompt, told in (("alt", PROMPTS["alt"]), ("What is it?", "What is it?")):
        model = showtell.load(f"hf:{folders['llava']}", settings={"prompt": prompt}, **load)  # type: ignore[arg-type]
        assert isinstance(model, HfCaptioner) and model.prompt == told
    model = showtell.load(f"hf:{folders['florence2']}", settings={"prompt": "detailed"}, **load)  # type: ignore[arg-type]
    assert isinstance(model, HfCaptioner) and model.prompt == "<DETAILED_CAPTION>"
    with pytest.raises(ConfigError, match="'blip' follows no instruction"):
        showtell.load(f"hf:{folders['blip']}", settings={"prompt": "short"})


def test_other_instructions_make_another_captioner(folders: dict[str, Path]) -> None:
    def load(prompt: str) -> HfCaptioner:
        model = showtell.load(
            f"hf:{folders['llava']}", device="cpu", precision="fp32", settings={"prompt": prompt}
        )
        assert isinstance(model, HfCaptioner)
        return model

    model = load("What is it?")
    model.calibration = Calibration(1.0, 0.0, 0.25)
    assert model.card.calibrated and model.with_prompt("What is it?") is model
    other = model.with_prompt("Where is it?")
    assert other.fingerprint == load("Where is it?").fingerprint != model.fingerprint
    assert other.calibration is None and not other.card.calibrated
    assert model.prompt == "What is it?" and model.card.calibrated


def test_fingerprints_cover_weights_and_prompt(folders: dict[str, Path], tmp_path: Path) -> None:
    load = {"device": "cpu", "precision": "fp32"}
    folder = tmp_path / "model"
    shutil.copytree(folders["llava"], folder)
    first = showtell.load(f"hf:{folder}", **load).fingerprint  # type: ignore[arg-type]
    assert first == showtell.load(f"hf:{folders['llava']}", **load).fingerprint  # type: ignore[arg-type]
    other = showtell.load(f"hf:{folder}", settings={"prompt": "alt"}, **load)  # type: ignore[arg-type]
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[0]
    weights[name] = weights[name] + 0.01
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    changed = showtell.load(f"hf:{folder}", **load)  # type: ignore[arg-type]
    assert len({first, other.fingerprint, changed.fingerprint}) == 3


def test_fingerprints_cover_each_tensor_of_a_large_file(tmp_path: Path) -> None:
    """A projector is a small part of a file of gigabytes, between its blocks."""
    tensors = {f"layer.{n:03d}": torch.zeros(2**16) for n in range(100)}
    save_file(tensors, tmp_path / "model.safetensors")
    found = {backend._hash_folder(tmp_path)}
    for name in ("layer.000", "layer.033", "layer.099"):
        save_file(tensors | {name: torch.ones(2**16)}, tmp_path / "model.safetensors")
        found.add(backend._hash_folder(tmp_path))
    assert len(found) == 4


def _break(folder: Path, how: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    weights = folder / "model.safetensors"
    if how == "pickled":
        weights.rename(folder / "pytorch_model.bin")
    elif how == "no weights":
        weights.unlink()
    elif how == "no config":
        (folder / "config.json").unlink()
    elif how == "cut":
        weights.write_bytes(weights.read_bytes()[:-4000])
    elif how == "lacks a weight":
        kept = load_file(weights)
        del kept[next(name for name in kept if "query" in name)]
        save_file(kept, weights, {"format": "pt"})
    elif how == "other kind":
        config |= {"model_type": "bert", "architectures": ["BertModel"]}
        (folder / "config.json").write_text(json.dumps(config))
    elif how == "remote code":
        config |= {"model_type": "sees_all", "auto_map": {"AutoConfig": "code.Config"}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "code.py").write_text(
            "import pathlib\npathlib.Path(__file__).with_name('ran').write_text('')\n"
        )
    elif how == "part":
        index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
        weights.unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("pickled", "weights only as pytorch_model.bin, a pickle"),
        ("no weights", "has no weights (model.safetensors)"),
        ("no config", "has no config.json"),
        ("cut", "cannot be loaded"),
        ("lacks a weight", "weights are missing"),
        ("other kind", "'bert', which is not a captioner"),
        ("remote code", "add --trust-remote-code"),
        ("part", "model-00001-of-00002.safetensors is missing"),
    ],
)
def test_what_cannot_be_loaded_says_why_in_one_line(
    how: str, said: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folders["blip"], folder)
    _break(folder, how)
    with pytest.raises(ShowtellError, match=re.escape(said)) as caught:
        showtell.load(f"hf:{folder}", device="cpu", precision="fp32")
    assert "\n" not in str(caught.value)
    assert not (folder / "ran").exists()


def test_the_line_that_converts_a_pickle_works(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folders["vision-encoder-decoder"], folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError) as caught:
        showtell.load(f"hf:{folder}", device="cpu", precision="fp32")
    found = re.search(r'python -c "(.*?)"', str(caught.value))
    assert found is not None
    exec(found[1], {})
    image = tiny_hf.pictures(1)[0]
    both = [
        showtell.load(f"hf:{place}", device="cpu", precision="fp32").caption(image).text
        for place in (folder, folders["vision-encoder-decoder"])
    ]
    assert both[0] == both[1]


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        ("hf:", {}, "expected a name after the colon, as in hf:NAME"),
        ("hf:./nowhere", {}, "no such folder"),
        ("hf:one/two/three", {}, "expected hf:OWNER/NAME"),
        ("hf:owner/name@a", {"revision": "b"}, "the name says revision a"),
        ("hf:owner/name", {"base_url": "http://localhost"}, "--base-url means nothing"),
        ("hff:x", {}, "Did you mean 'hf'?"),
        ("default", {"prompt": "x"}, "--prompt means nothing to showtell's models"),
    ],
)
def test_wrong_requests(
    model: str,
    settings: dict[str, Any],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    torchvision_operators: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ShowtellError, match=re.escape(said)):
        showtell.load(model, settings=settings)


def test_what_only_our_models_do_is_refused(folders: dict[str, Path]) -> None:
    model = f"hf:{folders['blip']}"
    for changes, said in (
        ({"ensemble": ["default"]}, "only showtell's own models form an ensemble"),
        ({"trust_model": True}, "did you mean --trust-remote-code?"),
        ({"runtime": "onnx"}, "runtime 'onnx' is for showtell's models"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            showtell.load(model, **changes)  # type: ignore[arg-type]


def test_bf16_is_used_where_it_is_asked_for(folders: dict[str, Path]) -> None:
    model = showtell.load(f"hf:{folders['blip']}", device="cpu", precision="bf16")
    assert isinstance(model, HfCaptioner)
    assert {p.dtype for p in model.network._model.parameters()} == {torch.bfloat16}
    assert "bf16 (as asked" in model.describe_runtime()
    assert model.caption(tiny_hf.pictures(1)[0], decoding={"max_length": 5}).log_probs


def test_a_picture_that_the_model_refuses_stops_no_other(
    captioners: dict[str, HfCaptioner], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Qwen2-VL refuses strips; one of them in a folder of thousands ended the run."""
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    model = captioners["blip"]
    usual = model.network._processor

    def as_qwen2_vl(images: list[Image.Image], **options: Any) -> Any:
        for image in images:
            smart_resize(image.height, image.width)
        return usual(images=images, **options)

    monkeypatch.setattr(model.network, "_processor", as_qwen2_vl)
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        Image.new("RGB", (900, 3) if number == 2 else (60, 40), "red").save(path)
    results = list(model.caption_stream(paths))
    assert [bool(result.text) for result in results] == [True, True, False, True]
    assert str(results[2].error).startswith(
        f"{paths[2]}: blip cannot see it: absolute aspect ratio"
    )


def test_no_text_of_a_model_breaks_a_file() -> None:
    class Tokenizer:
        def decode(self, ids: list[int], **_: Any) -> str:
            return "".join(["a", " \ud83d", " do\0", "g\x1b"][number] for number in ids)

    text, words, log_probs = words_of(Tokenizer(), Tokens([0, 1, 2, 3], [-1.0] * 4, ended=False))
    assert text == " ".join(words) == "a \ufffd dog"
    assert sum(log_probs) == -4.0 and log_probs[2] == -2.0
