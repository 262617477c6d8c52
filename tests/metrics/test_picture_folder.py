"""Pictures are found by path, file name or id; never that of another image by chance."""

from pathlib import Path

import pytest

from showtell.errors import ScoringError
from showtell.metrics.picture_folder import MISSING, SEVERAL, SHARED, PictureFolder


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    names = ("cats/1.jpg", "dogs/1.jpg", "cats/2.jpg", "dogs/3.png", "dogs/3.jpg", ".trash/4.jpg")
    for name in names:
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "pets"


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


def test_images_of_another_folder_have_no_picture_here(pets: Path) -> None:
    """Nor has an image whose own picture is missing that of the other folder."""
    here = PictureFolder(pets / "cats")
    names = ["pets/cats/1.jpg", "pets/dogs/1.jpg", "pets/dogs/2.jpg"]
    assert here.find([[name] for name in names]) == [pets / "cats" / "1.jpg", MISSING, MISSING]
    moved = pets.rename(pets.with_name("moved"))
    assert PictureFolder(moved).find([[names[0]]]) == [moved / "cats" / "1.jpg"]


def test_a_picture_that_fits_several_images_is_of_none_of_them(pets: Path) -> None:
    moved = (pets / "cats").rename(pets / "felines")
    names = ["pets/cats/1.jpg", "pets/dogs/1.jpg", "pets/cats/2.jpg"]
    assert PictureFolder(moved).find([[name] for name in names[:2]]) == [moved / "1.jpg"] * 2
    found = PictureFolder(moved).of_ids(names)
    assert found == dict(zip(names, (SHARED, SHARED, moved / "2.jpg"), strict=True))


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match="none: no such folder of pictures"):
        PictureFolder(tmp_path / "none")
