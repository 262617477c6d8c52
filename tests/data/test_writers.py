"""What ``data convert`` writes is read again: every format, into every format."""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from showtell.data.records import Dataset, Record
from showtell.data.sources import load_dataset
from showtell.data.writers import MARK, WRITERS, Output, write_dataset
from showtell.data.writers.base import Placer
from showtell.errors import DataError

FORMATS = ("jsonl", "csv", "coco", "karpathy", "imagefolder", "parquet", "webdataset")
READ_AS = {"imagefolder": "jsonl"}
Said = dict[str, tuple[tuple[str, ...], str]]

CAPTIONS = (
    ('A "grey" cat, on a mat', "Eine Katze auf der Straße"),
    ("一只狗在草地上。",),
    ("An owl ; at night | alone\tthere", "An owl", "An owl"),
    ("'Two' birds", "{curly} <b>markup</b> &amp;"),
    ("A\u2028line separator", "A  double space"),
)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Five pictures in two folders, two of one file name, in three splits and three formats."""
    pytest.importorskip("pyarrow")
    paths = ("a/1.jpg", "b/1.jpg", "a/two words.PNG", "b/ünï.webp", "b/noending")
    splits = ("train", "train", "val", "test", "test")
    records = []
    for number, (name, split) in enumerate(zip(paths, splits, strict=True)):
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {".jpg": "JPEG", ".webp": "WEBP"}.get(path.suffix, "PNG")
        Image.new("RGB", (20 + number, 10), (50 * number, 9, 99)).save(path, kind)
        records.append(Record(name, path, CAPTIONS[number], split))
    return Dataset("own", "folder", tuple(records))


def said(dataset: Dataset) -> Said:
    """The captions and the split of each picture, by its bytes."""
    found = {
        hashlib.sha256(record.path.read_bytes()).hexdigest(): (record.captions, record.split)
        for record in dataset.records
    }
    assert len(found) == len(dataset.records)
    return found


def test_every_writer_is_known_here() -> None:
    assert sorted(WRITERS) == sorted(FORMATS)
    for name, writer in WRITERS.items():
        assert writer.name == name and writer.description


@pytest.mark.parametrize(("first", "second"), list(product(FORMATS, FORMATS)))
def test_every_format_becomes_every_other(
    first: str, second: str, dataset: Dataset, tmp_path: Path
) -> None:
    expected = said(dataset)
    write_dataset(dataset, Output(tmp_path / "first", first), made_by="test")
    once = load_dataset(tmp_path / "first")
    assert once.format == READ_AS.get(first, first)
    assert said(once) == expected and not once.problems
    write_dataset(once, Output(tmp_path / "second", second), made_by="test")
    twice = load_dataset(tmp_path / "second")
    assert twice.format == READ_AS.get(second, second)
    assert said(twice) == expected and not twice.problems


@pytest.mark.parametrize("name", ["set.jsonl", "set.csv", "set.parquet"])
def test_one_file(name: str, dataset: Dataset, tmp_path: Path) -> None:
    write_dataset(dataset, Output(tmp_path / name), made_by="test")
    read = load_dataset(tmp_path / name)
    assert said(read) == said(dataset)
    if "parquet" not in name:
        assert [record.path for record in read.records] == [r.path for r in dataset.records]
        text = (tmp_path / name).read_text()
        assert str(tmp_path) not in text, "pictures below the file are named from its folder"
    assert sorted(os.listdir(tmp_path)) == sorted(["own", name])


@pytest.mark.parametrize("format", ["coco", "karpathy"])
def test_published_formats_name_pictures_elsewhere(
    format: str, dataset: Dataset, tmp_path: Path
) -> None:
    output = Output(tmp_path / "out", format, pictures="keep")
    notes = write_dataset(dataset, output, made_by="test")
    assert notes == [f"the pictures stay where they are: read it with --images {tmp_path / 'own'}"]
    read = load_dataset(tmp_path / "out", images=tmp_path / "own")
    assert {record.path: record.captions for record in read.records} == {
        record.path: record.captions for record in dataset.records
    }


def test_linked_pictures_take_no_room(dataset: Dataset, tmp_path: Path) -> None:
    write_dataset(dataset, Output(tmp_path / "out", pictures="link"), made_by="test")
    read = load_dataset(tmp_path / "out")
    assert said(read) == said(dataset)
    assert all(record.path.stat().st_nlink == 2 for record in read.records)


def test_cocos_numbers_are_kept(
    builders: dict[str, Callable[[Path], Path]], tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    dataset = load_dataset(builders["coco"](tmp_path / "own"))
    for format in ("coco", "karpathy"):
        write_dataset(dataset, Output(tmp_path / format, format), made_by="test")
        read = load_dataset(tmp_path / format)
        assert {(r.image_id, r.captions, r.split) for r in read.records} == {
            (r.image_id, r.captions, r.split) for r in dataset.records
        }
    value = json.loads((tmp_path / "coco/annotations/captions_train.json").read_text())
    assert value["images"] == [{"id": 7, "file_name": "cat.jpg", "width": 8, "height": 6}]
    assert [entry["id"] for entry in value["annotations"]] == [1, 2]


@pytest.mark.parametrize("format", FORMATS)
def test_styles_are_written_or_counted(format: str, dataset: Dataset, tmp_path: Path) -> None:
    records = [
        replace(dataset.records[0], styles=("short", "")),
        replace(dataset.records[1], styles=("long",)),
        *dataset.records[2:],
    ]
    styled = replace(dataset, records=tuple(records))
    notes = write_dataset(styled, Output(tmp_path / "out", format), made_by="test")
    read = load_dataset(tmp_path / "out")
    assert said(read) == said(styled) and not read.problems
    found = {record.captions: record.styles for record in read.records if record.styles}
    if format in ("jsonl", "imagefolder", "webdataset"):
        assert found == {record.captions: record.styles for record in records if record.styles}
        assert not any("styles" in note for note in notes)
    else:
        assert not found
        assert notes[-1] == (
            f"the styles of 2 captions are left out, as {format} has no place for them; formats "
            "that have one: jsonl, imagefolder, webdataset"
        )


def test_captions_of_several_lines(dataset: Dataset, tmp_path: Path) -> None:
    record = dataset.records[0]
    lines = Record(record.image_id, record.path, ("A cat\non a mat", 'A "\ncat'), "train")
    expected = said(Dataset("own", "folder", (lines,)))
    for format in FORMATS:
        output = Output(tmp_path / format, format)
        write_dataset(Dataset("own", "folder", (lines,)), output, made_by="test")
        assert said(load_dataset(tmp_path / format)) == expected, format


def test_large_sets_become_several_files(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("showtell.data.writers.archives.SHARD_PICTURES", 1)
    for format in ("webdataset", "parquet"):
        write_dataset(dataset, Output(tmp_path / format, format), made_by="test")
        assert said(load_dataset(tmp_path / format)) == said(dataset)
    assert sorted(path.name for path in (tmp_path / "webdataset").glob("*.tar")) == [
        *("test-000000.tar", "test-000001.tar", "train-000000.tar", "train-000001.tar"),
        "val-000000.tar",
    ]
    names = {path.name for path in (tmp_path / "parquet" / "data").iterdir()}
    assert "train-00001-of-00002.parquet" in names and "validation-00000-of-00001.parquet" in names


def test_the_same_data_gives_the_same_shard(dataset: Dataset, tmp_path: Path) -> None:
    shards = []
    for name in ("one", "two"):
        write_dataset(dataset, Output(tmp_path / name, "webdataset"), made_by="test")
        shards.append((tmp_path / name / "train-000000.tar").read_bytes())
    assert shards[0] == shards[1]
    with tarfile.open(tmp_path / "one" / "train-000000.tar") as archive:
        assert archive.getnames()[:3] == ["000000000.jpg", "000000000.txt", "000000000.json"]


def test_hugging_face_knows_which_column_has_pictures(dataset: Dataset, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_dataset(dataset, Output(tmp_path / "out", "parquet"), made_by="test")
    schema = parquet.read_schema(tmp_path / "out/data/train-00000-of-00001.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"} and list(features) == schema.names


def test_outputs_are_replaced_only_if_they_are_our_own(dataset: Dataset, tmp_path: Path) -> None:
    def failure(path: Path, **options: bool) -> str:
        with pytest.raises(DataError) as error:
            write_dataset(dataset, Output(path, **options), made_by="test")
        return str(error.value)

    out = tmp_path / "out"
    out.mkdir()
    write_dataset(dataset, Output(out), made_by="test")  # an empty folder is nobody's
    assert "already exists: give another name, or add --overwrite" in failure(out)
    (out / "stray.txt").write_text("mine")
    write_dataset(dataset, Output(out, overwrite=True), made_by="test")
    assert not (out / "stray.txt").exists() and (out / MARK).is_file()
    own = tmp_path / "photos"
    own.mkdir()
    (own / "x.txt").write_text("mine")
    assert "was not written by `showtell data`" in failure(own, overwrite=True)
    assert (own / "x.txt").read_text() == "mine"
    assert "is a folder; give another name" in failure(_folder(tmp_path / "set.jsonl"))
    assert "no such folder" in failure(tmp_path / "gone" / "out")
    assert "has the name of a picture" in failure(tmp_path / "a.jpg")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_a_folder_with_pictures_that_are_read_is_not_replaced(
    dataset: Dataset, tmp_path: Path
) -> None:
    """A list beside a folder names the folder's pictures."""
    work = tmp_path / "work"
    write_dataset(dataset, Output(work), made_by="test")
    before = sorted(work.rglob("*"))
    write_dataset(load_dataset(work), Output(tmp_path / "split.jsonl"), made_by="test")
    some = load_dataset(tmp_path / "split.jsonl")
    for pictures in ("keep", "copy"):
        with pytest.raises(DataError, match=r"work holds 5 pictures of .*split\.jsonl, which --ov"):
            write_dataset(some, Output(work, None, pictures, overwrite=True), made_by="test")  # type: ignore[arg-type]
    assert sorted(work.rglob("*")) == before


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl", "captions.parquet"])
def test_a_file_that_is_replaced_is_kept(name: str, dataset: Dataset, tmp_path: Path) -> None:
    output = Output(tmp_path / name, overwrite=True)
    notes = write_dataset(dataset, output, made_by="test")
    assert write_dataset(dataset, output, made_by="test") == notes
    assert sorted(os.listdir(tmp_path)) == sorted(["own", name]), "the same bytes need no backup"
    for number, backup in enumerate((f"{name}.bak", f"{name}.bak2")):
        (tmp_path / name).write_text(f"corrected by hand {number}")
        [note, *others] = write_dataset(dataset, output, made_by="test")
        assert note == f"the file that was there is kept as {tmp_path / backup}"
        assert others == notes
        assert (tmp_path / backup).read_text() == f"corrected by hand {number}"
        assert said(load_dataset(tmp_path / name)) == said(dataset)


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), OSError(13, "denied")])
def test_an_earlier_output_is_there_whatever_happens_at_the_end(
    reason: BaseException, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_dataset(dataset, Output(out), made_by="test")
    (out / "note.txt").write_text("mine")
    rename = os.rename

    def stopped(source: Path, target: Path) -> None:
        if Path(source).suffix == ".tmp":
            raise reason
        rename(source, target)

    monkeypatch.setattr("showtell.data.writers.os.rename", stopped)
    with pytest.raises(type(reason)):
        write_dataset(dataset, Output(out, overwrite=True), made_by="test")
    assert (out / "note.txt").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["out", "own"]


def _folder(path: Path) -> Path:
    path.mkdir()
    (path / "a").touch()
    return path


def test_options_that_do_not_fit(dataset: Dataset, tmp_path: Path) -> None:
    cases = [
        (Output(tmp_path / "x.csv", "coco"), "has the ending of csv, but --to says coco"),
        (Output(tmp_path / "x.csv", pictures="copy"), "is one file, so --pictures copy"),
        (Output(tmp_path / "x", "parquet", "keep"), "parquet holds its pictures"),
        (Output(tmp_path / "my data" / "x"), f"make it: mkdir -p '{tmp_path}/my data'"),
        (Output(tmp_path / "x.txt"), "or of a .jsonl, .csv, .json, .parquet file"),
        (Output(tmp_path / "x", "cooco"), "unknown format to write 'cooco'. Did you mean 'coco'?"),
    ]
    for output, expected in cases:
        with pytest.raises(DataError) as error:
            output.check()
        assert expected in str(error.value)
    for inside in (tmp_path, tmp_path / "own"):
        with pytest.raises(DataError, match="is or holds the data that is read"):
            Output(inside, overwrite=True).check([tmp_path / "own"])


def test_nothing_is_left_of_an_output_that_fails(dataset: Dataset, tmp_path: Path) -> None:
    dataset.records[-1].path.unlink()
    for format in FORMATS:
        with pytest.raises(FileNotFoundError):
            write_dataset(dataset, Output(tmp_path / "out", format), made_by="test")
    assert os.listdir(tmp_path) == ["own"]


def test_a_disk_without_room(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("showtell.data.writers.ROOM_TO_SPARE", 10**18)
    with pytest.raises(DataError, match="GB free; free some space, or add --pictures link"):
        write_dataset(dataset, Output(tmp_path / "out"), made_by="test")


def test_odd_file_names(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    records = []
    for number, image_id in enumerate(
        ["..jpg", "a:b?.jpg", "A.JPG", "a.jpg", ".hidden.png", "x" * 200]
    ):
        path = tmp_path / "own" / f"{number}.jpg"
        Image.new("RGB", (20 + number, 10)).save(path)
        records.append(Record(image_id, path, ("A cat",), "train"))
    dataset = Dataset("own", "folder", tuple(records))
    write_dataset(dataset, Output(tmp_path / "out"), made_by="test")
    assert said(load_dataset(tmp_path / "out")) == said(dataset)
    names = sorted(os.listdir(tmp_path / "out" / "images"))
    assert names == ["0.jpg", "5.jpg", "A.JPG", "a-2.jpg", "a_b_.jpg", "hidden.png"]


def test_names_that_many_pictures_have_and_long_ones(tmp_path: Path) -> None:
    """Folders of shots all called 0.jpg; titles whose letters have several bytes each."""
    placer = Placer(tmp_path, None, "copy", 0, None)

    def named(image_id: str) -> str:
        return placer.name_for(Record(image_id, tmp_path / "x.jpg", ("A cat",), "train"))

    assert [named(f"{n}/0.jpg") for n in range(3)] == ["0.jpg", "0-2.jpg", "0-3.jpg"]
    assert [named("0-2.jpg"), named("3/0.jpg")] == ["0-2-2.jpg", "0-4.jpg"]
    long = named("照片" * 100 + ".jpg")
    assert long.startswith("照片") and 190 < len(long.encode()) <= 204
    (tmp_path / long).touch()


def test_karpathys_json_above_its_pictures_needs_no_images(
    dataset: Dataset, tmp_path: Path
) -> None:
    assert write_dataset(dataset, Output(tmp_path / "k.json"), made_by="test") == []
    read = load_dataset(tmp_path / "k.json")
    assert said(read) == said(dataset)
    assert [record.path for record in read.records] == [r.path for r in dataset.records]


def test_a_note_names_the_folder_that_names_start_at(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    rows = []
    for shade, split in enumerate(["train", "test"]):
        picture(tmp_path / "pics" / "data" / split / "0.jpg", 90 * shade)
        rows.append(f"data/{split}/0.jpg,A cat of {split} .,{split}\n")
    (tmp_path / "all.csv").write_text(f"path,caption,split\n{''.join(rows)}")
    dataset = load_dataset(tmp_path / "all.csv", images=tmp_path / "pics")
    (tmp_path / "out").mkdir()
    [note] = write_dataset(dataset, Output(tmp_path / "out" / "k.json"), made_by="test")
    root = tmp_path / "pics" / "data"
    assert note == f"the pictures stay where they are: read it with --images {root}"
    read = load_dataset(tmp_path / "out" / "k.json", images=root)
    assert said(read) == said(dataset)
