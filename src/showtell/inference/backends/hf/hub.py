"""Where the files of ``hf:ID`` are: a folder, the Hugging Face cache, or the hub.

What is in the cache is used as it is, without a word to the hub. Only the files that captioning
reads are downloaded: settings, tokeniser and weights as safetensors, and Python files where remote
code is trusted. Every downloaded file is compared with the hash that the hub gave for it. Where the
cache is (``HF_HOME``), whether the network may be used (``HF_HUB_OFFLINE``) and which hub is asked
(``HF_ENDPOINT``) is up to huggingface_hub. This module imports neither torch nor transformers.
"""

import hashlib
import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from showtell.core.files import read_json, write_text
from showtell.core.progress import Reporter
from showtell.errors import CheckpointError, ConfigError, MissingExtraError, first_line
from showtell.inference.specs import BackendSettings

PATTERNS = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors", "README.md")
CODE = "*.py"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
MOST_JSON = 2**26  # bytes; a tokeniser or an index of weights can have millions
CHUNK = 2**20
IMPORTED = re.compile(r"^[ \t]*from[ \t]+\.(\w+)[ \t]+import\b", re.MULTILINE)
"""A module beside another one, as transformers finds what it has to copy."""


@dataclass(frozen=True, slots=True)
class Place:
    """What stands behind ``hf:``.

    Attributes:
        name: the folder, or the model's id on the hub.
        folder: where it is a folder, that.
        revision: branch, tag or commit on the hub; None: the cached one, else ``main``.
    """

    name: str
    folder: Path | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model of the hub that is not on this machine, or not whole.

    Attributes:
        commit: what the revision stands for now.
        licence: from the model's card; None where it names none.
        num_bytes: of the files that are downloaded.
        files: their names.
    """

    place: Place
    commit: str
    licence: str | None
    num_bytes: int
    files: tuple[str, ...]

    def describe(self) -> str:
        """One line for the user."""
        return (
            f"{self.place.name} (commit {self.commit[:12]}, licence {self.licence or 'not given'}) "
            f"is not on this machine: {len(self.files)} files, {self.num_bytes / 1e6:,.1f} MB"
        )


def place_of(model: str, settings: BackendSettings) -> Place:
    """What ``hf:ID``, ``hf:ID@REVISION`` or ``hf:./folder`` means.

    A name with a dot or a slash in front, or of an existing folder, is a folder.

    Raises:
        CheckpointError: there is no such folder, or this is not an id of the hub.
        ConfigError: two revisions are given, or one for a folder.
    """
    name = model.removeprefix("hf:")
    folder = Path(name).expanduser()
    if name.startswith((".", "/", "~")) or folder.is_dir():
        if not folder.is_dir():
            raise CheckpointError(f"{model}: no such folder: {folder}")
        if settings.revision is not None:
            raise ConfigError(f"{model}: --revision is for models of the hub, and this is a folder")
        return Place(name, folder)
    name, at, revision = name.partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or (at and not revision):
        raise CheckpointError(
            f"{model}: expected hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:./FOLDER"
        )
    if at and settings.revision not in (None, revision):
        raise ConfigError(f"{model}: the name says revision {revision}, and --revision another")
    return Place(name, None, revision or settings.revision)


def find_folder(place: Place, *, with_code: bool = False) -> Path:
    """The folder with a model's files; downloads them where they are not in the cache.

    Raises:
        CheckpointError: as ``look_up`` and ``download``; or it has no safetensors.
    """
    folder = place.folder or cached_folder(place, with_code=with_code)
    if folder is None:
        folder = download(look_up(place, with_code=with_code))
    check_folder(folder, place)
    return folder


def cached_folder(place: Place, *, with_code: bool = False) -> Path | None:
    """The snapshot of a model in the cache; None where there is none, or it is not whole."""
    hub = _hub()
    try:
        found = Path(
            hub.snapshot_download(
                place.name,
                revision=place.revision,
                allow_patterns=_patterns(with_code),
                local_files_only=True,
            )
        )
    except (OSError, ValueError):
        return None
    if _unfinished(found.parents[1], found.name).exists():
        return None
    return found if is_whole(found) and (not with_code or has_code(found, place.name)) else None


def is_whole(folder: Path) -> bool:
    """Whether a snapshot has its settings and all parts of its weights, as far as names tell."""
    if not (folder / CONFIG).is_file():
        return False
    index = folder / INDEX
    if not index.is_file():
        return (folder / WEIGHTS).is_file()
    try:
        return all((folder / name).is_file() for name in _parts(index))
    except CheckpointError:  # it is downloaded again
        return False


def has_code(folder: Path, model: str) -> bool:
    """Whether a snapshot has the Python files that its settings name, and what these import.

    A snapshot that was downloaded without code has none of them. Code of another repository
    (``owner/name--module.Class``) is not looked for: it is not in this snapshot.

    Args:
        model: the repository's own name.
    """
    wanted = {name for file in folder.glob("*config.json") for name in _modules_in(file, model)}
    seen: set[str] = set()
    while left := wanted - seen:
        name = left.pop()
        seen.add(name)
        try:
            text = (folder / f"{name}.py").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        wanted.update(IMPORTED.findall(text))
    return True


def _modules_in(file: Path, model: str) -> Iterator[str]:
    """The modules beside a file of settings that its ``auto_map`` names."""
    try:
        named = list(read_json(file, MOST_JSON)["auto_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # whoever loads it says so
        return
    for value in named:
        for name in value if isinstance(value, list) else [value]:  # a tokeniser may have two
            own = str(name).removeprefix(f"{model}--")
            if match := re.fullmatch(r"(\w+)\.\w+", own):
                yield match[1]


def missing_files(model: str, settings: BackendSettings) -> Wanted | None:
    """What has to be downloaded for a model; None where nothing has to be.

    Raises:
        CheckpointError, ConfigError: as ``place_of`` and ``look_up``.
    """
    place = place_of(model, settings)
    trusted = settings.trust_remote_code
    if place.folder is not None or cached_folder(place, with_code=trusted) is not None:
        return None
    return look_up(place, with_code=trusted)


def look_up(place: Place, *, with_code: bool = False) -> Wanted:
    """Ask the hub for a model's licence and files; nothing of it is downloaded.

    Raises:
        CheckpointError: there is no such model or revision, it has no safetensors, or the hub
            cannot be asked.
    """
    with _told(place):
        found = (
            _hub()
            .HfApi()
            .model_info(place.name, revision=place.revision, files_metadata=True, timeout=30)
        )
    names = {file.rfilename: file.size or 0 for file in found.siblings or ()}
    _check_weights(set(names), place)
    kept = [name for name in names if _is_kept(name, with_code)]
    card = found.card_data.to_dict() if found.card_data else {}
    return Wanted(
        place,
        str(found.sha),
        _licence_in(card),
        sum(names[name] for name in kept),
        tuple(sorted(kept)),
    )


def download(wanted: Wanted, report: Reporter | None = None) -> Path:
    """Download a model into the cache; a download that was cut off is gone on with.

    Raises:
        CheckpointError: the hub cannot be reached, the disk is full, or a file is not the one that
            the hub promised; that file is removed from the cache.
    """
    place, lock = wanted.place, threading.Lock()
    tqdm: Any = import_module("tqdm.auto").tqdm

    class Bar(tqdm):  # type: ignore[misc]
        """Tells ``report`` instead of drawing."""

        def __init__(self, *args: Any, **options: Any) -> None:
            self._unit = options.get("unit")
            options.pop("name", None)
            super().__init__(*args, **(options | {"file": io.StringIO(), "disable": False}))

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            if report is not None and self._unit == "B":
                with lock:
                    done = min(int(self.n), wanted.num_bytes)
                    report.progress("downloading", done, wanted.num_bytes, "bytes")
            return drawn

    hub = _hub()
    with _told(place):
        # Asked for by its commit, a snapshot counts as there as soon as it has any file.
        name = hub.file_download.repo_folder_name(repo_id=place.name, repo_type="model")
        mark = _unfinished(Path(hub.constants.HF_HUB_CACHE) / name, wanted.commit)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        folder = Path(
            hub.snapshot_download(
                place.name,
                revision=wanted.commit,
                allow_patterns=list(wanted.files),
                tqdm_class=Bar,
            )
        )
        if place.revision != wanted.commit:
            _keep_reference(folder, place.revision or "main", wanted.commit)
    for name in wanted.files:
        _check_hash(folder / name, place)
    mark.unlink(missing_ok=True)
    return folder


def _unfinished(repository: Path, commit: str) -> Path:
    """The mark of a snapshot whose download has begun and not ended."""
    return repository / f".showtell-unfinished-{commit}"


def _keep_reference(folder: Path, revision: str, commit: str) -> None:
    """Note which commit a branch stands for, as huggingface_hub itself does for branches."""
    reference = folder.parents[1] / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    write_text(reference, commit)


def _check_hash(file: Path, place: Place) -> None:
    """Raise CheckpointError where a file's content is not what its name in the cache promises.

    The cache names contents by the hub's hash: SHA-256 for large files, git's SHA-1 for small ones.
    """
    blob = file.resolve()
    promised = blob.name
    if re.fullmatch(r"[0-9a-f]{64}", promised):
        digest = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", promised):
        digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
    else:  # another hub names contents in its own way, or the file system has no links
        return
    with open(blob, "rb") as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != promised:
        blob.unlink()
        if file.is_symlink():
            file.unlink()
        raise CheckpointError(
            f"hf:{place.name}: {file.name} is not the file that the hub promised (its hash differs)"
            "; it was removed. Run the same command again; if this happens again, the hub or a "
            "proxy is at fault"
        )


def check_folder(folder: Path, place: Place) -> None:
    """Raise CheckpointError where a folder has not what a model is loaded from."""
    _check_weights({path.name for path in folder.iterdir()}, place)
    if (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
        for name in _parts(folder / INDEX):
            if not (folder / name).is_file():
                raise CheckpointError(f"hf:{place.name}: {name} is missing; copy the folder again")


def _check_weights(names: set[str], place: Place) -> None:
    if CONFIG not in names:
        raise CheckpointError(
            f"hf:{place.name} has no {CONFIG}, so it is not a model of transformers"
        )
    if WEIGHTS in names or INDEX in names:
        return
    if not names.intersection(PICKLED):
        raise CheckpointError(f"hf:{place.name} has no weights ({WEIGHTS})")
    folder = place.name if place.folder else place.name.rpartition("/")[2]
    fetch = "" if place.folder else f"hf download {place.name} --local-dir {folder} && "
    code = (
        "from transformers import AutoModelForImageTextToText as M; "
        f"M.from_pretrained('{folder}', use_safetensors=False).save_pretrained('{folder}')"
    )
    raise CheckpointError(
        f"hf:{place.name} has its weights only as {PICKLED[0]}, a pickle, and showtell reads "
        f'safetensors alone; convert it once: {fetch}python -c "{code}"; then give '
        f"hf:{folder if folder.startswith(('.', '/', '~')) else './' + folder}"
    )


def _parts(index: Path) -> set[str]:
    """The files of weights that are in several."""
    try:
        values = read_json(index, MOST_JSON)
        return {str(Path(name).name) for name in values["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is damaged: {first_line(error)}") from None


def commit_of(folder: Path) -> str | None:
    """The commit of a snapshot in the cache; None of other folders."""
    return folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else None


def licence_of(folder: Path) -> str | None:
    """The licence that a model's card names; None where there is none."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    try:
        values = import_module("huggingface_hub.repocard").metadata_load(card)
    except Exception:  # of a card that a person wrote, in YAML
        return None
    return _licence_in(values or {})


def _licence_in(card: dict[str, Any]) -> str | None:
    licence = card.get("license")
    if isinstance(licence, list):
        licence = ", ".join(map(str, licence)) or None
    if licence == "other":
        licence = card.get("license_name") or licence
    return None if licence is None else str(licence)


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model in the Hugging Face cache."""

    name: str
    kind: str
    revision: str
    licence: str | None
    num_bytes: int


CAPTIONS = re.compile(
    r"ConditionalGeneration$|CausalLM$|VisionEncoderDecoder|Vision2Seq|Text2Text$"
)


def _is_captioner(config: dict[str, Any]) -> bool:
    """Whether a model's settings look like those of one that makes text of pictures.

    transformers knows for sure, and takes seconds to be imported.
    """
    sees = any(name in config for name in ("vision_config", "encoder", "vit_hidden_size"))
    return sees and any(CAPTIONS.search(str(name)) for name in config.get("architectures") or ())


def cached_models() -> list[CachedModel]:
    """The captioners in the Hugging Face cache that are whole, by name."""
    try:
        hub, errors = _hub(), import_module("huggingface_hub.errors")
    except MissingExtraError:
        return []
    try:
        cache = hub.scan_cache_dir()
    except (errors.CacheNotFound, OSError, ValueError):  # nothing was ever downloaded
        return []
    found = []
    for repo in cache.repos:
        for revision in repo.revisions if repo.repo_type == "model" else ():
            folder = Path(revision.snapshot_path)
            try:
                config = read_json(folder / CONFIG, MOST_JSON)
            except (OSError, ValueError):
                continue
            if isinstance(config, dict) and _is_captioner(config) and is_whole(folder):
                kind = str(config.get("model_type"))
                size, commit = int(revision.size_on_disk), str(revision.commit_hash)
                found.append(
                    CachedModel(f"hf:{repo.repo_id}", kind, commit, licence_of(folder), size)
                )
    return sorted(found, key=lambda model: (model.name, model.revision))


def _patterns(with_code: bool) -> list[str]:
    return [*PATTERNS, *[CODE] * with_code]


def _is_kept(name: str, with_code: bool) -> bool:
    """Whether a file of the hub is one that captioning reads; those in subfolders are not."""
    return "/" not in name and any(Path(name).match(each) for each in _patterns(with_code))


def _hub() -> Any:
    try:
        return import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise MissingExtraError("hf", "a captioner hf:ID") from None


@contextmanager
def _told(place: Place) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line."""
    errors: Any = import_module("huggingface_hub.errors")
    name = f"hf:{place.name}"
    try:
        yield
    except errors.GatedRepoError:
        raise CheckpointError(
            f"{name} is gated: accept its terms on the hub, and give a token (`hf auth login`)"
        ) from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"{name}: the hub has no such model, or it is private and there is no token for it "
            "(`hf auth login`); for a folder, write hf:./FOLDER"
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{name} has no revision {place.revision!r}") from None
    except errors.OfflineModeIsEnabled:
        raise CheckpointError(
            f"{name} is not in the cache, and HF_HUB_OFFLINE forbids downloading it"
        ) from None
    # HfHubHTTPError's base, which huggingface_hub imports from whatever it speaks HTTP with.
    except (
        OSError,
        ValueError,
        errors.EntryNotFoundError,
        *errors.HfHubHTTPError.__bases__,
    ) as error:
        raise CheckpointError(
            f"{name} cannot be downloaded: {first_line(error)}; to go on where it stopped, run the "
            "same command again"
        ) from None
