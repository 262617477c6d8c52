"""Tiny data sets of every format on disk."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

NAMES = ("cat.jpg", "dog.jpg", "owl.jpg")
SPLITS = ("train", "val", "test")
CAPTIONS = {
    "cat.jpg": ("A cat .", "A grey cat ."),
    "dog.jpg": ("A dog .", "A dog on grass ."),
    "owl.jpg": ("An owl .", "An owl at night ."),
}

Build = Callable[[Path], Path]


def paint(path: Path, shade: int = 0, size: tuple[int, int] = (8, 6)) -> None:
    """A small picture, another one for each shade."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 255 - shade, 90)).save(path)


def paint_all(folder: Path) -> None:
    for number, name in enumerate(NAMES):
        paint(folder / name, 60 * number)


def build_coco(root: Path) -> Path:
    for split, name in zip(("train", "val"), NAMES, strict=False):
        paint(root / f"{split}2017" / name, len(split))
        annotations = [{"image_id": 7, "id": n, "caption": c} for n, c in enumerate(CAPTIONS[name])]
        value = {"images": [{"id": 7, "file_name": name}], "annotations": annotations}
        if split == "val":
            value["images"][0]["id"] = 8
            for annotation in annotations:
                annotation["image_id"] = 8
        (root / "annotations").mkdir(exist_ok=True)
        path = root / "annotations" / f"captions_{split}2017.json"
        path.write_text(json.dumps(value))
    return root


def build_karpathy(root: Path) -> Path:
    paint_all(root / "images")
    images = [
        {
            "filename": name,
            "split": split,
            "sentences": [{"raw": caption, "tokens": []} for caption in CAPTIONS[name]],
        }
        for name, split in zip(NAMES, ("restval", "val", "test"), strict=True)
    ]
    path = root / "dataset_flickr8k.json"
    path.write_text(json.dumps({"images": images, "dataset": "flickr8k"}))
    return path


def build_flickr8k(root: Path) -> Path:
    paint_all(root / "Flicker8k_Dataset")
    lines = [f"{name}#{n}\t{c}\n" for name in NAMES for n, c in enumerate(CAPTIONS[name])]
    (root / "Flickr8k.token.txt").write_text("".join(lines))
    for split, name in zip(("train", "dev", "test"), NAMES, strict=True):
        (root / f"Flickr_8k.{split}Images.txt").write_text(f"{name}\n")
    return root


def build_folder(root: Path) -> Path:
    for split, name in zip(SPLITS, NAMES, strict=True):
        paint(root / split / name, len(name))
        (root / split / name).with_suffix(".txt").write_text("\n".join(CAPTIONS[name]) + "\n")
    return root


def build_csv(root: Path) -> Path:
    paint_all(root / "images")
    rows = [
        f'{name},"{caption}",{split}\n'
        for name, split in zip(NAMES, SPLITS, strict=True)
        for caption in CAPTIONS[name]
    ]
    path = root / "captions.csv"
    path.write_text("image,caption,split\n" + "".join(rows))
    return path


def build_jsonl(root: Path) -> Path:
    paint_all(root)
    rows = [
        json.dumps({"path": name, "captions": list(CAPTIONS[name]), "split": split}) + "\n"
        for name, split in zip(NAMES, SPLITS, strict=True)
    ]
    path = root / "pictures.jsonl"
    path.write_text("".join(rows))
    return path


def build_parquet(root: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    paint_all(root / "painted")
    rows = [
        {
            "photo": {"bytes": (root / "painted" / name).read_bytes(), "path": name},
            "caption": list(CAPTIONS[name]),
            "split": split,
        }
        for name, split in zip(NAMES, SPLITS, strict=True)
    ]
    (root / "set").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / "set" / "pictures.parquet")
    return root / "set"


def build_arrow(root: Path) -> Path:
    """As ``datasets`` saves a set of several splits."""
    pyarrow = pytest.importorskip("pyarrow")
    paint_all(root / "painted")
    folders = {"train": "train", "val": "validation", "test": "test"}
    (root / "set").mkdir()
    (root / "set" / "dataset_dict.json").write_text(json.dumps({"splits": list(folders.values())}))
    for split, name in zip(SPLITS, NAMES, strict=True):
        folder = root / "set" / folders[split]
        folder.mkdir()
        image = {"bytes": (root / "painted" / name).read_bytes(), "path": name}
        table = pyarrow.Table.from_pylist([{"image": image, "sentences": list(CAPTIONS[name])}])
        with (
            pyarrow.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
            pyarrow.ipc.new_stream(file, table.schema) as stream,
        ):
            stream.write_table(table)
        (folder / "dataset_info.json").write_text("{}")
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
        (folder / "state.json").write_text(json.dumps(state))
    return root / "set"


def build_webdataset(root: Path) -> Path:
    paint_all(root / "painted")
    for split, name in zip(SPLITS, NAMES, strict=True):
        with tarfile.open(root / f"set-{split}-000.tar", "w") as archive:
            archive.add(root / "painted" / name, name)
            text = "\n".join(CAPTIONS[name]).encode()
            member = tarfile.TarInfo(f"{Path(name).stem}.txt")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    shutil.rmtree(root / "painted")
    return root


BUILDERS: dict[str, Build] = {
    "coco": build_coco,
    "karpathy": build_karpathy,
    "flickr8k": build_flickr8k,
    "folder": build_folder,
    "csv": build_csv,
    "jsonl": build_jsonl,
    "parquet": build_parquet,
    "arrow": build_arrow,
    "webdataset": build_webdataset,
}


@pytest.fixture
def builders() -> dict[str, Build]:
    """For each format on disk, a function that builds an example and gives what to load."""
    return BUILDERS


@pytest.fixture
def example_captions() -> dict[str, tuple[str, ...]]:
    """What the examples say of each picture."""
    return CAPTIONS


@pytest.fixture
def picture() -> Callable[..., None]:
    """``picture(path, shade)`` makes a small picture."""
    return paint


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's cache."""
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
