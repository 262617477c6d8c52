"""Texts that are not UTF-8: guessed for the error, read with --encoding."""

import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from tiny_archives import jpeg

from showtell.data.encodings import guess_encoding, known_encoding
from showtell.data.sources import load_dataset
from showtell.errors import DataError

TEXTS = {
    "cp1252": "Ein Mann mit Hut steht über der Straße\nUn garçon joue près d’une fenêtre\n",
    "cp1250": "Mężczyzna w łódce płynie po jeziorze\nŻółty ptak siedzi na gałęzi\n",
    "cp1254": "Bir köpek çimenlerin üzerinde koşuyor\nKırmızı bir araba şehirde\n",
    "cp1257": "Šuo bėga per žolę\nDu žmonės stovi prie namų\n",
    "cp1253": "Ένας σκύλος τρέχει στο γρασίδι\nΔύο άνθρωποι στέκονται δίπλα στο σπίτι\n",
    "cp1255": "כלב רץ על הדשא\nשני אנשים עומדים ליד הבית\n",
    "mac_roman": "Une fenêtre près de l'école\nDer Hund läuft über die Straße",
    "cp1251": "Собака бежит по траве\nДва человека стоят у дома\n",
    "koi8_r": "Собака бежит по траве\nДва человека стоят у дома\n",
    "cp866": "Собака бежит по траве\nДва человека стоят у дома\n",
    "gb18030": "一只狗在草地上奔跑。\n两个人站在街上\n",
    "big5": "一隻狗在草地上奔跑。\n兩個人站在街上\n",
    "shift_jis": "犬が草の上を走っている。\n赤い車が道にある\n",
    "euc_jp": "犬が草の上を走っている。\n赤い車が道にある\n",
    "euc_kr": "개가 잔디 위를 달리고 있다.\n빨간 자동차가 도로에 있다\n",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_an_encoding_is_guessed_and_read(encoding: str, tmp_path: Path) -> None:
    captions = TEXTS[encoding].splitlines()
    for number in range(len(captions)):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    path = tmp_path / "set.csv"
    rows = "".join(f"{n}.jpg,train,{caption}\n" for n, caption in enumerate(captions))
    path.write_bytes(("image,split,caption\n" + rows).encode(encoding))
    with pytest.raises(DataError) as error:
        load_dataset(path)
    message = str(error.value)
    assert "set.csv:2: byte 0x" in message
    assert "is not UTF-8; it looks like" in message
    assert message.endswith(f": save the file as UTF-8, or add --encoding {encoding}")
    read = load_dataset(path, encoding=encoding)
    assert [record.captions for record in read.records] == [(text.strip(),) for text in captions]


MORE_TEXTS = {
    "cp1254": [
        "Sokakta yürüyen bir adam köpeğini gezdiriyor\nKüçük bir çocuk parkta uçurtma uçuruyor",
        "Güneş ışığı altında duran bir ağaç",
        "Kırmızı ışıkta bekleyen arabalar ve bir otobüs\nÇimlerin üzerinde koşan iki köpek",
    ],
    "cp1257": [
        "Suns skrien pa zāli\nDivas sievietes sēž uz soliņa\nMežā aug šaurs kadiķis",
        "Mažas berniukas žaidžia su kamuoliu, o mergaitė stovi už medžių",
    ],
    "cp1253": ["Μια γυναίκα με κόκκινο παλτό περπατάει στον δρόμο"],
    "cp1255": ["ילדה קטנה משחקת בכדור", "חייל של צה״ל ליד ג'יפ"],
    "cp1251": ["Девочка в красном платье", "собака", "Собака біжить по траві, її господар"],
    "koi8_r": ["Девочка в красном платье", "Мальчик с мячом\nЗелёное поле"],
    "cp866": ["Девочка в красном платье", "собака"],
    "cp1252": [
        "Un garçon en été près d'un château, élève créée",
        "Un niño pequeño está jugando en el jardín; ¡qué señal!",
        "En hund løper på stranda og små barn står på gata",
        "Pieni poika seisoo pöydän ääressä\nKissa nukkuu sängyllä",
        "Ein Mädchen läuft über die Straße",
    ],
    "cp1250": ["Malý chlapec si hraje s míčem\nŽena s červeným kloboukem"],
}


@pytest.mark.parametrize("encoding", MORE_TEXTS)
def test_more_texts_of_each_encoding(encoding: str) -> None:
    for text in MORE_TEXTS[encoding]:
        found = guess_encoding(f"image,caption\na.jpg,{text}\n".encode(encoding))
        assert found is not None and found[0] == encoding, text


def test_what_is_no_text_is_not_guessed() -> None:
    assert guess_encoding(bytes(range(128, 256)) * 3) is None
    assert guess_encoding(b"\x00\xff\x00\xfe" * 9) is None


def test_names_of_encodings(tmp_path: Path) -> None:
    assert known_encoding("Latin-1") == "iso8859-1"
    assert known_encoding("GBK") == "gbk"
    for wrong in ("klingon", "", "hex", "zip", "a\0b"):
        assert known_encoding(wrong) is None
    (tmp_path / "a.jpg").write_bytes(jpeg())
    path = tmp_path / "set.csv"
    path.write_bytes("image,caption\na.jpg,Ein Hund läuft\n".encode("cp1252"))
    with pytest.raises(DataError, match="unknown --encoding 'klingon'; expected a name such as"):
        load_dataset(path, encoding="klingon")
    with pytest.raises(DataError, match="is not EUC_KR; it looks like cp1252"):
        load_dataset(path, encoding="euc_kr")


def test_a_mark_goes_before_what_was_said(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    path = tmp_path / "set.csv"
    path.write_text("image,caption\na.jpg,Ein Hund läuft\n", encoding="utf-8-sig")
    assert load_dataset(path, encoding="cp1252").records[0].captions == ("Ein Hund läuft",)


def test_archives_are_unpacked_anew_for_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in (("0.jpg", jpeg()), ("0.txt", "Ein Hund läuft".encode("cp1252"))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    with pytest.raises(DataError, match="unreadable captions 1"):
        load_dataset(path)
    assert load_dataset(path, encoding="cp1252").records[0].captions == ("Ein Hund läuft",)


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"Une c\xf4te d\x92ici\x85", "Une côte d’ici…"), (b"caf\xe9 \x81 bar", "café \x81 bar")],
)
def test_latin_1_is_that_of_windows(raw: bytes, text: str, tmp_path: Path) -> None:
    """Files that are called so have its quotes and dashes, where Latin-1 has control characters."""
    (tmp_path / "p.jpg").write_bytes(jpeg(1))
    (tmp_path / "p.txt").write_bytes(raw)
    [record] = load_dataset(tmp_path, encoding="latin-1").records
    assert record.captions == (text,)
