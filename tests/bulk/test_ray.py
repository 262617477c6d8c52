"""What a job on Ray keeps beside its results, and what an actor does; without Ray itself."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rogue_server import KEY, Deed, RogueServer, numbered, rogue_server

from showtell.bulk.ray import (
    IDENTITY_FILE,
    Job,
    ShardCaptioner,
    check_identity,
    keep_identity,
)
from showtell.errors import DataError

ONE = {"model": "0123456789ab", "dedupe": False}


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
    check_identity(place, ONE, overwrite=False)
    check_identity(place, ONE, overwrite=False)
    for _ in range(2):
        with pytest.raises(DataError, match=r"out was begun with another model.*--overwrite"):
            check_identity(place, other, overwrite=False)
    check_identity(place, other, overwrite=True)
    # Stopped by now, it has left some results of both.
    for identity in (ONE, other):
        with pytest.raises(DataError, match="begun with another model or other settings"):
            check_identity(place, identity, overwrite=False)
    check_identity(place, other, overwrite=True)
    keep_identity(place, other)
    check_identity(place, other, overwrite=False)


def test_a_damaged_identity_is_one_line(tmp_path: Path) -> None:
    (tmp_path / IDENTITY_FILE).write_text("{")
    with pytest.raises(DataError, match=r"identity.json is damaged.*--overwrite"):
        check_identity(str(tmp_path), ONE, overwrite=False)
    check_identity(str(tmp_path), ONE, overwrite=True)


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


def test_a_shard_that_begins_with_refused_pictures_is_finished(
    server: RogueServer, tmp_path: Path, place: str
) -> None:
    pictures = sorted(numbered(tmp_path / "photos", 60).iterdir())
    for number in range(50):
        server.deeds[number] = [Deed(400, b'{"error": "too dark"}')] * 9
    job = job_of(server, place)
    row = told(ShardCaptioner(replace(job, model=ShardCaptioner(job).model)), pictures)
    assert (row["captioned"], row["failed"], row["error"]) == ([10], [50], [""])
