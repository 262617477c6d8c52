"""What captioners share that take whole pictures, in this process or behind a server.

A ``PictureCaptioner`` gives captions for a batch of decoded pictures (``caption_images``), or the
reason why a picture has none. The rest follows from that, as refusing what ``card`` says that the
model cannot do. This module imports no torch.
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from PIL import Image

from showtell.config import DecodingConfig
from showtell.core.files import cache_folder, read_json, write_json
from showtell.core.messages import counted
from showtell.decoding.constraints.named_words import NEUTRAL
from showtell.errors import CheckpointError, ConfigError, ShowtellError, first_line
from showtell.inference.caption import CALIBRATION, Calibration, Caption, cleaned, neutral_caption
from showtell.inference.captioner import Captioner
from showtell.inference.specs import CaptionerError, named, told
from showtell.inference.stream import Described
from showtell.text.language import guess_language

if TYPE_CHECKING:
    from showtell.inference.loading import ModelRequest

ALWAYS = frozenset({"neutral"})
"""Decoding settings that mean something to every captioner; so does the style ``neutral``."""

WITH_CONFIDENCE = frozenset({"min_confidence"})
"""Likewise, to every captioner whose captions have a confidence."""


@dataclass(frozen=True, slots=True)
class WholePicture:
    """The picture itself, shrunk where it is larger than a captioner can use.

    Attributes:
        max_side: the longest side, in pixels; None: any.
    """

    max_side: int | None = None

    @property
    def decode_side(self) -> int | None:
        """A JPEG may be decoded smaller as long as its short side keeps this many pixels."""
        return self.max_side

    def eval_view(self, image: Image.Image) -> Image.Image:
        """The picture that the captioner gets."""
        if self.max_side is None or max(image.size) <= self.max_side:
            return image
        image = image.copy()
        image.thumbnail((self.max_side, self.max_side), Image.Resampling.LANCZOS)
        return image


class PictureCaptioner(Captioner):
    """Captions whole pictures.

    Attributes:
        takes: as ``Backend.takes``.
        spec: the model as a user names it, prefix included.
        recipe: what ``caption_images`` is to get of a picture.
        batch_size: pictures at a time, where a user does not say.
        overlaps: whether captions are computed elsewhere than on this machine's processors.
        prompt: the instructions, where ``card.prompt`` says that it takes some.
    """

    takes: frozenset[str] = frozenset()
    spec: str
    recipe: WholePicture = WholePicture()
    batch_size: int = 8
    overlaps: bool = True
    prompt: str | None = None

    @classmethod
    @abstractmethod
    def of(cls, request: "ModelRequest") -> "PictureCaptioner":
        """As ``Backend.of``."""

    @abstractmethod
    def caption_images(
        self, images: Sequence[Image.Image], *, decoding: DecodingConfig, first: int = 0
    ) -> Described:
        """The captions of RGB pictures, each with its alternatives.

        Args:
            images: any number, one or more.
            decoding: settings that ``card`` says mean something here.
            first: the first picture's number; samples depend on ``seed`` and on these numbers.

        Returns:
            For each picture its caption, or why it has none; a reason does not stop the others.
        """

    @property
    def follows_instructions(self) -> bool:
        """As ``Captioner.follows_instructions``."""
        return self.card.prompt

    def with_prompt(self, prompt: str) -> Self:
        """The same captioner with other instructions; it shares the model.

        It is not calibrated: a calibration is for the captions that one prompt gives.
        """
        if prompt == self.prompt:
            return self
        other = copy(self)
        for name in ("card", "fingerprint"):  # a subclass may keep them (``cached_property``)
            vars(other).pop(name, None)
        other.prompt, other.calibration = prompt, None
        return other

    def describe_runtime(self) -> str:
        """As ``Captioner.describe_runtime``."""
        return f"Captions by {self.spec}"

    def check(self, decoding: DecodingConfig, attention: bool = False) -> None:
        """As ``Captioner.check``; what ``card`` says decides."""
        card = self.card
        if attention and not card.attention:
            raise ConfigError(f"attention: {self.spec} cannot say where it looked")
        known = card.decoding
        if known is None:
            return
        known |= (ALWAYS | WITH_CONFIDENCE) if card.likelihoods else ALWAYS
        if decoding.style == NEUTRAL:
            known |= {"style"}
        own = self.decoding
        changed = [
            name
            for name in type(decoding).model_fields
            if name not in known and getattr(decoding, name) != getattr(own, name)
        ]
        if changed:
            values = ", ".join(f"{name} = {_shown(getattr(decoding, name))}" for name in changed)
            raise ConfigError(
                f"{values} {'has' if len(changed) == 1 else 'have'} no meaning for {self.spec}, "
                f"whose decoding settings are {', '.join(sorted(known)) or 'none'}"
            )

    def finished(self, caption: Caption, decoding: DecodingConfig) -> Caption:
        """A caption with its calibrated confidence, cleaned; withheld where that is too low."""
        if decoding.is_neutral and guess_language([caption.text]) is None:
            caption = neutral_caption(caption)
        caption = cleaned(caption, self.cleaning)
        if not caption.log_probs:
            return caption
        if self.calibration is not None:
            caption = replace(caption, confidence=self.calibration(caption.mean_log_prob))
        if caption.confidence < decoding.min_confidence:
            caption = replace(caption, text="", withheld=caption.text)
        return caption

    def caption_views(
        self,
        views: Sequence[Image.Image],
        *,
        decoding: DecodingConfig,
        attention: bool = False,
        first: int = 0,
    ) -> Described:
        """As ``Captioner.caption_views``; ``caption_images`` does it.

        Raises:
            CaptionerError: it fails for no reason that a user can mend, or gives as many captions
                as it should not.
        """
        try:
            found = self.caption_images(views, decoding=decoding, first=first)
        except ShowtellError:
            raise
        except Exception as error:  # another library's, or somebody else's program
            raise CaptionerError(f"{named(self.spec)} failed: {told(error)}") from error
        if len(found) != len(views):
            raise CaptionerError(
                f"{named(self.spec)} gave {counted(len(found), 'caption')} for "
                f"{counted(len(views), 'picture')}; it must give one for each"
            )
        return found


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def companion_folder(spec: str) -> Path:
    """Where showtell keeps what it knows of a model of another kind: its calibration.

    The folder, in the cache folder, names the model so that a person finds it:
    ``captioners/hf--owner--name``. Of models in folders it has the whole path.
    """
    kind, _, name = spec.partition(":")
    if name.startswith((".", "/", "~")):
        name = str(Path(name).expanduser().resolve())
    safe = re.sub(r"[^\w.-]+", "--", name.strip("/"))
    return cache_folder() / "captioners" / f"{kind}--{safe}"


def read_calibration(spec: str, fingerprint: str) -> Calibration | None:
    """The calibration of a model as it is asked for; None where there is none.

    Raises:
        CheckpointError: it is damaged.
    """
    path = companion_folder(spec) / f"{fingerprint}.json"
    if not path.is_file():
        return None
    try:
        return Calibration.of(read_json(path, 2**20))
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: {first_line(error)}; delete it") from None


def keep_calibration(captioner: PictureCaptioner, calibration: Calibration) -> Path:
    """Keep a calibration for a model with its revision and prompt; returns the file."""
    path = companion_folder(captioner.spec) / f"{captioner.fingerprint}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "model": captioner.spec,
        "revision": captioner.card.revision,
        "fingerprint": captioner.fingerprint,
        CALIBRATION: calibration.to_dict(),
    }
    write_json(path, values)
    return path
