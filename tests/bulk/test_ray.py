"""What a job on Ray keeps beside its results, and what an actor does; without Ray itself."""

import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bulk.conftest import paint
from local_ray import LocalRay
from rogue_server import KEY, Deed, RogueServer, numbered, rogue_server

from showtell.bulk import job_folder, ray, shards
from showtell.bulk.inputs import find_inputs
from showtell.bulk.job_folder import (
    IDENTITY_FILE,
    PLAN_FILE,
    Shard,
    begin_job,
    keep_identity,
    kept_plan,
    make_plan,
)
from showtell.bulk.ray import Job, ShardCaptioner, caption_shards
from showtell.bulk.remote import contents_of, names_in
from showtell.core.prefetch import num_workers
from showtell.core.progress import SilentReporter
from showtell.core.urls import is_url
from showtell.errors import ConfigError, DataError

ONE = {"model": "0123456789ab", "dedupe": False}


@pytest.fixture(autouse=True)
def same_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An actor, which is in this process here, sets the threads of its own process."""
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RogueServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with rogue_server() as found:
        yield found


@pytest.fixture(params=["folder", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "folder" else f"memory://{tmp_path}/out"


@pytest.mark.parametrize("other", [{**ONE, "model": "ba9876543210"}, {**ONE, "dedupe": True}])
def test_results_of_another_model_are_not_gone_on_with(place: str, other: dict) -> None:
    begin_job(place, ONE, [], overwrite=False)
    begin_job(place, ONE, [], overwrite=False)
    for _ in range(2):
        with pytest.raises(DataError, match=r"out was begun with another model.*--overwrite"):
            begin_job(place, other, [], overwrite=False)
    begin_job(place, other, [], overwrite=True)
    with pytest.raises(DataError, match="begun with another model or other settings"):
        begin_job(place, ONE, [], overwrite=False)
    begin_job(place, other, [], overwrite=False)
    keep_identity(place, other)
    begin_job(place, other, [], overwrite=False)


def test_an_earlier_versions_job_with_overwrite_begins_anew(tmp_path: Path) -> None:
    """It left earlier results where they were, so that the folder has those of both models."""
    keep_identity(str(tmp_path), {**ONE, "overwrite": True})
    (tmp_path / "000000.jsonl").write_text("")
    with pytest.raises(DataError, match="begun with another model"):
        begin_job(str(tmp_path), ONE, [Shard("000000", ("a",))], overwrite=False)
    begin_job(str(tmp_path), ONE, [Shard("000000", ("a",))], overwrite=True)
    assert not (tmp_path / "000000.jsonl").exists()


def test_a_damaged_identity_is_one_line(tmp_path: Path) -> None:
    (tmp_path / IDENTITY_FILE).write_text("{")
    with pytest.raises(DataError, match=r"identity.json is damaged.*--overwrite"):
        begin_job(str(tmp_path), ONE, [], overwrite=False)
    begin_job(str(tmp_path), ONE, [], overwrite=True)


@pytest.mark.parametrize("content", ["", "{", '{"inputs": ["a"]}\n{"shard": 1}\n'])
def test_a_damaged_plan_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / PLAN_FILE).write_text(content)
    with pytest.raises(DataError, match=r"plan.jsonl is damaged: give another folder with -o$"):
        kept_plan(str(tmp_path), ("a",))


def job_of(server: RogueServer, output: str) -> Job:
    loading = {"model": "openai:tiny", "settings": {"base_url": server.url, "concurrency": 2}}
    return Job(loading, {}, output, "jsonl", dedupe=False, overwrite=False)


def told(captioner: ShardCaptioner, pictures: list[Path]) -> dict[str, list]:
    names = [str(path) for path in pictures]
    return captioner({"shard": [json.dumps({"name": "000000", "names": names})]})


def test_an_actor_with_another_model_writes_nothing(server: RogueServer, tmp_path: Path) -> None:
    pictures = sorted(numbered(tmp_path / "photos", 3).iterdir())
    job = job_of(server, str(tmp_path / "out"))
    row = told(ShardCaptioner(replace(job, model="0" * 12)), pictures)
    assert "is not the job's" in row["error"][0] and not (tmp_path / "out").exists()
    model = ShardCaptioner(job).model
    assert told(ShardCaptioner(replace(job, model=model)), pictures)["captioned"] == [3]
    lines = (tmp_path / "out" / "000000.jsonl").read_text().splitlines()
    assert [json.loads(line)["model"] for line in lines] == [model] * 3


@pytest.mark.parametrize("is_archive", [False, True])
def test_a_shard_that_begins_with_refused_pictures_is_finished(
    server: RogueServer, tmp_path: Path, place: str, is_archive: bool
) -> None:
    pictures = sorted(numbered(tmp_path / "photos", 60).iterdir())
    if is_archive:
        pictures = [archive_of(pictures, tmp_path / "x.tar")]
    for number in range(50):
        server.deeds[number] = [Deed(400, b'{"error": "too dark"}')] * 9
    job = job_of(server, place)
    row = told(ShardCaptioner(replace(job, model=ShardCaptioner(job).model)), pictures)
    assert (row["captioned"], row["failed"], row["error"]) == ([10], [50], [""])


class Notes(SilentReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


Go = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def go(server: RogueServer, place: str, monkeypatch: pytest.MonkeyPatch) -> Go:
    """A job on a stand-in for Ray: how many failed, and what it notes."""
    monkeypatch.setattr(ray, "_connect", lambda address, workers: LocalRay())

    def run(*pictures: Path | str, kind: str = "jsonl", overwrite: bool = False):
        job = replace(job_of(server, place), kind=kind, overwrite=overwrite)
        names, notes = [str(name) for name in pictures], Notes()
        num_failed = caption_shards(names, job, address=None, workers=1, report=notes)
        return num_failed, notes.lines

    return run


def left_in(place: str) -> dict[str, list[str]]:
    """The paths in each file of results or of failures."""
    names = sorted(name for name in names_in(f"file://{place}" if place[0] == "/" else place))
    names = [name for name in names if name.endswith("jsonl") and name != PLAN_FILE]
    if is_url(place):
        contents = contents_of(place, names)
    else:
        contents = [Path(place, name).read_bytes() for name in names]
    return {
        name: [Path(json.loads(line)["path"]).name for line in content.splitlines()]
        for name, content in zip(names, contents, strict=True)
    }


def archive_of(pictures: list[Path], path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for picture in pictures:
            archive.add(picture, picture.name)
    return path


def test_a_shard_with_failures_that_may_pass_is_done_again(go: Go, place: str, photos: Path):
    """Its captions stay, also where the results are a tar."""
    late, bad = photos / "late.jpg", photos / "bad.jpg"
    bad.write_bytes(b"no picture")
    listed = photos.parent / "list.txt"
    listed.write_text(f"{photos}/a.jpg\n{bad}\n{late}\n")
    num_failed, notes = go(listed)
    assert num_failed == 2
    assert notes[-1].startswith("1 captions in the shards of this run, 2 pictures failed (")
    failures = "000000.failures.jsonl"
    assert left_in(place)[failures] == ["bad.jpg", "late.jpg"]
    paint(late, 7)
    num_failed, notes = go(listed)
    assert (num_failed, notes[0]) == (1, "1 shards, 0 done before")
    assert left_in(place) == {"000000.jsonl": ["a.jpg", "late.jpg"], failures: ["bad.jpg"]}
    num_failed, notes = go(listed)
    assert (num_failed, notes[0]) == (1, "1 shards, 1 done before")
    assert "1 pictures failed" in notes[1] and "1 of them before" in notes[1]
    assert go(listed, kind="webdataset")[0] == 1


def test_a_shard_with_failures_that_never_pass_is_done(go: Go, place: str, photos: Path) -> None:
    link = photos / "link.jpg"
    link.symlink_to("a.jpg")
    archive = archive_of([photos / "a.jpg", link], photos.parent / "x.tar")
    num_failed, notes = go(archive)
    assert num_failed == 1
    assert notes[-1].endswith("1 pictures failed (" + f"{place}/*.failures.jsonl)")
    assert go(archive)[1][0] == "1 shards, 1 done before"


def test_an_archive_that_was_cut_off_is_done_again(go: Go, place: str, photos: Path) -> None:
    archive = archive_of(sorted(photos.glob("*.*")), photos.parent / "x.tar")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    assert go(archive)[0] == 1
    archive.write_bytes(whole)
    assert go(archive)[0] == 0
    assert left_in(place) == {"000000-x.jsonl": ["a.jpg", "b.png", "c.webp", "d.tif"]}


def test_other_inputs_do_not_count_as_done_and_new_ones_are_added(
    go: Go, place: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_folder, "PICTURES_A_SHARD", 2)
    go(photos)
    shards_before = left_in(place)
    assert [len(paths) for paths in shards_before.values()] == [2, 2, 1]
    with pytest.raises(DataError, match="has the results of other inputs"):
        go(photos / "within")
    paint(photos / "0-first.jpg", 7)
    assert go(photos)[1][0] == "4 shards, 3 done before, 1 added"
    assert left_in(place) == shards_before | {"000003.jsonl": ["0-first.jpg"]}


def test_a_job_that_begins_anew_can_be_stopped(
    go: Go, place: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_folder, "PICTURES_A_SHARD", 2)
    go(photos)
    results, calls = ray._results, []

    def stopped(*arguments):
        for row in results(*arguments):
            calls.append(row["shard"])
            yield row
            raise KeyboardInterrupt

    with monkeypatch.context() as changed, pytest.raises(KeyboardInterrupt):
        changed.setattr(ray, "_results", stopped)
        go(photos, overwrite=True)
    assert calls == ["000000"] and list(left_in(place)) == ["000000.jsonl"]
    assert go(photos, overwrite=True)[1][0] == "3 shards, 1 done before"
    assert len(left_in(place)) == 3
    assert go(photos, overwrite=True)[1][0] == "3 shards, 0 done before"


def test_overwrite_begins_anew_after_a_job_that_lost_a_shard(go: Go, photos: Path) -> None:
    archive = archive_of([photos / "a.jpg"], photos.parent / "x.tar")
    absent = photos.parent / "absent.tar"
    for _ in range(2):
        num_failed, notes = go(archive, absent, overwrite=True)
        assert (num_failed, notes[0]) == (1, "2 shards, 0 done before")
        assert "cannot read" in notes[1]
    assert go(archive, absent)[1][0] == "2 shards, 1 done before"


def test_lists_are_read_where_the_job_starts(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_folder, "PICTURES_A_SHARD", 2)
    (tmp_path / "lists").mkdir()
    rows = [{"path": "photos/a.jpg"}, {"no": "path"}, {"url": "s3://lake/b.jpg"}, {"path": "c.tar"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "lists" / "l.jsonl").write_text(lines)
    inputs, failures = find_inputs(["lists/l.jsonl"]), []
    plan = list(make_plan(inputs, [], failures.append))
    names = [str(photos / "a.jpg"), "s3://lake/b.jpg", str(tmp_path / "c.tar")]
    assert plan == [Shard("000000", tuple(names[:2])), Shard("000001", tuple(names[2:]))]
    assert len(failures) == 1 and "lists/l.jsonl:2: has none of" in failures[0]
    # An earlier version's plan has the list as a shard.
    kept = [Shard("000000-l", (str(tmp_path / "lists" / "l.jsonl"),))]
    assert list(make_plan(inputs, kept, failures.append)) == []


def test_a_bug_in_one_shard_does_not_end_the_job(
    go: Go, place: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = [archive_of([photos / "a.jpg"], photos.parent / f"{name}.tar") for name in "xy"]
    read = shards.read

    def fail(name: str, left_out):
        if "x.tar" in name:
            raise KeyError("odd")
        return read(name, left_out)

    monkeypatch.setattr(shards, "read", fail)
    num_failed, notes = go(*archives)
    assert num_failed == 1
    assert "error: shard 000000-x: KeyError: 'odd' (a bug in showtell)" in notes
    assert "1 captions in the shards of this run, 1 shards failed as a whole" in notes[-1]
    monkeypatch.setattr(shards, "read", read)
    assert go(*archives)[1][0] == "2 shards, 1 done before"


@pytest.mark.parametrize("workers", [None, 1, 1000])
def test_ray_on_this_machine_has_all_its_processors(
    monkeypatch: pytest.MonkeyPatch, workers: int | None
) -> None:
    started: dict[str, int] = {}
    context = SimpleNamespace(get_current=SimpleNamespace)
    data = SimpleNamespace(DataContext=context)
    fake = SimpleNamespace(data=data, init=lambda *_, **given: started.update(given))
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.data", data)
    ray._connect(None, workers)
    assert started["num_cpus"] == max(workers or 0, num_workers())

    def late(*_: object, **__: object) -> None:
        raise Exception("timed out")

    fake.init = late
    with pytest.raises(ConfigError, match=r"^Ray cannot be started here: timed out$"):
        ray._connect(None, workers)
