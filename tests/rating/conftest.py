"""Two captioners of six pictures, for tests of rating sheets."""

import json
from pathlib import Path

import pytest
from PIL import Image

CAPTIONS = {
    "red": ("a red wall", "a wall", 0.9),
    "blue": ("a blue sky", "the sea", 0.8),
    "green": ("green grass", "Green grass", 0.7),
    "black": ("a black cat", "a black cat", 0.6),  # the same words of both
    "white": ("<b>snow</b> & ice </script>", "=1+1", 0.5),
    "gray": ("a gray day", "fog", 0.4),
}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, two files of captions and references; not to be written into."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "photos").mkdir()
    for name in CAPTIONS:
        Image.new("RGB", (96, 64), name).save(folder / "photos" / f"{name}.png")
    rows = [{"image_id": name, "caption": one} for name, (one, _, _) in CAPTIONS.items()]
    (folder / "alpha.json").write_text(json.dumps(rows), encoding="utf-8")
    lines = [
        json.dumps({"path": f"elsewhere/photos/{name}.png", "caption": text, "confidence": value})
        for name, (_, text, value) in CAPTIONS.items()
    ]
    (folder / "beta.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    people = {name: [f"A {name} thing.", one] for name, (one, _, _) in CAPTIONS.items()}
    (folder / "people.json").write_text(json.dumps(people), encoding="utf-8")
    return folder
