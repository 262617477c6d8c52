"""``HfCaptioner``: a network of transformers as a ``Captioner``.

Tokens become words and their log-probabilities as in every other caption: a word has the sum over
its tokens, and one more value is that of the end.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from PIL import Image

from showtell.config import DecodingConfig
from showtell.core.device import choose_runtime
from showtell.core.files import parse_json, short_digest
from showtell.errors import ConfigError, ImageError
from showtell.inference.backends.hf.hub import (
    Place,
    commit_of,
    find_folder,
    licence_of,
    place_of,
)
from showtell.inference.backends.hf.network import Network, Tokens, import_transformers
from showtell.inference.backends.pictures import PictureCaptioner, WholePicture, read_calibration
from showtell.inference.caption import Caption, geometric_mean
from showtell.inference.captioner import ModelInfo
from showtell.inference.specs import BackendSettings
from showtell.inference.stream import Described
from showtell.text.clean import as_text

if TYPE_CHECKING:
    from showtell.inference.loading import ModelRequest

DECODING = frozenset(
    {"method", "beam_size", "num_captions", "length_penalty", "min_length", "max_length"}
    | {"no_repeat_ngram", "temperature", "top_k", "top_p", "seed"}
)
"""Decoding settings that mean the same to transformers; lengths count the model's tokens."""

SAMPLED = 64  # blocks of a large file that a folder's fingerprint covers
BLOCK, TENSOR_BLOCK = 2**16, 2**12  # bytes
MOST_HEADER = 10**8  # bytes; the limit of safetensors itself
READ = (".json", ".safetensors", ".model", ".txt", ".jinja", ".py")


class HfCaptioner(PictureCaptioner):
    """Captions pictures with a model of the Hugging Face hub, or one in a folder.

    Attributes:
        network: what computes.
    """

    takes = frozenset({"prompt", "revision", "trust_remote_code", "max_side"}) | {
        "device",
        "precision",
    }

    def __init__(
        self, network: Network, place: Place, folder: Path, settings: BackendSettings
    ) -> None:
        self.network, self._place, self._folder = network, place, folder
        self.spec = f"hf:{place.name}"
        self.runtime = network.runtime
        default = settings if settings.prompt else settings.with_changes(prompt="short")
        instruction = (
            default.instruction if network.family.value == "chat" else settings.instruction
        )
        self.prompt = network.prompt_for(settings.prompt, instruction)
        self.recipe = WholePicture(settings.max_side)
        self.overlaps = network.runtime.device != "cpu"
        self.batch_size = _batch_size(self.overlaps, network.num_parameters)
        self.calibration = read_calibration(self.spec, self.fingerprint)

    @classmethod
    def of(cls, request: "ModelRequest") -> Self:
        """As ``Backend.of``; downloads the model where it is not on this machine.

        Raises:
            CheckpointError, ConfigError, MissingExtraError: as ``find_folder`` and ``Network``.
        """
        settings, model = request.settings, str(request.model)
        place = place_of(model, settings)
        import_transformers()  # before a download that could not be used
        folder = find_folder(place, with_code=settings.trust_remote_code)
        runtime = choose_runtime(request.device, request.precision)
        name = f"hf:{place.name}"
        network = Network(folder, name, runtime, trusted=settings.trust_remote_code)
        return cls(network, place, folder, settings)

    @cached_property
    def card(self) -> ModelInfo:
        """The licence is the one that the model's card names."""
        return ModelInfo(
            name=self._folder.name if self._place.folder else self._place.name,
            licence=licence_of(self._folder),
            num_parameters=self.network.num_parameters,
            alternatives=True,
            calibrated=self.calibration is not None,
            prompt=self.network.family.value in ("chat", "task", "words"),
            kind="hf",
            revision=commit_of(self._folder),
            decoding=DECODING,
        )

    @cached_property
    def decoding(self) -> DecodingConfig:
        """That of the model's ``generation_config.json``."""
        return self.network.own_decoding()

    @cached_property
    def fingerprint(self) -> str:
        """Of the commit, or of the folder's files; and of the prompt."""
        model = commit_of(self._folder) or _hash_folder(self._folder)
        return short_digest(model, repr((self.prompt, self.recipe.max_side)))

    @property
    def follows_instructions(self) -> bool:
        """Those that chat do; others have a few tasks, or go on with words that they are given."""
        return self.network.family.value == "chat"

    @property
    def decoder_kind(self) -> str:
        """The type of the model, as transformers calls it."""
        return self.network.kind

    def describe_runtime(self) -> str:
        """As ``Runtime.describe``."""
        revision = self.card.revision
        at = f" at commit {revision[:12]}" if revision else ""
        return f"{self.network.runtime.describe()}, with {self.spec}{at}"

    def check(self, decoding: DecodingConfig, attention: bool = False) -> None:
        """As ``PictureCaptioner.check``; transformers has no diverse beam search any more."""
        super().check(decoding, attention)
        if decoding.method == "diverse":
            raise ConfigError(
                f"method = diverse has no meaning for {self.spec}, whose methods are greedy, beam "
                "and sample"
            )

    def caption_images(
        self, images: Sequence[Image.Image], *, decoding: DecodingConfig, first: int = 0
    ) -> Described:
        """As ``PictureCaptioner.caption_images``.

        A batch that is too large is halved, and so is one with a picture that the model refuses.
        """
        half = len(images) // 2
        try:
            found = self.network.run(images, self.prompt, decoding, first=first)
        except ImageError as error:
            if not half:
                return [str(error)]
        except Exception as error:
            if type(error).__name__ != "OutOfMemoryError" or not half:
                raise
            self.batch_size = max(1, min(self.batch_size, half))
        else:
            return [self._best_of(rows, decoding) for rows in found]
        return [
            *self.caption_images(images[:half], decoding=decoding, first=first),
            *self.caption_images(images[half:], decoding=decoding, first=first + half),
        ]

    def _best_of(self, rows: Sequence[Tokens], decoding: DecodingConfig) -> Caption:
        """The first, with the others as its alternatives."""
        best, *others = (self.finished(self._caption(row), decoding) for row in rows)
        return replace(best, alternatives=tuple(others))

    def _caption(self, tokens: Tokens) -> Caption:
        text, words, log_probs = words_of(self.network.tokenizer, tokens)
        return Caption(text, words, log_probs, geometric_mean(log_probs), is_cut=not tokens.ended)


def words_of(tokenizer: Any, tokens: Tokens) -> tuple[str, tuple[str, ...], tuple[float, ...]]:
    """The text of tokens, its words, and the log-probability of each word and of the end.

    A token belongs to the word in which its last letter stands; one without letters, such as a
    piece of a letter, to the word that is being written.
    """
    ids = tokens.ids[:-1] if tokens.ended else tokens.ids
    whole = _text(tokenizer, ids)
    text = " ".join(whole.split())
    words = tuple(text.split())
    sums = [0.0] * len(words)
    for place, log_prob in enumerate(tokens.log_probs[: len(ids)]):
        # Words begun by now: of a text that is cut within a letter, that letter is not there yet.
        begun = len(_text(tokenizer, ids[: place + 1]).rstrip("\ufffd").split())
        if words:
            sums[min(max(begun, 1), len(words)) - 1] += log_prob
    end = tokens.log_probs[len(ids) :]
    return text, words, (*sums, sum(end, 0.0))


def _text(tokenizer: Any, ids: list[int]) -> str:
    return as_text(
        tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    )


def _batch_size(on_gpu: bool, num_parameters: int) -> int:
    """Pictures at a time: as many as a usual GPU has room for; few on a processor."""
    if not on_gpu:
        return 8
    return 64 if num_parameters < 1e9 else 16 if num_parameters < 5e9 else 8


def _hash_folder(folder: Path) -> str:
    """A hash of a folder's files; of large ones their size, ``SAMPLED`` blocks, and each tensor's
    beginning.

    Training changes all of a tensor, and reading all of the weights would take minutes.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.suffix not in READ:
            continue
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with open(path, "rb") as file:
            if size <= SAMPLED * BLOCK:
                digest.update(file.read())
                continue
            for number in range(SAMPLED):
                file.seek(number * (size - BLOCK) // (SAMPLED - 1))
                digest.update(file.read(BLOCK))
            if path.suffix == ".safetensors":
                for place in _tensor_places(file, size):
                    file.seek(place)
                    digest.update(file.read(TENSOR_BLOCK))
    return digest.hexdigest()


def _tensor_places(file: BinaryIO, size: int) -> list[int]:
    """Where the tensors of a file of safetensors begin, and its header; none if it is no such file.

    Args:
        size: of the file, in bytes.
    """
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(size, MOST_HEADER):
        return []
    try:
        header = parse_json(file.read(length))
        tensors = [value for name, value in header.items() if name != "__metadata__"]
        starts = sorted({int(value["data_offsets"][0]) for value in tensors})
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return []
    return [0, *(8 + length + start for start in starts if 0 <= start < size)]
