"""Parquet tables and tar archives as training data."""

import os
import tarfile
from pathlib import Path

import pytest
from tiny_archives import jpeg, write_parquet, write_tar

from showtell.core.files import cache_folder
from showtell.data.records import Dataset, dataset_fingerprint
from showtell.data.sources import load_dataset
from showtell.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own."""
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "unpacked"


def captions(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {record.image_id: record.captions for record in dataset.records}


def photo(number: int, path: str | None = "0.jpg") -> dict[str, object]:
    return {"bytes": jpeg(number), "path": path}


def test_rows_of_equal_names_are_pictures_of_their_own(tmp_path: Path) -> None:
    rows = [{"image": photo(n), "text": f"Thing {n}"} for n in range(4)]
    dataset = load_dataset(write_parquet(tmp_path / "table.parquet", rows))
    assert captions(dataset) == {f"table.parquet/{n}": (f"Thing {n}",) for n in range(4)}
    for number, record in enumerate(dataset.records):
        assert record.path.read_bytes() == jpeg(number)


@pytest.mark.parametrize("column", ["image", "img", "images", "jpg", "picture data"])
@pytest.mark.parametrize("form", ["struct", "bytes", "list"])
def test_pictures_under_any_column_name(tmp_path: Path, column: str, form: str) -> None:
    value = {"struct": photo(1, None), "bytes": jpeg(1), "list": [photo(1)]}[form]
    rows = [{"caption": ["A dog", "A pup"], column: value}]
    dataset = load_dataset(write_parquet(tmp_path / "t.parquet", rows))
    assert captions(dataset) == {"t.parquet/0": ("A dog", "A pup")}


def test_rows_that_name_their_pictures_by_path(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(jpeg())
    (tmp_path.parent / "outside.jpg").write_bytes(jpeg())
    names = ("a.jpg", "../outside.jpg", "b.jpg", None)
    rows = [{"image": {"bytes": None, "path": name}, "text": "A dog"} for name in names]
    rows[0]["image"] = {"bytes": b"", "path": "a.jpg"}
    dataset = load_dataset(write_parquet(tmp_path / "t.parquet", rows))
    assert [record.path for record in dataset.records] == [tmp_path / "images" / "a.jpg"]
    assert dataset.problem_counts() == {
        "bad row": 1,
        "path outside the picture folder": 1,
        "missing picture": 1,
    }


def test_a_folder_of_parquet_with_splits_in_its_names(tmp_path: Path) -> None:
    for split in ("train", "test"):
        rows = [{"image": photo(n), "caption": split} for n in range(2)]
        write_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", rows)
    dataset = load_dataset(tmp_path)
    assert dataset.split_counts() == {"train": 2, "test": 2}
    assert "data/train-00000-of-00001.parquet/1" in captions(dataset)


def test_parquet_without_captions_or_pictures(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"image": photo(0), "label": 3}])
    with pytest.raises(DataError, match="no column for the captions; found columns: image, label"):
        load_dataset(path)
    path = write_parquet(tmp_path / "b.parquet", [{"caption": "A dog"}])
    with pytest.raises(DataError, match="no column for the picture; found columns: caption"):
        load_dataset(path)
    (tmp_path / "c.parquet").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"c\.parquet cannot be read: "):
        load_dataset(tmp_path / "c.parquet")


def test_shards_of_equal_keys(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val")):
        text = f"Of {split}".encode()
        write_tar(tmp_path / f"{split}.tar", [("000.txt", text), ("000.jpg", jpeg(number))])
    dataset = load_dataset(tmp_path)
    assert captions(dataset) == {
        "train.tar/000.jpg": ("Of train",),
        "val.tar/000.jpg": ("Of val",),
    }
    assert dataset.split_counts() == {"train": 1, "val": 1}


def test_members_of_one_stem_and_of_one_name(tmp_path: Path) -> None:
    members = [
        *(("a.jpg", jpeg(1)), ("a.png", jpeg(2)), ("a.txt", b"A dog\n\nA pup\n")),
        *(("a.png.txt", b"A cat"), ("a.jpg", jpeg(3)), ("a.txt", b"A cow")),
        *(("b.jpg", jpeg(4)), ("b.json", b'{"caption": "A fox", "url": "x"}')),
    ]
    dataset = load_dataset(write_tar(tmp_path / "x.tgz", members, "w:gz"))
    assert captions(dataset) == {
        "x.tgz/a.jpg": ("A dog", "A pup"),
        "x.tgz/a.png": ("A cat",),
        "x.tgz/a.jpg#2": ("A cow",),
        "x.tgz/b.jpg": ("A fox",),
    }
    assert [record.path.read_bytes() for record in dataset.records] == [
        jpeg(number) for number in (1, 2, 3, 4)
    ]


def test_webdatasets_keys_end_at_the_first_dot(tmp_path: Path) -> None:
    members = [("x/0.img.jpg", jpeg(1)), ("x/0.caption.txt", b"A dog")]
    members += [("x/1.a.jpg", jpeg(2)), ("x/1.a.txt", b"A cat"), ("x/1.b.jpg", jpeg(3))]
    members += [("x/1.b.txt", b"A cow"), ("y/0.jpg", jpeg(4))]
    dataset = load_dataset(write_tar(tmp_path / "t.tar", members))
    assert captions(dataset) == {
        "t.tar/x/0.img.jpg": ("A dog",),
        "t.tar/x/1.a.jpg": ("A cat",),
        "t.tar/x/1.b.jpg": ("A cow",),
    }


@pytest.mark.usefixtures("without_heif")
def test_hostile_and_hidden_members(tmp_path: Path, cache: Path) -> None:
    names = ["../../evil.jpg", "/etc/evil.jpg", "a\nb.jpg", "ok.jpg", "._ok.jpg"]
    names += ["__MACOSX/ok.jpg", "x/.thumbnails/t.jpg", "y.heic", "CON.jpg"]
    members = [(name, jpeg()) for name in names]
    members += [(os.path.splitext(name)[0] + ".txt", b"A dog") for name in names]
    before = set(tmp_path.parent.rglob("*"))
    path = write_tar(tmp_path / "x.tar", members)
    dataset = load_dataset(path)
    kept = ("../../evil.jpg", "/etc/evil.jpg", "a\nb.jpg", "ok.jpg", "CON.jpg")
    assert [record.image_id for record in dataset.records] == [f"x.tar/{name}" for name in kept]
    made = set(tmp_path.parent.rglob("*")) - before - {path}
    [folder] = cache.iterdir()
    assert made == {cache.parent, cache, folder, *folder.iterdir()}
    assert {record.path.parent for record in dataset.records} == {folder}
    assert any(note.startswith("left out: 1 .heic") for note in dataset.notes)


def test_an_archive_that_is_cut_off_keeps_what_came_before(tmp_path: Path) -> None:
    members = [part for n in range(3) for part in ((f"{n}.jpg", jpeg(n)), (f"{n}.txt", b"A dog"))]
    path = write_tar(tmp_path / "x.tar", members)
    path.write_bytes(path.read_bytes()[:4500])
    dataset = load_dataset(path)
    assert 0 < len(dataset.records) < 3
    [problem] = [problem for problem in dataset.problems if problem.kind == "damaged archive"]
    assert problem.where == "x.tar"
    (tmp_path / "y.tar").write_bytes(b"nonsense" * 200)
    with pytest.raises(DataError, match=r"y\.tar cannot be read: "):
        load_dataset(tmp_path / "y.tar")


def test_a_header_of_a_gigabyte_is_refused(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", [("0.jpg", jpeg()), ("0.txt", b"a dog")])
    header = tarfile.TarInfo("pax")
    header.type, header.size = b"x", 2**30
    members = archive.read_bytes().rstrip(b"\0")
    whole = members + bytes(-len(members) % tarfile.BLOCKSIZE)
    archive.write_bytes(whole + header.tobuf() + bytes(10240))
    dataset = load_dataset(str(archive))
    assert [record.captions for record in dataset.records] == [("a dog",)]
    [problem] = [problem for problem in dataset.problems if problem.kind == "damaged archive"]
    assert "header has 1,073,741,824 bytes" in problem.detail


def test_unpacked_once_and_anew_when_the_archive_changes(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "x.tar"
    seen: list[int] = []
    write_tar(path, [("a.jpg", jpeg(1)), ("a.txt", b"A dog")])
    first = load_dataset(path, progress=lambda done, total: seen.append(done))
    assert seen == [1]
    assert "the pictures of x.tar were unpacked into" in first.notes[0]
    again = load_dataset(path, progress=lambda done, total: seen.append(done))
    assert seen == [1] and again.records == first.records
    assert [path.name for path in first.records[0].path.parent.iterdir()] != []
    os.truncate(first.records[0].path, 3)  # a damaged cache is made anew
    assert load_dataset(path).records[0].path.read_bytes() == jpeg(1)
    (cache / first.records[0].path.parent.name / "index.json").write_text("{")
    assert load_dataset(path).records == first.records
    assert first.records[0].path.stat().st_mtime_ns == path.stat().st_mtime_ns
    write_tar(path, [("a.jpg", jpeg(2)), ("a.txt", b"A cat")])
    os.utime(path, (1, 1))
    assert load_dataset(path).records[0].captions == ("A cat",)
    assert not [entry for entry in cache.iterdir() if entry.name.startswith(".")]
    assert dataset_fingerprint(first) != dataset_fingerprint(load_dataset(path))


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.jpg", jpeg(1)), ("a.txt", b"A dog")])
    cache_folder().write_text("a file in its place")
    with pytest.raises(DataError, match="set SHOWTELL_CACHE to a folder on a disk with room"):
        load_dataset(path)


def test_other_formats_come_before_archives_in_their_folder(tmp_path: Path) -> None:
    write_tar(tmp_path / "images.tar", [("a.jpg", jpeg(1))])
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "captions.csv").write_text("path,caption\na.jpg,A dog\n")
    assert load_dataset(tmp_path).format == "csv"


def test_an_image_folder_with_its_table_in_parquet(tmp_path: Path) -> None:
    """As ``datasets`` takes it: metadata.parquet beside the pictures, in each split's folder."""
    for split in ("train", "validation"):
        rows = []
        for number in range(2):
            (tmp_path / split).mkdir(exist_ok=True)
            (tmp_path / split / f"{number}.jpg").write_bytes(jpeg(90 * number))
            rows.append({"file_name": f"{number}.jpg", "text": f"{split} {number}"})
        write_parquet(tmp_path / split / "metadata.parquet", rows)
    dataset = load_dataset(tmp_path)
    assert [(record.captions, record.split) for record in dataset.records] == [
        (("train 0",), "train"),
        (("train 1",), "train"),
        (("validation 0",), "val"),
        (("validation 1",), "val"),
    ]
    assert dataset.records[2].path == tmp_path / "validation" / "0.jpg"


@pytest.mark.parametrize("form", ["stream", "file"])
def test_arrow_files_of_both_forms_and_cut_off(form: str, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    rows = [{"image": {"bytes": jpeg(n), "path": None}, "caption": f"dog {n}"} for n in range(40)]
    table = pyarrow.Table.from_pylist(rows)
    path = tmp_path / "data-00000-of-00001.arrow"
    new = pyarrow.ipc.new_stream if form == "stream" else pyarrow.ipc.new_file
    with new(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    assert len(load_dataset(path).records) == 40
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if form == "file":  # its index is at the end
        with pytest.raises(DataError, match="cannot be read"):
            load_dataset(path)
    else:
        dataset = load_dataset(path)
        assert len(dataset.records) in (10, 20)
        assert dataset.problem_counts() == {"damaged archive": 1}


def test_rows_that_were_chosen_but_not_saved_are_an_error(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.Table.from_pylist([{"image": {"bytes": jpeg(), "path": ""}, "text": "dog"}])
    with pyarrow.ipc.new_stream(str(tmp_path / "data.arrow"), table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "state.json").write_text('{"_indices_data_files": [{"filename": "x.arrow"}]}')
    with pytest.raises(DataError, match="flatten_indices"):
        load_dataset(tmp_path)
