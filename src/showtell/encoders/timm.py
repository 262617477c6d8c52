"""Any picture network of the timm library (Wightman 2019) as an encoder's backbone.

The preprocessing (size, crop, scale) is timm's own for the weights.
"""

import shlex
import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

import torch
from torch import Tensor, nn

from showtell.core.torchvision import lacks_operators, make_torchvision_importable
from showtell.encoders.backbone import Backbone
from showtell.errors import ConfigError, MissingExtraError, first_line
from showtell.images.preprocess import Interpolation, Preprocessing


class TimmBackbone(Backbone):
    """A timm model: convolutional with a 4-d map, or a vision transformer with tokens."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C, h, w), (B, h, w, C) or (B, tokens, C), as the model has it."""
        last_map: Tensor = self.network.forward_features(pixels)
        return last_map

    def pooled(self, last_map: Tensor) -> Tensor:
        """The input of the model's own classifier, (B, D)."""
        pooled: Tensor = self.network.forward_head(last_map, pre_logits=True)
        return pooled

    def regions(self, last_map: Tensor) -> Tensor:
        """The grid, (B, R, D'); of a transformer, its patches without class or register tokens."""
        if last_map.ndim == 3:
            return last_map[:, getattr(self.network, "num_prefix_tokens", 0) :]
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            return last_map.flatten(1, 2)
        return last_map.flatten(2).transpose(1, 2)

    def logits(self, last_map: Tensor) -> Tensor:
        """Scores of the model's classes, (B, classes); pooled features if it has no classifier."""
        logits: Tensor = self.network.forward_head(last_map)
        return logits

    def stages(self) -> dict[str, list[str]]:
        """stage0 (the stem), stage1, ...: timm's coarse groups; of a transformer, its blocks.

        {} if timm has no groups for the model.
        """
        from timm.models import group_parameters

        try:
            matcher = self.network.group_matcher(coarse=True)
        except (
            AttributeError,
            NotImplementedError,
            TypeError,
        ):  # no groups, or no coarse
            return {}
        groups = group_parameters(self.network, matcher)
        classifier = {id(p) for p in _classifier_parameters(self.network)}
        named = dict(self.network.named_parameters())
        kept = [[n for n in names if id(named[n]) not in classifier] for names in groups.values()]
        stages = [[f"network.{name}" for name in names] for names in kept if names]
        return {f"stage{number}": names for number, names in enumerate(stages)}


def _classifier_parameters(network: Any) -> Iterator[nn.Parameter]:
    """Parameters of the classifier, which features do not pass through."""
    found = network.get_classifier()
    for module in found if isinstance(found, tuple) else (found,):
        if isinstance(module, nn.Module):
            yield from module.parameters()


def build_timm(name: str, state: Mapping[str, Tensor] | None) -> tuple[TimmBackbone, Preprocessing]:
    """Make the timm model ``name`` with the weights ``state``; if None, timm downloads its own.

    Raises:
        ConfigError: timm cannot be imported, has no such model, has no weights for it or cannot
            fetch them, or ``state`` does not fit.
        MissingExtraError: timm is not installed.
    """
    timm = _import_timm()
    _check_name(timm, name)
    network = _download(timm, name) if state is None else _fill(timm, name, state)
    return TimmBackbone(network), _preprocessing(name, timm.data.resolve_model_data_config(network))


def _import_timm() -> Any:
    try:
        make_torchvision_importable()
        import timm
        import timm.data
    except ModuleNotFoundError as error:
        if error.name == "timm":
            raise MissingExtraError("timm", "an encoder timm:NAME") from None
        raise ConfigError(f"timm cannot be imported: it needs {error.name}") from None
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        if lacks_operators(error):
            raise ConfigError(other_torchvision(torch.__version__)) from None
        raise ConfigError(f"timm cannot be imported: {first_line(error)}") from None
    return timm


def other_torchvision(torch_version: str, what: str = "timm") -> str:
    """What to do where torchvision was built for another build of torch than the installed one.

    Its version 0.(N + 15).P goes with torch 2.N.P. torch names its build after a plus: ``cpu``,
    ``cu130``; without it, the build is the package index's own.
    """
    release, _, build = torch_version.partition("+")
    numbers = release.split(".")
    problem = f"{what} needs torchvision, which was built for another torch than {torch_version}"
    if numbers[0] != "2" or not all(map(str.isdecimal, numbers)):
        return f"{problem}; install the torchvision that was built for it"
    package = ".".join(["torchvision==0", str(int(numbers[1]) + 15), *numbers[2:]])
    if not build:
        return f"{problem}; mend it: pip install --force-reinstall --no-deps {package}"
    return (
        f"{problem}; mend it: pip install uv && uv pip install --python "
        f"{shlex.quote(sys.executable)} --torch-backend {build} --reinstall-package torchvision "
        f"{package}"
    )


def _check_name(timm: Any, name: str) -> None:
    if ":" in name:  # from the hub or from a folder, which timm asks itself
        return
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=1)
    elif tag and not timm.models.is_model_pretrained(name):
        near = get_close_matches(name, timm.list_pretrained(f"{architecture}.*"), n=1, cutoff=0)
    else:
        return
    hint = f" Did you mean 'timm:{near[0]}'?" if near else ""
    raise ConfigError(f"timm has no model {name!r}.{hint} timm.list_models() names them all.")


def _download(timm: Any, name: str) -> nn.Module:
    if ":" not in name and not timm.models.is_model_pretrained(name):
        raise ConfigError(
            f"timm has no weights for {name!r}; give a file: -s encoder.weights=FILE "
            "(features: --weights FILE)"
        )
    try:
        network: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:
        # The download may fail in as many ways as there are networks, proxies and disks.
        raise ConfigError(
            f"cannot download timm's weights of {name!r} ({first_line(error)}); "
            "try again online, or give a file: -s encoder.weights=FILE (features: --weights FILE)"
        ) from None
    return network


def _fill(timm: Any, name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """A model with as many classes as ``state`` has; without classifier if ``state`` has none."""
    with torch.device("meta"):  # no memory until the shapes are known to fit
        outline: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    config: Mapping[str, Any] = getattr(outline, "pretrained_cfg", {})
    classifier = config.get("classifier")
    weight = state.get(f"{classifier}.weight") if isinstance(classifier, str) else None
    num_classes = 0 if weight is None or not weight.dim() else len(weight)
    try:
        with torch.device("meta"):
            outline = timm.create_model(name, pretrained=False, num_classes=num_classes)
            outline.load_state_dict({key: value.to("meta") for key, value in state.items()})
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
        network.load_state_dict(state)
    except RuntimeError as error:
        detail = "; ".join(line.strip() for line in str(error).splitlines()[1:3])[:200]
        raise ConfigError(f"the weights do not fit timm's {name!r}: {detail}") from None
    return network


def _preprocessing(name: str, config: Mapping[str, Any]) -> Preprocessing:
    _, height, width = config["input_size"]
    if height != width:
        raise ConfigError(f"timm's {name!r} wants {width} x {height} pixels; only squares work")
    interpolation: Interpolation = "bicubic"
    if config["interpolation"] in get_args(Interpolation):
        interpolation = config["interpolation"]
    mean, std = (tuple(255 * x for x in config[key]) for key in ("mean", "std"))
    return Preprocessing(
        size=height,
        crop=config["crop_pct"],
        interpolation=interpolation,
        mean=mean,
        std=std,
        squash=config["crop_mode"] == "squash",
    )
