import re
import subprocess
import sys
import tomllib
from pathlib import Path
from runpy import run_path

import pytest

import showtell
from showtell.cli import COMMANDS
from showtell.config import DECODER_SETTINGS, Config
from showtell.config.toml import SIZES, preset_names

ROOT = Path(__file__).parents[1]


def test_the_public_surface() -> None:
    assert sorted(showtell.__all__) == [
        "Caption",
        "Captioner",
        "Config",
        "DecodingConfig",
        "ModelInfo",
        "ShowtellError",
        "__version__",
        "list_models",
        "load",
        "load_dataset",
        "open_image",
        "register_decoder",
        "register_encoder",
        "register_source",
    ]
    for name in showtell.__all__:
        assert getattr(showtell, name) is not None
    assert dir(showtell) == showtell.__all__
    with pytest.raises(AttributeError, match="no attribute 'Captoiner'"):
        _ = showtell.Captoiner


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, showtell; assert showtell.list_models();"
        "print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_list_models() -> None:
    assert showtell.list_models() == ["default", "photos13k-lite2"]
    assert showtell.list_models("photos*") == ["photos13k-lite2"]
    assert showtell.list_models("nothing*") == []


def test_every_preset_is_valid() -> None:
    assert len(preset_names()) == 11
    for name in preset_names():
        is_second = name.endswith("-scst")
        config = Config.load(Path(name), ["training.init_from=run"] if is_second else [])
        assert config.objective.kind == ("scst" if is_second else "cross_entropy")
        if name not in (*SIZES, "notebook"):
            assert tomllib.loads(config.to_toml())["decoder"]["kind"] in name.replace("-", "_")


def test_the_settings_page_has_every_setting() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert "| `seed` | `0` | whole number, at least 0, below 4294967296 |" in page
    assert "| `optimizer.lr` | `0.001` | number, above 0 | learning rate" in page
    assert "| `decoding.method` | `beam` | `greedy`, `beam`, `diverse`, `sample` |" in page
    assert "| `decoding.required_words` | `[]` | list of texts, at most 10 |" in page
    for kind in DECODER_SETTINGS:
        for name in tomllib.loads(Config.load(None, [f"decoder.kind={kind}"]).to_toml())["decoder"]:
            section = page.partition(f"### decoder.kind = {kind}\n")[2].partition("\n#")[0]
            assert f"| `decoder.{name}` |" in section


def test_a_first_sentence_does_not_end_at_an_initial(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        '"""Stems (M. F. Porter et al. 2001), as METEOR does. More."""\n', encoding="utf-8"
    )
    page = run_path(str(ROOT / "docs" / "generate.py"))
    assert page["_first_sentence"](module) == "Stems (M. F. Porter et al. 2001), as METEOR does"


def test_generated_docs_are_up_to_date() -> None:
    page = run_path(str(ROOT / "docs" / "generate.py"))
    advice = "run: python docs/generate.py"
    assert page["HELP"].read_text(encoding="utf-8") == page["help_page"](), advice
    assert page["SETTINGS"].read_text(encoding="utf-8") == page["settings_page"](), advice
    assert page["FILES"].read_text(encoding="utf-8") == page["files_page"](), advice
    assert page["ARCHITECTURE"].read_text(encoding="utf-8") == page["architecture"](), advice


def test_the_help_page_has_every_command() -> None:
    page = (ROOT / "docs" / "help.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (showtell.*)$", page, flags=re.MULTILINE)
    assert len(sections) == len(COMMANDS) + 9  # itself, demo, and data with its six
    named = {command.__name__.replace("_", "-") for command in COMMANDS}
    assert named <= {title.split()[-1] for title in sections}


def test_the_readme_names_every_folder() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = readme.partition("src/showtell/\n")[2].partition("```")[0]
    named = set(re.findall(r"^  (\w+)/ ", tree, flags=re.MULTILINE))
    folders = {path.parent.name for path in (ROOT / "src" / "showtell").glob("*/__init__.py")}
    assert len(folders) >= 17
    assert named == folders


def test_every_page_is_in_the_index_of_the_docs() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert len(pages) > 15
    assert sorted(page for page in pages if f"({page}" not in index) == []


PROGRAM = """
from pathlib import Path

from showtell import Caption, Captioner, DecodingConfig, ModelInfo
from showtell import load, load_dataset, open_image

captioner = Captioner.load("default", device="cpu")
captions: list[Caption] = captioner.caption([open_image("photo.jpg")])
best: Caption = captions[0]
one: Caption = captioner.caption("photo.jpg", decoding={"beam_size": 2})
two: list[Caption] = load().caption(["photo.jpg", Path("photo.jpg"), b"", open("photo.jpg", "rb")])
card: ModelInfo = captioner.card
text: str = best.text
confidence: float = best.confidence
for result in captioner.caption_stream([Path("photo.jpg")], decoding=DecodingConfig(beam_size=3)):
    print(result.path, result.text, result.error)
pictures: int = len(load_dataset("scenes").records)
wrong: int = best.text
"""


def test_a_program_that_uses_the_public_api_is_type_checked(tmp_path: Path) -> None:
    """``py.typed`` ships: a checker sees the types, and finds the one mistake."""
    assert (ROOT / "src" / "showtell" / "py.typed").is_file()
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary"]
    # Elsewhere than the checkout, so that neither its settings nor its source folder are at hand.
    done = subprocess.run(
        [*command, "--cache-dir", ROOT / ".mypy_cache" / "api", program.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    expected = (
        'Incompatible types in assignment (expression has type "str", variable has type "int")'
    )
    [line] = [line for line in done.stdout.splitlines() if "error:" in line]
    assert expected in line
