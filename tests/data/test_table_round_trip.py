"""Whatever captions Python's own csv writes are read back as they were."""

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.data.sources import load_dataset

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
captions = texts.filter(lambda text: any(map(str.isalnum, text)))  # others are left out


@settings(deadline=None)
@given(
    said=st.lists(captions, min_size=1, max_size=6),
    delimiter=st.sampled_from(",\t;|"),
    mark=st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_csv_round_trip(said: list[str], delimiter: str, mark: str) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / 'a, "b".jpg').touch()
        path = Path(folder) / "set.csv"
        with path.open("w", encoding=mark, newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(["path", "caption"])
            writer.writerows(['a, "b".jpg', caption] for caption in said)
        (record,) = load_dataset(path).records
        assert record.image_id == 'a, "b".jpg'
        assert record.captions == tuple(caption.strip() for caption in said)
