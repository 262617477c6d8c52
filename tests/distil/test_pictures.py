"""The survey of pictures: which can be read, and which look the same."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from showtell.bulk.inputs import find_inputs
from showtell.core.progress import SilentReporter
from showtell.distil.pictures import known_pictures, survey
from showtell.errors import MissingExtraError


def test_without_imagehash_the_error_says_how_to_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "a.png")
    inputs = find_inputs([str(tmp_path)])
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(MissingExtraError, match=r"near_duplicates=false does without.*dedupe"):
        survey(inputs, tmp_path / "run", with_looks=True, report=SilentReporter())
    found = survey(inputs, tmp_path / "run", with_looks=False, report=SilentReporter())
    assert found == (1, 0, 0)


class Stop(SilentReporter):
    """Ctrl-C after so many pictures."""

    def __init__(self, after: int) -> None:
        self.after = after

    def progress(self, what: str, done: int, *more: object, **others: object) -> None:
        if done >= self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("first", [True, False])
def test_a_stopped_survey_goes_on_with_the_same_setting_alone(tmp_path: Path, first: bool) -> None:
    pytest.importorskip("imagehash")
    photos, folder = tmp_path / "photos", tmp_path / "pictures"
    photos.mkdir()
    for number in range(4):
        Image.new("RGB", (32, 32), "red").save(photos / f"{number}.png")
    inputs = find_inputs([str(photos)])
    with pytest.raises(KeyboardInterrupt):
        survey(inputs, folder, with_looks=first, report=Stop(3))
    assert (folder / "pictures.jsonl.partial").stat().st_size > 200
    found = survey(inputs, folder, with_looks=not first, report=SilentReporter())
    assert found == (4, 0 if first else 3, 0)
    assert [known.look is None for known in known_pictures(folder)] == [first] * 4
