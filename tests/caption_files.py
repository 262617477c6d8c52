"""Files of captions by captioners of which is known who is better, with pictures."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image


@dataclass(frozen=True)
class CaptionFiles:
    """Files of captions of 60 pictures, by captioners of which is known who is better.

    Attributes:
        often, rarely: name the animal of 90 % and of 30 % of the pictures.
        odd: says what ``often`` says; its name and captions have characters that HTML escapes.
        references: two captions of each picture.
        images: a folder with the pictures whose ids are even.
    """

    often: Path
    rarely: Path
    odd: Path
    references: Path
    images: Path


def write_caption_files(folder: Path) -> CaptionFiles:
    rng = random.Random(1)
    animals = ["dog", "cat", "horse", "cow", "bear", "zebra"]
    said: dict[str, list[dict[str, object]]] = {"often": [], "rarely": [], "<b>odd & even": []}
    people, images = [], folder / "images"
    images.mkdir()
    for number in range(60):
        animal = rng.choice(animals)
        others = [other for other in animals if other != animal]
        often, rarely = (
            f"a {animal if rng.random() < share else rng.choice(others)} stands on grass"
            for share in (0.9, 0.3)
        )
        odd = f"{often} <script>alert({number})</script>"
        for captions, text in zip(said.values(), (often, rarely, odd), strict=True):
            captions.append({"image_id": number, "caption": text})
        for text in (f"A {animal} stands on the grass.", f"the {animal} is outside"):
            people.append({"image_id": number, "id": len(people), "caption": text})
        if number % 2 == 0:
            Image.new("RGB", (40, 30), (4 * number, 90, 60)).save(images / f"{number:012}.jpg")
    for name, captions in said.items():
        (folder / f"{name}.json").write_text(json.dumps(captions))
    references = folder / "references.json"
    pictures = [{"id": number} for number in range(60)]
    references.write_text(json.dumps({"images": pictures, "annotations": people}))
    often_at, rarely_at, odd_at = (folder / f"{name}.json" for name in said)
    return CaptionFiles(often_at, rarely_at, odd_at, references, images)
