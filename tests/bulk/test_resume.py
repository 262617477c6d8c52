"""Runs that are stopped, killed and started again."""

import csv
import errno
import io
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bulk.conftest import paint
from bulk_worker import one_file, read_lines, run, tiny_captioner

from showtell.bulk.formats import (
    FORMATS,
    read_csv,
    read_jsonl,
    read_parquet,
    read_webdataset,
    text_lines,
)
from showtell.bulk.inputs import find_inputs
from showtell.bulk.journal import Journal
from showtell.bulk.run import plan
from showtell.bulk.targets import OneFile, Sidecars
from showtell.core.progress import SilentReporter
from showtell.errors import DataError

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        *[("jsonl", read_jsonl), ("csv", read_csv), ("parquet", read_parquet)],
        ("webdataset", read_webdataset),
    ],
)
def test_a_finished_run_does_only_what_is_new(tmp_path: Path, photos: Path, kind, read) -> None:
    out = tmp_path / f"out.{kind}"
    assert run(one_file(out, kind), photos).num_captioned == 5
    before = list(read(out))
    paint(photos / "new.jpg", 9)
    (photos / "a.jpg").unlink()
    summary = run(one_file(out, kind), photos)
    assert (summary.num_captioned, summary.num_kept, summary.num_failed) == (1, 4, 0)
    assert "1 of other pictures stay in the file (--prune drops them)" in summary.describe(out)
    after = {r["path"]: r for r in read(out)}
    assert len(after) == 6
    assert all(after[r["path"]] == r for r in before)
    assert run(one_file(out, kind, prune=True), photos).num_others == 0
    assert {*after} - {str(r["path"]) for r in read(out)} == {str(photos / "a.jpg")}
    assert run(one_file(out, kind, overwrite=True), photos, overwrite=True).num_captioned == 5
    other = tiny_captioner("decoding.beam_size=1")
    assert run(one_file(out, kind), photos, captioner=other).num_captioned == 5
    assert not list(tmp_path.glob("*.partial"))


def test_a_line_that_was_cut_off_is_done_again(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(one_file(out), photos)
    lines = out.read_bytes().splitlines(keepends=True)
    model = json.loads(lines[0])["model"]
    head = {"model": model, "format": "jsonl", "overwrite": False, "dedupe": False}
    journal = tmp_path / "out.jsonl.partial"
    out.unlink()
    for size in (0, 1, len(lines[2]) // 2, len(lines[2]) - 1):
        whole = json.dumps(head).encode() + b"\n" + b"".join(lines[:2])
        journal.write_bytes(whole + lines[2][:size])
        summary = run(one_file(out), photos)
        assert (summary.num_captioned, summary.num_kept) == (3, 2)
        assert sorted(out.read_bytes().splitlines(keepends=True)) == sorted(lines)
        out.unlink()


def test_another_model_does_not_go_on(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out.jsonl"
    head = {"model": "other", "format": "jsonl", "overwrite": False, "dedupe": False}
    (tmp_path / "out.jsonl.partial").write_text(json.dumps(head) + "\n")
    with pytest.raises(DataError, match="begun with another model"):
        run(one_file(out), photos)
    assert run(one_file(out, overwrite=True), photos, overwrite=True).num_captioned == 5


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_full_disk_stops_a_run_and_fails_no_picture(
    code: int, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Sidecars(tmp_path / "failures.jsonl", overwrite=False)
    write, written = target.write, []

    def fill(picture: Path | str, text: str) -> None:
        if len(written) == 2:
            raise OSError(code, os.strerror(code), str(picture))
        write(picture, text)
        written.append(picture)

    monkeypatch.setattr(target, "write", fill)
    read_only = code == errno.EROFS
    with pytest.raises(
        DataError if read_only else OSError,
        match="-o FILE in place of --format" if read_only else os.strerror(code),
    ):
        run(target, photos)
    monkeypatch.undo()
    summary = run(target, photos)
    assert (summary.num_captioned, summary.num_kept, summary.num_failed) == (3, 2, 0)


def test_a_caption_that_a_person_edited_stays(tmp_path: Path, photos: Path) -> None:
    """As the page downloads it: with ``edited``, and without a confidence."""
    out = tmp_path / "out.jsonl"
    run(one_file(out), photos)
    first, *others = read_lines(out)
    edited = {"path": first["path"], "caption": "Ida at the lake", "edited": True}
    rows = [others[0] | {"model": "the name of a model"}, edited, *others[1:]]
    out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(one_file(out), photos).num_captioned == 1
    assert edited in read_lines(out)
    assert len(read_lines(out)) == len(rows)


@pytest.mark.parametrize(("kind", "read"), [("csv", read_csv), ("parquet", read_parquet)])
def test_a_row_of_a_table_that_a_person_edited_stays(
    tmp_path: Path, photos: Path, kind: str, read
) -> None:
    """Also where it was marked after a run with other settings was stopped."""
    out, other = tmp_path / f"out.{kind}", tiny_captioner("decoding.beam_size=1")
    failures = tmp_path / "failures.jsonl"
    run(one_file(out, kind), photos)

    class Stopped(OneFile):
        def finish(self, journal: Journal) -> int:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Stopped(out, kind, failures, overwrite=False), photos / "a.jpg", captioner=other)
    first, second, *others = read(out)
    assert first["path"] == str(photos / "a.jpg")
    mine = [
        first | {"caption": "Ida at the lake", "edited": True},
        second | {"caption": "her dog", "edited": True},
        others[0] | {"caption": "not marked"},
        *others[1:],
    ]
    with open(out, "wb") as file:
        FORMATS[kind].write(mine, file)
    target = one_file(out, kind)
    target.check()
    notes: list[str] = []
    report = SilentReporter()
    report.note = notes.append  # type: ignore[method-assign]
    summary = run(target, photos, captioner=other, report=report)
    assert (summary.num_captioned, summary.num_kept, summary.num_failed) == (3, 2, 0)
    assert [note.partition(" and ")[0] for note in notes] == [
        "3 captions are by another model or with other settings"
    ]
    after = {record["path"]: record for record in read(out)}
    assert [after[record["path"]] for record in mine[:2]] == mine[:2]
    assert after[mine[2]["path"]]["caption"] != "not marked"
    assert len(list(read(out))) == 5
    # What a person forgot to mark is not lost.
    assert summary.kept_as == tmp_path / f"out.{kind}.bak"
    assert summary.describe(failures).endswith(f"; the file as it was is {summary.kept_as}")
    assert list(read(summary.kept_as))[2]["caption"] == "not marked"
    assert run(one_file(out, kind), photos, captioner=other).kept_as is None


def test_a_text_with_other_lines_is_kept_beside_the_new_one(tmp_path: Path, photos: Path) -> None:
    out, failures = tmp_path / "out.txt", tmp_path / "failures.jsonl"
    notes: list[str] = []
    report = SilentReporter()
    report.note = notes.append  # type: ignore[method-assign]
    run(one_file(out, "text"), photos / "a.jpg", photos / "b.png", report=report)
    assert notes == []
    before = out.read_bytes()
    summary = run(one_file(out, "text"), photos, report=report)  # which has these lines, too
    assert (summary.num_captioned, summary.kept_as) == (5, None)
    assert len(notes) == 1 and notes[0].startswith(f"{out} is text, which is written again")
    summary = run(one_file(out, "text"), photos / "c.webp")
    assert summary.kept_as == tmp_path / "out.txt.bak"
    assert summary.describe(failures).endswith(f"; the file as it was is {summary.kept_as}")
    assert set(before.splitlines()) <= set(summary.kept_as.read_bytes().splitlines())
    summary = run(one_file(out, "text", overwrite=True), photos / "a.jpg", overwrite=True)
    assert summary.kept_as is None


@pytest.mark.parametrize(
    "edited", ["true", "TRUE", " Yes ", "x", "1", "WAHR", "VRAI", "", "false", "0", "FALSCH"]
)
def test_what_a_person_writes_into_a_table(tmp_path: Path, photos: Path, edited: str) -> None:
    """As the page downloads it, or a spreadsheet: with some of the columns, in any order."""
    out = tmp_path / "out.csv"
    path = photos / "a.jpg"
    out.write_text(f"edited,path,caption,model\n{edited},{path},Ida at the lake,mine\n")
    one_file(out, "csv").check()
    is_kept = run(one_file(out, "csv"), path).num_kept == 1
    assert is_kept == (edited not in ("", "false", "0", "FALSCH"))
    assert ("Ida at the lake" in out.read_text()) == is_kept
    assert ("true" in out.read_text()) == is_kept
    out.write_text("path,caption,model,price\na.jpg,a lake,mine,3\n")
    with pytest.raises(DataError, match="not written by showtell as csv"):
        one_file(out, "csv").check()


def test_captions_of_pictures_that_are_not_given_stay(tmp_path: Path, photos: Path) -> None:
    """Of a finished file, and of a run that was stopped; ``prune`` leaves a person's."""
    out = tmp_path / "out.jsonl"

    class Stopped(OneFile):
        def finish(self, journal: Journal) -> int:
            raise KeyboardInterrupt

    stopped = Stopped(out, "jsonl", tmp_path / "failures.jsonl", overwrite=False)
    (photos / "bad.jpg").write_bytes(b"no")
    with pytest.raises(KeyboardInterrupt):
        run(stopped, photos / "a.jpg", photos / "bad.jpg")
    summary = run(one_file(out), photos / "b.png")
    assert (summary.num_captioned, summary.num_others, summary.num_failed) == (1, 1, 0)
    assert [Path(r["path"]).name for r in read_lines(out)] == ["a.jpg", "b.png"]
    rows = [row | {"edited": True} if "a.jpg" in row["path"] else row for row in read_lines(out)]
    out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(one_file(out), photos / "c.webp").num_others == 2
    assert run(one_file(out, prune=True), photos / "d.tif").num_others == 1
    assert [Path(r["path"]).name for r in read_lines(out)] == ["a.jpg", "d.tif"]


def test_pictures_that_are_given_by_other_names(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told to drop their captions, which may be corrected."""
    out = tmp_path / "out.jsonl"
    run(one_file(out), photos)
    monkeypatch.chdir(tmp_path)
    summary = run(one_file(out), "photos")
    assert (summary.num_captioned, summary.num_others) == (5, 5)
    said = summary.describe(out)
    assert f"name them as before, {photos / 'a.jpg'} and not photos/a.jpg" in said
    assert "--prune" not in said


BAD_ROWS = {
    "out.jsonl: line 2 cannot": '{"path": "b.png", "caption": "a "dog"", "edited": true}\n',
    "it has no path and caption": '{"path": "b.png", "captoin": "a dog", "edited": true}\n',
    "its path and caption are not texts": '{"path": "b.png", "caption": null}\n',
}


@pytest.mark.parametrize("reason", BAD_ROWS)
def test_a_row_that_cannot_be_read_stops_the_run(tmp_path: Path, photos: Path, reason: str) -> None:
    """The rows after it may be a person's."""
    out = tmp_path / "out.jsonl"
    run(one_file(out), photos)
    first, _, *others = out.read_text().splitlines(keepends=True)
    out.write_text(first + BAD_ROWS[reason] + "\n".join(others))
    before = out.read_bytes()
    with pytest.raises(DataError, match=rf"{reason}.*mend it, or --overwrite"):
        one_file(out).check()
    with pytest.raises(DataError, match=reason):
        run(one_file(out), photos)
    assert out.read_bytes() == before
    one_file(out, overwrite=True).check()
    assert run(one_file(out, overwrite=True), photos, overwrite=True).num_captioned == 5


def as_a_spreadsheet_saves(table: str, delimiter: str) -> bytes:
    """With a byte order mark, decimal commas where cells end in semicolons, and an empty row."""
    rows = list(csv.reader(table.splitlines()))
    text = io.StringIO()
    lines = csv.writer(text, delimiter=delimiter)
    for number, row in enumerate(rows):
        cells = [cell.replace(".", ",") if cell[:1] in "-0" else cell for cell in row]
        lines.writerow(cells if delimiter == ";" else row)
        if number == 1:
            lines.writerow([""] * len(row))
    return text.getvalue().encode("utf-8-sig")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_that_a_spreadsheet_saved(tmp_path: Path, photos: Path, delimiter: str) -> None:
    out = tmp_path / "out.csv"
    run(one_file(out, "csv"), photos)
    rows = list(read_csv(out))
    before = out.read_text()
    marked = before.splitlines()
    marked[1] += "x"  # ``edited`` is the last column
    out.write_bytes(as_a_spreadsheet_saves("\n".join(marked), delimiter))
    one_file(out, "csv").check()
    assert list(read_csv(out)) == [rows[0] | {"edited": True}, *rows[1:]]
    other = tiny_captioner("decoding.beam_size=1")
    assert run(one_file(out, "csv"), photos, captioner=other).num_kept == 1
    out.write_text(before.replace("\n", ",one more\n").replace("edited,one more", "edited"))
    with pytest.raises(DataError, match=r"line 2 cannot be read \(it has more cells"):
        one_file(out, "csv").check()
    out.write_text(before.replace(f"{photos / 'b.png'},", f'{photos / "b.png"},"'))
    with pytest.raises(DataError, match="line 3 cannot be read"):  # else one row of all others
        one_file(out, "csv").check()


def test_a_full_disk_at_the_end_loses_no_edited_row(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file as it was is there until the new one is whole."""
    out, other = tmp_path / "out.jsonl", tiny_captioner("decoding.beam_size=1")
    run(one_file(out), photos)
    rows = read_lines(out)
    rows[0] |= {"caption": "Ida at the lake", "edited": True}
    out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = out.read_bytes()
    target = one_file(out)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))

    monkeypatch.setattr(target, "_write_records", full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        run(target, photos, captioner=other)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.glob("*.bak")] == []
    run(one_file(out), photos, captioner=other)
    assert "Ida at the lake" in out.read_text()
    assert (tmp_path / "out.jsonl.bak").read_bytes() == before


def test_attention_is_added_to_a_finished_file(tmp_path: Path, photos: Path) -> None:
    out, captioner = tmp_path / "out.jsonl", tiny_captioner("decoder.kind=attention")
    assert run(one_file(out), photos, captioner=captioner).num_captioned == 5
    for num_captioned in (5, 0):
        summary = run(one_file(out), photos, captioner=captioner, attention=True)
        assert summary.num_captioned == num_captioned
        assert all("attention" in record for record in read_lines(out))
    assert run(one_file(out), photos, captioner=captioner).num_captioned == 0


def test_a_run_does_not_go_on_without_the_attention_that_it_began_with(
    tmp_path: Path, photos: Path
) -> None:
    out, captioner = tmp_path / "out.jsonl", tiny_captioner("decoder.kind=attention")

    class Stopped(OneFile):
        def finish(self, journal: Journal) -> int:
            raise KeyboardInterrupt

    stopped = Stopped(out, "jsonl", tmp_path / "failures.jsonl", overwrite=False)
    with pytest.raises(KeyboardInterrupt):
        run(stopped, photos, captioner=captioner)
    with pytest.raises(DataError, match="other settings"):
        run(one_file(out), photos, captioner=captioner, attention=True)


def test_a_plan_is_what_the_run_does(tmp_path: Path, photos: Path) -> None:
    """After a run that was stopped, and after one that was finished; names that come twice."""
    names = [str(photos / "a.jpg"), str(photos / "a.jpg"), str(photos)]

    class Stopped(OneFile):
        def finish(self, journal: Journal) -> int:
            raise KeyboardInterrupt

    (photos / "bad.jpg").write_bytes(b"no")
    failures = tmp_path / "failures.jsonl"
    for target in (
        one_file(tmp_path / "out.jsonl"),
        one_file(tmp_path / "out.txt", "text"),
        Sidecars(failures, overwrite=False),
    ):
        before = list(plan(find_inputs(names), target))
        assert [p.picture is not None for p in before] == [True] * 6, target.kind
        if isinstance(target, OneFile):
            with pytest.raises(KeyboardInterrupt):
                run(Stopped(target.path, target.kind, failures, overwrite=False), *names[:1])
            first, *others = plan(find_inputs(names), target)
            assert (first.is_done, [p.picture is not None for p in others]) == (True, [True] * 5)
            assert not any(p.is_done for p in plan(find_inputs(names), target, overwrite=True))
        listed = sorted(path.name for path in tmp_path.rglob("*"))
        assert list(plan(find_inputs(names), target))
        assert sorted(path.name for path in tmp_path.rglob("*")) == listed
        run(target, *names)
        is_read_back = target.kind != "text"
        after = {p.path: p for p in plan(find_inputs(names), target)}
        assert len(after) == 6
        assert after.pop(str(photos / "bad.jpg")).picture is not None  # it is tried again
        assert all((p.kept is not None) == is_read_back for p in after.values()), target.kind


def test_a_text_is_known_again_whatever_its_pictures_and_captions_are(
    tmp_path: Path, photos: Path
) -> None:
    out, captioner = tmp_path / "out.txt", tiny_captioner()
    odd = photos / "photo: of Ida"  # no suffix
    (photos / "a.jpg").rename(odd)
    for _ in range(2):
        target = one_file(out, "text")
        target.check()
        assert run(target, odd, photos / "b.png", captioner=captioner).num_captioned == 2
    out.write_text("milk: two bottles\n")
    with pytest.raises(DataError, match="not written by showtell as text"):
        target.check()


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("a dog\n\nin\u2028grass\r\nx\ty", "a dog in grass x y"),
        ("\x1b[2J\x9b31mred\0\x7f", r"\x1b[2J\x9b31mred\x00\x7f"),
        (
            "\U0001f469\u200d\U0001f680 \u0645\u06cc\u200c\u062e",
            None,
        ),  # joined by format characters
    ],
)
def test_a_caption_in_a_text_is_one_line(said: str, line: str | None) -> None:
    record = {"path": "a.jpg", "caption": said, "alternatives": [{"caption": said}]}
    assert text_lines(record, alone=False) == f"a.jpg: {line or said}\n" * 2
    assert text_lines(record, alone=True) == f"{line or said}\n" * 2


def test_failures_that_may_pass_are_kept_for_one_run_and_not_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("showtell.bulk.journal.MOST_IN_MEMORY", 1000)
    path, identity = tmp_path / "out.jsonl.partial", {"model": "0"}
    added = [{"path": f"{n}.png", "caption": "a dog"} for n in range(20)]
    held = [{"path": f"{n}\udcff.png", "error": f"{n}: no answer"} for n in range(200)]
    with Journal(path, identity) as journal:
        for number, failure in enumerate(held):
            journal.hold(failure)
            journal.add(added[number : number + 1])
        assert list(journal.records()) == added + held
        assert list(zip(journal.records(), journal.records(), strict=True))[-1] == (held[-1],) * 2
        assert [file.name for file in tmp_path.iterdir()] == [path.name]
        assert journal.num_failed == 200
    with Journal(path, identity) as journal:
        assert journal.num_failed == 0 and len(journal.done) == 20


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "out.partial"
    with Journal(path, {"model": "m"}), pytest.raises(DataError, match="another process"):
        Journal(path, {"model": "m"})


def test_the_same_picture_named_twice_has_one_record(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(one_file(out), photos, photos / "a.jpg", str(photos / "*.jpg"), photos)
    paths = [r["path"] for r in read_lines(out)]
    assert len(paths) == len(set(paths)) == 5


@pytest.mark.slow(12)
@pytest.mark.parametrize(("kind", "num", "num_kills"), [("jsonl", 3000, 3), ("sidecar", 200, 2)])
def test_killed_at_random_moments(tmp_path: Path, kind: str, num: int, num_kills: int) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    sources = [paint(tmp_path / f"source-{i}.png", i) for i in range(10)]
    for i in range(num):
        (folder / f"{i:05d}.png").symlink_to(sources[i % 10])
    (folder / "broken.png").write_bytes(b"no picture")
    out = tmp_path / ("out.jsonl" if kind == "jsonl" else "failures.jsonl")
    command = [sys.executable, str(TESTS / "bulk_worker.py"), str(out), kind, str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    chance = random.Random(0)
    journal = out.with_name(f"{out.name}.partial")
    kills = 0
    for _ in range(num_kills):
        started = journal.stat().st_size if journal.exists() else 0
        process = subprocess.Popen(command, env=environment)
        while process.poll() is None:  # until it works, and then for a random while
            if journal.exists() and journal.stat().st_size > started:
                time.sleep(chance.uniform(0.01, 0.3 if kind == "jsonl" else 0.1))
                break
            time.sleep(0.01)
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills == num_kills
    assert subprocess.run(command, env=environment).returncode == 0
    failures = [Path(str(r["path"])).name for r in read_lines(tmp_path / "failures.jsonl")]
    assert failures == ["broken.png"]
    wanted = [f"{i:05d}" for i in range(num)]
    if kind == "jsonl":
        assert sorted(Path(str(r["path"])).stem for r in read_lines(out)) == wanted
    else:
        assert sorted(p.stem for p in folder.glob("*.txt")) == wanted
        assert all(p.read_text().endswith("\n") for p in folder.glob("*.txt"))
    assert not list(tmp_path.rglob("*.tmp"))
    assert not journal.exists()


@pytest.mark.parametrize(
    "content", ["my notes\n", "my notes", "{}\n", '{"path": "a.jpg", "model": "m"}\n', "[" * 99_999]
)
@pytest.mark.parametrize("restart", [False, True])
def test_a_file_in_the_journals_place_stays(tmp_path: Path, content: str, restart: bool) -> None:
    path = tmp_path / "out.partial"
    path.write_text(content)
    with pytest.raises(DataError, match=r"a journal to .*out\.partial, but"):
        Journal(path, {"model": "m"}, restart=restart)
    assert path.read_text() == content


@pytest.mark.parametrize("content", ["", '{"mo', '{"model": "m", "for'])
def test_a_journal_whose_head_was_cut_off_begins_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "out.partial"
    path.write_text(content)
    with Journal(path, {"model": "m"}):
        assert path.read_text() == '{"model": "m"}\n'
