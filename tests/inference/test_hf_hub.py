"""Models of a hub on this machine: what is downloaded, shown, checked, resumed and kept.

huggingface_hub reads its settings once, so each test has a process of its own.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_hf
import tiny_hub
from tiny_hub import COMMIT, ID, TinyHub

ROOT = Path(__file__).parents[2]
FETCH = """
import json, sys
import huggingface_hub.constants
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 2**14  # the model is smaller than a usual chunk
from showtell.errors import ShowtellError
from showtell.inference.backends.hf import hub
from showtell.inference.specs import BackendSettings

class Report:
    def __init__(self):
        self.shown = []
    def progress(self, task, done, total, unit, *, num_failed=0):
        self.shown.append((task, done, total, unit))

def fetch(model, trusted):
    report = Report()
    settings = BackendSettings(trust_remote_code=trusted)
    wanted = hub.missing_files(model, settings)
    said = wanted and wanted.describe()
    folder = wanted and str(hub.download(wanted, report))
    found = str(hub.find_folder(hub.place_of(model, settings), with_code=trusted))
    return {"said": said, "folder": folder, "found": found, "shown": report.shown}

for line in sys.stdin:
    asked = json.loads(line)
    huggingface_hub.constants.HF_HUB_OFFLINE = asked["offline"]
    try:
        answer = fetch(asked["model"], asked["trusted"])
    except ShowtellError as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
"""
COMMAND = """
import sys
if "caption" in sys.argv or "serve" in sys.argv:
    import torch
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from showtell.cli import main
main()
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, torchvision_operators: Any) -> Path:
    """A tiny captioner, with the files beside it that a hub has."""
    folder = tiny_hf.save_captioner("vision-encoder-decoder", tmp_path_factory.mktemp("m") / "m")
    (folder / "README.md").write_text(tiny_hub.CARD)
    (folder / "pytorch_model.bin").write_bytes(b"not to be downloaded" * 100)
    (folder / "modeling_tiny.py").write_text("raise SystemExit('not to be run')\n")
    return folder


@pytest.fixture
def hub(saved: Path, tmp_path: Path) -> Iterator[TinyHub]:
    shutil.copytree(saved, tmp_path / "model")
    with tiny_hub.serving(tmp_path / "model") as found:
        yield found


class Machine:
    """Processes with one Hugging Face home; ``fetch`` asks one of them again and again."""

    def __init__(self, hub: TinyHub, home: Path) -> None:
        self.home = home
        self.variables = {
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(home),
            "HF_HUB_ETAG_TIMEOUT": "20",
            "SHOWTELL_CACHE": str(home / "showtell"),
            "PYTHONPATH": str(ROOT / "src"),
            "NO_COLOR": "1",
        }

        self._fetching: subprocess.Popen[str] | None = None

    def fetch(self, model: str, *, trusted: bool = False, offline: bool = False) -> dict[str, Any]:
        """See that a model is there; what was said, or the error."""
        if self._fetching is None:
            self._fetching = subprocess.Popen(
                [sys.executable, "-c", FETCH],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self.home.parent,
                env=os.environ | self.variables,
            )
        asked, answers = self._fetching.stdin, self._fetching.stdout
        assert asked is not None and answers is not None
        print(json.dumps({"model": model, "trusted": trusted, "offline": offline}), file=asked)
        asked.flush()
        found: dict[str, Any] = json.loads(answers.readline())
        return found

    def stop(self) -> None:
        if self._fetching is not None:
            self._fetching.communicate(timeout=60)

    def showtell(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments],
            capture_output=True,
            text=True,
            cwd=self.home.parent,
            env=os.environ | self.variables | more,
        )


@pytest.fixture
def machine(hub: TinyHub, tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "home").mkdir()
    found = Machine(hub, tmp_path / "home")
    yield found
    found.stop()


def test_a_model_is_downloaded_once(hub: TinyHub, machine: Machine, saved: Path) -> None:
    """Only what captioning reads, with its progress; then the cache is used without the hub."""
    got = machine.fetch(f"hf:{ID}")
    assert got["said"].startswith(f"{ID} (commit {COMMIT[:12]}, licence cc-by-4.0)")
    assert "6 files" in got["said"] or "7 files" in got["said"]
    folder = Path(got["folder"])
    assert got["found"] == got["folder"] and folder.name == COMMIT
    there = {path.name for path in folder.iterdir()}
    assert there == {path.name for path in saved.iterdir()} - {
        "pytorch_model.bin",
        "modeling_tiny.py",
    }
    for name in there:
        assert (folder / name).read_bytes() == (saved / name).read_bytes()
    assert sorted(hub.downloads) == sorted(there)
    tasks = {(task, unit) for task, _, _, unit in got["shown"]}
    assert tasks == {("downloading", "bytes")}
    total = sum((saved / name).stat().st_size for name in there)
    assert got["shown"][-1][1:3] == [total, total]
    num_asked = len(hub.asked)
    again = machine.fetch(f"hf:{ID}")
    assert again["said"] is None and again["found"] == got["folder"]
    pinned = machine.fetch(f"hf:{ID}@{COMMIT}", offline=True)
    assert pinned["found"] == got["folder"]
    assert [path for _, path, _ in hub.asked[num_asked:] if ID in path] == []


@pytest.mark.parametrize("own", ["", f"{ID}--"])
def test_code_that_is_wanted_later_is_downloaded_then(
    own: str, hub: TinyHub, machine: Machine
) -> None:
    settings = json.loads((hub.folder / "config.json").read_text())
    settings["auto_map"] = {"AutoModel": f"{own}modeling_tiny.Tiny", "AutoConfig": "a/b--c.Tiny"}
    (hub.folder / "config.json").write_text(json.dumps(settings))
    (hub.folder / "tokenizer_config.json").write_text(
        '{"auto_map": {"AutoTokenizer": ["words_tiny.Words", null]}}'
    )
    (hub.folder / "modeling_tiny.py").write_text("import torch\nfrom .parts_tiny import Part\n")
    (hub.folder / "parts_tiny.py").write_text("raise SystemExit('not to be run')\n")
    (hub.folder / "words_tiny.py").write_text("WORDS = 7\n")
    without = machine.fetch(f"hf:{ID}")
    assert not list(Path(without["found"]).glob("*.py"))
    hub.asked.clear()
    assert machine.fetch(f"hf:{ID}")["said"] is None and hub.downloads == []
    got = machine.fetch(f"hf:{ID}", trusted=True)
    assert got["said"] and got["found"] == without["found"]
    code = {"modeling_tiny.py", "parts_tiny.py", "words_tiny.py"}
    assert {path.name for path in Path(got["found"]).glob("*.py")} == code
    assert set(hub.downloads) == code
    # It is whole now, without the hub; and not where any of the three is gone.
    assert machine.fetch(f"hf:{ID}", trusted=True, offline=True)["said"] is None
    for name in sorted(code) if not own else ():
        (Path(got["found"]) / name).unlink()
        assert machine.fetch(f"hf:{ID}", trusted=True)["said"]
        assert (Path(got["found"]) / name).is_file()


def test_a_broken_connection_is_gone_on_with(hub: TinyHub, machine: Machine, saved: Path) -> None:
    hub.cut.add("model.safetensors")
    got = machine.fetch(f"hf:{ID}")
    weights = saved / "model.safetensors"
    assert (Path(got["folder"]) / "model.safetensors").read_bytes() == weights.read_bytes()
    ranges = [r for m, path, r in hub.asked if m == "GET" and path.endswith("model.safetensors")]
    whole_chunks = weights.stat().st_size // 2 // 2**14 * 2**14
    assert ranges == [None, f"bytes={whole_chunks}-"]


def test_a_hub_that_goes_away_and_comes_back(hub: TinyHub, machine: Machine, saved: Path) -> None:
    """Files that are there are not downloaded again."""
    hub.gone.add("model.safetensors")
    got = machine.fetch(f"hf:{ID}")
    assert got["error"].startswith(f"CheckpointError: hf:{ID} cannot be downloaded: ")
    assert "run the same command again" in got["error"]
    hub.gone.clear()
    hub.asked.clear()
    assert machine.fetch(f"hf:{ID}")["found"].endswith(COMMIT)
    assert "model.safetensors" in hub.downloads
    assert hub.downloads.count("config.json") <= 1


def test_a_commit_without_its_tokeniser_is_not_whole(
    hub: TinyHub, machine: Machine, saved: Path
) -> None:
    """The weights came, and the connection ended."""
    hub.gone.add("tokenizer.json")
    assert "cannot be downloaded" in machine.fetch(f"hf:{ID}@{COMMIT}")["error"]
    hub.gone.clear()
    [mark] = machine.home.rglob(f".showtell-unfinished-{COMMIT}")
    snapshot = mark.parent / "snapshots" / COMMIT
    snapshot.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):  # those that did not come by chance
        if not (snapshot / name).exists():
            shutil.copy(saved / name, snapshot)
    got = machine.fetch(f"hf:{ID}@{COMMIT}")
    content = (saved / "tokenizer.json").read_bytes()
    assert (Path(got["found"]) / "tokenizer.json").read_bytes() == content
    assert machine.fetch(f"hf:{ID}@{COMMIT}")["said"] is None


def test_a_file_with_another_hash_is_refused_and_removed(hub: TinyHub, machine: Machine) -> None:
    hub.wrong.add("model.safetensors")
    got = machine.fetch(f"hf:{ID}")
    assert "model.safetensors is not the file that the hub promised" in got["error"]
    assert not list(machine.home.rglob("model.safetensors"))
    hub.wrong.clear()
    assert machine.fetch(f"hf:{ID}")["found"].endswith(COMMIT)
    hub.wrong.add("config.json")  # of small files the hash is git's
    shutil.rmtree(machine.home / "hub")
    got = machine.fetch(f"hf:{ID}")
    assert "config.json is not the file that the hub promised" in got["error"]


@pytest.mark.parametrize(
    ("model", "changes", "place", "said"),
    [
        ("someone/else", {}, {}, "the hub has no such model"),
        (ID, {"refuses": True}, {}, "private and there is no token"),
        (f"{ID}@v9", {}, {}, "has no revision 'v9'"),
        (ID, {}, {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids downloading it"),
        (ID, {}, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be downloaded"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(
    model: str,
    changes: dict[str, Any],
    place: dict[str, str],
    said: str,
    hub: TinyHub,
    machine: Machine,
) -> None:
    for name, value in changes.items():
        setattr(hub, name, value)
    machine.variables |= place
    got = machine.fetch(f"hf:{model}", offline="HF_HUB_OFFLINE" in place)
    assert said in got["error"] and "\n" not in got["error"]


def test_a_model_without_safetensors_is_refused_before_the_download(
    hub: TinyHub, machine: Machine
) -> None:
    (hub.folder / "model.safetensors").unlink()
    got = machine.fetch(f"hf:{ID}")
    assert "weights only as pytorch_model.bin, a pickle" in got["error"]
    assert f"hf download {ID} --local-dir tiny-captioner && python -c" in got["error"]
    assert hub.downloads == []


def test_a_damaged_model_in_the_cache_hides_no_other(machine: Machine, saved: Path) -> None:
    for name in ("damaged", "whole"):
        snapshot = machine.home / "hub" / f"models--owner--{name}" / "snapshots" / COMMIT
        shutil.copytree(saved, snapshot)
        if name == "damaged":
            (snapshot / "model.safetensors.index.json").write_text('{"weight_map": ')
    listed = machine.showtell("models", "--json")
    assert listed.returncode == 0, listed.stderr
    [cached] = json.loads(listed.stdout)["cached"]
    assert cached["name"] == "hf:owner/whole" and cached["revision"] == COMMIT
    assert (cached["kind"], cached["licence"]) == ("vision-encoder-decoder", "cc-by-4.0")


@pytest.mark.costly  # the functions behind them are tested above, and their questions in cli/
def test_the_commands(hub: TinyHub, machine: Machine) -> None:
    """Licence and size first, then a question; not a terminal: the line with --yes."""
    shown = machine.showtell("models", f"hf:{ID}")
    assert shown.returncode == 0, shown.stderr
    assert "licence: cc-by-4.0" in shown.stdout and "not on this machine" in shown.stdout
    photo = machine.home.parent / "photo.png"
    tiny_hf.pictures(1)[0].save(photo)
    command = ["caption", str(photo), "-m", f"hf:{ID}", "--max-length", "6", "--json"]
    command += ["--precision", "fp32"]
    asked = machine.showtell(*command)
    assert asked.returncode == 1 and hub.downloads == []
    first, last = asked.stderr.strip().splitlines()
    assert "licence cc-by-4.0" in first
    assert last.endswith(f"showtell {' '.join(command)} --yes")
    done = machine.showtell(*command, "--yes")
    assert done.returncode == 0, done.stderr
    assert f"hf:{ID} at commit {COMMIT[:12]}" in done.stderr
    [said] = json.loads(done.stdout)["captions"]
    hub.refuses = True
    offline = machine.showtell(*command, HF_HUB_OFFLINE="1")
    assert json.loads(offline.stdout)["captions"] == [said], offline.stderr
    card = json.loads(machine.showtell("models", f"hf:{ID}", "--json").stdout)
    assert card["revision"] == COMMIT and Path(card["folder"]).is_dir()
