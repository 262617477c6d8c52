"""What a picture network must offer to become an encoder, and how files of its weights are read.

Files are read without running anything in them. ``hash_state`` tells weights apart by content, so
that the same weights in another file are the same encoder.
"""

import hashlib
import pickle
import zipfile
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from showtell.core.files import check_regular
from showtell.encoders.concepts import Classes
from showtell.encoders.packing import as_read
from showtell.errors import ConfigError, first_line, reason_of


def read_weights(path: Path) -> dict[str, Tensor]:
    """Named tensors of a .safetensors file, packed or not, or of a .pth file of only tensors.

    Raises:
        ConfigError: there is no such file, something else is in it, or it is compressed.
    """
    try:
        size = check_regular(path)
        if path.suffix == ".safetensors":
            return as_read(load_file(path))
        if (unpacked := _unpacked_bytes(path)) > size:  # torch.save packs nothing
            raise ValueError(f"its {size:,} bytes would become {unpacked:,}")
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"no weights file {path}") from None
    except pickle.UnpicklingError:
        raise ConfigError(
            f"{path} holds more than tensors and is not opened, as it could run any program; "
            "ask for a .safetensors file"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read weights {path}: {reason_of(error)}") from None
    except Exception as error:
        # torch's reader meets bytes that are not a file of its own with an error of any kind.
        raise ConfigError(f"{path} is not a file of weights: {first_line(error)}") from None
    for key in ("state_dict", "model"):  # some training programs put the weights under one of these
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigError(f"{path} is not a dictionary of named tensors")
    return dict(state)


def _unpacked_bytes(path: Path) -> int:
    """How many bytes the members of a ZIP archive have, as torch.save writes one; else 0."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\3\4":  # by which torch, too, tells it from its older format
            return 0
        with zipfile.ZipFile(file) as archive:
            return sum(member.file_size for member in archive.infolist())


def hash_state(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes, types and values: the same for the same weights in any file."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def without_memory() -> Iterator[None]:
    """Within it, networks are built as outlines: their weights have shapes, but no memory.

    No random number is drawn. Functions that fill a weight are left out: on torch's meta device
    they do nothing, but do it by way of torch's compiler, which takes a second to import.
    """
    with torch.device("meta"), Unfilled():
        yield


class Unfilled(TorchFunctionMode):
    """Within it, ``nn.init`` and tensors' own methods fill no tensor: all weights are loaded later.

    No random number is drawn.
    """

    FILLS = frozenset({"normal_", "uniform_", "fill_", "zero_"})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call ``func``, or give back the tensor that it would fill."""
        module = getattr(func, "__module__", None)  # methods that torch wraps have none
        if module == "torch.nn.init" or func.__name__ in self.FILLS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


class Backbone(nn.Module):
    """A picture network as ``Encoder`` needs it: its last map, and what is read from that."""

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) -> the last map, in the network's own layout."""

    @abstractmethod
    def pooled(self, last_map: Tensor) -> Tensor:
        """The last map -> one vector a picture, (B, D)."""

    @abstractmethod
    def regions(self, last_map: Tensor) -> Tensor:
        """The last map -> the grid, row by row from the top left, (B, R, D')."""

    @abstractmethod
    def logits(self, last_map: Tensor) -> Tensor:
        """The last map -> scores of the classes that the network was trained on, (B, classes)."""

    def classes(self) -> Classes | None:
        """The classifier behind ``logits``, if it is one layer and its classes have words."""
        return None

    def stages(self) -> dict[str, list[str]]:
        """The names of each stage's parameters, in computing order; {} if it has no stages."""
        return {}

    def unfold_norms(self, stages: Sequence[str]) -> None:
        """Turn the batch norms of some stages back into modules, as they were published."""

    def fit(self, names: Collection[str]) -> None:
        """Change so that ``state_dict`` has ``names``, which ``unfold_norms`` may have made.

        Raises:
            ValueError: this network cannot have one of the names.
        """
        if unknown := sorted(set(names) - self.state_dict().keys()):
            raise ValueError(f"it has no {unknown[0]!r}")
