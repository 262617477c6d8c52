"""Karpathy's split files: ``dataset_coco.json``, ``dataset_flickr8k.json`` and their kin.

One JSON with every picture's sentences and split; ``restval`` joins train. From Karpathy and
Fei-Fei 2015, "Deep Visual-Semantic Alignments for Generating Image Descriptions".
"""

from pathlib import Path
from typing import Any

from showtell.data.collect import Collector
from showtell.data.ids import id_text
from showtell.data.reading import json_list, note_input, read_json_object
from showtell.data.records import Dataset
from showtell.data.sources import coco
from showtell.data.sources.base import Source, is_json_list, only_file, peek, picture_finder

PICTURE_FOLDERS = (
    *("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images"),
    *("flickr30k_images", *coco.PICTURE_FOLDERS),
)

_OF_DATASETS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json")  # Hugging Face's


def matches(path: Path) -> bool:
    """A JSON whose pictures hold their sentences, or a folder with one ``dataset_*.json``."""
    if path.is_dir():
        # Flickr8k's own token file says the same; where it lies, that source is meant.
        return len(_split_files(path)) == 1 and not any(path.glob("*.token*"))
    if path.suffix.lower() != ".json":
        return False
    text = peek(path)
    return '"sentences"' in text and not is_json_list(text)


def load(path: Path, images: Path | None) -> Dataset:
    """Read a split file, or the only one of a folder.

    Raises:
        DataError: no such file, not a split file, or no picture is found.
    """
    file = path
    if path.is_dir():
        note_input(path)
        file = only_file(_split_files(path), path, "Karpathy split file dataset_*.json")
    value = read_json_object(file)
    pictures = json_list(value, "images", file)
    folder = file.parent
    above = folder.resolve().parent if folder == Path() else folder.parent
    bases = [folder, above, folder / "images", above / "images"]
    finder = picture_finder(images, bases, PICTURE_FOLDERS, bare=True, other_name=coco.name_of_2017)
    collector = Collector(str(path), "karpathy", finder)
    for entry in pictures:
        _add(entry, collector)
    coco.note_renamed(collector)
    return collector.finish()


def _split_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("dataset_*.json") if file.name not in _OF_DATASETS)


def _add(entry: Any, collector: Collector) -> None:
    if not (isinstance(entry, dict) and isinstance(entry.get("filename"), str)):
        collector.problem("bad image entry", str(entry)[:80], "needs filename and sentences")
        return
    folder, name = entry.get("filepath"), entry["filename"]
    # COCO results go by COCO's ids; the Flickr sets have none but their file names.
    image_id = id_text(entry.get("cocoid")) or name
    # filepath is the folder of COCO's release; elsewhere it is absent, and some copies lack it.
    nested = f"{folder}/{name}" if isinstance(folder, str) and folder else name
    file_name = nested if collector.finder.holds(nested) else name
    draft = collector.add_picture(image_id, file_name, None, said_split=entry.get("split"))
    sentences = entry.get("sentences")
    if draft is not None:
        for sentence in sentences if isinstance(sentences, list) else ():
            collector.add_caption(draft, _text_of(sentence))


def _text_of(sentence: Any) -> Any:
    """A sentence as written; its tokens, joined, where the file has only those."""
    if not isinstance(sentence, dict):
        return sentence
    tokens = sentence.get("tokens")
    if "raw" not in sentence and isinstance(tokens, list):
        return " ".join(token for token in tokens if isinstance(token, str))
    return sentence.get("raw")


SOURCE = Source(
    name="karpathy",
    description="Karpathy's split JSON (dataset_coco.json, dataset_flickr8k.json, ...)",
    looks_for="a JSON whose images hold their sentences (dataset_*.json)",
    matches=matches,
    load=load,
    notes_inputs=True,
)
