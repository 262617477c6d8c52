"""What a command is told to write to: nothing of a person's is written over, and it shows early."""

import json
import os
import tarfile
from pathlib import Path

import pytest
from cli_shell import SMALL, Shell
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in (("a.jpg", "red"), ("b.jpg", "blue"), ("c.jpg", "green")):
        Image.new("RGB", (64, 48), colour).save(folder / name)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WRONG_USAGE = (
    *("--workers", "--address", "- (", "-o x.json", "-o s", "-o captions.tar.gz"),
    *("--failures x.jsonl", "--failures needs", "--format sidecar", "--prune", "--overwrite"),
    *("--figure data.json", "--figure a.jpg"),
)
"""What messages begin with that say how a command is typed; their exit code is 2."""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("caption a.jpg -o a.jpg", "-o a.jpg is one of the inputs"),
        ("caption *.jpg -o ../photos/a.jpg", "-o ../photos/a.jpg is one of the inputs"),
        ("caption -o a.jpg b.jpg c.jpg", "-o a.jpg has the name of a picture"),
        ("caption --json -o a.jpg b.jpg c.jpg", "-o a.jpg has the name of a picture"),
        ("caption a.jpg --failures b.jpg -o x.txt", "--failures b.jpg has the name of a picture"),
        ("caption list.txt -o list.txt", "-o list.txt is one of the inputs"),
        (
            "caption a.jpg b.jpg -o notes.txt",
            "notes.txt already exists and was not written by showtell as text",
        ),
        (
            "caption . -o mine.jsonl",
            "mine.jsonl already exists and was not written by showtell as jsonl",
        ),
        (
            "caption . -o notes.csv",
            "notes.csv already exists and was not written by showtell as csv",
        ),
        (
            "caption . -o notes.parquet",
            "notes.parquet already exists and was not written by showtell as parquet",
        ),
        (
            "caption . -o notes.tar",
            "notes.tar already exists and was not written by showtell as webdataset",
        ),
        (
            "caption . --json -o data.json",
            "data.json already exists and was not written by showtell as json",
        ),
        (
            "caption . -o deep.jsonl",
            "deep.jsonl already exists and was not written by showtell as jsonl",
        ),
        ("caption . -o pipe", "-o pipe is a device or a pipe; give the name of a file"),
        ("caption . -o x.jsonl --failures pipe", "--failures pipe is a device or a pipe"),
        ("caption . -o x.jsonl --failures x.jsonl", "--failures x.jsonl is also -o"),
        (
            "caption . -o x.jsonl --failures ./x.jsonl.partial",
            "--failures x.jsonl.partial is also the journal of the run",
        ),
        ("caption . -o new/x.txt", "no such folder: new; make it: mkdir -p new"),
        ("caption . -o x.json", "-o x.json: add --json"),
        ("caption . --engine ray -o notes.txt", "-o notes.txt is a file, but --engine ray"),
        ("caption - --engine ray -o results", "- (standard input) works only with --engine local"),
        ("caption . -o captions.tar.gz", "-o captions.tar.gz: showtell writes no .gz file"),
        ("caption . -o s3://lake/x.jsonl", "-o s3://lake/x.jsonl is in a store"),
        (
            "caption . --format sidecar --num-captions 3",
            "--format sidecar writes one caption for each",
        ),
        ("caption . --prune", "--prune needs a file whose captions it drops: add -o FILE"),
        ("caption . --overwrite", "--overwrite replaces nothing on the screen: add -o FILE"),
        ("caption . --failures f.jsonl", "--failures needs captions that go to files"),
        ("caption a.jpg --workers 2", "--workers needs --engine ray, but the engine is local"),
        ("caption a.jpg --address x", "--address needs --engine ray"),
        ("sheet a.jpg -o a.jpg", "-o a.jpg is one of the inputs"),
        ("sheet -o a.jpg b.jpg c.jpg", "a.jpg already exists and is not a sheet"),
        ("sheet . -o s.gif", "-o s.gif: the name of a sheet must end in .jpg, .jpeg, .png"),
        ("sheet . -o s", "-o s: the name of a sheet must end in .jpg, .jpeg, .png"),
        ("sheet . -o new/s.png", "no such folder: new"),
        ("sheet many.txt --columns 1 -o s.jpg", "a sheet with this number of columns has room for"),
        ("evaluate x scenes:40 --predictions a.jpg", "--predictions a.jpg has the name"),
        ("evaluate x data.json --predictions data.json", "--predictions data.json is one of"),
        ("score data.json mine.jsonl -o mine.jsonl", "-o mine.jsonl is one of the inputs"),
        ("score data.json mine.jsonl -o missing/x.json", "no such folder: missing"),
        (
            "score data.json mine.jsonl -o notes.txt",
            "-o notes.txt already exists: give another name, or",
        ),
        ("evaluate x scenes:40 -o notes.txt", "-o notes.txt already exists: give another name, or"),
        ("evaluate x scenes:40 --predictions notes.txt", "--predictions notes.txt already exists"),
        ("evaluate x scenes:40 --predictions said.json", "--predictions said.scores.json already"),
        ("reliability x scenes:40 --figure data.json", "--figure data.json: the name of a figure"),
        ("reliability x scenes:40 --figure a.jpg", "--figure a.jpg: the name of a figure must end"),
        ("reliability x scenes:40 --figure mine.png", "--figure mine.png already exists"),
        ("data inspect data.json -o data.json", "-o data.json is one of the inputs"),
        ("data inspect data.json -o notes.txt", "-o notes.txt already exists: give another name"),
        (
            "data inspect data.json --page notes.txt",
            "--page notes.txt already exists: give another",
        ),
        ("report x -o a.jpg", "-o a.jpg has the name of a picture"),
        ("report x -o notes.txt", "-o notes.txt already exists: give another name, or"),
        ("report x -o .", "-o report.html already exists: give another name, or"),
        ("train scenes:40 -o a.jpg", "a.jpg is a file: give the name of a folder"),
        ("train . -o .", ". already exists and is not a run: give a new"),
        ("train . -o . -s optimizer.lr=1e-3,1e-4", ". already exists and is not a run"),
        ("demo -o a.jpg", "a.jpg is a file: give the name of a folder"),
        ("demo -o .", ". already exists and is not a demo: give a new"),
        ("demo -o ..", ".. already exists and is not a demo"),
    ],
)
def test_what_is_a_persons_stays(
    showtell: Shell, photos: Path, command: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    (photos / "list.txt").write_text("a.jpg\nb.jpg\n")
    (photos / "data.json").write_text('{"annotations": []}')
    (photos / "mine.jsonl").write_text('{"path": "a.jpg", "caption": "Ida at the lake"}\n')
    (photos / "many.txt").write_text("a.jpg\n" * 300)
    (photos / "deep.jsonl").write_text("[" * 200_000)
    (photos / "report.html").write_text("<p>of mine</p>")
    (photos / "said.scores.json").write_text("{}")
    (photos / "mine.png").write_bytes((photos / "a.jpg").read_bytes())
    os.mkfifo(photos / "pipe")
    for name in ("txt", "csv", "parquet", "tar"):
        (photos / f"notes.{name}").write_text("milk\neggs\n")
    before = contents(photos)
    result = showtell(*command.split())
    is_wrong_usage = message.startswith(WRONG_USAGE)
    assert result.returncode == (2 if is_wrong_usage else 1), result.stdout
    assert result.stderr.startswith(f"error: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert contents(photos) == before


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl", "x.csv", "x.parquet", "x.tar", "x.json"])
def test_a_name_tells_the_format_and_own_files_are_written_again(
    showtell: Shell, model: Path, photos: Path, tmp_path: Path, name: str
) -> None:
    from showtell.bulk.targets import refuse_others

    if name == "x.parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / name
    kinds = {"txt": "text", "tar": "webdataset"}
    more = ("--json",) if name == "x.json" else ()
    for _ in range(2):
        result = showtell("caption", photos, "-m", model, "-o", out, *more)
        assert result.returncode == 0, result.stderr
        refuse_others(out, kinds.get(name[2:], name[2:]))
    out.write_text("milk\n")
    assert showtell("caption", photos, "-m", model, "-o", out, *more).returncode == 1
    assert out.read_text() == "milk\n"
    result = showtell("caption", photos, "-m", model, "-o", out, *more, "--overwrite")
    assert result.returncode == 0, result.stderr
    refuse_others(out, kinds.get(name[2:], name[2:]))


def test_the_text_of_one_picture(
    showtell: Shell, model: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "one.txt"
    asked = ("caption", photos / "a.jpg", "-m", model, "-o", out)
    assert [showtell(*asked).returncode for _ in range(2)] == [0, 0]
    said = out.read_text()
    out.write_text("milk\n")
    result = showtell(*asked)
    assert (result.returncode, out.read_text()) == (1, "milk\n")
    assert "already exists with a text other than this caption" in result.stderr
    assert showtell(*asked, "--overwrite").returncode == 0
    assert out.read_text() == said


@pytest.mark.parametrize("name", ["s.jpg", "s.PNG"])
def test_a_sheet_is_drawn_again(
    showtell: Shell, model: Path, photos: Path, tmp_path: Path, name: str
) -> None:
    asked = ("sheet", photos, "-m", model, "-o", tmp_path / name)
    for _ in range(2):
        result = showtell(*asked)
        assert result.returncode == 0, result.stderr


def test_a_sheet_of_an_archive(showtell: Shell, model: Path, photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(photos, "photos")
    out = tmp_path / "s.png"
    result = showtell("sheet", tmp_path / "a.tar", "-m", model, "-o", out)
    assert result.returncode == 0, result.stderr
    with Image.open(out) as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 20)}
    assert {(254, 0, 0), (0, 0, 254)} <= colours  # as JPEG has the photos


def test_a_sheet_with_names_and_letters_without_a_font(
    showtell: Shell, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("showtell.images.lettering.font_files", list)
    heights = []
    for names in ((), ("--names",)):
        out = tmp_path / f"{len(names)}.png"
        done = showtell("sheet", photos, "-m", model, "-o", out, "--heading", "犬", *names)
        assert done.returncode == 0, done.stderr
        assert (
            "warning: no font here has these letters, which are drawn as boxes: 犬" in done.stderr
        )
        with Image.open(out) as sheet:
            heights.append(sheet.height)
    assert heights[1] - heights[0] == 17  # a line of small letters


def test_failures_of_a_person_stay(showtell: Shell, model: Path, photos: Path) -> None:
    mine = photos / "failures.jsonl"
    mine.write_text('{"exam": "maths"}\n')
    asked = ("caption", photos, "-m", model, "--format", "sidecar")
    assert "was not written by showtell as failures" in showtell(*asked).stderr
    assert mine.read_text() == '{"exam": "maths"}\n'
    assert showtell(*asked, "--failures", photos / "new.jsonl").returncode == 0


def test_a_text_beside_a_picture_is_no_list(showtell: Shell, model: Path, photos: Path) -> None:
    asked = ("caption", "-m", model, "--format", "sidecar")
    assert showtell(*asked, *sorted(photos.iterdir())).returncode == 0
    result = showtell("caption", "-m", model, *sorted(photos.iterdir()))
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 3
    assert result.stderr == "left out: 3 .txt, not lists but texts of pictures of the same name\n"
    result = showtell("caption", "-m", model, photos / "a.txt")
    assert result.returncode == 1
    assert "a.txt is the text of the picture beside it, not a list" in result.stderr


def test_a_list_that_gives_no_picture_is_a_failure(
    showtell: Shell, model: Path, photos: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "list.txt"
    for text, code in (("gone.jpg\n", 1), ("", 1), ("gone.jpg\nphotos/a.jpg\n", 0)):
        listed.write_text(text)
        for more in ((), ("-o", tmp_path / "x.jsonl")):
            result = showtell("caption", "-m", model, listed, photos / "b.jpg", *more)
            assert result.returncode == code, result.stderr


def test_a_dry_run_names_what_is_missing(showtell: Shell, photos: Path, tmp_path: Path) -> None:
    gone = photos / "gone.jpg"
    result = showtell("caption", gone, photos / "a.jpg", "--dry-run")
    assert result.returncode == 1
    assert result.stdout == f"caption {photos / 'a.jpg'}\n"
    assert result.stderr.splitlines() == [
        f"error: {gone}: No such file or directory",
        "1 to caption, 0 kept, 1 would fail; nothing was written",
    ]
    (tmp_path / "list.txt").write_text("photos/a.jpg\ngone.jpg\n")
    asked = ("caption", tmp_path / "list.txt", "--dry-run")
    assert showtell(*asked).returncode == 0
    assert showtell(*asked, "--strict").returncode == 1


def test_a_start_that_failed_leaves_room_for_the_next(
    showtell: Shell, model: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    asked = ("train", "scenes:40", "-o", run, *SMALL, "-s", "training.num_epochs=1")
    wider = ("-s", "decoder.hidden_size=96")
    failed = showtell(*asked, *wider, "-s", f"training.init_from={model}")
    assert failed.returncode == 1
    assert "decoder" in failed.stderr
    assert {path.name for path in run.iterdir()} == {"config.toml", "run.json"}
    done = showtell(*asked, "-s", f"training.init_from={model}", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["best_epoch"] == 1
    assert "already holds a run" in showtell(*asked).stderr
