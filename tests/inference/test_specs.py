"""Which captioner a name with a prefix stands for, and a package's own prefix."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import showtell
from showtell import Caption, DecodingConfig, ModelInfo
from showtell.cli import app
from showtell.errors import CheckpointError, ConfigError
from showtell.inference.backends.pictures import PictureCaptioner
from showtell.inference.loading import ModelRequest
from showtell.inference.specs import PROMPTS, BackendSettings, CaptionerError, kinds, spec_of
from showtell.inference.stream import Described

PACKAGE = """
from collections.abc import Sequence
from showtell import Caption, DecodingConfig, ModelInfo
from showtell.inference.backends.pictures import PictureCaptioner


class Sizes(PictureCaptioner):
    takes = frozenset({"prompt"})

    def __init__(self, request):
        self.spec, self.prompt = str(request.model), request.settings.prompt

    @classmethod
    def of(cls, request):
        return cls(request)

    @property
    def card(self):
        known = frozenset({"max_length"})
        return ModelInfo("sizes", kind="sizes", prompt=True, likelihoods=False, decoding=known)

    @property
    def decoding(self):
        return DecodingConfig(method="greedy")

    @property
    def fingerprint(self):
        return "0123456789ab"

    def caption_images(self, images, *, decoding, first=0):
        found = []
        for image in images:
            width, height = image.size
            text = f"{self.prompt} {width} by {height}"
            square = "squares are beyond me" if width == height else None
            found.append(square or Caption(text, tuple(text.split()), (), 0.0))
        return found


class Few(Sizes):
    def caption_images(self, images, *, decoding, first=0):
        return super().caption_images(images, decoding=decoding)[1:]


class Sad(Sizes):
    def caption_images(self, images, *, decoding, first=0):
        raise RuntimeError("the GPU is sad\\nvery")


class Picky(Sizes):
    @classmethod
    def of(cls, request):
        raise ValueError("no such model in my library")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with a captioner, as pip installs it."""
    (tmp_path / "sizes_captioner.py").write_text(PACKAGE)
    info = tmp_path / "sizes_captioner-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sizes-captioner\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[showtell.captioners]\nsizes = sizes_captioner:Sizes\nbroken = nowhere_at_all:Sizes\n"
        "few = sizes_captioner:Few\nsad = sizes_captioner:Sad\npicky = sizes_captioner:Picky\n"
        "none = pathlib:Path\nLoud = sizes_captioner:Sizes\nopenai = sizes_captioner:Sizes\n"
        "two = sizes_captioner:Sizes\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sizes_captioner", raising=False)


def test_what_a_name_stands_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spec_of("hf:owner/name") == ("hf", "owner/name")
    assert spec_of("ollama:llava:7b") == ("ollama", "llava:7b")
    monkeypatch.chdir(tmp_path)
    Path("other:run").mkdir()
    names = ("default", "runs/small", "./hf:x", "C:model", "c:\\model", "s3://bucket/model")
    for name in (*names, "other:run", Path("hf:x")):
        assert spec_of(name) is None, name
    with pytest.raises(CheckpointError, match="Did you mean 'ollama'"):
        spec_of("olama:x")


def test_settings() -> None:
    settings = BackendSettings.of({"prompt": "alt", "timeout": 3.0})
    assert settings.given == ["prompt", "timeout"]
    assert settings.instruction == PROMPTS["alt"]
    assert BackendSettings(prompt="Why?").instruction == "Why?"
    assert BackendSettings().instruction is None
    with pytest.raises(ConfigError, match="Did you mean 'timeout'"):
        BackendSettings.of({"timout": 3})
    assert ModelRequest("default").settings == BackendSettings()


def test_a_package_adds_a_kind(package: None) -> None:
    assert "sizes" in kinds()
    model = showtell.load("sizes:any", settings={"prompt": "it is"})
    wide, square = Image.new("RGB", (30, 20)), Image.new("RGB", (9, 9))
    assert model.caption(wide).text == "it is 30 by 20"
    with pytest.raises(showtell.ShowtellError, match=r"images\[1\]: squares are beyond me"):
        model.caption([wide, square])
    with pytest.raises(ConfigError, match="beam_size = 7 has no meaning for sizes:any"):
        model.caption(wide, decoding={"beam_size": 7})
    with pytest.raises(ConfigError, match=r"--revision means nothing .* take --prompt"):
        showtell.load("sizes:any", settings={"revision": "main"})
    with pytest.raises(ConfigError, match="'broken' of the package 'sizes-captioner' cannot be"):
        showtell.load("broken:any")


def test_faults_of_a_package_are_one_line_that_names_it(package: None, tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    Image.new("RGB", (30, 20)).save(path)
    for model, said in (
        ("few:x", "few:x (package 'sizes-captioner') gave 1 caption for 2 pictures; it must give"),
        (
            "sad:x",
            "sad:x (package 'sizes-captioner') failed: RuntimeError: the GPU is sad (--debug",
        ),
    ):
        captioner = showtell.load(model)
        with pytest.raises(CaptionerError) as caught:
            list(captioner.caption_stream([path, path]))
        assert str(caught.value).startswith(said) and "\n" not in str(caught.value)
        with pytest.raises(CaptionerError, match=re.escape(said)):
            captioner.caption([path, path])
    with pytest.raises(
        CaptionerError, match=r"picky:x \(package 'sizes-captioner'\) cannot be load"
    ):
        showtell.load("picky:x")
    with pytest.raises(
        ConfigError, match=r"'none' of the package .* pathlib:Path, is no Captioner"
    ):
        showtell.load("none:x")


def test_prefixes_that_a_package_cannot_have(package: None, tmp_path: Path) -> None:
    other = tmp_path / "other-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[showtell.captioners]\ntwo = other:Two\n")
    for model, said in (
        ("Loud:x", "'sizes-captioner' names a captioner 'Loud': a prefix has two or more small"),
        (
            "openai:x",
            "'sizes-captioner' names a captioner 'openai', which is one of showtell's own",
        ),
        ("two:x", "both name a captioner 'two': remove one of these packages"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            showtell.load(model)
    with pytest.raises(CheckpointError, match=r"openai:MODEL, ollama:MODEL, .*sizes:MODEL"):
        showtell.load("no-such-model")


def test_a_kind_that_a_package_adds_is_shown(package: None) -> None:
    done = CliRunner().invoke(app, ["models", "sizes:any"])
    assert done.output.splitlines() == [
        "sizes:any (package 'sizes-captioner')",
        "licence: not given",
        "size: not given",
        "options: --prompt",
        "decoding settings: max_length",
    ]
    values = json.loads(CliRunner().invoke(app, ["models", "sizes:any", "--json"]).output)
    assert (values["name"], values["options"]) == ("sizes:any", ["prompt"])


def test_a_picture_without_caption_fails_alone(package: None, tmp_path: Path) -> None:
    model = showtell.load("sizes:any", settings={"prompt": "p"})
    sizes = [(30, 20), (9, 9), (8, 20)]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, size in zip(paths, sizes, strict=True):
        Image.new("RGB", size).save(path)
    found = list(model.caption_stream(paths))
    assert [result.text for result in found] == ["p 30 by 20", "", "p 8 by 20"]
    assert found[1].error == f"{paths[1]}: squares are beyond me"


class Wide(PictureCaptioner):
    """Says how large the pictures are that it gets."""

    spec = "wide:any"

    @classmethod
    def of(cls, request: ModelRequest) -> "Wide":
        return cls()

    @property
    def card(self) -> ModelInfo:
        return ModelInfo("wide", kind="wide")

    @property
    def decoding(self) -> DecodingConfig:
        return DecodingConfig()

    @property
    def fingerprint(self) -> str:
        return "0" * 12

    def caption_images(
        self, images: Sequence[Image.Image], *, decoding: DecodingConfig, first: int = 0
    ) -> Described:
        return [Caption(f"{image.size}", (f"{image.size}",), (-1.0, 0.0), 0.6) for image in images]


def test_pictures_are_shrunk_to_the_longest_side() -> None:
    from showtell.inference.backends.pictures import WholePicture

    model = Wide()
    model.recipe = WholePicture(max_side=100)
    for size, seen in (((400, 200), (100, 50)), ((50, 80), (50, 80)), ((10, 1000), (1, 100))):
        assert model.caption(Image.new("RGB", size)).text == f"{seen}"


class Shrinking(Wide):
    """Finds that a batch does not fit into memory, as models of the hub do."""

    def caption_images(
        self, images: Sequence[Image.Image], *, decoding: DecodingConfig, first: int = 0
    ) -> Described:
        self.batch_size = 3
        return super().caption_images(images, decoding=decoding, first=first)


def test_no_picture_is_left_out_where_batches_become_smaller() -> None:
    pictures = [Image.new("RGB", (20 + n, 10)) for n in range(20)]
    captions = Shrinking().caption(pictures)
    assert [caption.text for caption in captions] == [f"{image.size}" for image in pictures]
