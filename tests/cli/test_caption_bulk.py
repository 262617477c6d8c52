"""``showtell caption`` over many pictures, as a user types it."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_shell import Outcome, Shell
from local_ray import LocalRay
from PIL import Image, ImageDraw

from showtell.bulk import ray


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(6):
        picture = Image.new("RGB", (64, 48), (40 * i, 250 - 40 * i, 90))
        ImageDraw.Draw(picture).ellipse((8 * i, 5, 8 * i + 20, 30), fill="white")
        picture.save(folder / f"{i}.jpg")
    return folder


def test_files_of_every_format(showtell: Shell, model: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"no")
    for kind in ("text", "jsonl", "csv", "parquet", "webdataset"):
        out = tmp_path / f"out.{kind}"
        asked = ("caption", photos, "-m", model, "--format", kind, "-o", out)
        result = showtell(*asked)
        assert result.returncode == 0, result.stderr
        assert "error: " in result.stderr
        assert "6 captioned, 1 failed" in result.stderr
        assert out.stat().st_size
        assert showtell(*asked, "--strict").returncode == 1
        listed = "out.failures.jsonl" if kind == "jsonl" else f"out.{kind}.failures.jsonl"
        [failure] = (tmp_path / listed).read_text().splitlines()
        assert json.loads(failure)["path"] == str(photos / "broken.jpg")
        assert set(json.loads(failure)) == {"path", "error"}
    assert len((tmp_path / "out.text").read_text().splitlines()) == 6
    with tarfile.open(tmp_path / "out.webdataset") as archive:
        assert len(archive.getnames()) == 12
    result = showtell("caption", photos / "broken.jpg", "-m", model, "-o", tmp_path / "one")
    assert result.returncode == 1
    result = showtell("caption", photos, "-m", model, "--format", "csv")
    assert result.stdout.splitlines()[0] == "path,caption,confidence,log_prob"


def test_outputs_in_one_folder_have_failures_of_their_own(
    showtell: Shell, model: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_bytes(b"no")

    def run(name: str, *pictures: Path) -> set[str]:
        kind = ("--format", name.partition(".")[2])
        done = showtell("caption", *pictures, "-m", model, *kind, "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert "0 failed" not in done.stderr
        return {path.name for path in tmp_path.glob("*failures.jsonl")}

    assert run("a.jsonl", photos) == {"a.failures.jsonl"}
    # One without failures removes its own list, and no other.
    others = {"a.failures.jsonl", "b.failures.jsonl", "a.csv.failures.jsonl"}
    assert run("b.jsonl", photos / "0.jpg") == {"a.failures.jsonl"}
    assert run("b.jsonl", photos) == {"a.failures.jsonl", "b.failures.jsonl"}
    assert run("a.csv", photos) == others
    (photos / "broken.jpg").unlink()
    assert run("a.jsonl", photos) == others - {"a.failures.jsonl"}


def test_dry_run_and_sidecars(showtell: Shell, model: Path, photos: Path) -> None:
    (photos / "0.txt").write_text("mine")
    asked = ("caption", photos, "-m", model, "--format", "sidecar")
    before = sorted(photos.iterdir())
    result = showtell(*asked, "--dry-run")
    assert result.stdout.splitlines()[:2] == [
        f"keep {photos}/0.jpg: mine",
        f"caption {photos}/1.jpg",
    ]
    assert sorted(photos.iterdir()) == before
    assert showtell(*asked).returncode == 0
    assert len(list(photos.glob("*.txt"))) == 6
    assert (photos / "0.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (("--format", "parquet"), "needs a file: add -o FILE", 2),
        (("--format", "xmp", "-o", "x"), "writes beside or into the pictures: leave", 2),
        (("--format", "csv", "--json"), "give only one", 2),
        (("--attention",), "add --format jsonl or --json", 2),
        (("--engine", "ray"), "add -o FOLDER", 2),
        (("--engine", "ray", "-o", "out", "--dry-run"), "--dry-run works only with --engine", 2),
        (("--engine", "ray", "-o", "out", "--failures", "x"), "--failures works only with", 2),
        (("--device", "gpu"), "unknown device 'gpu'; expected auto, cpu, cuda, cuda:1 or mps", 2),
        (("--precision", "fp8"), "unknown precision 'fp8'; expected auto, fp32 or bf16", 2),
        (("--beam-size", "0"), "'--beam-size': '0': input should be greater than or equal to 1", 2),
        (("--temperature", "0"), "0.0 is not above 0", 2),
        (("-o", "nowhere/at/all.txt"), "no such folder", 1),
        (("-o", "."), "is a folder; give the name of a file", 1),
        (("--json", "-o", "."), "is a folder", 1),
    ],
)
def test_what_cannot_be(
    showtell: Shell, photos: Path, options: tuple[str, ...], message: str, code: int
) -> None:
    result = showtell("caption", photos, "-m", "no-such-model", *options)
    assert result.returncode == code
    assert message in result.stderr


@pytest.mark.slow
def test_interrupted(showtell: Shell, model: Path, photos: Path, tmp_path: Path) -> None:
    for i in range(3000):
        (photos / f"link-{i}.jpg").symlink_to(photos / f"{i % 6}.jpg")
    out = tmp_path / "out.jsonl"
    asked = ("caption", photos, "-m", model, "--format", "jsonl", "-o", out)
    process = showtell.start(*asked, "--batch-size", "16")
    journal = tmp_path / "out.jsonl.partial"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size > 1000):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.splitlines() == ["stopped; to resume, run the same command again"]
    assert not out.exists()
    done = len(journal.read_text().splitlines()) - 1
    assert 0 < done < 3006


# A busy machine may take long to start Ray's processes.
PATIENCE = {"RAY_agent_register_timeout_ms": "300000", "RAY_worker_register_timeout_seconds": "300"}


@pytest.fixture(
    params=[
        "stand-in",
        pytest.param("processes", marks=[pytest.mark.costly, pytest.mark.slow(160)]),
    ]
)
def run_on_ray(
    request: pytest.FixtureRequest, showtell: Shell, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """``showtell`` with a stand-in for Ray in this process, or with Ray in processes of its own."""
    if request.param == "stand-in":
        monkeypatch.setattr(ray, "_connect", lambda address, workers: LocalRay())
        return showtell
    pytest.importorskip("ray")

    def run(*arguments: str | Path) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "showtell", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=os.environ | showtell.variables | PATIENCE,
            timeout=300,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


def test_ray_on_two_workers(
    run_on_ray: Callable[..., Outcome], showtell: Shell, model: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "6.jpg").write_bytes(b"broken")
    pictures = sorted(photos.glob("*.jpg"))
    for shard in range(3):
        with tarfile.open(tmp_path / f"train-{shard}.tar", "w") as archive:
            for picture in pictures[shard::3]:
                archive.add(picture, picture.name)
    out = tmp_path / "out"
    asked = ("caption", str(tmp_path / "train-*.tar"), photos)

    def run(kind: str, *more: str, code: int = 0, name: Path = model) -> str:
        result = run_on_ray(
            *(*asked, "--engine", "ray", "-m", name, "-o", out, "--workers", "2"),
            *("--format", kind, *more),
        )
        assert result.returncode == code, result.stderr
        return result.stderr

    assert "4 shards, 0 done before" in run("jsonl")
    names = [f"00000{i}-train-{i}.jsonl" for i in range(3)] + ["000003.jsonl"]
    files = [out / name for name in names]
    local = tmp_path / "local.jsonl"
    showtell(*asked, "-m", model, "--format", "jsonl", "-o", local)
    said = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    wanted = [json.loads(line) for line in local.read_text().splitlines()]
    key = [(r["path"], r["caption"]) for r in said]
    assert sorted(key) == sorted((r["path"], r["caption"]) for r in wanted)
    assert len(key) == 12
    assert len(list(out.glob("*.failures.jsonl"))) == 2
    times = {file: file.stat().st_mtime_ns for file in files}
    files[1].unlink()
    assert "4 shards, 3 done before" in run("jsonl")
    changed = [file for file in files if file.stat().st_mtime_ns != times[file]]
    assert changed == [files[1]]
    [line] = run("jsonl", "--beam-size", "2", code=1).splitlines()
    assert "was begun with another model or other settings" in line and "--overwrite" in line
    [line] = run("jsonl", code=1, name=tmp_path / "no-model").splitlines()
    assert "no-model" in line
    run("jsonl", "--beam-size", "2", "--overwrite")
    assert "4 shards, 4 done before" in run("jsonl", "--beam-size", "2")
    models = {json.loads(line)["model"] for file in files for line in file.read_text().splitlines()}
    assert len(models) == 1 and models != {record["model"] for record in wanted}
