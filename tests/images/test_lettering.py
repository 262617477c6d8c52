"""Text on drawn pictures: a font that has its letters, lines that fit, a word where none can."""

import unicodedata
from pathlib import Path

import matplotlib
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image, ImageDraw

from showtell.images.lettering import Lettering, font_files, told
from showtell.images.sheet import CELL_WIDTH, MARGIN, Cell, save_contact_sheet

DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
CHINESE = "一只棕色的狗在绿色的草地上奔跑。一个男孩（穿红衣服）跟在后面。"
THAI = "สุนัขสีน้ำตาลกำลังวิ่งอยู่บนสนามหญ้าสีเขียวและเด็กผู้ชายวิ่งตามหลัง"


def make_font(path: Path, letters: str) -> Path:
    """A font whose letters are squares, each of another height."""
    names = [f"u{ord(letter):04X}" for letter in letters]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap(dict(zip(map(ord, letters), names, strict=True)))
    glyphs = {}
    for number, name in enumerate([".notdef", *names]):
        pen = TTGlyphPen(None)
        top = 300 + 20 * number
        pen.moveTo((100, 0))
        for corner in ((100, top), (900, top), (900, 0)):
            pen.lineTo(corner)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 100)))
    builder.setupHorizontalHeader(ascent=900, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_letters_that_no_font_has_are_named() -> None:
    assert Lettering(["a dog"], []).missing == ""
    found = Lettering(["a 犬, ก dog"], [DEJAVU])
    assert (found.missing, found.files) == ("犬ก", [])
    assert "drawn as boxes: 犬 ก;" in told(found.missing)
    assert "apt-get install fonts-noto-cjk fonts-noto-core" in told(found.missing)
    assert told("") == ""
    assert "a b c d e f g h i j k l ...;" in told("abcdefghijklm")


def test_fonts_are_found_for_the_letters(tmp_path: Path) -> None:
    # Pillow's own font lacks umlauts: one font for the whole text, as two look odd in a word.
    assert Lettering(["Grüße", "Привет"], [DEJAVU]).files == [DEJAVU]
    few, many = make_font(tmp_path / "few.ttf", "犬"), make_font(tmp_path / "many.ttf", "犬山川")
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    found = Lettering(["a 犬 山 川"], [broken, few, many])
    assert (found.missing, found.files) == ("", [many])
    # Bold and other special fonts are looked at only where plain ones do not suffice.
    bold = make_font(tmp_path / "Bold.ttf", "犬山川木")
    assert Lettering(["山"], [many, bold]).files == [many]
    assert Lettering(["犬木"], [few, bold]).files == [bold]
    assert Lettering(["川山木a"], [many, bold]).files == [many, bold]


def test_font_files_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "fonts" / "deep").mkdir(parents=True)
    for name in ("A.ttf", "A-Bold.ttf", "LastResort.otf", "read.me"):
        (tmp_path / "fonts" / "deep" / name).write_bytes(b"")
    names = [path.name for path in font_files()]
    assert names.index("A.ttf") < names.index("A-Bold.ttf")
    assert not {"LastResort.otf", "read.me"} & set(names)
    assert DEJAVU in font_files()


@pytest.mark.parametrize("text", [CHINESE, THAI, "Rind" * 30, "ab " * 60, "犬 " + "x" * 80])
def test_lines_fit(text: str, tmp_path: Path) -> None:
    letters = "".join(dict.fromkeys(text.replace(" ", "")))
    lettering = Lettering([text], [make_font(tmp_path / "all.ttf", letters)])
    lines = lettering.wrap(text, 17, 200)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert len(lines) > 1
    for line in lines:
        picture = Image.new("L", (600, 40), "white")
        lettering.draw(ImageDraw.Draw(picture), (0, 5), line, size=17, ink="black", width=200)
        left, _, right, _ = picture.point(lambda value: 255 - value).getbbox() or (0, 0, 0, 0)
        assert 0 <= left < right <= 200
        assert line[0] not in "。）" and line[-1] != "（"
        assert not unicodedata.category(line[0]).startswith("M")


def test_lines_end_at_spaces_and_beside_ideographs() -> None:
    lettering = Lettering(["a"], [])
    assert lettering.wrap("a brown dog runs", 17, 90) == ["a brown", "dog runs"]
    assert lettering.wrap("", 17, 90) == [""]
    assert lettering.wrap("W", 17, 1) == ["W"]


def test_arabic_begins_at_the_right() -> None:
    lettering = Lettering(["كلب"], [DEJAVU])
    picture = Image.new("L", (300, 40), "white")
    lettering.draw(ImageDraw.Draw(picture), (0, 5), "كلب", size=17, ink="black", width=300)
    left, _, right, _ = picture.point(lambda value: 255 - value).getbbox() or (0, 0, 0, 0)
    assert left > 200 and right > 290


def test_a_sheet_keeps_captions_apart(tmp_path: Path) -> None:
    photo = Image.new("RGB", (300, 220), "white")
    cells = [Cell(photo, "x" * 400, name="y" * 90 + ".jpg"), Cell(photo, "a dog")]
    told_of = save_contact_sheet(tmp_path / "s.png", cells, heading="z" * 100)
    with Image.open(tmp_path / "s.png") as sheet:
        assert told_of == ""
        assert sheet.height > 220 + 200
        between = sheet.convert("L").crop(
            (MARGIN + CELL_WIDTH + 2, 300, 2 * MARGIN + CELL_WIDTH - 2, sheet.height)
        )
        assert between.getextrema() == (255, 255)
        edge = sheet.convert("L").crop((sheet.width - MARGIN + 2, 0, sheet.width, sheet.height))
        assert edge.getextrema() == (255, 255)
