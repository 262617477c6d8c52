"""A teacher who knows the tiny world's pictures by their names and counts what it is asked."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_world import SETTINGS, tiny_records
from torch import Tensor
from torch.nn import functional as F

from showtell import register_encoder
from showtell.config import DecodingConfig
from showtell.encoders.backbone import Backbone
from showtell.encoders.encoder import ENCODERS, EncoderParts
from showtell.images.preprocess import Preprocessing
from showtell.inference.backends.pictures import WholePicture
from showtell.inference.caption import Caption
from showtell.inference.captioner import Captioner, ModelInfo
from showtell.inference.stream import Picture, PictureResult, Streaming

STUDENT = (
    *(setting for setting in SETTINGS if not setting.startswith("training.num_epochs")),
    "encoder.name=rows",
    "encoder.views=0",
    "training.num_epochs=12",
)


class Rows(Backbone):
    """The mean colour of each of 12 rows, whose heights are the things."""

    def forward(self, pixels: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(pixels, (12, 2))

    def pooled(self, last_map: Tensor) -> Tensor:
        return last_map.flatten(1)

    def regions(self, last_map: Tensor) -> Tensor:
        return last_map.flatten(2).transpose(1, 2)

    def logits(self, last_map: Tensor) -> Tensor:
        return self.pooled(last_map)


def rows(weights: Path | None) -> EncoderParts:
    recipe = Preprocessing(48, 1.0, "bilinear", (127.5,) * 3, (64.0,) * 3)
    return EncoderParts(Rows(), recipe)


def register() -> None:
    """Make the encoder known, once."""
    if "rows" not in ENCODERS.names():
        register_encoder("rows")(rows)


def said_of(name: str) -> Sequence[str]:
    """The captions of a picture of the tiny world."""
    record = tiny_records()[int(Path(name).stem.removeprefix("p"))]
    return record.captions


class Teacher(Captioner):
    """Says the tiny world's captions.

    Args:
        words: added to all that it says; so its fingerprint is another.
        lies: every so many pictures it says what it said of the picture before.
        before: called with the number of each picture before it is answered.
        fails: names of files about which it has nothing to say.
        busy: names of files about which it has nothing to say at present.
        decoding: its own settings.
        translate: what it says in place of a caption in English.
    """

    recipe = WholePicture()
    batch_size = 8
    overlaps = True

    def __init__(
        self,
        *,
        words: str = "",
        lies: int = 0,
        before: Any = None,
        fails: Collection[str] = (),
        busy: Collection[str] = (),
        decoding: DecodingConfig | None = None,
        translate: Callable[[str], str] = str,
    ) -> None:
        self.translate = translate
        self.words, self.lies, self.before, self.fails = words, lies, before, fails
        self.busy, self._decoding = busy, decoding or DecodingConfig()
        self.asked: list[str] = []

    @property
    def card(self) -> ModelInfo:
        return ModelInfo("oracle", licence="CC0-1.0", alternatives=True)

    @property
    def decoding(self) -> DecodingConfig:
        return self._decoding

    @property
    def fingerprint(self) -> str:
        return f"oracle {self.words} {self.lies}"

    def caption_views(self, views: Any, **_: Any) -> list[Caption]:
        raise NotImplementedError

    def stream_pictures(
        self, pictures: Iterator[Picture], how: Streaming
    ) -> Iterator[PictureResult]:
        number = how.decoding.num_captions
        last: Caption | None = None
        for count, picture in enumerate(pictures, 1):
            name = str(picture.path)
            if self.before is not None:
                self.before(len(self.asked))
            self.asked.append(name)
            if (is_busy := Path(name).name in self.busy) or Path(name).name in self.fails:
                reason = f"{name}: no answer"
                yield PictureResult(picture.path, None, reason, may_pass=is_busy)
                continue
            texts = [f"{self.translate(text)}{self.words}" for text in said_of(name)[:number]]
            own = [
                Caption(text, tuple(text.split()), (-0.1,) * (len(text.split()) + 1), 0.9)
                for text in texts
            ]
            caption = replace(own[0], alternatives=tuple(own[1:]))
            lies = self.lies and count % self.lies == 0 and last is not None
            yield PictureResult(picture.path, last if lies else caption)
            last = caption
