"""A model on disk: a folder that is either whole or not there.

It holds ``model.safetensors``, ``config.toml``, ``vocabulary.json`` and ``metrics.json``; the
folder ``last/`` of a run also has ``resume.safetensors`` and ``resume.json``, from which training
goes on. The folder is written under a temporary name and then renamed. Nothing is pickled. Of the
encoder only the weights that were trained are stored (``encoder.safetensors``). Its name is in
the configuration and its fingerprint in ``metrics.json``, and loading compares them.

Whatever a folder says is checked before it is followed, since folders are handed on: sizes against
the header of the weights, figures against their types, the size of each file. The encoder's
published weights, where they come with no package, lie in the folder too
(``encoder-weights-HASH.safetensors``). ``encoder_source`` refuses settings that name a file outside
of the folder, or an encoder that timm would fetch, unless the person trusts the model.
"""

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from showtell.config import Config
from showtell.core.files import errors_about, read_bounded, read_json, write_json, write_text
from showtell.decoders.base import Decoder
from showtell.decoders.registry import load_decoder, outline_decoder
from showtell.decoding.reranking import RERANKER, Reranker
from showtell.encoders.encoder import is_fetched
from showtell.encoders.packing import Storage, pack_weights
from showtell.errors import CheckpointError, ShowtellError, one_line, reason_of
from showtell.inference.exported import first_problem, is_export
from showtell.inference.files import (
    BEST,
    CARD_FILES,
    CONFIG,
    ENCODER,
    LAST,
    METRICS,
    MODEL,
    MOST_JSON,
    RESUME_DATA,
    RESUME_TENSORS,
    VOCABULARY,
    checkpoint_folders,
)
from showtell.inference.specs import kinds
from showtell.inference.weights import (
    read_tensors,
    read_weights,
    save_tensors,
    store_encoder_weights,
)
from showtell.pretrained import no_model, shipped_folder
from showtell.text.vocabulary import Vocabulary, load_vocabulary

MOST_CONFIG = 2**18  # bytes
LONGEST_REASON = 500  # letters

Size = Annotated[int, Field(gt=0, lt=2**31)]  # of features
Count = Annotated[int, Field(ge=0, lt=2**62)]


class MetricsFile(BaseModel):
    """The types of what is read from ``metrics.json``; it may have more."""

    model_config = ConfigDict(strict=True)

    feature_size: Size
    region_size: Size | None = None
    encoder_fingerprint: str | None = None
    base_encoder_fingerprint: str | None = None
    data_fingerprint: str | None = None
    data: str | None = None
    averaged: list[str] | None = None
    versions: dict[str, Any] | None = None
    metrics: dict[str, float] | None = None


class ResumeFile(BaseModel):
    """The types of what is read from ``resume.json``."""

    model_config = ConfigDict(strict=True)

    epoch: Count
    batch: Count
    step: Count
    best_epoch: Count
    num_skipped: Count = 0  # 0.1.0 did not have it
    seconds: float
    best: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    data_fingerprint: str
    log_offsets: dict[str, Count]


@dataclass(frozen=True)
class ResumeState:
    """What a stopped run needs besides the model to go on exactly where it was."""

    tensors: dict[str, Tensor]
    data: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A trained decoder with everything that belongs to it.

    Attributes:
        decoder: in eval mode, on the processor.
        metrics: figures and provenance (``encoder_fingerprint``, ``feature_size``, ``region_size``,
            versions; ``base_encoder_fingerprint`` if some of the encoder was trained).
        encoder: the weights of the encoder's backbone that were trained, by name; None if the
            encoder is as it was published.
        encoder_weights: the file that ``config.encoder.weights`` names, if it lies in the
            checkpoint's folder or is to be written into it.
        reranker: what chooses among captions, for this encoder and this vocabulary.
    """

    decoder: Decoder
    vocabulary: Vocabulary
    config: Config
    metrics: dict[str, Any]
    encoder: dict[str, Tensor] | None = None
    encoder_weights: Path | None = None
    reranker: Reranker | None = None


def save_checkpoint(
    folder: Path,
    checkpoint: Checkpoint,
    *,
    resume: ResumeState | None = None,
    storage: Storage = "fp32",
    others: Iterable[Path] = (),
) -> None:
    """Write a checkpoint folder; an older one is replaced only when the new one is whole.

    Args:
        resume: what training needs to go on.
        storage: how matrices are stored.
        others: files of which the folder gets copies.

    Raises:
        OSError: the disk is full or not writable; an older checkpoint is untouched.
    """
    with new_folder(folder) as temporary:
        save_tensors(temporary / MODEL, _packed(checkpoint.decoder.state_dict(), storage))
        if checkpoint.encoder is not None:
            save_tensors(temporary / ENCODER, _packed(checkpoint.encoder, storage))
        config = checkpoint.config
        if checkpoint.encoder_weights is not None:
            config = config.with_encoder_weights(
                store_encoder_weights(checkpoint.encoder_weights, temporary)
            )
        write_text(temporary / CONFIG, config.to_toml())
        checkpoint.vocabulary.save(temporary / VOCABULARY)
        write_json(temporary / METRICS, checkpoint.metrics)
        if checkpoint.reranker is not None:
            checkpoint.reranker.save(temporary / RERANKER)
        if resume is not None:
            save_tensors(temporary / RESUME_TENSORS, resume.tensors)
            write_json(temporary / RESUME_DATA, resume.data)
        for path in others:
            shutil.copyfile(path, temporary / path.name)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the name ``folder`` when the block ends without an error.

    Where ``folder`` is a link, it takes the name of the folder that the link leads to.

    Raises:
        OSError: it cannot be made; an older folder of the name is untouched.
    """
    folder = _behind_link(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with errors_about(folder, temporary):
            temporary.mkdir(parents=True)
        yield temporary
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_new_folder(
    folder: Path, kind: str, own: Callable[[Path], Collection[str] | None], *, overwrite: bool
) -> None:
    """Raise CheckpointError where ``new_folder(folder)`` would replace what is to stay.

    Args:
        kind: what may be replaced, such as "an export".
        own: the names of the files that a folder of that kind may hold; None for other folders.
        overwrite: whether one of that kind is replaced.
    """
    if folder.name in ("", ".."):
        raise CheckpointError(f"-o {folder} has no name of its own: give the name of a new folder")
    above = next(parent for parent in folder.absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        raise CheckpointError(f"-o {folder}: {above} is not a folder; give another folder with -o")
    if not os.access(above, os.W_OK | os.X_OK):
        raise CheckpointError(
            f"-o {folder}: {above} cannot be written to; give another folder with -o"
        )
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    names = own(folder) if folder.is_dir() else None
    if names is None:
        raise CheckpointError(
            f"{folder} already exists and is not {kind}: give another folder with -o"
        )
    for name in sorted(os.listdir(folder)):
        if name not in names:
            raise CheckpointError(
                f"{folder} also holds {name}, which showtell does not know as its own and would "
                "delete: move it, or give another folder with -o"
            )
    if not overwrite:
        raise CheckpointError(
            f"{folder} already exists: give another folder with -o, or add --overwrite"
        )


def card_files(model: Path, output: Path, names: Iterable[str] = CARD_FILES) -> list[Path]:
    """The files of the card that a new ``output`` gets: the model's, else those of the old one.

    A card is written by a person, so none is replaced by another one.

    Args:
        model: the folder of the model.

    Raises:
        CheckpointError: the model has one, and ``output`` has another of that name.
    """
    found = []
    for name in names:
        both = [path for path in (model / name, output / name) if path.is_file()]
        if len(both) == 2 and both[0].read_bytes() != both[1].read_bytes():
            raise CheckpointError(
                f"{both[1]} is not {both[0]}, which would replace it: move it, or give another "
                "folder with -o"
            )
        found += both[:1]
    return found


def load_checkpoint(model: str | Path) -> Checkpoint:
    """Read a checkpoint folder, the best checkpoint of a run's folder, or a model by its name.

    Raises:
        CheckpointError: it is not there, incomplete or damaged, or another program made it.
    """
    folder = find_checkpoint(model)
    with _damage_told(f"the checkpoint {folder} cannot be read"):
        read_bounded(folder / CONFIG, MOST_CONFIG)
        config = Config.load(folder / CONFIG)
        metrics = _read_object(folder / METRICS, MetricsFile)
        vocabulary = load_vocabulary(folder / VOCABULARY)
        feature_size = metrics["feature_size"]
        sizes = {
            "vocab_size": len(vocabulary),
            "feature_size": feature_size,
            "region_size": metrics.get("region_size") or feature_size,
        }
        outline = outline_decoder(config.decoder, **sizes)
        decoder = load_decoder(config.decoder, read_weights(folder / MODEL, outline), **sizes)
        is_trained = metrics.get("base_encoder_fingerprint") is not None
        encoder = read_weights(folder / ENCODER) if is_trained else None
    reranker = Reranker.read(folder, len(vocabulary), metrics)
    own = _own_encoder_weights(folder, config)
    return Checkpoint(decoder, vocabulary, config, metrics, encoder, own, reranker)


def load_resume_state(folder: Path) -> ResumeState:
    """Read what ``save_checkpoint`` was given as ``resume``.

    Raises:
        CheckpointError: the checkpoint has no resume state, or is damaged.
    """
    with _damage_told(f"{folder} holds no state to resume from"):
        data = _read_object(folder / RESUME_DATA, ResumeFile)
        return ResumeState(read_tensors(folder / RESUME_TENSORS), data)


def encoder_source(checkpoint: Checkpoint, *, trusted: bool) -> tuple[str, Path | None]:
    """The encoder that a checkpoint's settings name: its name, and the file of its weights.

    Args:
        trusted: whether the settings may name a file outside of the folder, or an encoder that is
            fetched from elsewhere.

    Raises:
        CheckpointError: they do, and are not trusted.
    """
    settings = checkpoint.config.encoder
    weights = checkpoint.encoder_weights or settings.weights
    if trusted:
        return settings.name, weights
    advice = (
        "If you trust whoever made the model, add --trust-model where the command has it "
        "(in Python: trust_model=True)"
    )
    if is_fetched(settings.name):
        raise CheckpointError(
            f"the model's {CONFIG} names an encoder from elsewhere, {settings.name!r}, which timm "
            f"would fetch and load. {advice}"
        )
    if settings.weights is not None and checkpoint.encoder_weights is None:
        raise CheckpointError(
            f"the model's {CONFIG} names encoder weights that are not in its folder, "
            f"{str(settings.weights)!r}. {advice}"
        )
    return settings.name, weights


def _own_encoder_weights(folder: Path, config: Config) -> Path | None:
    """The weights file that the settings name, if it is one of the folder's own."""
    name = str(config.encoder.weights or "")
    is_own = re.fullmatch(r"[\w.-]+\.safetensors", name) and (folder / name).is_file()
    return folder / name if is_own else None


@contextmanager
def _damage_told(what: str) -> Iterator[None]:
    """Turn what reading a file may raise into one line that begins with ``what``."""
    try:
        yield
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        ArithmeticError,
        RuntimeError,  # as torch says that weights or numbers do not fit; also RecursionError
        SafetensorError,
        ShowtellError,
    ) as error:
        if isinstance(error, OSError) and error.filename is not None:
            reason = f"{error.filename}: {reason_of(error)}"
        else:
            reason = one_line(error, LONGEST_REASON)
        raise CheckpointError(f"{what}: {reason}") from None


def _read_object(path: Path, types: type[BaseModel]) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        OSError, ValueError: it cannot be read, or has values of other types.
    """
    try:
        values = read_json(path, MOST_JSON)
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is not text in UTF-8") from None
    try:
        types.model_validate(values)
    except ValidationError as error:
        raise ValueError(first_problem(path.name, error)) from None
    assert isinstance(values, dict)
    return values


def portable_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's ``metrics`` with names in place of paths, and nothing of the machine."""
    kept = {key: value for key, value in metrics.items() if key != "processes"}
    if "data" in kept:
        kept["data"] = Path(kept["data"]).name
    if "averaged" in kept:
        kept["averaged"] = ["/".join(Path(folder).parts[-2:]) for folder in kept["averaged"]]
    if "versions" in kept:
        kept["versions"] = {k: v for k, v in kept["versions"].items() if k != "platform"}
    return kept


def find_checkpoint(model: str | Path) -> Path:
    """The folder that holds the weights: ``model`` itself, or a run's ``best`` or ``last``.

    A string that names a model that comes with showtell is that model.

    Raises:
        CheckpointError: there is none.
    """
    folder = shipped_folder(model) or Path(model)
    for candidate in checkpoint_folders(folder):
        whole = recover_folder(candidate)
        if (whole / MODEL).is_file():
            return whole
    if is_export(folder):
        raise CheckpointError(
            f"{folder} is an export, which runs in onnxruntime (runtime onnx or auto): give the "
            "checkpoint that it was made from"
        )
    if not folder.exists():
        raise no_model(model, kinds())
    if (folder / "model" / MODEL).is_file():
        raise CheckpointError(f"{folder} is a distillation: its model is {folder / 'model'}")
    raise CheckpointError(f"{folder} holds no checkpoint (no {MODEL} in it, nor in best/ or last/)")


def recover_folder(folder: Path) -> Path:
    """Where ``folder``'s content is: a stop between two renames leaves it under another name."""
    if folder.exists():  # "." has no name to make another of
        return folder
    candidates = [_set_aside(folder)]
    if folder.name in (BEST, LAST):  # of a run; showtell 0.1.0 named it so
        candidates.append(folder.with_name(f"{folder.name}.old"))
    return next((old for old in candidates if old.is_dir()), folder)


def _set_aside(folder: Path) -> Path:
    """The name of an old folder while a new one takes its place; no person's folder has it."""
    folder = _behind_link(folder)
    return folder.with_name(f".{folder.name}.showtell-old")


def _behind_link(folder: Path) -> Path:
    """The folder that a link leads to; ``folder`` itself where it is none."""
    return folder.resolve() if folder.is_symlink() else folder


def _packed(weights: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    own = {name: weight.detach().contiguous() for name, weight in weights.items()}
    return pack_weights(own, storage)


def replace_folder(new: Path, folder: Path) -> None:
    """Give ``new`` the name ``folder``; at every moment one whole folder can be found."""
    folder = _behind_link(folder)
    old = _set_aside(folder)
    if folder.exists():
        if old.is_symlink():
            old.unlink()
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
