"""How a notebook (Jupyter, IPython) shows a caption: its picture, small, and its words.

A caption keeps a JPEG of a few thousand bytes and never the picture. The JPEG is made where the
picture is decoded anyway, in ``Captioner.caption``; a folder or a stream of pictures has none.
"""

import base64
import io
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from showtell.inference.caption import Caption

LONGEST_SIDE = 160  # pixels of a thumbnail
QUALITY = 75
MOST_CHARACTERS = 2000  # of a caption
MOST_ALTERNATIVES = 10


def thumbnail_of(image: Image.Image) -> bytes:
    """A JPEG of a picture, at most 160 pixels a side: 0.2 ms for a photo of 640 x 480.

    Args:
        image: RGB.
    """
    longest = max(image.size)
    if longest > 4 * LONGEST_SIDE:
        # To average all pixels of a large picture takes far longer than a thumbnail is worth.
        width, height = (max(1, 2 * LONGEST_SIDE * side // longest) for side in image.size)
        image = image.resize((width, height), Image.Resampling.NEAREST)
    if (longest := max(image.size)) > LONGEST_SIDE:
        image = image.reduce(-(-longest // LONGEST_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def html_of(caption: "Caption") -> str:
    """A caption as an HTML element of bounded size, without scripts and without links."""
    confidence = f"confidence {caption.confidence:.2f}"
    if caption.text:
        words = _escaped(caption.text)
    elif caption.withheld is not None:
        words = f"<em>withheld, for its low confidence: {_escaped(caption.withheld)}</em>"
    else:
        words = "<em>no caption</em>"
    others = "".join(
        f"<li>{_escaped(other.text)} <small>{other.confidence:.2f}</small></li>"
        for other in caption.alternatives[:MOST_ALTERNATIVES]
    )
    picture = ""
    if caption.thumbnail is not None:
        data = base64.b64encode(caption.thumbnail).decode("ascii")
        picture = (
            f'<img src="data:image/jpeg;base64,{data}" alt="{_escaped(caption.text)}" '
            'style="max-width:160px;max-height:160px">'
        )
    return (
        f'<figure style="margin:0;display:flex;gap:1em;align-items:center">{picture}'
        f"<figcaption>{words}<br><small>{confidence}</small>"
        f"{f'<ol start=2>{others}</ol>' if others else ''}</figcaption></figure>"
    )


def _escaped(text: str) -> str:
    from html import escape  # 2 ms that nobody without a notebook should wait for

    cut = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
    return escape(cut)
