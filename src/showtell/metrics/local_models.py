"""Models on this machine that CLIPScore and BERTScore compute with, through transformers.

A model is a folder as transformers writes it, or a name on the Hugging Face hub that is in its
cache already: nothing is downloaded, no code from a model's folder runs, and weights are read from
safetensors alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from showtell.core.device import Runtime, choose_runtime
from showtell.core.torchvision import make_torchvision_importable
from showtell.errors import MissingExtraError, ScoringError, first_line

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class LocalModel:
    """A model with its tokeniser, in eval mode, in fp32.

    Attributes:
        name: for signatures: the folder's last part, or the name on the hub.
        model: of transformers.
        tokenizer: of the model.
        preprocessor: of pictures; None where the model was loaded without.
        runtime: what it computes on.
    """

    name: str
    model: Any
    tokenizer: Any
    preprocessor: Any
    runtime: Runtime

    def tokenized(self, texts: list[str], most: int) -> dict[str, "torch.Tensor"]:
        """Ids and masks (B, T) of texts, cut after ``most`` tokens, where the model computes."""
        batch = self.tokenizer(
            texts, padding=True, truncation=True, max_length=most, return_tensors="pt"
        )
        return dict(batch.to(self.runtime.device))


def load_model(name: str, *, option: str, with_pictures: bool) -> LocalModel:
    """Load a model from a folder or the hub's cache.

    Args:
        name: the folder, or the name on the hub.
        option: the command line's option, for messages.
        with_pictures: whether the model reads pictures.

    Raises:
        MissingExtraError: transformers is not installed.
        ScoringError: there is no such model, or it cannot be loaded.
    """
    try:
        transformers: Any = import_module("transformers")
    except ImportError:
        raise MissingExtraError("hf", option) from None
    settings = {"local_files_only": True, "trust_remote_code": False}
    runtime = choose_runtime(precision="fp32")
    try:
        make_torchvision_importable()  # transformers imports it
        with _quiet():
            model = transformers.AutoModel.from_pretrained(
                name, use_safetensors=True, dtype="float32", **settings
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, **settings)
            preprocessor = None
            if with_pictures:
                # CLIP's authors resize with Pillow; torchvision rounds otherwise.
                preprocessor = transformers.AutoImageProcessor.from_pretrained(
                    name, backend="pil", **settings
                )
    except (ImportError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise ScoringError(
            f"{option} {name}: no model that transformers can load from files on this machine "
            f"(config.json, a tokeniser, model.safetensors): {first_line(error)}"
        ) from None
    model = model.eval().to(runtime.device)
    return LocalModel(Path(name).name, model, tokenizer, preprocessor, runtime)


def batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """``items`` in lists of ``size``, the last one shorter."""
    return (list(items[start : start + size]) for start in range(0, len(items), size))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars."""
    logging: Any = import_module("transformers.utils.logging")
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
