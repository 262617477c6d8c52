"""A captioner without a network: it names the picture's mean colour."""

import hashlib
import math
from collections.abc import Sequence

from PIL import Image

from showtell import Caption, DecodingConfig, ModelInfo
from showtell.inference.backends.pictures import PictureCaptioner
from showtell.inference.loading import ModelRequest
from showtell.inference.stream import Described

NAMES = ("red", "green", "blue")


class ColourCaptioner(PictureCaptioner):
    """Says which of three colours a picture has most of."""

    decoding = DecodingConfig(method="greedy")

    def __init__(self, request: ModelRequest) -> None:
        self.spec = str(request.model)

    @classmethod
    def of(cls, request: ModelRequest) -> "ColourCaptioner":
        """The captioner that a user asks for, as ``colours:NAME``."""
        return cls(request)

    @property
    def card(self) -> ModelInfo:
        """What it is and what it can do: no decoding settings, no confidence."""
        name = self.spec.removeprefix("colours:")
        return ModelInfo(name, kind="colours", likelihoods=False, decoding=frozenset())

    @property
    def fingerprint(self) -> str:
        """12 digits for what captions follow from: this version, the name, the prompt."""
        parts = repr(("1.0", self.card.name, self.prompt))
        return hashlib.sha256(parts.encode()).hexdigest()[:12]

    def caption_images(
        self, images: Sequence[Image.Image], *, decoding: DecodingConfig, first: int = 0
    ) -> Described:
        """A caption for each picture."""
        found = []
        for image in images:
            mean = image.resize((1, 1)).getpixel((0, 0))
            assert isinstance(mean, tuple)
            text = f"a {NAMES[mean.index(max(mean))]} picture"
            caption = Caption(text, tuple(text.split()), (), math.nan)
            found.append(self.finished(caption, decoding))
        return found
