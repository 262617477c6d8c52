"""Exporting a model to ONNX: a folder that captions without torch (``inference/exported.py``)."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import torch

from showtell import __version__
from showtell.core.files import write_text
from showtell.encoders.encoder import Encoder
from showtell.encoders.features import Features
from showtell.errors import CheckpointError, MissingExtraError
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import find_checkpoint, new_folder, portable_metrics
from showtell.inference.exported import (
    FORMAT,
    MANIFEST,
    VOCABULARY,
    WEIGHTS,
    DecoderPart,
    EncoderPart,
    File,
    Manifest,
    Recipe,
    graph_file,
    is_export,
    read_export,
)
from showtell.inference.weights import LAST_LAYER, Storage
from showtell.pretrained import CARD

PACKAGES = ("torch", "onnx", "onnxscript")

try:
    from showtell.export.calibrate import choose_views, with_corrected_biases
    from showtell.export.graphs import (
        NUM_PICTURES,
        OPSET,
        DecoderGraphs,
        decoder_graphs,
        encoder_graph,
        trace,
    )
    from showtell.export.weights import SharedWeights
except ModuleNotFoundError as error:
    if error.name not in PACKAGES:
        raise
    raise MissingExtraError("export", "exporting to ONNX") from None

# What stays in fp16 in int8: the words, as in a packed checkpoint, and the encoder's small
# convolutions (its first stages and all that are depthwise). Those are 3 % of lite2's weights, and
# rounding them to int8 makes three fifths of the error of its features.
WORDS = f"decoder.{LAST_LAYER}"
LEAST = {"encoder": 2**15}


def export_onnx(
    model: str | Path,
    output: Path,
    *,
    storage: Storage = "fp32",
    calibration: Sequence[Path] = (),
    trust_model: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> int:
    """Write ``model`` into ``output`` as ONNX graphs with everything that captioning needs.

    Args:
        model: as ``Captioner.load`` takes it.
        output: a new folder, or one with an earlier export, which is replaced.
        storage: how matrices are stored; runtimes compute in fp32.
        calibration: pictures by which the encoder is corrected for int8 (``calibrate.py``).
        trust_model: as for ``Captioner.load``.
        notify: told what is being done.

    Returns:
        Bytes of the folder.

    Raises:
        CheckpointError: ``model`` cannot be read, or ``output`` is something else or cannot be
            written.
        ConfigError: torch cannot trace a network of the model.
    """
    check_output(output)
    captioner = NativeCaptioner.load(model, device="cpu", precision="fp32", trust_model=trust_model)
    card = find_checkpoint(model) / CARD
    return export_captioner(
        captioner,
        output,
        storage=storage,
        calibration=calibration,
        card=card if card.is_file() else None,
        notify=notify,
    )


def export_captioner(
    captioner: NativeCaptioner,
    output: Path,
    *,
    storage: Storage = "fp32",
    calibration: Sequence[Path] = (),
    card: Path | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> int:
    """As ``export_onnx``, for a model that is loaded, in fp32 on the processor.

    Args:
        card: the model's card, which goes into the folder.
    """
    with_regions, encoder = captioner.needs_regions, captioner.encoder
    if storage == "int8" and calibration:
        notify("correcting the encoder's biases")
        encoder = with_corrected_biases(
            encoder,
            lambda weight: "int8" if weight.numel() >= LEAST["encoder"] else "fp16",
            choose_views(calibration, encoder),
        )
    parts = decoder_graphs(
        captioner.decoder, _some_features(captioner.encoder, regions=with_regions)
    )
    graphs = {"encoder": encoder_graph(encoder, regions=with_regions), **parts.graphs}
    weights = SharedWeights(WEIGHTS)
    try:
        with new_folder(output) as folder:
            for name, graph in graphs.items():
                notify(f"tracing the graph {name}")
                traced = trace(graph)
                weights.move(traced, storage, halves={WORDS}, least=LEAST.get(name, 0))
                content = traced.SerializeToString(deterministic=True)
                (folder / graph_file(name)).write_bytes(content)
            (folder / WEIGHTS).write_bytes(weights.content)
            captioner.vocabulary.save(folder / VOCABULARY)
            if card is not None:
                shutil.copyfile(card, folder / CARD)
            manifest = _describe(captioner, parts, storage, _files(folder))
            write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
            read_export(folder)  # whatever is written must be what a reader accepts
    except OSError as error:
        raise CheckpointError(f"cannot write {output}: {error.strerror or error}") from error
    return sum(path.stat().st_size for path in output.iterdir())


def check_output(output: Path) -> None:
    """Raise CheckpointError where ``output`` is there and is no export."""
    if output.exists() and not (
        output.is_dir() and (is_export(output) or not any(output.iterdir()))
    ):
        raise CheckpointError(f"{output} already exists and is not an export: give another -o")


def _some_features(encoder: Encoder, *, regions: bool) -> Features:
    """Features to trace with; their values are of no account."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(NUM_PICTURES, *shape, generator=generator)

    return Features(draw(encoder.pooled_size), draw(*encoder.grid_size) if regions else None)


def _describe(
    captioner: NativeCaptioner, parts: DecoderGraphs, storage: Storage, files: dict[str, File]
) -> Manifest:
    encoder, card = captioner.encoder, captioner.card
    return Manifest(
        format=FORMAT,
        name=card.name,
        licence=card.licence,
        num_parameters=card.num_parameters,
        weights=storage,
        opset=OPSET,
        vocab_size=len(captioner.vocabulary),
        versions={"showtell": __version__} | {name: metadata.version(name) for name in PACKAGES},
        encoder=EncoderPart(
            name=encoder.name,
            fingerprint=encoder.fingerprint,
            preprocessing=Recipe(**asdict(encoder.preprocessing)),
            pooled_size=encoder.pooled_size,
            grid_size=encoder.grid_size if captioner.needs_regions else None,
        ),
        decoder=DecoderPart(
            kind=captioner.config.decoder.kind,
            state=parts.state,
            max_tokens=getattr(captioner.decoder, "max_tokens", None),
            attends=parts.attends,
            names_things="closer" in parts.graphs,
        ),
        decoding=captioner.decoding.model_dump(),
        metrics=portable_metrics(captioner.metrics),
        files=files,
    )


def _files(folder: Path) -> dict[str, File]:
    return {
        path.name: File(num_bytes=path.stat().st_size, sha256=sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir())
    }
