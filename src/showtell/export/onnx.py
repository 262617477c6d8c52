"""Exporting a model to ONNX: a folder that captions without torch (``inference/exported.py``).

It is a folder of its own, or the checkpoint's, whose weights the graphs then share.
"""

import shlex
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from showtell.core.files import atomic_write, write_text
from showtell.decoding.reranking import RERANKER
from showtell.encoders.encoder import Encoder
from showtell.encoders.features import Features
from showtell.encoders.packing import LAST_LAYER, Storage
from showtell.errors import CheckpointError, ConfigError, MissingExtraError, reason_of
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import (
    card_files,
    check_new_folder,
    find_checkpoint,
    new_folder,
    portable_metrics,
)
from showtell.inference.exported import (
    FORMAT,
    Compute,
    DecoderPart,
    EncoderPart,
    File,
    Manifest,
    Recipe,
    graph_file,
    is_export,
    listed_files,
    read_export,
)
from showtell.inference.files import CONFIG, MANIFEST, METRICS, MODEL, VOCABULARY, WEIGHTS
from showtell.pretrained import CARD
from showtell.version import __version__

PACKAGES = ("torch", "onnx", "onnxscript")

try:
    from onnx import ModelProto, numpy_helper

    from showtell.export import integer
    from showtell.export.calibrate import choose_views, with_corrected_biases
    from showtell.export.graphs import (
        NUM_PICTURES,
        OPSET,
        DecoderGraphs,
        decoder_graphs,
        encoder_graph,
        trace,
        without_attention,
    )
    from showtell.export.stored import StoredArrays, weight_files
    from showtell.export.weights import SharedWeights
except ModuleNotFoundError as error:
    if error.name not in PACKAGES:
        raise
    raise MissingExtraError("export", "exporting to ONNX") from None

# What stays in fp16 in int8: the words, as in a packed checkpoint, and the encoder's small
# convolutions (its first stages and all that are depthwise). Those are 3 % of lite2's weights, and
# rounding them to int8 makes three fifths of the error of its features.
WORDS = f"decoder.{LAST_LAYER}"
ENCODER = "encoder"
LEAST = {ENCODER: 2**15}


@dataclass(frozen=True)
class Numbers:
    """In what numbers an export stores its weights, and computes.

    Attributes:
        storage: how matrices are stored; those that the checkpoint's own files have stay as they
            are there.
        compute: int8 multiplies matrices that are stored in int8 as they are, and convolves in
            int8 where that costs little (``integer.py``).
        calibration: pictures by which the encoder is corrected for weights in int8
            (``calibrate.py``), and by which its activations are rounded.
    """

    storage: Storage = "fp32"
    compute: Compute = "fp32"
    calibration: Sequence[Path] = ()


FP32 = Numbers()


def export_onnx(
    model: str | Path,
    output: Path | None,
    *,
    how: Numbers = FP32,
    trust_model: bool = False,
    overwrite: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> tuple[Path, int]:
    """Write ``model`` into ``output`` as ONNX graphs with everything that captioning needs.

    Args:
        model: as ``Captioner.load`` takes it.
        output: a new folder. None is the checkpoint's own folder, in which the graphs read the
            checkpoint's weights, and replace earlier ones.
        how: how weights are stored, and what computes in int8.
        trust_model: as for ``Captioner.load``.
        overwrite: replace ``output`` where it holds an export.
        notify: told what is being done.

    Returns:
        The folder, and the bytes of the files that were written.

    Raises:
        CheckpointError: ``model`` cannot be read, or ``output`` exists and is not to be replaced,
            or cannot be written.
        ConfigError: torch cannot trace a network of the model, or nothing would compute in int8.
    """
    if output is not None:
        check_new_folder(
            output, "an export in a folder of its own", _own_files, overwrite=overwrite
        )
    folder = find_checkpoint(model)
    card = card_files(folder, output, [CARD]) if output is not None else []
    captioner = NativeCaptioner.load(model, device="cpu", precision="fp32", trust_model=trust_model)
    if output is None:
        return folder, export_in_place(captioner, folder, how=how, notify=notify)
    size = export_captioner(captioner, output, how=how, others=card, notify=notify)
    return output, size


def export_captioner(
    captioner: NativeCaptioner,
    output: Path,
    *,
    how: Numbers = FP32,
    others: Iterable[Path] = (),
    notify: Callable[[str], None] = lambda text: None,
) -> int:
    """As ``export_onnx`` into a new folder, for a model that is loaded, in fp32 on the processor.

    Args:
        others: files of which the folder gets copies, as the model's card.
    """
    weights = SharedWeights(WEIGHTS)
    graphs, parts = _traced(captioner, weights, how, notify)
    try:
        with new_folder(output) as folder:
            for name, content in graphs.items():
                (folder / name).write_bytes(content)
            (folder / WEIGHTS).write_bytes(weights.content)
            captioner.vocabulary.save(folder / VOCABULARY)
            if captioner.reranker is not None:
                captioner.reranker.save(folder / RERANKER)
            for path in others:
                shutil.copyfile(path, folder / path.name)
            files = sorted(path.name for path in folder.iterdir())
            manifest = _describe(captioner, parts, how, _files(folder, files))
            write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
            read_export(folder)  # whatever is written must be what a reader accepts
    except OSError as error:
        raise CheckpointError(f"cannot write {output}: {reason_of(error)}") from error
    return sum(path.stat().st_size for path in output.iterdir())


def export_in_place(
    captioner: NativeCaptioner,
    folder: Path,
    *,
    how: Numbers = FP32,
    notify: Callable[[str], None] = lambda text: None,
) -> int:
    """As ``export_onnx`` into the checkpoint's own folder, for the model that it holds.

    The manifest is removed first and comes last, so that a stop leaves the checkpoint alone. It
    also lists the files that it repeats something of, so that a change of those shows.

    Raises:
        ConfigError: nothing would compute in int8, and that was asked for.
    """
    try:
        stored = StoredArrays(folder, weight_files(folder))
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"the weights in {folder} cannot be read: {error}") from None
    if how.compute == "int8" and stored.storage != "int8" and not how.calibration:
        raise ConfigError(
            f"the weights in {folder} are {stored.storage}, so nothing would compute in int8: make "
            f"a model with weights in int8 (showtell pack {shlex.quote(str(folder))} -o FOLDER "
            "--weights int8), and export that"
        )
    weights = SharedWeights(WEIGHTS, stored)
    graphs, parts = _traced(captioner, weights, how, notify)
    written = {**graphs, WEIGHTS: bytes(weights.content)}
    chooser = {RERANKER} if captioner.reranker is not None else set()
    listed = sorted({*written, *weights.used, *chooser, MODEL, VOCABULARY, METRICS, CONFIG})
    try:
        (folder / MANIFEST).unlink(missing_ok=True)
        for name, content in written.items():
            with atomic_write(folder / name, "wb") as file:
                file.write(content)
        described = replace(how, storage=stored.storage)
        manifest = _describe(captioner, parts, described, _files(folder, listed))
        text = manifest.model_dump_json(indent=2) + "\n"
        write_text(folder / MANIFEST, text)
    except OSError as error:
        raise CheckpointError(f"cannot write into {folder}: {reason_of(error)}") from error
    read_export(folder)
    return len(text) + sum(map(len, written.values()))


def _traced(
    captioner: NativeCaptioner,
    weights: SharedWeights,
    how: Numbers,
    notify: Callable[[str], None],
) -> tuple[dict[str, bytes], DecoderGraphs]:
    """The graphs of a model by their files' names; their weights go into ``weights``."""
    with_regions, encoder = captioner.needs_regions, captioner.encoder
    views = choose_views(how.calibration, encoder) if how.calibration else None
    if how.storage == "int8" and views is not None:
        notify("correcting the encoder's biases")
        encoder = with_corrected_biases(
            encoder, lambda weight: "int8" if weight.numel() >= LEAST[ENCODER] else "fp16", views
        )
    parts = decoder_graphs(
        captioner.decoder, _some_features(captioner.encoder, regions=with_regions)
    )
    graphs = {ENCODER: encoder_graph(encoder, regions=with_regions), **parts.graphs}
    in_int8 = how.compute == "int8"
    files: dict[str, bytes] = {}
    for name, graph in graphs.items():
        notify(f"tracing the graph {name}")
        traced = {name: trace(graph)}
        if name == "look":
            traced["step"] = without_attention(traced[name])
        for part, model in traced.items():
            if name == ENCODER and in_int8 and views is not None:
                _move_in_int8(model, weights, how, views.numpy())
            else:
                weights.move(model, how.storage, halves={WORDS}, least=LEAST.get(name, 0))
            if in_int8 and name != ENCODER:
                integer.multiply_in_int8(model, weights)
            integer.look_up_packed_rows(model)
            files[graph_file(part)] = model.SerializeToString(deterministic=True)
    return files, parts


def _move_in_int8(
    model: ModelProto, weights: SharedWeights, how: Numbers, views: NDArray[np.uint8]
) -> None:
    """``SharedWeights.move`` for an encoder whose late convolutions compute in int8."""
    least = LEAST[ENCODER]
    chosen = integer.late_convolutions(model, least)
    if not chosen:
        weights.move(model, how.storage, least=least)
        return
    rounded = integer.roundings(model, chosen, views)
    names = {node.input[1] for node in chosen}
    read = {name for node in chosen for name in node.input[2:]}
    biases = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name in read
    }
    weights.move(model, how.storage, least=least, whole=names)
    integer.convolve_in_int8(model, weights, chosen, rounded, biases)


def _own_files(folder: Path) -> set[str] | None:
    """The names of the files of an export that is not in a model's own folder."""
    is_alone = is_export(folder) and not (folder / MODEL).exists()
    return listed_files(folder) | {CARD} if is_alone else None


def _some_features(encoder: Encoder, *, regions: bool) -> Features:
    """Features to trace with; their values are of no account."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(NUM_PICTURES, *shape, generator=generator)

    return Features(draw(encoder.pooled_size), draw(*encoder.grid_size) if regions else None)


def _describe(
    captioner: NativeCaptioner, parts: DecoderGraphs, how: Numbers, files: dict[str, File]
) -> Manifest:
    encoder, card = captioner.encoder, captioner.card
    return Manifest(
        format=FORMAT,
        name=card.name,
        licence=card.licence,
        num_parameters=card.num_parameters,
        weights=how.storage,
        compute=how.compute,
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


def _files(folder: Path, names: Iterable[str]) -> dict[str, File]:
    return {name: File.of(folder / name) for name in names}
