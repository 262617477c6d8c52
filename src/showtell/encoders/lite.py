"""EfficientNet-Lite, the picture network of the default encoders, and its use as a backbone.

Tan & Le 2019 (arXiv 1905.11946), section 4, with the Lite changes of the TensorFlow release of
2020: ReLU6 instead of swish, no squeeze-and-excitation; stem, head and the repeats of the first and
last stage are not scaled. Padding is TensorFlow's "SAME": an even side at stride 2 is padded at its
end only. Batch norms (eps 1e-3) are folded into their convolutions when weights are loaded, so
nothing is left that training mode could change. ``unfold`` brings some back for fine-tuning with
live statistics.

``EfficientNetLite`` is the network; ``LiteBackbone`` is what an encoder uses of it: its last map,
its stages, its classes.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from showtell.encoders.backbone import Backbone, read_weights
from showtell.encoders.concepts import Classes, imagenet_words

BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 0.01  # the share of a batch in its running statistics; 1 - TensorFlow's 0.99
NORM_ENTRIES = ("weight", "bias", "running_mean", "running_var")
STEM_WIDTH = 32
HEAD_WIDTH = 1280
NUM_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the paper's table 1: blocks of one shape."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def scaled_width(width: int, factor: float) -> int:
    """``width`` times ``factor``, to the nearest multiple of 8, at most 10 % narrower."""
    scaled = width * factor
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding: ceil(side / stride) comes out.

    Attributes:
        norm: its batch norm; None if that is folded into weight and bias.
    """

    def __init__(self, width_in: int, width_out: int, kernel: int, *, stride: int, groups: int = 1):
        super().__init__(width_in, width_out, kernel, stride=stride, groups=groups)
        self.norm: nn.BatchNorm2d | None = None

    def add_norm(self) -> nn.BatchNorm2d:
        """Get a batch norm, to be filled by the caller, in place of the bias."""
        self.bias = None
        self.norm = nn.BatchNorm2d(
            self.out_channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM
        ).eval()
        return self.norm

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        top, bottom = self._padding(inputs.shape[2])
        left, right = self._padding(inputs.shape[3])
        if top == bottom and left == right:
            padding = (top, left)
        else:
            inputs = F.pad(inputs, (left, right, top, bottom))
            padding = (0, 0)
        if self._trains_on_processor(inputs):
            output: Tensor = _Depthwise.apply(  # type: ignore[no-untyped-call]
                inputs, self.weight, self.bias, self.stride, padding
            )
        else:
            output = F.conv2d(inputs, self.weight, self.bias, self.stride, padding, 1, self.groups)
        return output if self.norm is None else self.norm(output)

    def _trains_on_processor(self, inputs: Tensor) -> bool:
        """Whether a gradient of a depthwise convolution will be computed on a processor."""
        needs = (inputs.requires_grad or self.weight.requires_grad) and torch.is_grad_enabled()
        return needs and self.groups > 1 and inputs.device.type == "cpu"

    def _padding(self, side: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max(0, (math.ceil(side / stride) - 1) * stride + kernel - side)
        return total // 2, total - total // 2


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution whose gradients are computed in the precision that is fastest.

    In bf16 torch (2.13, oneDNN) takes 3 to 7 times as long as in fp32 for the gradient of the
    kernels, and for that of the inputs where the stride is not 1; together they took about half of
    a step that trains an encoder. It computes both also where only the bias needs a gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W')."""
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(inputs, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of inputs, weight and bias, each only where it is needed."""
        inputs, weight = ctx.saved_tensors
        for_inputs, for_weight, for_bias = ctx.needs_input_grad[:3]
        of_inputs = of_weight = None
        precise = torch.promote_types(grad.dtype, torch.float32)
        if for_inputs:
            dtype = grad.dtype if ctx.stride == (1, 1) else precise
            of_inputs = _gradient(ctx, grad, inputs, weight, dtype, 0).to(inputs.dtype)
        if for_weight:
            of_weight = _gradient(ctx, grad, inputs, weight, precise, 1).to(weight.dtype)
        of_bias = grad.sum((0, 2, 3)).to(weight.dtype) if for_bias else None
        return of_inputs, of_weight, of_bias, None, None


def _gradient(
    ctx: Any, grad: Tensor, inputs: Tensor, weight: Tensor, dtype: torch.dtype, which: int
) -> Tensor:
    """Of the inputs (``which`` 0) or of the weight (1)."""
    grad, inputs, weight = (part.to(dtype) for part in (grad, inputs, weight))
    wanted = [which == 0, which == 1, False]
    found: Tensor = torch.ops.aten.convolution_backward(
        *(grad, inputs, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0)),
        *(len(weight), wanted),
    )[which]
    return found


class Block(nn.Module):
    """Inverted residual: 1x1 to widen, depthwise, 1x1 to narrow, and the input added."""

    def __init__(self, width_in: int, width_out: int, *, kernel: int, stride: int, expansion: int):
        super().__init__()
        width = width_in * expansion
        self.expand = SameConv2d(width_in, width, 1, stride=1) if expansion > 1 else None
        self.depthwise = SameConv2d(width, width, kernel, stride=stride, groups=width)
        self.project = SameConv2d(width, width_out, 1, stride=1)
        self.has_shortcut = stride == 1 and width_in == width_out

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        hidden = inputs if self.expand is None else F.relu6(self.expand(inputs), inplace=True)
        narrow: Tensor = self.project(F.relu6(self.depthwise(hidden), inplace=True))
        return narrow.add_(inputs) if self.has_shortcut else narrow

    def convolutions(self) -> dict[str, tuple[str, SameConv2d]]:
        """Published name of each convolution -> its batch norm's name, and the module."""
        named = {
            "_depthwise_conv": ("_bn1", self.depthwise),
            "_project_conv": ("_bn2", self.project),
        }
        if self.expand is not None:
            named["_expand_conv"] = ("_bn0", self.expand)
        return named


class EfficientNetLite(nn.Module):
    """The network, from normalised pixels to its last feature map and its 1,000 classes.

    Args:
        width_factor: as in the paper's equation 3: 1.0 for lite0, 1.1 for lite2.
        depth_factor: likewise: 1.0 for lite0, 1.2 for lite2.
    """

    def __init__(self, *, width_factor: float, depth_factor: float) -> None:
        super().__init__()
        self.stem = SameConv2d(3, STEM_WIDTH, 3, stride=2)
        blocks: list[Block] = []
        self.stages = {"stem": ["stem"]}  # each stage's modules, by name
        width = STEM_WIDTH
        for index, stage in enumerate(STAGES):
            is_scaled = 0 < index < len(STAGES) - 1
            repeats = math.ceil(stage.repeats * depth_factor) if is_scaled else stage.repeats
            first = len(blocks)
            self.stages[f"stage{index + 1}"] = [f"blocks.{first + i}" for i in range(repeats)]
            for repeat in range(repeats):
                width_out = scaled_width(stage.width, width_factor)
                blocks.append(
                    Block(
                        width,
                        width_out,
                        kernel=stage.kernel,
                        stride=stage.stride if repeat == 0 else 1,
                        expansion=stage.expansion,
                    )
                )
                width = width_out
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv2d(width, HEAD_WIDTH, 1, stride=1)
        self.stages["head"] = ["head"]
        self.classifier = nn.Linear(HEAD_WIDTH, NUM_CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) -> feature map (B, 1280, S / 32, S / 32), rounded up."""
        hidden = F.relu6(self.stem(pixels), inplace=True)
        return F.relu6(self.head(self.blocks(hidden)), inplace=True)

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Load the published weights and fold each batch norm into its convolution.

        Raises:
            ValueError: an entry is missing, left over or of another shape.
        """
        rest = {key: value for key, value in state.items() if not key.endswith("batches_tracked")}
        named = self._convolutions()
        try:
            for conv, (norm, module) in named.items():
                _fold(module, rest, conv, norm)
            _copy(self.classifier.weight, rest.pop("_fc.weight"))
            _copy(self.classifier.bias, rest.pop("_fc.bias"))
        except KeyError as error:
            raise ValueError(f"the weights lack {error}") from None
        if rest:
            raise ValueError(f"the weights have {len(rest)} entries too many: {min(rest)}, ...")

    def unfold(self, names: Collection[str], state: Mapping[str, Tensor]) -> None:
        """Undo the folding in some modules, with the published weights.

        Args:
            names: keys of ``named_modules``.
            state: the published weights, as given to ``load_published``.
        """
        chosen = {id(m) for name in names for m in self.get_submodule(name).modules()}
        for conv, (norm, module) in self._convolutions().items():
            if id(module) in chosen and module.norm is None:
                filled = module.add_norm()
                _copy(module.weight, state[f"{conv}.weight"])
                for name in NORM_ENTRIES:
                    _copy(getattr(filled, name), state[f"{norm}.{name}"])

    def _convolutions(self) -> dict[str, tuple[str, SameConv2d]]:
        """As ``Block.convolutions``, for the whole network."""
        named = {"_conv_stem": ("_bn0", self.stem), "_conv_head": ("_bn1", self.head)}
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            for conv, (norm, module) in block.convolutions().items():
                named[f"_blocks.{index}.{conv}"] = (f"_blocks.{index}.{norm}", module)
        return named


def _fold(module: SameConv2d, state: dict[str, Tensor], conv: str, norm: str) -> None:
    """conv, then norm = one convolution: w' = w g / sqrt(v + eps), b' = b - m g / sqrt(v + eps)."""
    weight = state.pop(f"{conv}.weight").double()
    gain, offset, mean, variance = (state.pop(f"{norm}.{name}").double() for name in NORM_ENTRIES)
    scale = gain / torch.sqrt(variance + BATCH_NORM_EPS)
    _copy(module.weight, weight * scale[:, None, None, None])
    assert module.bias is not None
    _copy(module.bias, offset - mean * scale)


def _copy(parameter: Tensor, value: Tensor) -> None:
    if parameter.shape != value.shape:
        raise ValueError(f"a weight has shape {tuple(value.shape)}, not {tuple(parameter.shape)}")
    with torch.no_grad():
        parameter.copy_(value)


class LiteBackbone(Backbone):
    """EfficientNet-Lite as a backbone; its grid is the 1,280-wide map that its classifier averages.

    The narrower map before the head's 1x1 convolution would need a quarter of the space, but the
    classes are read from the head's rectified features, and pooled features are their mean.
    """

    def __init__(self, network: EfficientNetLite, weights: Path) -> None:
        super().__init__()
        self.network = network
        self.weights = weights

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 1280, S / 32, S / 32), rounded up."""
        last_map: Tensor = self.network(pixels)
        return last_map

    def pooled(self, last_map: Tensor) -> Tensor:
        """The mean over the grid, (B, 1280)."""
        return last_map.mean((2, 3), dtype=torch.float32)

    def regions(self, last_map: Tensor) -> Tensor:
        """(B, 1280, h, w) -> (B, h w, 1280)."""
        return last_map.flatten(2).transpose(1, 2)

    def logits(self, last_map: Tensor) -> Tensor:
        """The 1,000 ImageNet classes, (B, 1000)."""
        logits: Tensor = self.network.classifier(self.pooled(last_map))
        return logits

    def classes(self) -> Classes:
        """The classifier of ImageNet's classes."""
        layer = self.network.classifier
        return Classes(layer.weight.detach(), layer.bias.detach(), imagenet_words())

    def stages(self) -> dict[str, list[str]]:
        """stem, stage1 to stage7 (rows 2 to 8 of the paper's table 1), head."""
        named = [name for name, _ in self.named_parameters()]
        return {
            stage: [n for n in named if n.startswith(tuple(f"network.{m}." for m in modules))]
            for stage, modules in self.network.stages.items()
        }

    def unfold_norms(self, stages: Sequence[str]) -> None:
        """Read the published weights again; in them, batch norms are not folded."""
        names = [name for stage in stages for name in self.network.stages[stage]]
        self.network.unfold(names, read_weights(self.weights))

    def fit(self, names: Collection[str]) -> None:
        """Give a batch norm to each convolution whose norm is among ``names``."""
        for name, module in self.named_modules():
            if isinstance(module, SameConv2d) and f"{name}.norm.weight" in names:
                module.add_norm()
        super().fit(names)
