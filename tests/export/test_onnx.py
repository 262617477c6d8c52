"""Exports caption as torch does: every decoder, every way of decoding; three encoders."""

import importlib.util
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from decoder_cases import CASES, SMALL, WIDTH, features
from PIL import Image
from tiny_encoder import staged_encoder
from tiny_export import exported, native, traced

import showtell
from showtell.decoders.base import State
from showtell.decoders.registry import DECODERS
from showtell.encoders.encoder import Encoder, build_encoder
from showtell.encoders.features import Features
from showtell.encoders.finetune import train_from
from showtell.encoders.timm import TimmBackbone
from showtell.errors import CheckpointError, ConfigError
from showtell.export.graphs import _quiet, encoder_graph
from showtell.export.onnx import export_captioner, export_onnx
from showtell.export.weights import SharedWeights
from showtell.images.preprocess import Preprocessing
from showtell.inference.backends.graphs import PROVIDERS, _providers, choose_onnx_runtime
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.backends.onnx import OnnxCaptioner
from showtell.inference.caption import Caption
from showtell.inference.checkpoint import save_checkpoint
from showtell.inference.exported import read_export
from showtell.inference.files import WEIGHTS
from showtell.inference.loading import takes_onnx
from showtell.pretrained import CARD
from showtell.text.segment import Segmentation
from showtell.text.vocabulary import WordVocabulary

SHOW_TELL, CONCEPTS = CASES[0], next(case for case in CASES if "concepts" in case[1])
# Other cells, other numbers of layers: torch runs them every day, and what cannot be traced is an
# error at export, never another caption.
RARE = [*SMALL["show_tell"][1:], SMALL["transformer"][1], SMALL["prefix_lm"][0]]
# ``doubly_stochastic`` is of training alone: the graphs are the same.
EXPORTED = [
    pytest.param(case, marks=[pytest.mark.costly] if case[1] in RARE else [])
    for case in CASES
    if "doubly_stochastic" not in case[1]
]
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"method": "greedy"},
    {"beam_size": 5, "num_captions": 5, "length_penalty": 0.0},
    {"method": "diverse", "beam_size": 4, "groups": 2, "num_captions": 2},
    {"method": "sample", "num_captions": 3, "top_p": 0.9, "seed": 5},
    {"required_words": ("word7",), "no_repeat_ngram": 1},
)


@pytest.fixture(scope="module")
def naming(tmp_path_factory: pytest.TempPathFactory) -> tuple[NativeCaptioner, OnnxCaptioner]:
    """A model with a rare word that its classifier, which reads regions, is sure of."""
    theirs = native(*CONCEPTS, region_size=WIDTH)
    reader = theirs.decoder.concepts
    reader.counts.fill_(3)
    reader.weight.mul_(3)
    folder = tmp_path_factory.mktemp("naming") / "model"
    export_captioner(theirs, folder)
    return theirs, OnnxCaptioner.load(folder)


@pytest.fixture(scope="module", params=EXPORTED, ids=str)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[NativeCaptioner, OnnxCaptioner]:
    """A model in torch, and its export."""
    if request.param == CONCEPTS:
        found: tuple[NativeCaptioner, OnnxCaptioner] = request.getfixturevalue("naming")
        return found
    folder = tmp_path_factory.mktemp("export") / "model"
    captioner = exported(*request.param, folder)
    loaded = showtell.load(folder)
    assert isinstance(loaded, OnnxCaptioner)
    return captioner, loaded


def pictures(num: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (num, 3, 3, 3), dtype=np.uint8)
    return [Image.fromarray(each).resize((40, 36)) for each in colours]


def same(ours: Caption, theirs: Caption) -> None:
    assert ours.text == theirs.text
    np.testing.assert_allclose(ours.log_probs, theirs.log_probs, atol=1e-4)
    assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-4)
    for one, two in zip(ours.alternatives, theirs.alternatives, strict=True):
        same(one, two)
    if theirs.attention is not None:
        np.testing.assert_allclose(ours.attention, theirs.attention, atol=1e-4)


@pytest.mark.slow
def test_every_decoder_captions_as_in_torch(
    both: tuple[NativeCaptioner, OnnxCaptioner],
) -> None:
    theirs, ours = both
    shown = pictures(7)
    for changes in SETTINGS:
        for num in (1, 7):
            pairs = zip(
                ours.caption(shown[:num], decoding=changes),
                theirs.caption(shown[:num], decoding=changes),
                strict=True,
            )
            for one, two in pairs:
                same(one, two)
    assert len({caption.log_probs for caption in ours.caption(shown)}) == len(shown)
    assert ours.card == theirs.card
    assert ours.decoding == theirs.decoding
    if theirs.attends:
        looked = ours.caption(shown, attention=True)
        for one, two in zip(looked, theirs.caption(shown, attention=True), strict=True):
            same(one, two)


@pytest.mark.slow
@torch.no_grad()
def test_every_decoder_steps_as_in_torch(both: tuple[NativeCaptioner, OnnxCaptioner]) -> None:
    decoder, exported_one = both[0].decoder, both[1].parts[0]
    for num, num_rows in ((1, 1), (7, 1), (1, 5), (7, 3)):
        start = features(num)
        if decoder.needs_regions:  # as the encoder gives them
            generator = torch.Generator().manual_seed(0)
            regions = torch.randn(num, *both[0].encoder.grid_size, generator=generator)
            start = Features(start.pooled, regions)
        theirs, ours = decoder.init_state(start), exported_one.init_state(in_numpy(start))
        assert theirs.keys() == ours.keys()
        first = torch.arange(num).repeat_interleave(num_rows)
        theirs, ours = (reordered(state, first, decoder.picture_state) for state in (theirs, ours))
        generator = torch.Generator().manual_seed(1)
        for _ in range(4):
            tokens = torch.randint(1, 30, (num * num_rows,), generator=generator)
            log_probs, theirs = decoder.step(tokens, theirs)
            found, ours = exported_one.step(tokens.numpy(), ours)
            np.testing.assert_allclose(found, log_probs.numpy(), atol=1e-4)
            assert theirs.keys() == ours.keys()
            for name, part in theirs.items():
                np.testing.assert_allclose(ours[name], part.numpy(), atol=1e-4)
            # The hypotheses of a picture change places, as search has it.
            order = torch.stack([torch.randperm(num_rows, generator=generator) for _ in range(num)])
            rows = (order + torch.arange(num)[:, None] * num_rows).flatten()
            theirs, ours = (
                reordered(state, rows, decoder.picture_state) for state in (theirs, ours)
            )


def in_numpy(found: Features) -> Features:
    return Features(*(None if part is None else part.numpy() for part in found[:2]))


def reordered(state: State, rows: torch.Tensor, fixed: frozenset[str]) -> State:
    return {n: part if n in fixed else part[rows.numpy()] for n, part in state.items()}


def test_the_cases_have_every_decoder() -> None:
    assert {kind for kind, _ in CASES} == DECODERS.keys()
    assert len(DECODERS) == 5


def resnet() -> Encoder:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", pretrained=False).eval()
    recipe = Preprocessing(64, 0.9, "bicubic", (120.0, 118.0, 100.0), (60.0, 58.0, 57.0))
    return Encoder(
        name="timm:resnet10t",
        backbone=TimmBackbone(network),
        preprocessing=recipe,
        weights_hash="random",
    )


def trained() -> Encoder:
    encoder = staged_encoder()
    train_from(encoder, "stage1")
    with torch.no_grad():
        for weights in encoder.changed_weights().values():
            weights.mul_(1.1)
    return encoder


ENCODERS = {
    "lite0": lambda: build_encoder("lite0"),
    "resnet": resnet,
    "trained": trained,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_give_torchs_features(
    name: str, tmp_path: Path, torchvision_operators: object
) -> None:
    encoder = ENCODERS[name]()
    model, weights = traced(encoder_graph(encoder, regions=True)), SharedWeights(WEIGHTS)
    weights.move(model, "fp32")
    (tmp_path / "encoder.onnx").write_bytes(model.SerializeToString())
    (tmp_path / WEIGHTS).write_bytes(weights.content)
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    generator = torch.Generator().manual_seed(0)
    size = encoder.preprocessing.size
    for num in (1, 3):
        pixels = torch.randint(0, 256, (num, 3, size, size), generator=generator, dtype=torch.uint8)
        pooled, regions = session.run(["pooled", "regions"], {"pixels": pixels.numpy()})
        theirs = encoder(pixels)
        np.testing.assert_allclose(pooled, theirs.pooled.detach().numpy(), atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(regions, theirs.regions.detach().numpy(), atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the plainest model."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    exported(*SHOW_TELL, folder)
    return folder


def test_a_process_that_captions_from_an_export_imports_no_torch(
    tiny: Path, tmp_path: Path
) -> None:
    pictures(1)[0].save(tmp_path / "a.png")
    command = ["caption", str(tmp_path / "a.png"), "-m", str(tiny), "--runtime", "onnx"]
    code = (
        "import sys, showtell\n"
        "def heavy(): return [n for n in ('torch', 'onnx', 'safetensors') if n in sys.modules]\n"
        f"caption = showtell.load({str(tiny)!r}).caption({str(tmp_path / 'a.png')!r})\n"
        "print(bool(caption.words), heavy())\n"
        f"sys.argv = {['showtell', *command]!r}\n"
        "from showtell.cli import main\nmain()\nassert not heavy()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    from_python, from_the_command = done.stdout.split("\n", 1)
    assert from_python == "True []" and "word" in from_the_command


@pytest.mark.slow
def test_words_are_named_as_in_torch(naming: tuple[NativeCaptioner, OnnxCaptioner]) -> None:
    """The graphs ``closer`` and ``told`` run."""
    theirs, ours = naming
    plain = ours.caption(pictures(7))
    named = ours.caption(pictures(7), decoding={"naming": 6.0})
    expected = theirs.caption(pictures(7), decoding={"naming": 6.0})
    for one, two in zip(named, expected, strict=True):
        same(one, two)
    assert [caption.text for caption in plain] != [caption.text for caption in named]
    assert {"closer", "told"} <= ours.graphs._loaded.keys()


def test_an_ensemble_of_exports(tiny: Path) -> None:
    alone = showtell.load(tiny)
    twice = showtell.load(tiny, ensemble=[tiny])
    for one, two in zip(alone.caption(pictures(3)), twice.caption(pictures(3)), strict=True):
        assert one.text == two.text
    assert alone.fingerprint != twice.fingerprint
    assert alone.card.calibrated and not twice.card.calibrated


def test_an_ensemble_sees_regions_whichever_of_its_models_reads_them(
    tiny: Path, tmp_path: Path
) -> None:
    looks = tmp_path / "looks"
    exported("attention", SMALL["attention"][0], looks)
    one = showtell.load(tiny, ensemble=[looks])
    two = showtell.load(looks, ensemble=[tiny])
    for ours, theirs in zip(one.caption(pictures(3)), two.caption(pictures(3)), strict=True):
        same(ours, theirs)
    assert one.encode(np.zeros((1, 3, 32, 32), np.uint8), regions=True).regions is not None


def test_what_an_export_cannot_do_is_said_in_one_line(tiny: Path) -> None:
    ours = showtell.load(tiny)
    with pytest.raises(ConfigError, match=r"'show_tell' does not attend"):
        ours.caption(pictures(1), attention=True)
    with pytest.raises(ConfigError, match=r"naming"):
        ours.caption(pictures(1), decoding={"naming": 2.0})
    with pytest.raises(ConfigError, match=r"precision 'bf16': an export computes in fp32"):
        showtell.load(tiny, precision="bf16")
    with pytest.raises(ConfigError, match=r"device 'mps': an export computes on auto, cpu, cuda"):
        showtell.load(tiny, device="mps")
    with pytest.raises(ConfigError, match=r"'openvino': the installed onnxruntime computes on cpu"):
        showtell.load(tiny, device="openvino")
    with pytest.raises(ConfigError, match=r"runtime 'tpu': expected auto, torch, onnx"):
        showtell.load(tiny, runtime="tpu")
    with pytest.raises(CheckpointError, match=r"is an export, which runs in onnxruntime"):
        showtell.load(tiny, runtime="torch")
    with pytest.raises(CheckpointError, match=r"not an exported model: make one with `showtell"):
        showtell.load(tiny.parent, runtime="onnx")


def test_an_export_replaces_only_an_export_and_only_if_told(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="give another folder with -o, or add --overwrit"):
        export_onnx("nowhere", tiny)
    both = shutil.copytree(tiny, tmp_path / "both")
    (both / "model.safetensors").touch()  # as where an export is in a model's own folder
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("both", "notes", "link", "notes/mine.txt"):
        with pytest.raises(CheckpointError, match=f"{name} already exists and is not an export in"):
            export_onnx("nowhere", tmp_path / name, overwrite=True)
    monkeypatch.chdir(tiny)
    for name in (".", ".."):
        with pytest.raises(CheckpointError, match="give the name of a new folder"):
            export_onnx("nowhere", Path(name), overwrite=True)
    for path in (tiny, tmp_path / "new"):
        with pytest.raises(CheckpointError, match="no model 'nowhere'"):  # it comes to the model
            export_onnx("nowhere", path, overwrite=True)


def test_what_an_export_does_not_list_is_not_deleted(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, output = tmp_path / "model", shutil.copytree(tiny, tmp_path / "export")
    theirs = native(*SHOW_TELL)
    save_checkpoint(model, theirs._checkpoint)
    monkeypatch.setattr(NativeCaptioner, "load", lambda *_, **__: theirs)
    (output / "mine.onnx").write_bytes(b"mine")
    with pytest.raises(CheckpointError, match=r"also holds mine\.onnx, which showtell does not"):
        export_onnx(model, output, overwrite=True)
    (output / "mine.onnx").rename(tmp_path / "mine.onnx")
    (output / CARD).write_text("by hand")
    export_onnx(model, output, overwrite=True)
    assert CARD in read_export(output)[0].files
    assert (output / CARD).read_text() == "by hand"
    (model / CARD).write_text("of the model")
    with pytest.raises(CheckpointError, match=r"export/MODEL_CARD\.md is not .*, which would rep"):
        export_onnx(model, output, overwrite=True)


def test_the_exporter_is_quiet_about_torchvision_while_it_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch.onnx._internal.exporter import _registration

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    _registration.logger.addHandler(handler)
    try:
        with _quiet():
            _registration._get_overload("torchvision::nms")
            _registration.logger.warning("something else")
        _registration._get_overload("torchvision::nms")
    finally:
        _registration.logger.removeHandler(handler)
    assert said == ["something else", "torchvision is not installed. Skipping torchvision::nms"]


def test_the_runtime_is_chosen_by_what_a_folder_holds(tiny: Path, tmp_path: Path) -> None:
    both, alone = tmp_path / "both", tmp_path / "onnx"
    save_checkpoint(both, native(*SHOW_TELL)._checkpoint)
    shutil.copytree(tiny, alone)
    shutil.copytree(tiny, both / "onnx")
    # The name of a folder tells nothing of what it holds.
    assert not takes_onnx([both], "auto") and takes_onnx([alone], "auto", device="cuda")
    shutil.copytree(tiny, both, dirs_exist_ok=True)
    assert takes_onnx([both], "auto") and takes_onnx([tiny, both], "auto")
    assert not takes_onnx([both], "torch") and takes_onnx([both], "onnx")
    # What only torch can do is left to torch, where there is a checkpoint.
    assert not takes_onnx([both], "auto", device="cuda")
    assert not takes_onnx([both], "auto", precision="bf16")
    assert takes_onnx([both], "auto", device="openvino")
    assert takes_onnx([tiny], "auto", device="cuda")
    assert isinstance(showtell.load(both), OnnxCaptioner)


def test_chinese_captions_are_joined_as_in_torch(tmp_path: Path) -> None:
    captioner = native(*SHOW_TELL)
    characters = "一只狗两个女人在红色沙滩上草地"
    num = len(captioner.vocabulary) - 4
    names = {(*characters, *map(chr, range(0x4E8C, 0x4E8C + num)))[n]: num - n for n in range(num)}
    captioner.vocabulary = WordVocabulary(names, 1).cut_by(Segmentation.of("characters", "zh"))
    export_captioner(captioner, tmp_path / "model")
    loaded = showtell.load(tmp_path / "model")
    theirs, ours = captioner.caption(pictures(4)), loaded.caption(pictures(4))
    for one, two in zip(ours, theirs, strict=True):
        same(one, two)
        assert one.words == two.words and len(one.words) > 1
        assert one.text == "".join(one.words)


@pytest.mark.parametrize("device", ["openvino", "coreml", "directml"])
def test_steps_of_any_size_stay_on_the_processor(device: str) -> None:
    """What computes fixed sizes alone gets the encoder; the processor does what it cannot."""
    own, cpu = PROVIDERS[device], PROVIDERS["cpu"]
    assert _providers(device, "encoder") == [own, cpu]
    for graph in ("init", "told", "step", "look", "closer"):
        assert _providers(device, graph) == [cpu]
    assert _providers("cuda:1", "step") == [(PROVIDERS["cuda"], {"device_id": "1"}), cpu]


def test_a_gpu_that_is_left_idle_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "GPU" not in choose_onnx_runtime().describe()
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert "for this machine's NVIDIA GPU: --device cuda" in choose_onnx_runtime().describe()
    assert "GPU" not in choose_onnx_runtime("cpu").describe()
