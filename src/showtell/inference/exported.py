"""An exported model on disk: ONNX graphs, their weights, and a list of both.

``showtell export`` writes the folder (``export/onnx.py``), ``backends/onnx.py`` captions with it.
The weights are in ``weights.bin``; in a checkpoint's folder also in its ``.safetensors`` files.
The list is ``showtell-onnx.json``, the manifest. Folders are handed on, so everything that it says
is checked before it is followed: the files' names, sizes and hashes, the sizes of arrays, and that
no graph reads a file that is not listed. This module imports neither torch nor onnxruntime.
"""

import hashlib
import re
import reprlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from showtell.config import DecodingConfig
from showtell.core.files import check_regular, read_json, short_digest, write_json
from showtell.decoding.reranking import RERANKER
from showtell.errors import CheckpointError
from showtell.images.preprocess import Interpolation, Preprocessing
from showtell.inference.caption import CALIBRATION, Calibration
from showtell.inference.files import (
    BEST,
    MANIFEST,
    METRICS,
    MODEL,
    MOST_JSON,
    VOCABULARY,
    WEIGHTS,
)
from showtell.pretrained import shipped_folder

TENSORS = ".safetensors"
FORMAT = 1
MOST_GRAPH = 2**31  # bytes, of any file of protobuf
CHUNK = 2**20

Name = Annotated[str, Field(pattern=r"^[\w][\w.-]*$", max_length=100)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Width = Annotated[int, Field(gt=0, lt=2**24)]
Size = Annotated[int, Field(ge=0, lt=2**24)]
Compute = Literal["fp32", "int8"]
Colour = Annotated[tuple[float, float, float], Field(strict=False)]


class Strict(BaseModel):
    """A part of the manifest: no other keys, no other types, no NaN."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True
    )


class File(Strict):
    """One file of the folder."""

    num_bytes: Annotated[int, Field(ge=0, lt=2**40)]
    sha256: Hash

    @classmethod
    def of(cls, path: Path) -> Self:
        """The file as it is now."""
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(num_bytes=path.stat().st_size, sha256=digest)


class Recipe(Strict):
    """The encoder's preprocessing, as ``Preprocessing`` has it."""

    size: Annotated[int, Field(gt=0, le=2048)]
    crop: Annotated[float, Field(gt=0, le=1)]
    interpolation: Interpolation
    mean: Colour
    std: Colour
    squash: bool

    def preprocessing(self) -> Preprocessing:
        """What cuts pictures."""
        return Preprocessing(**dict(self))


class EncoderPart(Strict):
    """The encoder.

    Attributes:
        grid_size: (R, D') of the regions that the graph gives; None if it gives none.
    """

    name: str
    fingerprint: str
    preprocessing: Recipe
    pooled_size: Width
    grid_size: Annotated[tuple[Width, Width] | None, Field(strict=False)]


class StateEntry(Strict):
    """An entry of the decoder's state.

    Attributes:
        shape: without the dimension of the rows; ``T`` grows from step to step.
        by_picture: whether it has a row for each picture, not for each hypothesis.
        changes: whether a step returns it.
    """

    name: Annotated[str, Field(max_length=200)]
    dtype: Literal["float32", "int64", "bool"]
    shape: Annotated[
        list[Annotated[int, Field(ge=0, lt=2**24)] | Literal["T"]], Field(max_length=8)
    ]
    by_picture: bool
    changes: bool


class DecoderPart(Strict):
    """The decoder.

    Attributes:
        max_tokens: the most tokens of a caption; None if there is no limit.
        attends: whether there is a graph ``look``.
        names_things: whether there are the graphs ``closer`` and ``told``.
    """

    kind: str
    state: Annotated[list[StateEntry], Field(max_length=1000)]
    max_tokens: Annotated[int, Field(gt=0, lt=2**24)] | None
    attends: bool
    names_things: bool

    @property
    def graphs(self) -> list[str]:
        """Names of the decoder's graphs."""
        more = ["look"] * self.attends + ["closer", "told"] * self.names_things
        return ["init", "step", *more]


class Manifest(Strict):
    """What ``showtell-onnx.json`` says.

    Attributes:
        format: version of the layout of folder and graphs.
        name, licence, num_parameters: as in ``ModelInfo``.
        weights: how matrices are stored: fp32, fp16 or int8.
        compute: fp32, or int8 where that costs little.
        opset: of the graphs.
        vocab_size: V.
        versions: of the programs that made the export.
        decoding: the model's own decoding settings.
        metrics: as in a checkpoint's ``metrics.json``; with the calibration, if there is one.
        files: every other file of the folder.
    """

    format: Annotated[int, Field(gt=0)]
    name: str
    licence: str | None
    num_parameters: Annotated[int, Field(gt=0)] | None
    weights: Literal["fp32", "fp16", "int8"]
    compute: Compute = "fp32"
    opset: Annotated[int, Field(gt=0)]
    vocab_size: Width
    versions: dict[str, str]
    encoder: EncoderPart
    decoder: DecoderPart
    decoding: dict[str, Any]
    metrics: dict[str, Any]
    files: Annotated[dict[Name, File], Field(max_length=20)]

    @property
    def graphs(self) -> list[str]:
        """The names of all graphs."""
        return ["encoder", *self.decoder.graphs]

    @property
    def fingerprint(self) -> str:
        """12 digits that stand for the contents of all files and for the preprocessing."""
        files = [f"{name} {self.files[name].sha256}\n" for name in sorted(self.files)]
        return short_digest(self.encoder.preprocessing.model_dump_json(), *files)


def graph_file(graph: str) -> str:
    """The file of a graph."""
    return f"{graph}.onnx"


GRAPH_FILES = tuple(map(graph_file, ("encoder", "init", "step", "look", "closer", "told")))
"""The files of all graphs that an export may have."""


def find_export(model: str | Path) -> Path | None:
    """The folder of an exported model; None if there is none.

    It is ``model`` itself, or a run's ``best`` in it. A string that names a model that comes with
    showtell is that model.
    """
    folder = shipped_folder(model) or Path(model)
    return next((found for found in (folder, folder / BEST) if is_export(found)), None)


def is_export(folder: Path) -> bool:
    """Whether a folder holds an exported model."""
    return (folder / MANIFEST).is_file()


def listed_files(folder: Path) -> set[str]:
    """The names of an export's files: the manifest and what it lists; empty without an export."""
    if not is_export(folder):
        return set()
    with suppress(OSError, ValueError, KeyError, TypeError):
        return {MANIFEST, *map(str, read_json(folder / MANIFEST, MOST_JSON)["files"])}
    return {MANIFEST}


def has_checkpoint(export: Path) -> bool:
    """Whether the model of an export can also run in torch."""
    return (export / MODEL).is_file()


def write_calibration(folder: Path, calibration: Calibration | None) -> None:
    """Give a checkpoint another calibration, or none; as ``write_metrics``."""
    write_metrics(folder, {CALIBRATION: calibration and calibration.to_dict()})


def write_metrics(folder: Path, changes: Mapping[str, Any]) -> None:
    """Change entries of a checkpoint's ``metrics.json``; one whose value is None goes.

    An export in its folder takes them up, and a reranker that was written before: it has a copy of
    the metrics, and lists both files by their hashes.
    """

    def changed(metrics: Mapping[str, Any]) -> dict[str, Any]:
        gone = {key for key, value in changes.items() if value is None}
        return {key: value for key, value in {**metrics, **changes}.items() if key not in gone}

    write_json(folder / METRICS, changed(read_json(folder / METRICS, MOST_JSON)))
    if not is_export(folder):
        return
    manifest = read_json(folder / MANIFEST, MOST_JSON)
    manifest["metrics"] = changed(manifest["metrics"])
    files = manifest["files"]
    has_reranker = (folder / RERANKER).is_file()
    if not has_reranker:
        files.pop(RERANKER, None)
    for name in [METRICS] * (METRICS in files) + [RERANKER] * has_reranker:
        files[name] = File.of(folder / name).model_dump()
    write_json(folder / MANIFEST, manifest)


def read_export(folder: Path) -> tuple[Manifest, DecodingConfig]:
    """Read what an exported model says of itself, and check its files.

    Raises:
        CheckpointError: a file is missing or is not the one that was written, the manifest is of
            another version or says what cannot be, or a graph reads a file that is not listed.
    """
    try:
        values = read_json(folder / MANIFEST, MOST_JSON)
        version = values.get("format") if isinstance(values, dict) else None
        if isinstance(version, int) and version > FORMAT:
            raise ValueError(
                f"its format is {version}, and this showtell reads {FORMAT}: install a newer one"
            )
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        decoding = DecodingConfig.model_validate(manifest.decoding)
        for name in (VOCABULARY, WEIGHTS, *map(graph_file, manifest.graphs)):
            if name not in manifest.files:
                raise ValueError(f"{MANIFEST} does not list {name}")
        for name, file in manifest.files.items():
            _check_file(folder / name, file, manifest.files)
    except UnicodeDecodeError:
        raise CheckpointError(f"the export {folder} is damaged: {MANIFEST} is not UTF-8") from None
    except OSError as error:
        reason = f"{Path(str(error.filename)).name}: {error.strerror}"
        raise CheckpointError(f"the export {folder} is damaged: {reason}") from None
    except ValidationError as error:
        reason = first_problem(MANIFEST, error)
        raise CheckpointError(f"the export {folder} is damaged: {reason}") from None
    except ValueError as error:
        raise CheckpointError(f"the export {folder} cannot be read: {error}") from None
    return manifest, decoding


def _check_file(path: Path, expected: File, files: Mapping[str, File]) -> None:
    """Raise where a file is not the listed one, or is a graph that reads an unlisted one.

    Raises:
        OSError, ValueError: with the reason.
    """
    if (size := check_regular(path)) != expected.num_bytes:
        raise ValueError(
            f"{path.name} has {size:,} bytes and {MANIFEST} says {expected.num_bytes:,}; "
            "export the model again, or copy it again"
        )
    is_graph = path.suffix == ".onnx"
    if is_graph and size > MOST_GRAPH:
        raise ValueError(f"{path.name} has {size:,} bytes; expected {MOST_GRAPH:,} at most")
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(size if is_graph else CHUNK):
            digest.update(chunk)
            if is_graph:
                _check_references(path.name, chunk, files)
    if digest.hexdigest() != expected.sha256:
        raise ValueError(
            f"the content of {path.name} is not what {MANIFEST} says (its SHA-256 differs); "
            "export the model again, or copy it again"
        )


# A tensor's external data in protobuf: three pairs of a key and a value, each length in one byte.
REFERENCE = re.compile(
    rb"j.\n\x08location\x12.([\w.-]{1,100})"
    rb"j.\n\x06offset\x12.([0-9]{1,15})"
    rb"j.\n\x06length\x12.([0-9]{1,15})",
    re.DOTALL,
)
KEYS = (b"location", b"offset", b"length")


def _check_references(name: str, graph: bytes, files: Mapping[str, File]) -> None:
    """Raise ValueError where a graph may read another file than the listed weights.

    Every place where the word ``location`` stands must be a reference, exactly as protobuf writes
    it, to bytes of a file of weights; the exporter uses the word nowhere else.
    """
    num_found = 0
    for match in REFERENCE.finditer(graph):
        values = match.groups()
        written = b"".join(_pair(key, value) for key, value in zip(KEYS, values, strict=True))
        if match[0] != written:
            break
        location, offset, length = values[0].decode(), int(values[1]), int(values[2])
        if not (location == WEIGHTS or location.endswith(TENSORS)) or location not in files:
            break
        if offset + length > files[location].num_bytes:
            raise ValueError(f"{name} reads past the end of {location}; it is not loaded")
        num_found += 1
    if graph.count(b"location") != num_found or graph.count(b"\n\x06offset") != num_found:
        raise ValueError(f"{name} reads a file that is not listed in {MANIFEST}; it is not loaded")


def _pair(key: bytes, value: bytes) -> bytes:
    """An entry of external data (field 13): a message of two texts, as protobuf writes it."""
    pair = b"\n%c%b\x12%c%b" % (len(key), key, len(value), value)
    return b"j%c%b" % (len(pair), pair)


def first_problem(name: str, error: ValidationError) -> str:
    """The first wrong value of a file, as one line: the file's ``name``, where, what and why."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the whole"
    if first["type"] == "missing":
        return f"{name} has no {where}"
    return f"{name}: {where} is {reprlib.repr(first['input'])}: {first['msg'].lower()}"
