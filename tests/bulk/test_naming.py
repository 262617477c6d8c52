"""Pictures in archives and tables: each has a name of its own, and WebDataset keys are unique."""

import io
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from bulk.conftest import paint
from bulk_worker import one_file, read_lines, run
from PIL import Image

from showtell.bulk.inputs import find_inputs
from showtell.bulk.naming import UniqueNames, sample_keys, split_name
from showtell.bulk.shards import read
from showtell.bulk.targets import Sidecars
from showtell.errors import DataError, install_line


def pack(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def keys_in(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return [name.removesuffix(".txt") for name in archive.getnames() if name.endswith(".txt")]


@pytest.fixture
def contents(tmp_path: Path) -> list[bytes]:
    return [paint(tmp_path / f"source-{i}.jpg", i).read_bytes() for i in range(4)]


@pytest.mark.parametrize(
    ("paths", "keys"),
    [
        (["s.tar/a.jpg", "s.tar/b/a.jpg"], ["a", "b/a"]),
        (["s.tar/0001.input.jpg", "s.tar/0001.target.jpg"], ["0001.input", "0001.target"]),
        (["x/s.tar/a.jpg", "x/t.tar/a.jpg"], ["x/s.tar/a", "x/t.tar/a"]),
        (["d/a.jpg", "d/a.png", "d/a.PNG"], ["d/a", "d/a_png", "d/a_2"]),
        (["d/photo.1.jpg", "d/photo.2.jpg"], ["d/photo_1", "d/photo_2"]),
        (["t.parquet/0/a.jpg", "t.parquet/1/a.jpg", "t.parquet/2"], ["0/a", "1/a", "2"]),
        (["../../etc/a.jpg", "/etc/a.jpg"], ["etc/a", "etc/a_jpg"]),
        (["s.tar/../../a.jpg", "s.tar/./a.jpg"], ["a", "a_jpg"]),
        (["d/new\nline\0.jpg"], ["d/new_line_"]),
        (["https://host/x.tar/a.jpg"], ["a"]),
    ],
)
def test_keys(paths: list[str], keys: list[str]) -> None:
    assert list(sample_keys(paths)) == keys
    assert len(set(keys)) == len(keys)


def test_names_that_come_again_are_numbered() -> None:
    unique = UniqueNames()
    names = ["s.tar/a.jpg", "s.tar/a.jpg", "s.tar/a#2.jpg", "s.tar/a.jpg", "s.tar/a"]
    assert [unique(name) for name in names] == [
        *("s.tar/a.jpg", "s.tar/a#2.jpg", "s.tar/a#2#2.jpg", "s.tar/a#3.jpg", "s.tar/a")
    ]
    assert split_name("x/s.tar.gz/y/a.jpg") == ("x/s.tar.gz", "y/a.jpg")
    assert split_name("x/a.jpg") == ("", "x/a.jpg")


def test_two_shards_with_the_same_keys(tmp_path: Path, contents: list[bytes]) -> None:
    for number in range(2):
        members = [(f"00000{i}.jpg", contents[2 * number + i]) for i in range(2)]
        pack(tmp_path / f"shard-{number}.tar", [*members, ("000000.cls", b"7")])
    shards = sorted(tmp_path.glob("shard-*.tar"))
    out = tmp_path / "out.tar"
    assert run(one_file(out, "webdataset"), *shards).num_captioned == 4
    wanted = [f"{shard}/00000{i}".lstrip("/") for shard in shards for i in range(2)]
    assert keys_in(out) == wanted
    one = tmp_path / "one.tar"
    run(one_file(one, "webdataset"), shards[0])
    assert keys_in(one) == ["000000", "000001"]  # joins with the pictures' own archive
    lines = tmp_path / "out.jsonl"
    assert run(one_file(lines), *shards).num_captioned == 4
    assert len({record["path"] for record in read_lines(lines)}) == 4


def test_a_member_that_comes_twice_is_two_pictures(tmp_path: Path, contents: list[bytes]) -> None:
    shard = pack(tmp_path / "s.tar", [("a.jpg", contents[0]), ("a.jpg", contents[1])])
    out = tmp_path / "out.jsonl"
    assert run(one_file(out), shard).num_captioned == 2
    assert [r["path"] for r in read_lines(out)] == [f"{shard}/a.jpg", f"{shard}/a#2.jpg"]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "webdataset", "text"])
def test_rows_with_one_base_name(tmp_path: Path, contents: list[bytes], kind: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"image": {"bytes": c, "path": f"{i % 2}.jpg"}} for i, c in enumerate(contents)]
    table = tmp_path / "table.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    out = tmp_path / f"out.{kind}"
    assert run(one_file(out, kind), table).num_captioned == 4
    if kind == "jsonl":
        names = [str(r["path"]).removeprefix(f"{table}/") for r in read_lines(out)]
        assert names == ["0/0.jpg", "1/1.jpg", "2/0.jpg", "3/1.jpg"]
    if kind == "webdataset":
        assert keys_in(out) == ["0/0", "1/1", "2/0", "3/1"]
    if kind in ("jsonl", "csv", "parquet"):  # a finished file is gone on with
        assert run(one_file(out, kind), table).num_captioned == 0
    one_file(out, kind).check()  # and known as showtell's own


def test_resumed_in_the_middle_of_a_table(tmp_path: Path, contents: list[bytes]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"image": {"bytes": content, "path": "x.jpg"}} for content in contents]
    table = tmp_path / "table.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    out = tmp_path / "out.jsonl"
    run(one_file(out), table)
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    head = '{"model": "%s", "format": "jsonl", "overwrite": false, "dedupe": false}\n'
    model = read_lines(out)[0]["model"]
    out.unlink()
    (tmp_path / "out.jsonl.partial").write_bytes((head % model).encode() + b"".join(lines[:2]))
    summary = run(one_file(out), table)
    assert (summary.num_captioned, summary.num_kept) == (2, 2)
    assert out.read_bytes() == whole


def test_pictures_in_any_column(tmp_path: Path, contents: list[bytes]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    a, b, *_ = contents
    tables: dict[str, tuple[dict[str, object], list[str]]] = {
        "img": ({"img": {"bytes": a, "path": None}}, ["0"]),
        "list": (
            {"images": [{"bytes": a, "path": "x.jpg"}, {"bytes": b, "path": "x.jpg"}]},
            [*("0/images/x.jpg", "0/images/x#2.jpg")],
        ),
        "two": ({"left": a, "right": b}, ["0/left", "0/right"]),
        "odd": ({"pixel_data": a, "text": "dog"}, ["0"]),
        "web": ({"URL": "a.jpg", "TEXT": "dog"}, []),
        "named": ({"photo": {"bytes": None, "path": "a.jpg"}, "filename": "b.jpg"}, []),
    }
    for name, (row, wanted) in tables.items():
        file = tmp_path / f"{name}.parquet"
        parquet.write_table(pyarrow.Table.from_pylist([row]), file)
        found = [
            str(picture.path).removeprefix(f"{file}/") for picture in read(str(file), Counter())
        ]
        assert found == (wanted or ["a.jpg" if name == "web" else "b.jpg"]), name


@pytest.mark.usefixtures("without_heif")
def test_what_is_passed_over(tmp_path: Path, photos: Path, contents: list[bytes]) -> None:
    for name in ("x.HEIC", "y.heic", "z.svg", "notes.txt", "._a.jpg", "doc.pdf", "p.jxl", "r.CR2"):
        (photos / name).write_bytes(b"?")
    for name in ("n.nef", "d.DNG", "s.arw", "film.MP4", "clip.mov"):
        (photos / name).write_bytes(b"?")
    (photos / "saved.jfif").write_bytes(contents[0])
    (photos / "old.JPE").write_bytes(contents[1])
    for folder in (".thumbnails", "__MACOSX", "@eaDir"):
        (photos / folder).mkdir()
        (photos / folder / "a.jpg").write_bytes(contents[2])
    wanted = {
        "1 .svg",
        "1 .pdf",
        "1 .jxl",
        "1 .cr2",
        "1 .nef",
        "1 .dng",
        "1 .arw",
        "1 .mp4",
        "1 .mov",
    }
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w") as archive:
        for path in sorted(photos.rglob("*")):
            archive.add(path, path.relative_to(photos), recursive=False)
    for given in (photos, shard):
        inputs = find_inputs([str(given)])
        names = {str(picture.path).removeprefix(f"{given}/") for picture in inputs}
        assert names == {
            *("a.jpg", "b.png", "c.webp", "d.tif", "within/e.jpg", "saved.jfif", "old.JPE")
        }
        said, _, heic = inputs.describe_skipped().partition("); ")
        assert set(said.removeprefix("left out: ").partition(" (")[0].split(", ")) == wanted
        assert said.endswith("showtell does not read these kinds; convert them to JPEG or PNG")
        assert heic == f"2 .heic, for which showtell needs an extra: {install_line('heif')}"
        assert "\n" not in heic
        out = tmp_path / f"{given.name}.jsonl"
        summary = run(one_file(out), given)
        assert dict(summary.left_out)[".heic"] == 2
        assert summary.describe(out).count("left out: 2 .heic, 1 .") == 1
    listed = tmp_path / "list.txt"
    listed.write_text(
        f"{photos}/a.jpg\n{photos}/._a.jpg\n{photos}/x.HEIC\n{photos}/.thumbnails/a.jpg\n"
    )
    assert [Path(p.path).name for p in find_inputs([str(listed)])] == ["a.jpg", "x.HEIC"]
    only = tmp_path / "only"
    only.mkdir()
    (only / "x.heic").write_bytes(b"?")
    with pytest.raises(DataError, match=r"no pictures in it; left out: 1 \.heic"):
        find_inputs([str(only)])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-8"])
def test_lists_of_any_encoding(tmp_path: Path, encoding: str) -> None:
    text = "b.jpg\r\nÄ dog.jpg\r\n"
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    rows = '{"File_Name": "b.jpg"}\n{"photo": "c.jpg"}\n{"image_name": "d.jpg"}\n'
    (tmp_path / "list.jsonl").write_bytes(rows.encode(encoding))
    assert [p.path for p in find_inputs([str(tmp_path / "list.txt")])] == ["b.jpg", "Ä dog.jpg"]
    assert [p.path for p in find_inputs([str(tmp_path / "list.jsonl")])] == [
        *("b.jpg", "c.jpg", "d.jpg")
    ]


def test_a_header_of_a_gigabyte_is_refused(tmp_path: Path) -> None:
    shard = tmp_path / "s.tar"
    header = tarfile.TarInfo("pax")
    header.type, header.size = b"x", 2**30
    shard.write_bytes(header.tobuf() + bytes(10240))
    [picture] = read(str(shard), Counter())
    assert picture.read is not None
    with pytest.raises(Exception, match="header has 1,073,741,824 bytes"):
        picture.read()


HOSTILE = (
    "../../up.jpg",
    "/etc/abs.jpg",
    "new\nline.jpg",
    "a\x1b[31m.jpg",
    "d\\win.jpg",
    "C:\\d.jpg",
)


@pytest.mark.parametrize("container", ["tar", "parquet"])
def test_hostile_names_of_members(tmp_path: Path, contents: list[bytes], container: str) -> None:
    """They are names, and nothing is read or written by them."""
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    source = folder / f"s.{container}"
    if container == "tar":
        pack(source, [(name, contents[0]) for name in HOSTILE])
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        rows = [{"image": {"bytes": contents[0], "path": name}} for name in HOSTILE]
        parquet.write_table(pyarrow.Table.from_pylist(rows), source)
    before = set(tmp_path.rglob("*"))
    outs = {kind: folder / f"out.{kind}" for kind in ("text", "jsonl", "csv", "webdataset")}
    for kind, out in outs.items():
        assert run(one_file(out, kind), source).num_captioned == len(HOSTILE)
    assert len(outs["text"].read_text().splitlines()) == len(HOSTILE)
    assert "\x1b" not in outs["text"].read_text()
    for key in keys_in(outs["webdataset"]):
        assert not key.startswith("/")
        assert ".." not in key.split("/")
        assert key.isprintable()
    summary = run(Sidecars(folder / "failures.jsonl", overwrite=True), source, overwrite=True)
    assert (summary.num_captioned, summary.num_failed) == (0, len(HOSTILE))
    assert set(tmp_path.rglob("*")) == before | {*outs.values(), folder / "failures.jsonl"}


def test_heic_in_folders_and_archives(tmp_path: Path, photos: Path, contents: list[bytes]) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.open(io.BytesIO(contents[0]))).save(file, quality=95)
    (photos / "x.HEIC").write_bytes(file.getvalue())
    shard = tmp_path / "s.tar"
    pack(shard, [("y.heic", file.getvalue())])
    out = tmp_path / "out.jsonl"
    summary = run(one_file(out), photos, shard)
    assert (summary.num_captioned, summary.num_failed, summary.left_out) == (7, 0, {})
    assert {f"{photos}/x.HEIC", f"{shard}/y.heic"} < {line["path"] for line in read_lines(out)}


@pytest.mark.usefixtures("without_heif")
def test_heic_that_is_named_without_the_extra_fails_with_the_command(
    tmp_path: Path, photos: Path
) -> None:
    (photos / "x.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    out = tmp_path / "out.jsonl"
    summary = run(one_file(out), photos / "a.jpg", photos / "x.heic")
    assert (summary.num_captioned, summary.num_failed) == (1, 1)
    [failure] = read_lines(tmp_path / "failures.jsonl")
    assert failure["error"].endswith(f"reading it needs an extra: {install_line('heif')}")
