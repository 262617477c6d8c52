"""The survey of pictures: which can be read, and which look the same."""

import io
import sys
import tarfile
from pathlib import Path

import pytest
from distil.conftest import Site
from PIL import Image

from showtell.bulk.inputs import find_inputs
from showtell.core import prefetch
from showtell.core.progress import SilentReporter
from showtell.distil.pictures import failures, known_pictures, survey
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
    assert found == (1, 0, 0, 0)


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
    assert found == (4, 0 if first else 3, 0, 0)
    assert [known.look is None for known in known_pictures(folder)] == [first] * 4


def test_pictures_of_the_web_are_fetched_many_at_a_time_and_again_only_what_may_pass(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "num_workers", lambda: 1)
    site.delay, site.busy = 0.05, {"/3.png", "/7.png"}
    listed, folder = tmp_path / "list.txt", tmp_path / "pictures"
    names = [f"{site.url}/{number}.png" for number in range(20)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    listed.write_text("\n".join([*names, str(broken)]))
    inputs = find_inputs([str(listed)])
    found = survey(inputs, folder, with_looks=False, report=SilentReporter())
    assert found == (18, 0, 3, 2) and site.most > 1
    assert {failure["path"] for failure in failures(folder)} == {names[3], names[7], str(broken)}
    site.asked.clear()
    site.busy = {"/7.png"}
    found = survey(inputs, folder, with_looks=False, report=SilentReporter())
    assert found == (19, 0, 2, 1) and sorted(site.asked) == ["/3.png", "/7.png"]
    site.busy = set()
    found = survey(inputs, folder, with_looks=False, report=SilentReporter())
    assert found == (20, 0, 1, 0)
    assert {known.name for known in known_pictures(folder)} == set(names)
    assert not (folder / "pictures.jsonl.partial").exists()


def test_a_file_that_changed_is_opened_again_and_no_url_is(tmp_path: Path, site: Site) -> None:
    """One picture that is not there keeps the journal of all others."""
    photos, folder = tmp_path / "photos", tmp_path / "pictures"
    photos.mkdir()
    mended, archive, listed = photos / "a.png", tmp_path / "b.tar", tmp_path / "list.txt"
    mended.write_bytes(Site.content(1)[:40])
    Image.new("RGB", (32, 32), "red").save(photos / "b.png")
    (photos / "c.png").symlink_to(tmp_path / "nothing.png")
    pack(archive, Site.content(2)[:40])
    listed.write_text(f"{site.url}/4.png\n")
    inputs = find_inputs([str(photos), str(archive), str(listed)])
    found = survey(inputs, folder, with_looks=False, report=SilentReporter())
    assert found == (2, 0, 3, 1) and site.asked == ["/4.png"]
    mended.write_bytes(Site.content(1))
    pack(archive, Site.content(2))
    (photos / "b.png").write_bytes(b"no picture")
    found = survey(inputs, folder, with_looks=False, report=SilentReporter())
    assert found == (3, 0, 2, 1) and site.asked == ["/4.png"]
    assert {known.name for known in known_pictures(folder)} == {
        str(mended), f"{archive}/p.png", f"{site.url}/4.png"
    }  # fmt: skip
    again = survey(inputs, folder, with_looks=False, report=SilentReporter())
    assert again == found and site.asked == ["/4.png"]


def pack(archive: Path, content: bytes) -> None:
    with tarfile.open(archive, "w") as file:
        member = tarfile.TarInfo("p.png")
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))


def test_a_copy_of_a_picture_that_is_no_longer_named_is_an_original(
    tmp_path: Path, site: Site
) -> None:
    pytest.importorskip("imagehash")
    listed, folder = tmp_path / "list.txt", tmp_path / "pictures"
    first, away = tmp_path / "first.png", f"{tmp_path}/nothing.png"
    first.write_bytes(Site.content(1))
    names = [str(first), f"{site.url}/1.png", f"{site.url}/2.png"]
    listed.write_text("\n".join([*names, away]))
    found = survey(find_inputs([str(listed)]), folder, with_looks=True, report=SilentReporter())
    assert found == (3, 2, 1, 1)
    listed.write_text("\n".join([*names[1:], away]))
    found = survey(find_inputs([str(listed)]), folder, with_looks=True, report=SilentReporter())
    assert found == (2, 1, 1, 1) and len(site.asked) == 2
    assert [known.same_as for known in known_pictures(folder)] == [None, names[1]]
    listed.write_text("\n".join([names[2], str(tmp_path / "new.png"), away]))
    (tmp_path / "new.png").write_bytes(Site.content(1))
    found = survey(find_inputs([str(listed)]), folder, with_looks=True, report=SilentReporter())
    assert found == (2, 1, 1, 1) and len(site.asked) == 2
    assert [known.same_as for known in known_pictures(folder)] == [None, names[2]]
