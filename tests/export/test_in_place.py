"""Exports in a checkpoint's own folder: its weights are read where they lie."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from decoder_cases import CASES
from PIL import Image
from safetensors.torch import save_file
from tiny_encoder import staged_encoder
from tiny_export import native, traced

import showtell
from showtell.cli.export import Compute, Format, NumberOptions, export
from showtell.cli.models import Storage as StorageOption
from showtell.core.device import choose_runtime
from showtell.decoding.reranking import RERANKER
from showtell.encoders.packing import Storage, pack_weights, unpack_weights
from showtell.errors import CheckpointError, ConfigError, UsageError
from showtell.export.graphs import encoder_graph
from showtell.export.onnx import Numbers, export_in_place
from showtell.export.stored import StoredArrays, weight_files
from showtell.export.weights import SharedWeights
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.backends.onnx import OnnxCaptioner
from showtell.inference.caption import Calibration
from showtell.inference.checkpoint import load_checkpoint, save_checkpoint
from showtell.inference.exported import read_export, write_calibration
from showtell.inference.files import MANIFEST, MODEL, WEIGHTS
from showtell.inference.loading import takes_onnx

CONCEPTS = next(case for case in CASES if "concepts" in case[1])
STORAGES: list[Storage] = ["fp32", "fp16", "int8"]
# What differs in fp16 is how arrays are found, which is tested directly.
EXPORTED = ["fp32", pytest.param("fp16", marks=pytest.mark.costly), "int8"]


def saved(folder: Path, storage: Storage) -> NativeCaptioner:
    """A checkpoint, and the model that it holds."""
    model = native(*CONCEPTS)
    save_checkpoint(folder, model._checkpoint, storage=storage)
    checkpoint = load_checkpoint(folder)
    runtime = choose_runtime("cpu", "fp32")
    return NativeCaptioner(checkpoint, runtime, encoder=model.encoder, name="tiny")


def pictures(num: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (num, 3, 3, 3), dtype=np.uint8)
    return [Image.fromarray(each).resize((40, 36)) for each in colours]


@dataclass(frozen=True)
class Placed:
    """A checkpoint with an export in its folder, and what it was before."""

    folder: Path
    model: NativeCaptioner
    weights: bytes
    num_bytes: int


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Storage], Placed]:
    """Makes each export once."""

    @cache
    def make(storage: Storage) -> Placed:
        folder = tmp_path_factory.mktemp("placed") / "best"
        model = saved(folder, storage)
        weights = (folder / MODEL).read_bytes()
        return Placed(folder, model, weights, export_in_place(model, folder))

    return make


@pytest.mark.slow(10)
@pytest.mark.parametrize("storage", EXPORTED)
def test_the_checkpoint_s_weights_are_read_where_they_lie(
    exports: Callable[[Storage], Placed], storage: Storage
) -> None:
    made = exports(storage)
    folder, theirs = made.folder, made.model
    assert (folder / MODEL).read_bytes() == made.weights
    manifest, _ = read_export(folder)
    assert manifest.weights == storage
    assert made.num_bytes == sum(
        path.stat().st_size
        for path in folder.iterdir()
        if path.name in {MANIFEST, WEIGHTS} or path.suffix == ".onnx"
    )
    ours = showtell.load(folder)
    assert isinstance(ours, OnnxCaptioner)
    shown = pictures(7)
    for one, two in zip(ours.caption(shown), theirs.caption(shown), strict=True):
        assert one.text == two.text
        np.testing.assert_allclose(one.log_probs, two.log_probs, atol=1e-5)
    # What the decoder's graphs read from the shared file are scales and vectors alone.
    for path in folder.glob("*.onnx"):
        if path.name == "encoder.onnx":  # of a published encoder, of which the checkpoint has none
            continue
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            place = {entry.key: entry.value for entry in tensor.external_data}
            if len(tensor.dims) > 1 and place:
                assert place["location"] == "model.safetensors", tensor.name


@pytest.mark.parametrize("storage", STORAGES)
def test_a_folded_batch_norm_changes_scales_and_no_whole_number(
    tmp_path: Path, storage: Storage
) -> None:
    encoder = staged_encoder()
    packed = pack_weights(encoder.backbone.state_dict(), storage)
    save_file(
        {name: part.contiguous() for name, part in packed.items()}, tmp_path / "e.safetensors"
    )
    encoder.backbone.load_state_dict(unpack_weights(packed))
    model = traced(encoder_graph(encoder, regions=True))
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    weights = SharedWeights(WEIGHTS, StoredArrays(tmp_path, weight_files(tmp_path)))
    weights.move(model, "fp32")
    kinds = {tensor.data_type for tensor in model.graph.initializer if tensor.external_data}
    if storage == "int8":
        assert weights.used == {"e.safetensors"} and onnx.TensorProto.INT8 in kinds
    else:  # products of rounded numbers are not rounded numbers: they are written anew
        assert not weights.used
    (tmp_path / "encoder.onnx").write_bytes(model.SerializeToString())
    (tmp_path / WEIGHTS).write_bytes(weights.content)
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    pooled, _ = session.run(["pooled", "regions"], {"pixels": pixels.numpy()})
    np.testing.assert_allclose(pooled, encoder(pixels).pooled.numpy(), atol=1e-5)


def test_what_is_stored_is_found_exactly_or_not_at_all(tmp_path: Path) -> None:
    torch.manual_seed(0)
    matrix, vector, zero = torch.randn(20, 30), torch.randn(300), torch.zeros(20, 30)
    zero[0, 0] = 1.0
    packed = pack_weights({"matrix": matrix, "vector": vector, "zero": zero}, "int8")
    save_file(packed, tmp_path / "m.safetensors")
    stored = StoredArrays(tmp_path, ["m.safetensors"])
    whole = {name: part.numpy() for name, part in unpack_weights(packed).items()}
    found = stored.find(whole["matrix"])
    assert found is not None and not found.transposed
    np.testing.assert_array_equal(found.stored.values * found.scale[:, None], whole["matrix"])
    place = slice(found.stored.offset, found.stored.offset + 600)
    assert (tmp_path / "m.safetensors").read_bytes()[place] == packed["matrix"].numpy().tobytes()
    turned = stored.find(np.ascontiguousarray(whole["matrix"].T))
    assert turned is not None and turned.transposed
    gains = np.linspace(-2, 3, 20, dtype=np.float32)[:, None]
    folded = stored.find(whole["matrix"] * gains)
    assert folded is not None
    np.testing.assert_allclose(folded.scale, found.scale * gains[:, 0], rtol=1e-6)
    assert stored.find(whole["zero"]) is not None  # rows of nothing but zeros
    assert stored.find(vector.numpy()).scale is None
    changed = whole["matrix"].copy()
    changed[3, 4] += 1e-4
    assert stored.find(changed) is None
    assert stored.find(matrix.numpy()) is None
    assert stored.find(whole["matrix"].astype(np.float64)) is None


@pytest.fixture
def placed(exports: Callable[[Storage], Placed]) -> Path:
    return exports("int8").folder


def test_an_export_takes_up_its_checkpoint_s_calibration_and_reranker(
    placed: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(placed, tmp_path / "model")
    (folder / RERANKER).write_bytes(b"weights")
    write_calibration(folder, Calibration(3.0, 0.5, 0.2))
    manifest, _ = read_export(folder)  # which compares each listed file
    assert RERANKER in manifest.files
    (folder / RERANKER).unlink()
    write_calibration(folder, Calibration(3.0, 0.5, 0.2))
    caption = showtell.load(folder, runtime="onnx").caption(pictures(1)[0])
    mean = float(np.mean(caption.log_probs))
    assert caption.confidence == pytest.approx(1 / (1 + np.exp(-(3.0 * mean + 0.5))))
    write_calibration(folder, None)
    assert not showtell.load(folder, runtime="onnx").card.calibrated


def test_the_folder_still_is_a_checkpoint(placed: Path) -> None:
    assert load_checkpoint(placed).config.decoder.kind == "transformer"
    assert takes_onnx([placed], "auto") and takes_onnx([placed.parent], "auto")  # of its run, too
    assert not takes_onnx([placed], "torch")
    assert not takes_onnx([placed], "auto", precision="bf16")
    assert not takes_onnx([placed], "auto", device="cuda")


@pytest.mark.parametrize("name", ["model.safetensors", "metrics.json", "config.toml"])
def test_a_checkpoint_that_was_changed_has_to_be_exported_again(
    placed: Path, tmp_path: Path, name: str
) -> None:
    copy = shutil.copytree(placed, tmp_path / "model")
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-1] + b" ")
    with pytest.raises(
        CheckpointError, match=rf"content of {name} is not .*export the model again"
    ):
        showtell.load(copy)


def test_a_stop_leaves_the_checkpoint_alone(
    placed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(placed, tmp_path / "model")
    model = native(*CASES[0])  # whose graphs are the fewest
    monkeypatch.setattr("showtell.export.onnx.write_text", lambda path, text: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_in_place(model, copy)
    assert not takes_onnx([copy], "auto")
    assert load_checkpoint(copy)


def test_weights_that_are_none(placed: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(placed, tmp_path / "model")
    model = saved(tmp_path / "other", "int8")
    (copy / "encoder.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"the weights in .* cannot be read"):
        export_in_place(model, copy)


def test_the_command_takes_one_place() -> None:
    with pytest.raises(UsageError, match=r"no output: give -o FOLDER"):
        export(model="default")
    with pytest.raises(UsageError, match=r"exclude each other: give -o FOLDER"):
        export(model="default", output=Path("x"), in_place=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weights": StorageOption.fp16, "compute": Compute.int8},
            r"--weights is fp16: leave --weights",
        ),
        ({"calibration": "."}, r"--calibration is for .*weights are fp32, and .* computes in fp32"),
        (
            {"weights": StorageOption.int8, "format": Format.notebook},
            "no --in-place, --weights, --comp",
        ),
        ({"compute": Compute.int8, "format": Format.notebook}, "no --in-place, --weights, --comp"),
    ],
)
def test_options_without_effect_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        export(model="default", output=Path("x"), **options)


def test_computing_in_int8_needs_weights_in_int8(tmp_path: Path) -> None:
    numbers = NumberOptions(compute=Compute.int8)
    assert numbers.request(in_place=False) == Numbers("int8", "int8")
    assert numbers.request(in_place=True) == Numbers("fp32", "int8")
    given = NumberOptions(
        compute=Compute.int8, weights=StorageOption.fp16, calibration=str(tmp_path)
    )
    given.check(in_place=False)  # pictures let the encoder compute in int8, whatever the storage
    model = saved(tmp_path / "model", "fp16")
    with pytest.raises(
        ConfigError, match=r"model are fp16, so nothing .* --weights int8\), and ex"
    ):
        export_in_place(model, tmp_path / "model", how=Numbers(compute="int8"))
    assert not (tmp_path / "model" / MANIFEST).exists()
