"""Pictures are found by path, file name or id; never that of another image by chance."""

from pathlib import Path

import pytest

from showtell.errors import ScoringError
from showtell.metrics.picture_folder import MISSING, SEVERAL, SHARED, PictureFolder


def make(folder: Path, *names: str) -> Path:
    for path in (folder / name for name in names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    names = ("cats/1.jpg", "dogs/1.jpg", "cats/2.jpg", "dogs/3.png", "dogs/3.jpg", ".trash/4.jpg")
    return make(tmp_path / "pets", *names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dogs/1.jpg", "dogs/1.jpg"),
        ("pets/dogs/1.jpg", "dogs/1.jpg"),
        ("/elsewhere/pets/dogs/1.png", "dogs/1.jpg"),
        ("pets\\dogs\\1.jpg", "dogs/1.jpg"),
        ("dogs/3.png", "dogs/3.png"),
        ("3.jpg", "dogs/3.jpg"),
        ("dogs/000000000003", SEVERAL),
        ("000000000002", "cats/2.jpg"),
        ("1", SEVERAL),
        ("4", MISSING),
        ("birds/5.jpg", MISSING),
    ],
)
def test_the_path_with_most_folders_in_common_is_it(name: str, expected: str, pets: Path) -> None:
    [found] = PictureFolder(pets).find([[name]])
    assert found == (expected if expected in (MISSING, SEVERAL) else pets / expected)


def test_the_first_name_that_finds_a_picture_counts(pets: Path) -> None:
    found = PictureFolder(pets).find([["cats/1.jpg", "2"], ["none.jpg", "2"], ["1.jpg", "none"]])
    assert found == [pets / "cats" / "1.jpg", pets / "cats" / "2.jpg", SEVERAL]


def test_pictures_above_a_folder_of_the_same_name(tmp_path: Path) -> None:
    """A path through the folder itself leads to the picture directly in it."""
    here = make(tmp_path / "old" / "pets", "1.jpg", "pets/1.jpg")
    names = ["1.jpg", "old/pets/1.jpg", str(here / "1.jpg"), str(here / "pets" / "1.jpg")]
    found = [PictureFolder(here).find([[name]])[0] for name in (*names, "pets/1.jpg", "")]
    assert found == [*[here / "1.jpg"] * 3, here / "pets" / "1.jpg", SEVERAL, MISSING]


@pytest.mark.parametrize("name", ["pics", "photos"])
def test_a_picture_of_a_unique_name_is_found_wherever_it_lies(name: str, tmp_path: Path) -> None:
    here = make(tmp_path / name, "1.jpg", "2.jpg", "sub/3.jpg", "sub/4.jpg")
    found = PictureFolder(here).find([[f"photos/{n}.jpg"] for n in (1, 2, 3, 4)])
    assert found == [here / "1.jpg", here / "2.jpg", here / "sub" / "3.jpg", here / "sub" / "4.jpg"]


def test_many_folders_with_one_file_name(tmp_path: Path) -> None:
    names = [f"v{n:05d}/001.jpg" for n in range(300)]
    folder = make(tmp_path / "videos", *names)
    found = PictureFolder(folder)
    assert found.find([[name] for name in names]) == [folder / name for name in names]
    assert found.find([[f"moved-{name}"] for name in names]) == [SEVERAL] * len(names)


def test_images_of_another_folder_have_no_picture_here(pets: Path) -> None:
    """Nor has an image whose own picture is missing that of the other folder."""
    here = PictureFolder(pets / "cats")
    names = ["pets/cats/1.jpg", "pets/dogs/1.jpg", "pets/dogs/2.jpg"]
    assert here.find([[name] for name in names]) == [pets / "cats" / "1.jpg", MISSING, MISSING]
    moved = pets.rename(pets.with_name("moved"))
    assert PictureFolder(moved).find([[names[0]]]) == [moved / "cats" / "1.jpg"]


@pytest.mark.parametrize(
    ("name", "is_here"),
    [
        ("3.jpg", True),
        ("photos/day1/3.jpg", True),
        ("day1/below/3.jpg", True),
        ("day1/4.jpg", True),
        ("below/4.jpg", True),
        ("day2/3.jpg", False),
        ("day2/below/4.jpg", False),
        ("day2/4.jpg", False),
        ("day2/below/3.jpg", False),
        ("old/day1/3.jpg", False),
    ],
)
def test_images_of_another_folder_without_a_rival(name: str, is_here: bool, tmp_path: Path) -> None:
    """Other paths lead through the folder's name, so this one should, too."""
    here = make(tmp_path / "photos" / "day1", "1.jpg", "3.jpg", "below/4.jpg")
    picture = here / "3.jpg" if name.endswith("3.jpg") else here / "below" / "4.jpg"
    found = PictureFolder(here).find([["photos/day1/1.jpg"], [name]])
    assert found == [here / "1.jpg", picture if is_here else MISSING]


def test_folders_below_one_that_is_not_here(tmp_path: Path) -> None:
    here = make(tmp_path, "A/1.jpg", "A/2.jpg", "C/3.jpg")
    names = ["A/1.jpg", "B/1.jpg", "B/x/2.jpg", "C/3.jpg"]
    found = PictureFolder(here).find([[name] for name in names])
    assert found == [here / "A" / "1.jpg", MISSING, MISSING, here / "C" / "3.jpg"]


def test_a_folder_above_that_of_the_picture_is_no_other_folder(tmp_path: Path) -> None:
    here = make(tmp_path, "A/1.jpg", "C/3.jpg")
    names = ["data/1.jpg", "data/A/1.jpg", "data/3.jpg"]
    found = PictureFolder(here).find([[name] for name in names])
    assert found == [MISSING, here / "A" / "1.jpg", here / "C" / "3.jpg"]


def test_a_picture_that_fits_several_images_is_of_none_of_them(pets: Path) -> None:
    moved = (pets / "cats").rename(pets / "felines")
    names = ["pets/cats/1.jpg", "pets/dogs/1.jpg", "pets/cats/2.jpg"]
    assert PictureFolder(moved).find([[name] for name in names[:2]]) == [moved / "1.jpg"] * 2
    found = PictureFolder(moved).of_ids(names)
    assert found == dict(zip(names, (SHARED, SHARED, moved / "2.jpg"), strict=True))


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match="none: no such folder of pictures"):
        PictureFolder(tmp_path / "none")
