"""What names stand for: lists, tables, archives, URLs."""

import errno
import io
import json
import os
import sys
import tarfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from bulk_worker import one_file, read_lines, run, tiny_captioner

from showtell.bulk import inputs, shards
from showtell.bulk.inputs import Inputs, find_inputs
from showtell.bulk.remote import name_of
from showtell.bulk.shards import READERS
from showtell.bulk.targets import Sidecars
from showtell.core.prefetch import num_workers
from showtell.data.column_names import picture_name
from showtell.errors import DataError, ImageError
from showtell.inference.backends.pictures import WholePicture
from showtell.inference.stream import USUAL_BYTES, Picture, stream


def paths(*names: object) -> list[str]:
    return [str(picture.path) for picture in find_inputs([str(name) for name in names])]


def captions(tmp_path: Path, *names: object) -> dict[str, str]:
    out = tmp_path / "out.jsonl"
    run(one_file(out, overwrite=True), *map(str, names), overwrite=True)
    return {r["path"]: r["caption"] for r in read_lines(out)}


def test_folders_globs_and_files(photos: Path) -> None:
    all_five = [
        str(photos / name) for name in ("a.jpg", "b.png", "c.webp", "d.tif", "within/e.jpg")
    ]
    assert paths(photos) == all_five
    assert find_inputs([str(photos)]).count == 5
    assert paths(photos / "*.jpg") == all_five[:1]
    assert paths(photos / "**/*.jpg") == [all_five[0], all_five[4]]
    (photos / "empty").mkdir()
    assert paths(photos / "*") == all_five  # as where the shell puts the names
    assert paths(photos / "wi*", photos / "*.png") == [all_five[4], all_five[1]]
    odd = photos / "[1].jpg"
    odd.write_bytes((photos / "a.jpg").read_bytes())
    assert paths(odd) == [str(odd)]
    with pytest.raises(DataError, match="no pictures in it"):
        paths(photos / "empty")
    with pytest.raises(DataError, match="no file matches"):
        paths(photos / "*.bmp")


@pytest.mark.parametrize("kind", ["jsonl", "sidecar"])
def test_a_folder_within_that_cannot_be_read_fails_with_the_reason(
    kind: str, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = os.scandir

    def refuse(place: str) -> object:
        if str(place) == str(photos / "within"):
            raise PermissionError(errno.EACCES, "Permission denied", place)
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    failures = tmp_path / "failures.jsonl"
    beside = Sidecars(failures, overwrite=False)
    summary = run(beside if kind == "sidecar" else one_file(tmp_path / "out.jsonl"), photos)
    assert (summary.num_captioned, summary.num_failed) == (4, 1)
    [failure] = read_lines(failures)
    assert failure["error"] == f"{photos / 'within'}: cannot read the folder: Permission denied"


def test_a_folder_of_a_shard_that_cannot_be_read_is_one_failure(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan names it among the pictures; a folder that a person names is an error at once."""

    scan = os.scandir

    def refuse(place: str) -> object:
        if str(place) != str(photos / "within"):
            return scan(place)
        raise PermissionError(errno.EACCES, "Permission denied", place)

    names = (str(photos / "within"), str(photos / "a.jpg"))
    monkeypatch.setattr(os, "scandir", refuse)
    assert [picture.error for picture in Inputs(names, names)] == [
        "cannot read the folder: Permission denied",
        None,
    ]
    with pytest.raises(DataError, match=r"cannot read the folder .*within: Permission denied"):
        find_inputs([names[0]])
    assert find_inputs([str(photos / "*")]).count == 5  # one of many is one failure


def test_what_the_run_writes_is_none_of_its_pictures(photos: Path) -> None:
    own = photos / "failures.jsonl.partial"
    own.write_text("")
    found = find_inputs([str(photos / "a.jpg"), str(own)], own=[own])
    assert found.paths == (str(photos / "a.jpg"),)
    assert found.count == 1
    assert find_inputs([str(own)], own=[own]).paths == (str(own),)


def test_lists(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("photos/a.jpg\r\n\n" + str(photos / "b.png"))
    assert paths(listed) == [str(photos / "a.jpg"), str(photos / "b.png")]
    assert find_inputs([str(listed)]).count == 2
    monkeypatch.chdir(tmp_path)
    assert paths(listed)[0] == "photos/a.jpg"
    lines = tmp_path / "list.jsonl"
    lines.write_text('{"path": "photos/a.jpg"}\n{"x": 1}\nnot json\n[]\n')
    assert set(captions(tmp_path, lines)) == {"photos/a.jpg"}
    failures = read_lines(tmp_path / "failures.jsonl")
    assert [f["path"].rpartition(":")[2] for f in failures] == ["2", "3", "4"]
    with pytest.raises(DataError, match="cannot read"):
        paths(tmp_path / "gone.txt")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.txt")
        with pytest.raises(DataError, match="not a regular file"):
            paths(tmp_path / "pipe.txt")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_archives_are_streamed(tmp_path: Path, photos: Path, suffix: str) -> None:
    shard = tmp_path / f"shard{suffix}"
    with tarfile.open(shard, "w:gz" if suffix.endswith("gz") else "w") as archive:
        archive.add(photos, "photos")
        link = tarfile.TarInfo("photos/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("photos/notes.txt"), io.BytesIO())
    inside, outside = captions(tmp_path, shard), captions(tmp_path, photos)
    assert {p.removeprefix(f"{shard}/photos/"): c for p, c in inside.items()} == {
        p.removeprefix(f"{photos}/"): c for p, c in outside.items()
    }
    captions(tmp_path, shard)
    [failure] = read_lines(tmp_path / "failures.jsonl")
    assert "link.jpg: is not a regular file" in failure["error"]
    whole = shard.read_bytes()
    for share in (0.2, 0.35, 0.6):
        shard.write_bytes(whole[: int(len(whole) * share)])
        summary = run(one_file(tmp_path / "cut.jsonl"), shard)
        assert summary.num_failed >= 1
        reasons = (tmp_path / "failures.jsonl").read_text()
        assert "cannot be read to its end" in reasons or "may be cut off" in reasons


@pytest.mark.parametrize("name", ["a.zip", "b.7Z", "c.rar"])
def test_other_archives_are_refused_with_what_to_do(
    name: str, tmp_path: Path, photos: Path
) -> None:
    archive = tmp_path / name
    archive.write_bytes(b"PK\3\4")
    summary = run(one_file(tmp_path / "out.jsonl"), archive, photos)
    assert (summary.num_captioned, summary.num_failed, summary.num_passing) == (5, 1, 0)
    [failure] = read_lines(tmp_path / "failures.jsonl")
    assert failure["error"] == (
        f"{archive}: {archive.suffix.lower()} archives are not read: unpack it and name the folder "
        "(.tar archives are read)"
    )
    assert paths(tmp_path / "none.zip") == [str(tmp_path / "none.zip")]


def test_which_pictures_that_cannot_be_read_may_be_later(tmp_path: Path, photos: Path) -> None:
    archive, cut = photos.parent / "x.tar", photos.parent / "cut.tar"
    with tarfile.open(archive, "w") as file:
        file.add(photos / "a.jpg", "a.jpg")
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "a.jpg"
        file.addfile(link)
    cut.write_bytes(archive.read_bytes()[:600])
    listed = tmp_path / "list.jsonl"
    refused = "http://169.254.169.254/a.jpg"
    listed.write_text(f'{{\n{{"no": "path"}}\n{{"url": "{refused}"}}\n')
    lasting = [f"{archive}/link.jpg", f"{listed}:1", f"{listed}:2", refused]
    summary = run(one_file(tmp_path / "out.jsonl"), archive, listed, cut)
    assert (summary.num_captioned, summary.num_failed, summary.num_passing) == (1, 5, 1)
    may_pass = {r["path"]: "may_pass" in r for r in read_lines(tmp_path / "failures.jsonl")}
    assert may_pass == dict.fromkeys(lasting, False) | {str(cut): True}
    summary = run(Sidecars(tmp_path / "failures.jsonl", overwrite=False), archive)
    assert (summary.num_failed, summary.num_passing) == (2, 0)


@pytest.mark.parametrize("name", ["Image Path", "image-path", "FILE_NAME", " url "])
def test_a_list_may_name_its_pictures_as_a_data_set_does(
    tmp_path: Path, photos: Path, name: str
) -> None:
    line = {"caption": "A dog.", "path": None, name: str(photos / "a.jpg")}
    (tmp_path / "list.jsonl").write_text(json.dumps(line))
    assert paths(tmp_path / "list.jsonl") == [str(photos / "a.jpg")]


def test_of_several_names_a_list_takes_the_one_that_a_data_set_takes(
    tmp_path: Path, photos: Path
) -> None:
    row = {"file_name": str(photos / "b.png"), "image": str(photos / "a.jpg")}
    (tmp_path / "list.jsonl").write_text(json.dumps(row))
    assert paths(tmp_path / "list.jsonl") == [row[picture_name(row) or ""]]


def test_parquet_with_pictures_and_with_paths(tmp_path: Path, photos: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    content = (photos / "a.jpg").read_bytes()
    wanted = captions(tmp_path, photos / "a.jpg")[str(photos / "a.jpg")]
    tables = {
        "hf": [{"image": {"bytes": content, "path": "x.jpg"}}],
        "bytes": [{"key": "k", "jpg": content}],
        "paths": [{"path": str(photos / "a.jpg")}],
        "none": [{"other": 1}],
    }
    said = {}
    for name, rows in tables.items():
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
        said[name] = captions(tmp_path, tmp_path / f"{name}.parquet")
    assert said == {
        "hf": {f"{tmp_path}/hf.parquet/0/x.jpg": wanted},
        "bytes": {f"{tmp_path}/bytes.parquet/0/k": wanted},
        "paths": {str(photos / "a.jpg"): wanted},
        "none": {},
    }
    (tmp_path / "none.parquet").write_bytes(b"PAR1 no table")
    assert captions(tmp_path, tmp_path / "none.parquet") == {}


def test_urls(tmp_path: Path, photos: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    for name in ("a.jpg", "b.png"):
        files.pipe(f"/lake/{name}", (photos / name).read_bytes())
    files.pipe("/lake/notes.txt", b"a.jpg\nmemory://lake/gone.jpg\n")
    wanted = {p.rpartition("/")[2]: c for p, c in captions(tmp_path, photos).items()}
    for name in ("memory://lake", "memory://lake/*.*g"):
        said = captions(tmp_path, name)
        assert said == {f"memory:///lake/{n}": wanted[n] for n in ("a.jpg", "b.png")}
    assert list(captions(tmp_path, "memory://lake/notes.txt").values()) == [wanted["a.jpg"]]
    assert "gone.jpg" in (tmp_path / "failures.jsonl").read_text()
    with pytest.raises(DataError, match="no pictures there"):
        paths("memory://lake/*.gif")
    for name, is_failure in (("gone.jpg", True), ("a.jpg", False), ("notes.txt", False)):
        summary = run(one_file(tmp_path / "one.jsonl"), f"memory://lake/{name}")
        assert summary.single_failed == is_failure, name
    with pytest.raises(DataError, match="nonsense"):
        paths("nonsense://lake/a.jpg")


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_a_picture_from_standard_input(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name follows from its content: in a file that is gone on with another one is another."""
    wanted = captions(tmp_path, photos / "a.jpg", photos / "b.png")
    out = tmp_path / "piped.jsonl"
    for name, num_captioned in (("a.jpg", 1), ("a.jpg", 0), ("b.png", 1)):
        pipe(monkeypatch, (photos / name).read_bytes())
        summary = run(one_file(out), "-")
        assert (summary.num_captioned, summary.num_failed) == (num_captioned, 0)
        record = read_lines(out)[-1]
        assert record["path"].startswith("stdin://")
        assert record["caption"] == wanted[str(photos / name)]
    text = one_file(tmp_path / "out.txt", "text")
    for _ in range(2):
        pipe(monkeypatch, (photos / "a.jpg").read_bytes())
        text.check()
        assert run(text, "-", photos / "a.jpg").num_captioned == 2
    pipe(monkeypatch, b"a.jpg\nb.png\n")
    summary = run(Sidecars(tmp_path / "failures.jsonl", overwrite=False), "-")
    assert summary.single_failed
    pipe(monkeypatch, b"a.jpg\nb.png\n")
    assert run(one_file(out), "-").single_failed
    assert "is not a picture that can be read" in (tmp_path / "failures.jsonl").read_text()


@pytest.mark.parametrize(("content", "reason"), [(b"", "is empty"), (b"12345", "more than 4 byte")])
def test_standard_input_without_a_picture(
    content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, content)
    monkeypatch.setattr(inputs, "MOST_BYTES", 4)
    with pytest.raises(DataError, match=f"^- is standard input, which .*{reason}"):
        find_inputs(["-"])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match=r"nothing is piped in; .* showtell caption -$"):
        find_inputs(["-"])


def test_a_file_that_is_called_as_standard_input(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    (photos / "a.jpg").rename("-")
    [picture] = find_inputs(["./-"])
    assert picture.read is None


@pytest.mark.parametrize("name", ["s3://lake/out", "gs://a", "memory://lake", "out/here", "/out"])
def test_a_path_does_not_spoil_a_url(name: str) -> None:
    assert name_of(Path(name)) == name


def test_every_kind_of_shard_is_known() -> None:
    assert len(READERS) == 8


def test_the_stream_takes_paths_and_is_lazy(photos: Path) -> None:
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield photos / "a.jpg"

    results = tiny_captioner().caption_stream(endless(), batch_size=4)
    first = [next(results) for _ in range(6)]
    assert {result.text for result in first} == {first[0].caption.text}
    assert first[0].path == photos / "a.jpg"
    assert 0 < first[0].confidence <= 1
    assert len(taken) <= 16
    results.close()


@pytest.mark.parametrize("overlaps", [False, True])
def test_what_is_read_ahead_is_bounded_by_its_bytes(photos: Path, overlaps: bool) -> None:
    content = (photos / "a.jpg").read_bytes()
    alive: set[int] = set()
    most = 0

    class Member:
        def __call__(self) -> bytes:
            return content

    def members() -> Iterator[Picture]:
        nonlocal most
        for number in range(64):
            read = Member()
            alive.add(number)
            weakref.finalize(read, alive.discard, number)
            most = max(most, len(alive))
            yield Picture(f"shard.tar/{number}.jpg", read, num_held=4 * USUAL_BYTES)

    def describe(views: list[object], first: int) -> list[str]:
        return ["no caption"] * len(views)

    recipe = WholePicture()
    results = list(stream(members(), recipe, describe, batch_size=16, overlaps=overlaps))
    assert len(results) == 64
    # 4 of these count as 16 pictures; on their way are the one that is made and the one taken.
    assert most <= (4 if overlaps else 1) * 4 + 2 + num_workers()


def test_a_table_of_large_pictures_is_read_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    contents = [os.urandom(1000) for _ in range(40)]
    table = tmp_path / "table.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"jpg": c} for c in contents]), table)
    sizes = []
    iterate = parquet.ParquetFile.iter_batches

    def noted(self: object, batch_size: int) -> object:
        sizes.append(batch_size)
        return iterate(self, batch_size=batch_size)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", noted)
    for limit in (2**26, 4000, 1):
        monkeypatch.setattr(shards, "BYTES_A_READ", limit)
        found = list(find_inputs([str(table)]))
        assert [picture.read() for picture in found if picture.read] == contents
        assert {picture.num_held for picture in found} == {1000}
    assert sizes == [16, 3, 1]


def test_a_list_that_is_nested_too_deeply(tmp_path: Path) -> None:
    (tmp_path / "deep.jsonl").write_text("[" * 200_000)
    [picture] = find_inputs([str(tmp_path / "deep.jsonl")])
    assert picture.read is not None
    with pytest.raises(ImageError, match="nested too deeply"):
        picture.read()
