"""Tables of graded captions: what is written is read, and one line for what does not fit."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.data.graded import GradedCaption, read_graded, write_graded
from showtell.errors import DataError

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)


@given(st.lists(st.tuples(WORDS, WORDS, st.integers(0, 20)), min_size=1))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]]
) -> None:
    path = tmp_path_factory.mktemp("graded") / "graded.csv"
    captions = [GradedCaption(image, caption, grade / 20) for image, caption, grade in rows]
    assert write_graded(path, captions) == len(captions)
    assert read_graded(path) == captions


def test_columns_may_be_in_any_order_and_others_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "graded.csv"
    path.write_text("grade;Caption;who;image\n0,5;a dog;ann;a.jpg\n".replace("0,5", "0.5"))
    assert read_graded(path) == [GradedCaption("a.jpg", "a dog", 0.5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,caption\na.jpg,a dog\n", "no column grade; found image, caption; expected a table"),
        ("image,caption,grade\n", "no graded captions below the header"),
        ("image,caption,grade\na.jpg,a dog\n", "row 2 has 2 cells, but the header names 3"),
        ("image,caption,grade\na.jpg,a dog,good\n", "row 2: grade 'good'; expected a number"),
        ("image,caption,grade\na.jpg,a dog,nan\n", "row 2: grade 'nan'; expected a number"),
        ("image,caption,grade\na.jpg,a dog,5\n", "row 2: grade '5'; expected a number from 0 to 1"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "graded.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_graded(path)
