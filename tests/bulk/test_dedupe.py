"""Pictures that look the same share a caption."""

from pathlib import Path

import pytest
from bulk.conftest import paint
from bulk_worker import one_file, read_lines, run, tiny_captioner
from PIL import Image

from showtell.data.duplicates import Look, NearDuplicates, look_of
from showtell.inference.backends.pictures import WholePicture
from showtell.inference.stream import Originals, Picture, stream

pytest.importorskip("imagehash")


def test_looks() -> None:
    looks, found = NearDuplicates(), []
    for i in range(3):
        found.append(looks.find(Look("00" * 31 + f"{i:02x}", (10 * i, 0, 0))))
        looks.add(Look(f"{i}f" * 32, (0, 0, 0)))
    assert found == [None] * 3
    assert looks.find(Look("0f" * 32, (20, 0, 0))) == 0
    assert looks.find(Look("0f" * 32, (40, 0, 0))) is None
    assert looks.find(Look("0f" * 28 + "1e" * 4, (0, 0, 0))) == 0
    look = Look("a5" * 32, (1, 2, 255))
    assert Look.from_text(look.to_text()) == look
    for _ in range(2000):
        looks.add(look)
    assert len(looks) == 2003
    plain = [look_of(Image.new("RGB", (60, 40), colour)) for colour in ("red", "blue")]
    many = NearDuplicates()
    many.add(plain[0])
    assert many.find(plain[1]) is None


def test_captioned_once_also_after_a_stop(tmp_path: Path, photos: Path) -> None:
    with Image.open(paint(photos / "a.jpg", 0, (240, 200))) as image:
        whole = image.convert("RGB")
    whole.resize((480, 400)).save(photos / "a-large.jpg", quality=60)
    whole.save(photos / "a-again.png")
    model, seen = tiny_captioner(), []
    original = model.caption_features

    def count(features, **options):
        seen.append(len(features.pooled))
        return original(features, **options)

    model.caption_features = count  # type: ignore[method-assign]
    results = list(model.caption_stream(sorted(photos.glob("*.*g")), originals=Originals()))
    assert sum(seen) == 2
    same = {r.path.name: r.same_as and r.same_as.name for r in results}
    assert same == {
        "a-again.png": None,
        "a-large.jpg": "a-again.png",
        "a.jpg": "a-again.png",
        "b.png": None,
    }
    assert len({r.text for r in results if r.path.name.startswith("a")}) == 1

    out = tmp_path / "out.jsonl"
    run(one_file(out), photos, dedupe=True)
    for name in ("one.png", "two.png"):
        paint(photos / name, 7)
    whole.save(photos / "z.webp", quality=90)
    seen.clear()
    summary = run(one_file(out), photos, dedupe=True, captioner=model)
    assert (summary.num_captioned, sum(seen)) == (3, 1)
    records = {Path(r["path"]).name: r for r in read_lines(out)}
    assert Path(records["z.webp"]["same_as"]).name == "a-again.png"
    assert records["z.webp"]["caption"] == records["a.jpg"]["caption"]


def test_what_looks_like_a_picture_that_failed_fails_for_the_same_reason(photos: Path) -> None:
    first, second = (str(paint(photos / name, 7)) for name in ("one.png", "two.png"))
    asked = []

    def describe(views: list[Image.Image], number: int) -> list[str]:
        asked.append(len(views))
        return ["too dark"] * len(views)

    for batch_size in (1, 2):
        failed, like = stream(
            [Picture(first), Picture(second)],
            WholePicture(),
            describe,
            batch_size=batch_size,
            overlaps=False,
            originals=Originals(),
        )
        assert failed.error == f"{first}: too dark"
        assert like.error == f"{second}: looks like {first}, which failed: too dark"
        assert (like.path, like.same_as, like.caption) == (second, first, None)
    assert asked == [1, 1]
