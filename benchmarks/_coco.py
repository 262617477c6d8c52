"""COCO for benchmarks: captions from the scorer's jar, empty picture files, random features.

All lies in showtell's cache folder and is made once.
"""

import json
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from showtell.core.files import cache_folder, write_json
from showtell.data.records import Record
from showtell.encoders.store import FeatureStore, StoreSpec
from showtell.encoders.store_writer import StoreWriter

VOCAB_SIZE, FEATURE_SIZE = 8857, 1280
FINGERPRINT = "random-1"


def benchmark_folder() -> Path:
    """Where benchmarks keep what they make."""
    folder = cache_folder() / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def annotations(num_pictures: int | None = None) -> dict[str, Any]:
    """COCO's own captions file of 2014, from the jar of SPICE that pycocoevalcap brings.

    Args:
        num_pictures: of the first so many; default: of all 82,783.
    """
    part = benchmark_folder() / f"captions-{num_pictures}.json"
    if num_pictures and part.exists():
        return json.loads(part.read_text())
    package = Path(next(iter(find_spec("pycocoevalcap").submodule_search_locations)))
    with zipfile.ZipFile(package / "spice" / "spice-1.0.jar") as archive:
        value = json.loads(archive.read("coco/annotations/captions_train2014.json"))
    if num_pictures:
        value["images"] = value["images"][:num_pictures]
        kept = {picture["id"] for picture in value["images"]}
        value["annotations"] = [a for a in value["annotations"] if a["image_id"] in kept]
        write_json(part, value, indent=None)
    return value


def coco_file(num_pictures: int | None = None) -> Path:
    """A captions file with (empty) picture files beside it, as COCO's archives unpack."""
    folder = benchmark_folder() / f"coco-{num_pictures or 'all'}"
    file = folder / "annotations" / "captions_train2014.json"
    if not file.exists():
        value = annotations(num_pictures)
        (folder / "train2014").mkdir(parents=True, exist_ok=True)
        for picture in value["images"]:
            (folder / "train2014" / picture["file_name"]).touch()
        file.parent.mkdir(exist_ok=True)
        write_json(file, value, indent=None)
    return file


def ids_of(file: Path) -> list[str]:
    """The ids of a captions file's pictures."""
    return [str(picture["id"]) for picture in json.loads(file.read_text())["images"]]


def coco_records(num_pictures: int | None) -> list[Record]:
    """The pictures of train2014, which are not there, with their captions."""
    value = annotations(num_pictures)
    captions: dict[int, list[str]] = {picture["id"]: [] for picture in value["images"]}
    for entry in value["annotations"]:
        captions[entry["image_id"]].append(entry["caption"].strip())
    return [Record(str(i), Path(f"{i}.jpg"), tuple(c), "train") for i, c in captions.items()]


def random_store(
    name: str, image_ids: list[str], *, width: int = FEATURE_SIZE, regions: int = 0
) -> FeatureStore:
    """A store of random features, one view a picture, with a grid of so many regions."""
    folder = benchmark_folder() / "-".join(map(str, (name, len(image_ids), width, regions)))
    if not (folder / "done").exists():
        rng = np.random.default_rng(0)
        spec = StoreSpec("random", FINGERPRINT, 0, 0, width, (regions, width) if regions else None)
        size = 256 if regions else 4096
        with StoreWriter(folder, spec) as writer:
            for start in range(0, len(image_ids), size):
                part = image_ids[start : start + size]
                for image_id in part:
                    writer.add(image_id, 0, 0, 1)
                shape = (len(part), regions + 1, width)
                rows = rng.standard_normal(shape, dtype=np.float32).clip(0).astype(np.float16)
                writer.append(rows[:, 0], rows[:, 1:] if regions else None)
        (folder / "done").touch()
    return FeatureStore.open(folder, fingerprint=FINGERPRINT, views=0, grid=bool(regions))
