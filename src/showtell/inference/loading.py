"""How a model is loaded: ``load_request`` finds what runs it and what becomes of its texts.

A model with a prefix (``hf:ID``) runs in the class behind the prefix (``specs.py``). showtell's own
run in torch or, where they were exported, in onnxruntime. ``Captioner.load`` is the same for people
who write Python: it takes the attributes of a ``ModelRequest`` one by one.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.errors import CheckpointError, ConfigError, MissingExtraError, ShowtellError
from showtell.inference.exported import find_export, has_checkpoint
from showtell.inference.specs import BackendSettings, kinds, load_backend, refuse_settings, spec_of
from showtell.pretrained import DEFAULT, no_model, shipped_folder
from showtell.text.clean import Cleaning

if TYPE_CHECKING:
    from showtell.inference.backends.native import NativeCaptioner
    from showtell.inference.backends.onnx import OnnxCaptioner
    from showtell.inference.captioner import Captioner

RUNTIMES = ("auto", "torch", "onnx")


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A model as a user asks for it; the attributes are the arguments of ``Captioner.load``."""

    model: str | Path = DEFAULT
    ensemble: Sequence[str | Path] = ()
    device: str = "auto"
    precision: str = "auto"
    trust_model: bool = False
    runtime: str = "auto"
    settings: BackendSettings = field(default_factory=BackendSettings)
    cleaning: Mapping[str, Any] = field(default_factory=dict)


def load_request(request: ModelRequest, in_use: Iterable["Captioner"] = ()) -> "Captioner":
    """The model that a user asks for.

    Args:
        request: the model, and how it is to run.
        in_use: captioners with the same device and precision. A checkpoint that was trained with
            the encoder of one of them shares it.

    Raises:
        ShowtellError: as ``Captioner.load`` lists them.
    """
    _check_types(request.model, request.ensemble, request.device)
    captioner: Captioner
    if (spec := spec_of(request.model)) is not None:
        captioner = load_backend(spec, request)
    else:
        refuse_settings(request)
        captioner = load_local(request, in_use)
    captioner.cleaning = cleaning_of(captioner, request.settings.prompt, request.cleaning)
    return captioner


def _check_types(model: object, ensemble: object, device: object) -> None:
    """Raise where an attribute of a request is of another type than it should be."""
    if isinstance(ensemble, str) or not isinstance(ensemble, Sequence):
        raise CheckpointError(f"ensemble {ensemble!r}: expected a list of models")
    for name in (model, *ensemble):
        if not isinstance(name, str | os.PathLike):
            raise CheckpointError(
                f"model {name!r}: expected its folder or its name, as a string or a Path"
            )
    if not isinstance(device, str):
        raise ConfigError(f"device {device!r}: expected its name, as 'cpu' or 'cuda:1'")


def cleaning_of(captioner: "Captioner", prompt: str | None, changes: Mapping[str, Any]) -> Cleaning:
    """What becomes of a captioner's texts: what is usual with these instructions, and changes.

    Args:
        captioner: texts of one that follows instructions are tidied; others stay as they are.
        prompt: its instructions, as in ``BackendSettings``; those for one sentence get one.
        changes: as the argument ``cleaning`` of ``Captioner.load``.
    """
    usual = Cleaning()
    if captioner.follows_instructions:
        is_one = prompt in (None, "short", "alt")
        usual = Cleaning(tidy=True, max_sentences=1 if is_one else None)
    return usual.with_changes(changes)


def load_local(
    request: ModelRequest, in_use: Iterable["Captioner"] = ()
) -> "NativeCaptioner | OnnxCaptioner":
    """As ``load_request``, of a model of showtell's own."""
    models = [request.model, *request.ensemble]
    if takes_onnx(models, request.runtime, device=request.device, precision=request.precision):
        from showtell.inference.backends.onnx import OnnxCaptioner

        return OnnxCaptioner.of(request)
    return torch_backend(request).of(request, in_use)


def torch_backend(request: ModelRequest) -> "type[NativeCaptioner]":
    """What runs checkpoints.

    Args:
        request: for what; the message then says why it needs torch.

    Raises:
        CheckpointError: there is no such model, and torch is not installed.
        MissingExtraError: torch is not installed.
    """
    try:
        from showtell.inference.backends.native import NativeCaptioner
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise _without_torch(request) from None
    return NativeCaptioner


def _without_torch(request: ModelRequest) -> ShowtellError:
    """Why a model cannot be loaded where torch is not installed."""
    if request.runtime == "torch":
        return MissingExtraError("train", "--runtime torch")
    for model in (request.model, *request.ensemble):
        if shipped_folder(model) is None and not Path(model).exists():
            return no_model(model, kinds())
        if find_export(model) is None:
            return MissingExtraError("train", f"{model} is not an export, so it runs in torch and")
    if request.precision == "bf16":
        return MissingExtraError("train", "--precision bf16")
    return MissingExtraError(
        "train", f"--device {request.device} (in torch; with --runtime onnx, in onnxruntime)"
    )


def takes_onnx(
    models: Iterable[str | Path], runtime: str, *, device: str = "auto", precision: str = "auto"
) -> bool:
    """Whether models run in onnxruntime.

    Where a model's folder has both a checkpoint and its export, what only torch can do is left to
    torch.

    Args:
        models: one, or those of an ensemble.
        runtime, device, precision: as for ``Captioner.load``.

    Raises:
        ConfigError: there is no such runtime.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime {runtime!r}: expected {', '.join(RUNTIMES)}")
    if runtime != "auto":
        return runtime == "onnx"
    exports = [find_export(model) for model in models]
    if None in exports:
        return False
    wants_torch = device.startswith(("cuda", "mps")) or precision == "bf16"
    return not wants_torch or not all(has_checkpoint(found) for found in exports if found)
