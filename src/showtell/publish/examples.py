"""The pictures of a card: such as may be handed on."""

from collections.abc import Sequence
from pathlib import Path

from showtell.captioner import Captioner
from showtell.contact_sheet import Cell, save_contact_sheet
from showtell.data.scenes import render_scenes, scenes_folder
from showtell.errors import ConfigError, MissingExtraError

SKIMAGE, SCENES = "skimage/", "scenes/"
NUM_SCENES = 40


def find_examples(names: Sequence[str], folder: Path) -> list[Path]:
    """Where the pictures of a recipe lie.

    Args:
        names: ``skimage/NAME``: of those that scikit-image brings, which are free; ``scenes/NAME``:
            drawn by showtell; else a path from ``folder``.

    Raises:
        ConfigError: there is none.
        MissingExtraError: scikit-image is not installed.
    """
    found = []
    for name in names:
        if name.startswith(SKIMAGE):
            path = _skimage_folder() / name.removeprefix(SKIMAGE)
        elif name.startswith(SCENES):
            render_scenes(NUM_SCENES)
            path = scenes_folder() / name.removeprefix(SCENES)
        else:
            path = folder / name
        if not path.is_file():
            raise ConfigError(f"examples: {name!r} is no picture ({path})")
        found.append(path)
    return found


def draw_examples(model: Path, pictures: Sequence[Path], output: Path) -> None:
    """A sheet of ``pictures`` with what ``model`` says of them, and how sure it is."""
    captioner = Captioner.load(model)
    cells = [
        Cell(Path(found.path), found.caption.text, (f"confidence {found.caption.confidence:.2f}",))
        for found in captioner.caption_stream(pictures)
        if found.caption is not None
    ]
    save_contact_sheet(output, cells)


def _skimage_folder() -> Path:
    try:
        import skimage
    except ImportError:
        raise MissingExtraError("dev", "a picture of scikit-image") from None
    return Path(skimage.__file__).parent / "data"
