"""Exports that somebody damaged, or made to do harm: one line, and nothing is followed."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skimage.data
from decoder_cases import CASES
from onnx import TensorProto, helper
from onnxruntime import InferenceSession, SessionOptions
from PIL import Image
from tiny_export import exported

import showtell
from showtell.errors import CheckpointError, VocabularyError
from showtell.inference.backends import graphs
from showtell.inference.files import MANIFEST, MOST_JSON, WEIGHTS
from showtell.pretrained import shipped_folder

Values = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    exported(*CASES[0], folder)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


def change(folder: Path, edit: Callable[[Values], Any]) -> None:
    values = json.loads((folder / MANIFEST).read_text())
    edit(values)
    (folder / MANIFEST).write_text(json.dumps(values))


def replace(folder: Path, name: str, content: bytes) -> None:
    """Another content, which the manifest vouches for."""
    (folder / name).write_bytes(content)
    file = {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    change(folder, lambda values: values["files"].__setitem__(name, file))


def caption(folder: Path) -> str:
    return showtell.load(folder).caption(Image.new("RGB", (40, 40), "red")).text


def test_a_whole_export_is_read(copy: Path) -> None:
    assert caption(copy)
    values = json.loads((copy / MANIFEST).read_text())
    assert values["metrics"]["data"] == "data"  # no place on the machine that made it
    assert "/home" not in (copy / MANIFEST).read_text()
    graphs = b"".join(path.read_bytes() for path in copy.glob("*.onnx"))
    assert b"/src/" not in graphs and b".py" not in graphs


@pytest.mark.parametrize("name", [WEIGHTS, "encoder.onnx", "step.onnx", "vocabulary.json"])
def test_a_changed_file_is_told(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"content of {name} is not what .* SHA-256 differs"):
        caption(copy)
    (copy / name).write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=rf"{name} has [\d,]+ bytes and .* says"):
        caption(copy)
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name}: No such file"):
        caption(copy)
    (copy / name).mkdir()
    with pytest.raises(CheckpointError, match=rf"{name}: is not a regular file"):
        caption(copy)


DAMAGE: dict[str, tuple[Callable[[Values], Any], str]] = {
    "newer": (lambda v: v.update(format=2), "its format is 2, and this showtell reads 1"),
    "none": (lambda v: v.pop("format"), "has no format"),
    "zero": (lambda v: v.update(format=0), "format is 0"),
    "key": (lambda v: v.update(run="rm"), "run is 'rm': extra inputs"),
    "leaves": (
        lambda v: v["files"].update({"../a": v["files"][WEIGHTS]}),
        r"files\.\.\./a\.\[key\] is '\.\./a'",
    ),
    "absolute": (
        lambda v: v["files"].update({"/etc/passwd": v["files"][WEIGHTS]}),
        r"/etc/passwd.* string should match",
    ),
    "hidden": (lambda v: v["files"].update({"..": v["files"][WEIGHTS]}), "string should match"),
    "many": (
        lambda v: v["files"].update({f"f{i}": v["files"][WEIGHTS] for i in range(99)}),
        "at most 20",
    ),
    "unlisted": (lambda v: v["files"].pop("step.onnx"), "does not list step.onnx"),
    "no weights": (lambda v: v["files"].pop(WEIGHTS), f"does not list {WEIGHTS}"),
    "huge file": (lambda v: v["files"][WEIGHTS].update(num_bytes=10**18), "less than"),
    "negative": (lambda v: v["files"][WEIGHTS].update(num_bytes=-1), "greater than"),
    "hash": (lambda v: v["files"][WEIGHTS].update(sha256="0"), "should match pattern"),
    "huge side": (
        lambda v: v["encoder"]["preprocessing"].update(size=10**9),
        r"preprocessing\.size is 1000000000",
    ),
    "no side": (lambda v: v["encoder"]["preprocessing"].update(size=0), "greater than 0"),
    "crop": (lambda v: v["encoder"]["preprocessing"].update(crop=0.0), "greater than 0"),
    "colours": (lambda v: v["encoder"]["preprocessing"].update(mean=[1.0]), r"preprocessing\.mean"),
    "text": (lambda v: v["encoder"].update(pooled_size="9"), "pooled_size is '9'"),
    "state": (lambda v: v["decoder"]["state"][0].update(shape=[-1]), r"state\.0\.shape"),
    "type": (lambda v: v["decoder"]["state"][0].update(dtype="object"), r"state\.0\.dtype"),
    "decoding": (lambda v: v["decoding"].update(beam_size=0), "beam_size"),
    "setting": (lambda v: v["decoding"].update(secret=1), "secret"),
    "words": (lambda v: v.update(vocab_size=31), "vocabulary.json has 30 tokens, and the decoder"),
    "calibration": (
        lambda v: v["metrics"]["calibration"].update(slope=-1.0),
        "calibration: slope = -1",
    ),
    "width": (lambda v: v["encoder"].update(pooled_size=25), "does not fit the manifest: pooled"),
    "grid": (lambda v: v["encoder"].update(grid_size=[4, 4]), "does not fit the manifest: regions"),
    "no state": (lambda v: v["decoder"]["state"].pop(), "does not fit the manifest: state"),
    "shape": (
        lambda v: v["decoder"]["state"][0].update(shape=[1, 49]),
        r"state\.h is tensor\(float\) of shape .* expected",
    ),
    "graphs": (lambda v: v["decoder"].update(attends=True), "does not list look.onnx"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_manifest_that_says_what_cannot_be(copy: Path, name: str) -> None:
    edit, message = DAMAGE[name]
    change(copy, edit)
    with pytest.raises(CheckpointError, match=message) as caught:
        caption(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"[]", "is .*: input should be an object"),
        (b'{"format": "1"}', "format is '1'"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"[" * 100_000, "is nested too deeply|is not JSON"),
        (b" " * (MOST_JSON + 1), "expected 4,194,304 at most"),
    ],
)
def test_a_manifest_that_is_none(copy: Path, content: bytes, message: str) -> None:
    (copy / MANIFEST).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        caption(copy)


def test_a_graph_that_reads_another_file_is_not_loaded(
    whole: Path, copy: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(bytes(10**6))
    for place in ("../secret", str(tmp_path / "secret"), "secret.bin"):
        model = onnx.load(whole / "step.onnx", load_external_data=False)
        entry = model.graph.initializer[0].external_data[0]
        assert (entry.key, entry.value) == ("location", WEIGHTS)
        entry.value = place
        replace(copy, "step.onnx", model.SerializeToString())
        with pytest.raises(CheckpointError, match=r"step.onnx reads a file that is not listed"):
            caption(copy)
        # The same, as other writers of protobuf may have it: the length in two bytes.
        content = model.SerializeToString().replace(b"\n\x08location", b"\n\x88\x00location")
        replace(copy, "step.onnx", content)
        with pytest.raises(CheckpointError, match=r"step.onnx reads a file that is not listed"):
            caption(copy)


def test_a_graph_that_reads_behind_the_end_is_not_loaded(whole: Path, copy: Path) -> None:
    for key in ("offset", "length"):
        model = onnx.load(whole / "step.onnx", load_external_data=False)
        entry = next(e for e in model.graph.initializer[0].external_data if e.key == key)
        entry.value = "100000000"
        replace(copy, "step.onnx", model.SerializeToString())
        with pytest.raises(CheckpointError, match=r"step.onnx reads past the end of weights.bin"):
            caption(copy)
    # A second offset, which would count in place of the first.
    model = onnx.load(whole / "step.onnx", load_external_data=False)
    model.graph.initializer[0].external_data.add(key="offset", value="7")
    replace(copy, "step.onnx", model.SerializeToString())
    with pytest.raises(CheckpointError, match=r"step.onnx reads a file that is not listed"):
        caption(copy)


def test_a_graph_that_is_none(copy: Path) -> None:
    replace(copy, "encoder.onnx", b"a picture network")
    with pytest.raises(CheckpointError, match=r"encoder.onnx cannot be loaded: "):
        caption(copy)


def test_a_vocabulary_that_is_none(copy: Path) -> None:
    replace(copy, "vocabulary.json", b"{}")
    with pytest.raises(VocabularyError, match=r"is not a showtell vocabulary"):
        caption(copy)


def test_nan_is_no_number(copy: Path) -> None:
    text = (copy / MANIFEST).read_text().replace('"crop":0.9', '"crop":NaN')
    text = text.replace('"crop": 0.9', '"crop": NaN')
    (copy / MANIFEST).write_text(text)
    with pytest.raises(CheckpointError, match=r"damaged: "):
        caption(copy)


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_the_default_model_says_the_same_of_itself(runtime: str) -> None:
    card = showtell.load(runtime=runtime).card
    assert (card.name, card.licence, card.calibrated) == ("default", "Apache-2.0", True)
    assert showtell.load("photos13k-lite2", runtime=runtime).card.name == "photos13k-lite2"


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_the_default_model_leaves_out_what_it_doubts(runtime: str) -> None:
    """Of its details hardly any is ten times as probable as without a picture."""
    captioner = showtell.load(runtime=runtime)
    assert captioner.decoding.doubt == 1
    photo = Image.fromarray(skimage.data.astronaut())
    said, less = (captioner.caption(photo, decoding={"doubt": doubt}) for doubt in (0, 10))
    assert len(less.words) < len(
        said.words
    )  # "a man in a red jacket is standing in front of a sign"
    assert set(less.words) <= {*said.words, "person", "child", "an"}
    assert (less.confidence, len(less.log_probs)) == (said.confidence, len(less.words) + 1)


def test_convolutions_in_int8_do_not_overflow() -> None:
    """With AVX2 alone they do, unless onnxruntime is asked for precision: then by 1.8 times."""
    captioner, network = (showtell.load(runtime=runtime) for runtime in ("onnx", "torch"))
    photos = [Image.fromarray(photo()) for photo in (skimage.data.astronaut, skimage.data.cat)]
    views = np.stack([captioner.recipe.eval_view(photo) for photo in photos])
    in_floats = SessionOptions()  # rounds in the same places, and computes in fp32
    in_floats.add_session_config_entry("session.disable_quant_qdq", "1")
    encoder = InferenceSession(shipped_folder("default") / "encoder.onnx", in_floats)
    least = encoder.run(["regions"], {"pixels": views})[0]
    exact = network.encode(views, regions=True).regions.numpy()
    found = captioner.encode(views, regions=True).regions
    assert np.linalg.norm(found - exact) < 1.3 * np.linalg.norm(least - exact)


def test_whether_products_overflow_is_asked_with_a_graph() -> None:
    """The file is what onnx's helper makes."""
    numbers = {
        "levels": (TensorProto.UINT8, ["N", "K"]),
        "weights": (TensorProto.INT8, ["K", "M"]),
        "sums": (TensorProto.INT32, ["N", "M"]),
    }
    *inputs, output = (helper.make_tensor_value_info(name, *it) for name, it in numbers.items())
    node = helper.make_node("MatMulInteger", ["levels", "weights"], ["sums"])
    graph = helper.make_graph([node], "product", inputs, [output])
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="")
    path = Path(graphs.__file__).with_name("int8_product.onnx")
    assert path.read_bytes() == model.SerializeToString()
