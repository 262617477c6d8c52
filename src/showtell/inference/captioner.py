"""The front door: what every captioner can do.

``Captioner`` is the interface that the command line, the server and bulk runs know; ``loading.py``
finds the class that runs a model. The models that showtell trains implement it in
``backends/native.py``, which code that works on features rather than on pictures (evaluation,
training) uses directly.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

from showtell.config import DecodingConfig
from showtell.errors import ImageError
from showtell.images.open import PictureLike, as_image, is_picture_like
from showtell.inference.caption import Calibration, Caption
from showtell.inference.loading import ModelRequest, load_request
from showtell.inference.notebook import thumbnail_of
from showtell.inference.specs import BackendSettings
from showtell.inference.stream import (
    Cutter,
    Described,
    Originals,
    Picture,
    PictureResult,
    Streaming,
    picture_at,
    stream,
)
from showtell.pretrained import DEFAULT
from showtell.text.clean import Cleaning

if TYPE_CHECKING:
    from showtell.core.device import Runtime
    from showtell.text.segment import Segmentation
    from showtell.text.vocabulary import Vocabulary

Decoding = DecodingConfig | Mapping[str, Any] | None
"""Settings; or changes to the model's own, by name; or None for the model's own."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a captioner is and what it can do; ask here before asking for a feature.

    Attributes:
        name: a short name for people: a registered one, or that of the run's or model's folder.
        licence: of the weights, as an SPDX identifier; None where it is not known.
        num_parameters: numbers in all its networks; None where it is not known.
        alternatives: whether it gives several captions of a picture (``num_captions``).
        attention: whether captions can say where the model looked.
        calibrated: whether ``confidence`` is the share of captions like it that are acceptable.
        prompt: whether it takes instructions in words.
        kind: ``showtell``, or the prefix that other captioners are named by: ``hf``, ``openai``.
        revision: the commit of weights from a hub; None where there is none.
        likelihoods: whether its captions have log-probabilities, and so a confidence.
        decoding: names of the decoding settings that mean something to it; None: all of them.
    """

    name: str
    licence: str | None = None
    num_parameters: int | None = None
    alternatives: bool = False
    attention: bool = False
    calibrated: bool = False
    prompt: bool = False
    kind: str = "showtell"
    revision: str | None = None
    likelihoods: bool = True
    decoding: frozenset[str] | None = None


class Captioner(ABC):
    """Captions pictures with one model, wherever that model computes.

    Attributes:
        cleaning: what becomes of the texts that it says; every caption it gives is cleaned.
        calibration: gives the confidence; None where there is none.
        runtime: device, precision and threads; None where another machine computes.
        vocabulary: all words that it can say; None where that is not known.
        tell: called, from any thread, with a line for whoever waits: why it takes so long.
    """

    cleaning: Cleaning = Cleaning()
    calibration: Calibration | None = None
    runtime: "Runtime | None" = None
    vocabulary: "Vocabulary | None" = None
    tell: Callable[[str], None] = staticmethod(lambda text: None)

    @staticmethod
    def load(
        model: str | Path = DEFAULT,
        *,
        ensemble: Sequence[str | Path] = (),
        device: str = "auto",
        precision: str = "auto",
        trust_model: bool = False,
        runtime: str = "auto",
        settings: BackendSettings | Mapping[str, Any] | None = None,
        cleaning: Mapping[str, Any] | None = None,
    ) -> "Captioner":
        """Load a model: by default the one that comes with showtell.

        Args:
            model: a checkpoint folder, a run's folder (its best checkpoint is taken), an export
                (``showtell export``), a name that ``showtell models`` lists, or a captioner of
                another kind: ``hf:ID``, ``openai:MODEL``, ``ollama:MODEL`` (docs/backends.md).
            ensemble: further models, whose probabilities are averaged with the first's.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``; of exports also ``coreml``,
                ``openvino``, ``directml``, where the installed onnxruntime has them.
            precision: ``auto``, ``fp32``, ``bf16``.
            runtime: what computes: ``torch`` for checkpoints, ``onnx`` for exports, or ``auto``,
                which goes by what the folder holds.
            trust_model: whether the model's settings may name a weights file outside of its
                folder, or an encoder that timm fetches from the hub or reads from a folder
                (``timm:hf-hub:...``, ``timm:local-dir:...``).
            settings: for captioners of other kinds, by name (``{"prompt": "alt"}``).
            cleaning: changes to what becomes of its texts, as the attributes of ``Cleaning``
                (``{"max_words": 20, "prefix": "photo of "}``).

        Raises:
            CheckpointError: there is no such model, or it is damaged, or it has to be trusted
                first, or one of the ensemble has another encoder.
            MissingExtraError: it needs torch, and torch is not installed.
            ConfigError: there is no such runtime, or it does not have the device or precision.
            VocabularyError: one of the ensemble has another vocabulary.
        """
        asked = BackendSettings.of(settings)
        changes = {} if cleaning is None else cleaning
        return load_request(
            ModelRequest(model, ensemble, device, precision, trust_model, runtime, asked, changes)
        )

    @property
    @abstractmethod
    def card(self) -> ModelInfo:
        """What the model is and what it can do."""

    @property
    def follows_instructions(self) -> bool:
        """Whether it does what it is told in words, so that it may also chat about it."""
        return False

    @property
    @abstractmethod
    def decoding(self) -> DecodingConfig:
        """The model's own decoding settings, used where none are given."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """12 digits that stand for everything but settings that captions depend on."""

    @property
    @abstractmethod
    def recipe(self) -> Cutter[Any]:
        """What ``caption_views`` is to get of a picture."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Pictures at a time, where a user does not say."""

    @property
    @abstractmethod
    def overlaps(self) -> bool:
        """Whether captions are computed elsewhere than on this machine's processors."""

    @property
    def encoder_key(self) -> Hashable:
        """Equal in captioners with one encoder, whose pictures may share a batch."""
        return self

    @property
    def attends(self) -> bool:
        """Whether captions can say where the model looked."""
        return self.card.attention

    @property
    def decoder_kind(self) -> str:
        """What captions, for people."""
        return "language model"

    @property
    def encoder_name(self) -> str:
        """What sees the pictures, for people."""
        return self.card.kind

    @property
    def segmentation(self) -> "Segmentation | None":
        """How its vocabulary cuts captions into words; None without a vocabulary."""
        return None if self.vocabulary is None else self.vocabulary.segmentation

    @property
    def trained_on(self) -> str | None:
        """The fingerprint of the data that it was trained on; None where that is not known."""
        return None

    @property
    def stores_features(self) -> bool:
        """Whether it captions features of a store, as ``NativeCaptioner`` does."""
        return False

    def describe_runtime(self) -> str:
        """One line for the user: what computes, where, and why."""
        return f"Captions by {self.card.name}" if self.runtime is None else self.runtime.describe()

    def with_prompt(self, prompt: str) -> Self:
        """The same captioner with other instructions; itself where it takes none."""
        return self

    @abstractmethod
    def caption_views(
        self,
        views: Sequence[Any],
        *,
        decoding: DecodingConfig,
        attention: bool = False,
        first: int = 0,
    ) -> Described:
        """Caption pictures that are read and cut already.

        Args:
            views: one or more, by ``recipe.eval_view``.
            decoding: complete settings, which the model can meet (``check``).
            attention, first: as for ``caption``.

        Returns:
            For each picture its caption, or why it has none; a reason does not stop the others.
        """

    @overload
    def caption(  # type: ignore[overload-overlap]  # a str is a sequence of str: it is one path
        self,
        images: PictureLike,
        *,
        decoding: Decoding = None,
        attention: bool = False,
        first: int = 0,
    ) -> Caption: ...

    @overload
    def caption(
        self,
        images: Iterable[PictureLike],
        *,
        decoding: Decoding = None,
        attention: bool = False,
        first: int = 0,
    ) -> list[Caption]: ...

    def caption(
        self,
        images: PictureLike | Iterable[PictureLike],
        *,
        decoding: Decoding = None,
        attention: bool = False,
        first: int = 0,
    ) -> Caption | list[Caption]:
        """Caption one picture, or several.

        Several are read and captioned ``batch_size`` at a time.

        Args:
            images: a picture, or an iterable of pictures. Each may be a path, a URL (extra
                ``remote``), a file's bytes, an open binary file, a Pillow picture of any mode, or
                a uint8 array (H, W), (H, W, 3) or (H, W, 4).
            decoding: settings, or a dict of changes to the model's own (``{"beam_size": 5}``).
            attention: whether captions carry where the model looked (see ``card``).
            first: the first picture's number; samples depend on ``seed`` and on these numbers.

        Returns:
            One caption for one picture, a list for several. Each is the best caption, and has
            ``alternatives`` if ``num_captions`` asks for more.

        Raises:
            ConfigError: the model cannot give attention, or no caption can meet the settings.
            ImageError: a picture cannot be read, or the model gives no caption for it.
            PictureTypeError: ``images`` holds something else than pictures.
            VocabularyError: ``decoding`` names a word that the model does not know.
        """
        # Of a dict, Python would go through the keys.
        is_one = is_picture_like(images) or isinstance(images, Mapping)
        is_one = is_one or not isinstance(images, Iterable)
        pictures: list[Any] = [images] if is_one else list(images)  # type: ignore[arg-type]
        settings = self.resolve(decoding)
        self.check(settings, attention)  # before any work is done
        named = [
            (f"images[{number}]" if len(pictures) > 1 else None, picture)
            for number, picture in enumerate(pictures)
        ]
        captions: list[Caption] = []
        while (start := len(captions)) < len(pictures):
            batch = named[start : start + self.batch_size]  # which may shrink meanwhile
            captions += self._caption_batch(batch, settings, attention, first + start)
        return captions[0] if is_one else captions

    def _caption_batch(
        self,
        named: Sequence[tuple[str | None, PictureLike]],
        decoding: DecodingConfig,
        attention: bool,
        first: int,
    ) -> Iterator[Caption]:
        """Captions with thumbnails of pictures that have names for messages."""
        views, thumbnails = [], []
        for name, picture in named:
            image = as_image(picture, min_side=self.recipe.decode_side, name=name)
            views.append(self.recipe.eval_view(image))
            thumbnails.append(thumbnail_of(image))
        found = self.caption_views(views, decoding=decoding, attention=attention, first=first)
        for (name, _), said, thumbnail in zip(named, found, thumbnails, strict=True):
            if isinstance(said, str):
                raise ImageError(f"{name}: {said}" if name else said)
            yield replace(said, thumbnail=thumbnail)

    def caption_stream(
        self,
        pictures: Path | str | Iterable[Path | str | Picture],
        *,
        decoding: Decoding = None,
        attention: bool = False,
        batch_size: int | None = None,
        originals: Originals | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[PictureResult]:
        """Caption any number of pictures as they come, in order and in bounded memory.

        A picture that cannot be read gives its reason and the others go on. So does one for which
        no caption meets the decoding settings.

        Args:
            pictures: files, URLs (extra ``remote``), or pictures that are read from elsewhere. A
                name alone is one picture.
            decoding, attention: as for ``caption``.
            batch_size: pictures at a time; by default what suits the model.
            originals: if given, a picture that looks like one of these takes its caption, and
                others join them (extra ``dedupe``).
            is_stopped: once it is true, no further picture is begun. A model's server is not
                asked about pictures that were read ahead, either; these have no result. Called
                from any thread.

        Raises:
            ConfigError, VocabularyError: as ``caption``, before the first picture is read.
            ServerError: while results are taken, a model's server answers no more. Pictures that
                failed last have no result then, so that a resumed run asks for them again.
        """
        settings = self.resolve(decoding)
        self.check(settings, attention)
        how = Streaming(settings, attention, batch_size, originals, is_stopped)
        # Of a name, Python would go through the letters.
        if isinstance(pictures, str) or not isinstance(pictures, Iterable):
            pictures = [pictures]
        wanted = takewhile(lambda _: not is_stopped(), pictures)
        given = (p if isinstance(p, Picture) else picture_at(p) for p in wanted)
        return self.stream_pictures(given, how)

    def stream_pictures(
        self, pictures: Iterator[Picture], how: Streaming
    ) -> Iterator[PictureResult]:
        """``caption_stream`` once its arguments are checked; threads decode ahead."""

        def describe(views: list[Any], first: int) -> Described:
            return self.caption_views(
                views, decoding=how.decoding, attention=how.attention, first=first
            )

        return stream(
            pictures,
            self.recipe,
            describe,
            batch_size=how.batch_size or self.batch_size,
            overlaps=self.overlaps,
            originals=how.originals,
        )

    def check(self, decoding: DecodingConfig, attention: bool = False) -> None:  # noqa: B027
        """Refuse what the model cannot do, before any work is done; by default nothing.

        Raises:
            ConfigError, VocabularyError: as ``caption``.
        """

    def resolve(self, decoding: Decoding) -> DecodingConfig:
        """Complete decoding settings.

        Raises:
            ConfigError: naming every setting that is wrong.
        """
        if isinstance(decoding, DecodingConfig):
            return decoding
        return self.decoding if decoding is None else self.decoding.with_changes(decoding)


load = Captioner.load
