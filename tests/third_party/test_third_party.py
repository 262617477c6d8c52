"""A package that showtell does not know adds a decoder, an encoder and a format of data.

The package is installed as pip would install it: on ``sys.path``, with its entry points beside it.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image
from shared_cache import share_meteor

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PACKAGE = HERE / "colour_captioner"
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 220)}
SETTINGS = (
    "encoder.name=colour_grid",
    "encoder.views=0",
    "decoder.kind=log_bilinear",
    "decoder.hidden_size=32",
    "decoder.dropout=0.1",
    "data.vocab_threshold=1",
    "optimizer.lr=0.03",
    "optimizer.warmup_steps=2",
    "training.batch_size=8",
    "training.num_epochs=12",
    "training.precision=fp32",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what ``pip install`` writes beside the package, from the page's TOML."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "colour_captioner-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: colour-captioner\nVersion: 1.0\n")
    [toml] = [text for language, text in BLOCKS if language == "toml"]
    groups = tomllib.loads(toml)["project"]["entry-points"]
    lines = []
    for group, points in groups.items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (folder / PACKAGE.name).symlink_to(PACKAGE)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one colour each, and their captions."""
    folder = tmp_path_factory.mktemp("data")
    lines = []
    for number in range(24):
        name = list(COLOURS)[number % 3]
        shade = tuple(min(value + 2 * number, 255) for value in COLOURS[name])
        Image.new("RGB", (80, 64), shade).save(folder / f"{number}.png")
        lines.append(f"{number}.png: a {name} picture")
    (folder / "data.captions").write_text("\n".join(lines) + "\n")
    return folder / "data.captions"


def run(*command: str, path: Path | None, cache: Path) -> subprocess.CompletedProcess[str]:
    share_meteor(cache)
    folders = [ROOT / "src", *([path] if path else [])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "SHOWTELL_CACHE": str(cache),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment
    )


@pytest.fixture(scope="module")
def trained(installed: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    options = [part for setting in SETTINGS for part in ("-s", setting)]
    command = ["-m", "showtell", "train", str(data), "-o", str(folder / "run"), *options]
    done = run(*command, path=installed, cache=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_the_page_shows_the_package() -> None:
    shown = [text for language, text in BLOCKS if language == "python"]
    files = sorted(path for path in PACKAGE.glob("*.py") if path.name != "__init__.py")
    assert len(files) == 4
    for file in files:
        assert file.read_text(encoding="utf-8") in shown, f"{file} is not in docs/extending.md"


@pytest.mark.slow
def test_it_trains_and_captions_from_the_command_line(
    trained: Path, installed: Path, data: Path, tmp_path: Path
) -> None:
    config = tomllib.loads((trained / "config.toml").read_text(encoding="utf-8"))
    assert config["decoder"] == {
        "kind": "log_bilinear",
        "hidden_size": 32,
        "dropout": 0.1,
        "word_dropout": 0.0,
    }
    pictures = [str(data.parent / f"{number}.png") for number in range(3)]
    done = run(
        *("-m", "showtell", "caption", *pictures, "--model", str(trained), "--json"),
        path=installed,
        cache=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    said = [record["caption"].lower() for record in json.loads(done.stdout)["captions"]]
    for colour, caption in zip(COLOURS, said, strict=True):
        assert f"a {colour} picture" in caption


CONTRACT = """
import torch
from showtell.config import Config
from showtell.decoders.registry import DECODERS, build_decoder, load_decoder
from showtell.encoders.features import Features
config = Config.load(None, ['decoder.kind=log_bilinear']).decoder
sizes = {'vocab_size': 20, 'feature_size': 6}
decoder = build_decoder(config, **sizes).eval()
features, tokens = Features(torch.randn(3, 6)), torch.randint(4, 20, (3, 5))
expected = decoder(features, tokens).log_softmax(-1)
state = decoder.init_state(features)
for t in range(5):
    found, state = decoder.step(tokens[:, t], state)
    torch.testing.assert_close(found, expected[:, t])
before = torch.random.get_rng_state()
again = load_decoder(config, decoder.state_dict(), **sizes)
assert torch.equal(torch.random.get_rng_state(), before)
assert torch.equal(again(features, tokens), decoder(features, tokens))
print(len(DECODERS))
"""


@pytest.mark.slow
def test_it_is_listed_without_being_imported_and_its_decoder_keeps_the_contract(
    installed: Path, tmp_path: Path
) -> None:
    """The page's last example. Steps equal teacher forcing; loading leaves random numbers alone."""
    code = [text for language, text in BLOCKS if language == "python"][-1]
    code += "import sys; print([name for name in sys.modules if 'colour_captioner' in name])\n"
    done = run("-c", code + CONTRACT, path=installed, cache=tmp_path)
    assert done.returncode == 0, done.stderr
    models, registries, imported, num_decoders = done.stdout.splitlines()
    assert models == "['default', 'photos13k-lite2']"
    for name in ("log_bilinear", "colour_grid", "captions", "up_down", "lite2", "coco"):
        assert repr(name) in registries
    assert imported == "[]"
    assert num_decoders == "6"


@pytest.mark.slow
def test_without_the_package_the_missing_kind_is_named(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    picture = str(data.parent / "0.png")
    command = ("-m", "showtell", "caption", picture, "--model", str(trained))
    done = run(*command, path=None, cache=tmp_path)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "decoder.kind: unknown decoder 'log_bilinear'" in line
    assert "Known: attention, prefix_lm, show_tell, transformer, up_down" in line
    assert "If it is from another package, install that package" in line


def test_its_captioner_captions(installed: Path, data: Path, tmp_path: Path) -> None:
    pictures = [str(data.parent / f"{number}.png") for number in range(3)]
    command = ("-m", "showtell", "caption", *pictures, "--model", "colours:plain", "--json")
    done = run(*command, path=installed, cache=tmp_path)
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)["captions"]
    assert [record["caption"] for record in records] == [f"a {name} picture" for name in COLOURS]
    assert {record["confidence"] for record in records} == {None}
    refused = run(*command, "--beam-size", "5", path=installed, cache=tmp_path)
    assert refused.returncode == 1 and "beam_size" in refused.stderr


MESSAGES = {
    "decoder.kind=log_bilinaer": "Did you mean 'log_bilinear'?",
    "decoder.hiden_size=3": "did you mean decoder.hidden_size?",
    "decoder.hidden_size=0": "decoder.hidden_size = 0: input should be greater than",
    "encoder.name=color_grid": "Did you mean 'colour_grid'?",
}
TRAIN_WITH_EACH = """
import sys
from showtell.cli import main
data, run, *settings = sys.argv[1:]
for setting in settings:
    options = ["-s", "decoder.kind=log_bilinear", "-s", setting]
    sys.argv = ["showtell", "train", data, "-o", run, *options]
    try:
        main()
    except SystemExit as error:
        print(f"exit {error.code}", file=sys.stderr)
"""


@pytest.mark.slow
def test_errors_are_as_for_showtells_own(installed: Path, data: Path, tmp_path: Path) -> None:
    arguments = [str(data), str(tmp_path / "run"), *MESSAGES]
    done = run("-c", TRAIN_WITH_EACH, *arguments, path=installed, cache=tmp_path)
    parts = done.stderr.split("exit 1\n")
    assert parts.pop() == "" and done.returncode == 0, done.stderr
    for message, said in zip(MESSAGES.values(), parts, strict=True):
        assert message in said.splitlines()[-1]
