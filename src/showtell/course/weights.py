"""What the tensors of the notebook's ``encoder-i.pkl`` and ``decoder-i.pkl`` are, by their shapes.

Students name their layers as they like (``embed``, ``linear``, ``fc``, ``hidden2vocab``), so names
serve only where shapes leave a choice. Two forms are known: the captioning project of the course
(ResNet without its last layer, a linear layer; embedding, LSTM, linear layer) and the tutorial that
many copied (the same with a batch norm after the picture's linear layer).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from showtell.core.files import check_regular
from showtell.encoders.backbone import read_weights
from showtell.errors import CheckpointError

MOST_BYTES = 2_000_000_000  # of a file; a ResNet-152 has 0.24 GB
# An nn.Sequential of torchvision's ResNet without its last layer numbers its parts.
PARTS = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
STEM = (64, 3, 7, 7)
# Blocks in layer3, and whether they are bottlenecks (three convolutions): the depth.
DEPTHS = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101, (36, True): 152}
CELLS = {4: "lstm", 3: "gru", 1: "rnn"}
NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class NotebookEncoder:
    """The parts of ``encoder-i.pkl``.

    Attributes:
        depth: 18, 34, 50, 101 or 152.
        resnet: its weights by torchvision's names, without ``fc``.
        embedding: ``linear.weight`` (E, D) and ``linear.bias`` (E,); with ``norm.weight`` and the
            rest of a batch norm where there is one.
    """

    depth: int
    resnet: dict[str, Tensor]
    embedding: dict[str, Tensor]


@dataclass(frozen=True)
class NotebookDecoder:
    """The parts of ``decoder-i.pkl``; words are in the order of ``vocab.pkl``.

    Attributes:
        cell: ``lstm``, ``gru`` or ``rnn``.
        num_layers: of the recurrence.
        words: (V, E), the embedding.
        rnn: the recurrence's weights by torch's names.
        output, output_bias: (V, H) and (V,).
    """

    cell: str
    num_layers: int
    words: Tensor
    rnn: dict[str, Tensor]
    output: Tensor
    output_bias: Tensor


def read_state(path: Path) -> dict[str, Tensor]:
    """Named tensors of a file that ``torch.save`` wrote; nothing else in it is made or run.

    Raises:
        ConfigError: it holds anything else.
        CheckpointError: it is larger than any of these files, or its values are not numbers.
    """
    if path.is_file() and (size := check_regular(path)) > MOST_BYTES:
        raise CheckpointError(f"{path} has {size:,} bytes; expected {MOST_BYTES:,} at most")
    state = {}
    for name, value in read_weights(path).items():
        held = value.untyped_storage().nbytes() if value.layout is torch.strided else 0
        if value.numel() * value.element_size() > held:  # one number may pose as a billion
            raise CheckpointError(f"{path}: {name} claims more values than the file has")
        own = value.detach().float() if value.is_floating_point() else value.detach()
        if own.is_floating_point() and not bool(own.isfinite().all()):
            raise CheckpointError(f"{path}: {name} has values that are not numbers")
        state[name.removeprefix("module.")] = own.contiguous()  # nn.DataParallel's prefix
    return state


def understand_encoder(state: Mapping[str, Tensor], path: Path) -> NotebookEncoder:
    """Find the ResNet and the picture's embedding.

    Raises:
        CheckpointError: they cannot be told, with what was found instead.
    """
    rest = dict(state)
    stem = [n for n, w in state.items() if tuple(w.shape) == STEM and n.endswith(".weight")]
    match = re.fullmatch(r"(.*\.|)(0|conv1)\.weight", stem[0]) if len(stem) == 1 else None
    if match is None:
        raise CheckpointError(
            f"{path} has no ResNet: expected one first convolution of the shape {STEM}, found "
            f"{len(stem)}; {_summary(state)}"
        )
    prefix, numbered = match[1], match[2] == "0"
    resnet = {}
    for name in list(rest):
        part, _, inner = name.removeprefix(prefix).partition(".")
        ours = PARTS.get(part) if numbered else part if part in PARTS.values() else None
        if name.startswith(prefix) and ours and inner:
            resnet[f"{ours}.{inner}"] = rest.pop(name)
    for name in [n for n in resnet if n.endswith("running_mean")]:  # older torch had no counts
        count = name.replace("running_mean", "num_batches_tracked")
        resnet.setdefault(count, torch.zeros((), dtype=torch.long))
    blocks = {n.split(".")[1] for n in resnet if n.startswith("layer3.")}
    depth = DEPTHS.get((len(blocks), "layer1.0.conv3.weight" in resnet))
    if depth is None:
        raise CheckpointError(
            f"{path}: a ResNet with {len(blocks)} blocks in its third layer is not known; expected "
            f"ResNet-{', '.join(map(str, DEPTHS.values()))}"
        )
    width = 2048 if depth >= 50 else 512
    return NotebookEncoder(depth, resnet, _embedding(rest, width, path))


def _embedding(rest: dict[str, Tensor], width: int, path: Path) -> dict[str, Tensor]:
    """The linear layer (E, D) and perhaps a batch norm of what is left of an encoder."""
    matrices = [n for n, w in rest.items() if w.dim() == 2]
    if len(matrices) != 1 or rest[matrices[0]].shape[1] != width:
        raise CheckpointError(
            f"{path}: expected one linear layer from {width} features, found {_summary(rest)}"
        )
    matrix = matrices[0]
    layer = matrix.removesuffix("weight")
    size = len(rest[matrix])
    found = {"linear.weight": rest.pop(matrix)}
    found["linear.bias"] = rest.pop(f"{layer}bias", torch.zeros(size))
    if means := [n for n in rest if n.endswith("running_mean")]:
        norm = means[0].removesuffix("running_mean")
        for name in NORM:
            if norm + name not in rest:
                raise CheckpointError(f"{path}: the batch norm {norm}* has no {name}")
            found[f"norm.{name}"] = rest.pop(norm + name)
        count = rest.pop(f"{norm}num_batches_tracked", torch.zeros((), dtype=torch.long))
        found["norm.num_batches_tracked"] = count
    if rest:
        raise CheckpointError(f"{path}: it is not clear what these are for: {_summary(rest)}")
    if wrong := [n for n, w in found.items() if w.dim() and len(w) != size]:
        raise CheckpointError(f"{path}: {wrong[0]} does not have {size} rows")
    return found


def understand_decoder(state: Mapping[str, Tensor], path: Path) -> NotebookDecoder:
    """Find the word embedding, the recurrence and the last layer.

    Raises:
        CheckpointError: they cannot be told, with what was found instead.
    """
    rest = dict(state)
    firsts = [n for n in rest if n.endswith("weight_ih_l0")]
    if len(firsts) != 1:
        raise CheckpointError(
            f"{path}: expected one LSTM (weight_ih_l0), found {len(firsts)}; {_summary(state)}"
        )
    prefix = firsts[0].removesuffix("weight_ih_l0")
    rnn = {n.removeprefix(prefix): rest.pop(n) for n in list(rest) if _is_of_rnn(n, prefix)}
    num_layers = sum(n.startswith("weight_ih_l") for n in rnn)
    hidden, embed = rnn["weight_hh_l0"].shape[-1], rnn["weight_ih_l0"].shape[-1]
    cell = CELLS.get(rnn["weight_ih_l0"].shape[0] // hidden if hidden else 0)
    odd = [n for n in rnn if not re.fullmatch(r"(weight|bias)_[ih]h_l\d+", n)]
    if odd or cell is None:
        raise CheckpointError(
            f"{path}: {prefix}{odd[0] if odd else 'weight_ih_l0'} is of a recurrence that is not "
            "known: expected a plain LSTM in one direction"
        )
    for layer in range(num_layers):
        for side in ("ih", "hh"):
            rnn.setdefault(f"bias_{side}_l{layer}", torch.zeros(len(rnn["weight_ih_l0"])))
    outputs = [n for n in rest if n.endswith("weight") and _bias_of(n) in rest]
    words = [n for n in rest if n.endswith("weight") and _bias_of(n) not in rest]
    if len(outputs) != 1 or len(words) != 1 or len(rest) != 3:
        raise CheckpointError(
            f"{path}: expected, beside the LSTM, an embedding and a linear layer with a bias; "
            f"found {_summary(rest)}"
        )
    output, bias, table = rest[outputs[0]], rest[_bias_of(outputs[0])], rest[words[0]]
    if table.shape != (len(output), embed) or output.shape != (len(bias), hidden):
        raise CheckpointError(
            f"{path}: the embedding {tuple(table.shape)}, the LSTM ({embed} to {hidden}) and the "
            f"linear layer {tuple(output.shape)} do not fit together"
        )
    return NotebookDecoder(cell, num_layers, table, rnn, output, bias)


def _is_of_rnn(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and bool(re.match(r"(weight|bias)_", name[len(prefix) :]))


def _bias_of(name: str) -> str:
    return name.removesuffix("weight") + "bias"


def _summary(state: Mapping[str, Tensor]) -> str:
    """A few of the tensors, by name and shape."""
    named = [f"{n[:60]} {tuple(w.shape)}" for n, w in state.items()]
    more = f" and {len(named) - 4} more" if len(named) > 4 else ""
    return (", ".join(named[:4]) or "nothing") + more
