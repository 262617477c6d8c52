"""EfficientNet-Lite sees real photos as it was trained to.

The photos come with scikit-image. The classes were read off by hand, the logits are those of
torch 2.13.0 in fp32; the network itself is compared with timm's own implementation of it.
"""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from showtell.encoders.encoder import LITE, Encoder, build_encoder
from showtell.encoders.lite import EfficientNetLite
from showtell.errors import ConfigError
from showtell.images.open import open_image

data = pytest.importorskip("skimage.data", reason="scikit-image's photos are not installed")
PHOTOS = Path(data.__file__).parent

# photo -> ImageNet classes that are right for it
RIGHT = {
    "chelsea.png": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    "coffee.png": {967, 968},  # espresso, cup
    "camera.png": {872},  # tripod
    "motorcycle_left.png": {665, 670},  # moped, motor scooter
    "rocket.jpg": {657, 744},  # missile, projectile
    "horse.png": None,  # a silhouette: only its logits are pinned
}

# encoder -> photo -> the five top classes and the logit of the first
GOLDEN: dict[str, dict[str, tuple[list[int], float]]] = {
    "lite0": {
        "chelsea.png": ([282, 285, 281, 287, 904], 9.207),
        "coffee.png": ([967, 968, 925, 960, 504], 11.400),
        "camera.png": ([872, 593, 447, 650, 759], 11.239),
        "motorcycle_left.png": ([665, 670, 535, 518, 671], 7.840),
        "rocket.jpg": ([657, 744, 540, 812, 668], 7.247),
        "horse.png": ([268, 165, 206, 246, 236], 7.070),
    },
    "lite2": {
        "chelsea.png": ([285, 282, 281, 287, 622], 8.435),
        "coffee.png": ([967, 968, 925, 960, 504], 9.485),
        "camera.png": ([872, 759, 593, 447, 523], 7.639),
        "motorcycle_left.png": ([665, 670, 535, 518, 479], 5.599),
        "rocket.jpg": ([540, 657, 744, 812, 517], 5.036),
        "horse.png": ([165, 246, 268, 206, 236], 6.995),
    },
}


@pytest.fixture(scope="module", params=sorted(LITE))
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return build_encoder(request.param)


def published_weights(name: str) -> dict[str, Tensor]:
    package = importlib.import_module(LITE[name].package)
    file = next(Path(str(package.__file__)).parent.glob("models/*.pth"))
    return torch.load(file, weights_only=True)


def look(encoder: Encoder) -> Tensor:
    """Logits of each photo, (B, 1000)."""
    views = [encoder.preprocessing.eval_view(open_image(PHOTOS / name)) for name in RIGHT]
    return encoder.classify(torch.from_numpy(np.stack(views)))


def test_golden_classes_and_logits(encoder: Encoder) -> None:
    assert set(GOLDEN) == set(LITE)
    golden = GOLDEN[encoder.name]
    assert set(golden) == set(RIGHT)
    logits, classes = look(encoder).topk(5)
    for n, name in enumerate(RIGHT):
        top, first = golden[name]
        assert classes[n].tolist() == top, name
        assert float(logits[n, 0]) == pytest.approx(first, abs=0.02), name


def test_the_right_class_is_among_the_first(encoder: Encoder) -> None:
    classes = look(encoder).topk(3).indices
    for n, (name, right) in enumerate(RIGHT.items()):
        if right is not None:
            assert right & set(classes[n].tolist()), name


def surprise(name: str, mean: list[float], std: list[float], *, is_bgr: bool = False) -> float:
    """How unlike the training pictures these photos look to the first batch norm, in nats.

    The published weights hold mean and variance of the first convolution's outputs over all of
    training; this is the mean over channels of the Kullback-Leibler divergence from them
    (of normal distributions) of the outputs on the photos.
    """
    encoder = build_encoder(name)
    state = published_weights(name)
    views = [encoder.preprocessing.eval_view(open_image(PHOTOS / photo)) for photo in RIGHT]
    pixels = torch.from_numpy(np.stack(views)).float()
    if is_bgr:
        pixels = pixels.flip(1)
    pixels = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    outputs = torch.conv2d(pixels, state["_conv_stem.weight"], stride=2)
    variance, centre = torch.var_mean(outputs, (0, 2, 3))
    variance += 1e-3  # the norm's own epsilon: some channels never vary
    expected = state["_bn0.running_var"] + 1e-3
    shift = (centre - state["_bn0.running_mean"]) ** 2 / expected
    return float(((shift + variance / expected - 1 - (variance / expected).log()) / 2).mean())


@pytest.mark.parametrize("name", sorted(LITE))
def test_any_other_scale_is_not_what_the_weights_were_trained_with(name: str) -> None:
    recipe = LITE[name].preprocessing()
    right = surprise(name, list(recipe.mean), list(recipe.std))
    imagenet = surprise(name, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    unit = surprise(name, [0.0] * 3, [255.0] * 3)
    raw = surprise(name, [0.0] * 3, [1.0] * 3)
    assert right < 0.25 * min(imagenet, unit, raw)  # 0.06 against 1.1, 0.5 and 15,000
    assert right < 0.85 * surprise(name, list(recipe.mean), list(recipe.std), is_bgr=True)


@pytest.mark.parametrize("name", sorted(LITE))
def test_the_network_is_timms(name: str, torchvision_operators: object) -> None:
    """timm's own EfficientNet-Lite, with the published weights, gives the same logits."""
    import timm

    encoder = build_encoder(name)
    theirs = timm.create_model(f"tf_efficientnet_{name}").eval()
    published = published_weights(name)
    keys = [key for key in theirs.state_dict() if "batches_tracked" not in key]
    values = [value for key, value in published.items() if "batches_tracked" not in key]
    theirs.load_state_dict(dict(zip(keys, values, strict=True)), strict=False)
    images = torch.randint(0, 256, (2, 3, 260, 260), dtype=torch.uint8)
    size = encoder.preprocessing.size
    images = images[:, :, :size, :size]
    with torch.no_grad():
        expected = theirs((images.float() - 127) / 128)
    torch.testing.assert_close(encoder.classify(images), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("width", "depth"), [(1.0, 1.0), (1.0, 1.1), (1.2, 1.4), (1.4, 1.8)])
def test_the_other_sizes_are_built(width: float, depth: float) -> None:
    """lite0, 1, 3 and 4: parameters as published, 4.7, 5.4, 8.2 and 13.0 million."""
    published = {1.0: 4.7, 1.1: 5.4, 1.4: 8.2, 1.8: 13.0}
    with torch.device("meta"):
        network = EfficientNetLite(width_factor=width, depth_factor=depth)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert millions == pytest.approx(published[depth], abs=0.1)


def test_loading_is_strict(tmp_path: Path) -> None:
    state = published_weights("lite0")
    changes = {
        "lack": {key: value for key, value in state.items() if key != "_bn1.bias"},
        "entries too many: _more": state | {"_more": torch.zeros(1)},
        r"has shape \(999, 1280\), not": state | {"_fc.weight": torch.zeros(999, 1280)},
    }
    for reason, changed in changes.items():
        torch.save(changed, tmp_path / "changed.pth")
        with pytest.raises(ConfigError, match=reason):
            build_encoder("lite0", weights=tmp_path / "changed.pth")
    with pytest.raises(ConfigError, match="does not fit encoder 'lite2'"):
        torch.save(state, tmp_path / "lite0.pth")
        build_encoder("lite2", weights=tmp_path / "lite0.pth")
