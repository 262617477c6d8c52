"""Which modules and commands work where torch is not installed: all that caption, serve and score.

Each test runs a process in which torch cannot be imported.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from cli_shell import Outcome
from PIL import Image
from tiny_export import exported

BLOCK = "import sys; sys.modules['torch'] = None\n"
# What trains, or runs a model by torch.
WITH_TORCH = (
    "showtell.course.",
    *("showtell.decoders.", "showtell.encoders.", "showtell.export."),
    *("showtell.distil.", "showtell.publish.", "showtell.report.", "showtell.training."),
    *("showtell.core.fixed_rows", "showtell.decoding.torch_arrays"),
    *("showtell.inference.backends.native", "showtell.inference.checkpoint"),
    *("showtell.inference.weights", "showtell.metrics.clip_score", "showtell.metrics.local_models"),
)
# Within these packages, what captioning, serving and scoring need.
WITHOUT_TORCH = ("showtell.encoders.features", "showtell.encoders.store")
IMPORT_ALL = """
import importlib, pkgutil, showtell
found = {"imported": [], "failed": []}
for module in pkgutil.walk_packages(showtell.__path__, "showtell."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            assert error.name == "torch", error
            found["failed"].append(module.name)
        else:
            found["imported"].append(module.name)
import json
print(json.dumps(found))
"""


def run(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A process without torch."""
    return subprocess.run(
        [sys.executable, "-c", BLOCK + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "100"},
    )


def showtell(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run("from showtell.cli import main; main()", *arguments)


EACH = """
import contextlib, io, json
from showtell.cli import main
done = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["showtell", *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
    done.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(done))
"""


def showtell_each(commands: Iterable[Sequence[str | Path]]) -> list[Outcome]:
    """Commands one after the other in one process without torch."""
    done = run(EACH, json.dumps([[str(part) for part in command] for command in commands]))
    assert done.returncode == 0, done.stderr
    return [Outcome(*values) for values in json.loads(done.stdout)]


def test_only_what_trains_or_runs_torch_imports_it() -> None:
    done = run(IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["imported"]) > 140
    needless = [name for name in found["failed"] if not name.startswith(WITH_TORCH)]
    assert needless == []
    assert set(WITHOUT_TORCH) <= {*found["imported"]}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an export of a tiny model that attends, and two pictures."""
    folder = tmp_path_factory.mktemp("export")
    exported("attention", {"embed_size": 16, "hidden_size": 16, "attention_size": 8}, folder / "m")
    for number, colour in enumerate(("red", "green")):
        Image.new("RGB", (64, 48), colour).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def photos(export: Path, tmp_path: Path) -> Path:
    """A folder with the two pictures; beside it, ``data`` has them with captions."""
    for folder in (tmp_path / "photos", tmp_path / "data"):
        folder.mkdir()
        for number in range(2):
            shutil.copy(export / f"{number}.png", folder)
    for number in range(2):
        (tmp_path / "data" / f"{number}.txt").write_text("a red dog\na dog\n")
    return tmp_path / "photos"


def test_pictures_are_captioned(export: Path) -> None:
    pictures = [export / "0.png", export / "1.png"]
    done = showtell("caption", *pictures, "-m", export / "m", "--json", "--attention")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"attention"') == 2


def test_many_pictures_are_captioned_into_every_format(
    export: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    was = (photos / "0.png").stat().st_size
    files = [Path(f"a.{kind}") for kind in ("jsonl", "csv", "parquet", "tar")]
    targets = [*(("-o", file) for file in files), ("--format", "sidecar"), ("--format", "xmp")]
    commands = [("caption", photos, "-m", export / "m", *target) for target in targets]
    for done in showtell_each(commands):
        assert done.returncode == 0, done.stderr
        assert "2 captioned" in done.stderr
    assert all(file.stat().st_size > 40 for file in files)
    assert (photos / "1.txt").read_text(encoding="utf-8").strip()
    assert (photos / "0.png").stat().st_size > was


def test_a_model_is_evaluated_and_its_confidence_measured(
    export: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    (photos.parent / "data" / "broken.png").write_bytes(b"no picture")
    (photos.parent / "data" / "broken.txt").write_text("a cat")
    done = showtell("evaluate", export / "m", "data", "--split", "all", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["metrics"]["CIDEr-D"] >= 0 and [*found["skipped"]] == ["broken.png"]
    captions = json.loads(Path(found["predictions"]).read_text(encoding="utf-8"))
    assert sorted(entry["image_id"] for entry in captions) == ["0.png", "1.png"]
    alone = showtell("caption", "data/0.png", "data/1.png", "-m", export / "m")
    texts = [entry["caption"] for entry in sorted(captions, key=lambda entry: entry["image_id"])]
    assert [line.rpartition(": ")[2] for line in alone.stdout.splitlines()] == texts
    done = showtell("reliability", export / "m", "data", "--split", "all")
    assert done.returncode == 0, done.stderr
    assert "rank correlation" in done.stdout


def test_pictures_are_captioned_over_http(export: Path) -> None:
    code = BLOCK + "from showtell.cli import main; main()"
    arguments = ["serve", "-m", str(export / "m"), "--port", "0"]
    server = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    try:
        line = server.stderr.readline()
        assert " at http://" in line, line + server.stderr.read()
        picture = (export / "0.png").read_bytes()
        head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="0.png"\r\n\r\n'
        request = urllib.request.Request(
            line.rpartition(" at ")[2].strip() + "/v1/captions",
            data=head + picture + b"\r\n--x--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            [result] = json.load(answer)["results"]
        assert result["words"]
    finally:
        server.terminate()
        server.communicate(timeout=60)


def test_a_sheet_is_made(export: Path) -> None:
    pictures = [export / "0.png", export / "1.png"]
    done = showtell("sheet", *pictures, "-m", export / "m", "-o", export / "sheet.png")
    assert done.returncode == 0, done.stderr
    assert (export / "sheet.png").is_file()


def test_captions_are_scored(tmp_path: Path) -> None:
    (tmp_path / "refs.jsonl").write_text(
        json.dumps({"path": "a.jpg", "captions": ["a dog runs", "the dog runs fast"]}) + "\n"
    )
    (tmp_path / "own.jsonl").write_text(json.dumps({"path": "a.jpg", "caption": "a dog runs"}))
    done = showtell("score", tmp_path / "own.jsonl", tmp_path / "refs.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    assert "CIDEr-D" in done.stdout


def test_models_are_listed_and_described(export: Path) -> None:
    done = showtell("models")
    assert done.returncode == 0, done.stderr
    assert "photos13k-lite2" in done.stdout
    done = showtell("models", export / "m")
    assert done.returncode == 0, done.stderr
    assert "decoder:    attention\n" in done.stdout


def test_what_needs_torch_says_which_extra_in_one_line(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [
        ("train", "scenes", "-o", "run"),
        ("features", "scenes", "-o", "store"),
        ("evaluate", "default", "scenes", "--runtime", "torch"),
        ("caption", export / "0.png", "--runtime", "torch"),
        ("caption", export / "0.png", "--precision", "bf16"),
        ("serve", "--runtime", "torch", "--port", "0"),
        ("export", "default", "-o", "out"),
        ("report", "run"),
        ("pack", "default", "-o", "out"),
        ("demo", "-o", "out"),
    ]
    for command, done in zip(commands, showtell_each(commands), strict=True):
        assert done.returncode == 1
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("error: ") and " needs an extra: pip install " in line
        assert ("[export]" if command[0] == "export" else "[train]") in line
    assert list(tmp_path.iterdir()) == []
