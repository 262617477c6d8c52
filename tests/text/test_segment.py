"""Captions of other languages: cut into words, joined again, and recognised."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from showtell.config import DecodingConfig
from showtell.decoding.constraints.named_words import named_words
from showtell.errors import ConfigError, MissingExtraError, VocabularyError
from showtell.text import segment
from showtell.text.language import guess_language, letters_of
from showtell.text.segment import (
    PTB,
    Segmentation,
    choose,
    choose_for_scores,
)
from showtell.text.subwords import SubwordVocabulary
from showtell.text.tokenizer import TOKENIZER, tokenize, tokenize_all
from showtell.text.vocabulary import UNK, WordVocabulary, load_vocabulary

SPACES, CHARACTERS = Segmentation.of("spaces"), Segmentation.of("characters")
# Each caption one sentence without a space: 40 of them were once 9 "words".
CHINESE = [
    f"{number}{measure}{colour}的{noun}在{place}"
    for number, measure, noun in (("一", "只", "狗"), ("两", "个", "女人"))
    for colour in ("红色", "黑色", "白色", "黄色")
    for place in ("沙滩上奔跑", "草地上玩耍", "街道旁休息", "桌子前吃饭", "公园里散步")
]


def icu() -> Segmentation:
    pytest.importorskip("icu4py", reason="the extra languages is not installed")
    return Segmentation.of("words", "zh")


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        (
            "Ein großer Hund läuft über die Straße – „toll“!",
            ["ein", "großer", "hund", "läuft", "über", "die", "straße", "toll"],
        ),
        (
            "Qu’est-ce que l'homme d'aujourd'hui s'est dit ?",
            ["qu'", "est-ce", "que", "l'", "homme", "d'", "aujourd'hui", "s'", "est", "dit"],
        ),
        ("Un'altra donna nell'acqua", ["un'", "altra", "donna", "nell'", "acqua"]),
        ("قطةٌ سوداءُ تجلسُ على الطـــاولة، هل؟", ["قطةٌ", "سوداءُ", "تجلسُ", "على", "الطاولة", "هل"]),
        ("एक कुत्ता दौड़ रहा है।", ["एक", "कुत्ता", "दौड़", "रहा", "है"]),
        ("Собака БЕЖИТ по траве.", ["собака", "бежит", "по", "траве"]),
        ("두 마리의 개가 잔디 위를 달린다.", ["두", "마리의", "개가", "잔디", "위를", "달린다"]),
        ("¿Qué haces? ¡Hola!", ["qué", "haces", "hola"]),
        ("«Bonjour», 3,5 kg à 50 % — 12:30", ["bonjour", "3,5", "kg", "à", "50", "%", "12:30"]),
        ("ΟΔΟΣ", ["οδος"]),
        ("نمی\u200cدانم", ["نمی\u200cدانم"]),
        ("I ❤️ dogs 👍🏽", ["i", "❤", "dogs", "👍"]),
        ("ＡＢＣ　１２", ["abc", "12"]),
        ("foto's en red-haired", ["foto's", "en", "red-haired"]),
        (
            "a man 's hat says:stop at 12:30",
            ["a", "man", "s", "hat", "says", "stop", "at", "12:30"],
        ),
        ("'n' en 'hond'", ["n", "en", "hond"]),
        ("ג׳ירפה ליד ג'יפ של צה״ל", ["ג'ירפה", "ליד", "ג'יפ", "של", 'צה"ל']),
        ('בארה"ב או בצה”ל, רח\' הרצל "שלום"', ['בארה"ב', "או", 'בצה"ל', "רח'", "הרצל", "שלום"]),
        ("", []),
        ("... !!! 。", []),
    ],
)
def test_words_between_spaces(caption: str, words: list[str]) -> None:
    assert SPACES.words(caption) == words


@pytest.mark.parametrize(
    ("language", "caption", "words"),
    [
        ("sv", "En tv:n i EU:s hus: Kl 12:30", ["en", "tv:n", "i", "eu:s", "hus", "kl", "12:30"]),
        ("af", "’n Hond speel met ‘n bal", ["'n", "hond", "speel", "met", "'n", "bal"]),
        ("nl", "'s Ochtends in 't park", ["'s", "ochtends", "in", "'t", "park"]),
        ("nl", "'n' en 'hond'", ["n", "en", "hond"]),
    ],
)
def test_signs_that_a_word_has_in_some_languages(
    language: str, caption: str, words: list[str]
) -> None:
    assert Segmentation.of("spaces", language).words(caption) == words


def test_one_word_in_both_normal_forms_is_one_word() -> None:
    assert SPACES.words("cafe\u0301") == SPACES.words("caf\u00e9") == ["caf\u00e9"]
    assert SPACES.words("A\u030a") == ["\u00e5"]


def test_turkish_letters() -> None:
    assert Segmentation.of("spaces", "tr").words("İstanbul'da IŞIK") == ["istanbul'da", "ışık"]
    # In Turkish no word loses its vowel before another.
    assert Segmentation.of("spaces", "tr").words("n'olur") == ["n'olur"]


def test_italian_words_that_lost_their_end() -> None:
    italian = Segmentation.of("spaces", "it")
    assert italian.words("Un po’ d'acqua: 'va'") == ["un", "po'", "d'", "acqua", "va"]
    assert italian.join(italian.words("un po' di pane")) == "un po' di pane"
    # In another language it is the end of a quotation.
    assert Segmentation.of("spaces", "de").words("ich bin da'") == ["ich", "bin", "da"]


def test_characters_with_latin_words_and_digits_whole() -> None:
    words = CHARACTERS.words("图片里有2个iPhone 15手机。")
    assert words == ["图", "片", "里", "有", "2", "个", "iphone", "15", "手", "机"]
    assert CHARACTERS.join(words) == "图片里有2个iphone 15手机"
    assert CHARACTERS.words("wifi:狗:a") == ["wifi", "狗", "a"]


def test_marks_stay_with_their_letters() -> None:
    assert CHARACTERS.words("ผู้หญิง") == ["ผู้", "ห", "ญิ", "ง"]
    # The coeng stacks the next letter below.
    assert CHARACTERS.words("ស្ត្រី") == ["ស្ត្រី"]


def test_words_by_dictionary() -> None:
    cut = icu()
    assert cut.words("一个穿红色衣服的女人在沙滩上") == [
        *("一个", "穿", "红色", "衣服", "的", "女人", "在", "沙滩", "上")
    ]
    assert cut.words("สุนัขสองตัวบนชายหาด") == ["สุนัข", "สอง", "ตัว", "บน", "ชายหาด"]
    assert cut.words("二匹の子犬が草の上") == ["二", "匹", "の", "子犬", "が", "草", "の", "上"]
    assert cut.tokenizer.startswith("words-icu")


@pytest.mark.parametrize(
    "caption",
    [
        "一个穿红色衣服的女人在沙滩上骑自行车",
        "赤い服を着た女性が砂浜で自転車に乗っている",
        "スーパーのレジ前",
        "ผู้หญิงขี่จักรยาน 2 คัน bmw สีแดง",
        "ស្ត្រីម្នាក់ជិះកង់",
        "l'homme et la femme d'aujourd'hui",
        "ein hund läuft über die straße",
        "狗在wifi标志旁边",
        "한국어 문장 입니다",
        "𠮷野家の前",
    ],
)
def test_joined_as_it_is_written(caption: str) -> None:
    """What was cut is put together again, character by character, whatever cut it."""
    cuts = [CHARACTERS]
    if "wifi" not in caption:  # which would be part of one word
        cuts.append(SPACES)
    if find_spec("icu4py"):
        cuts.append(Segmentation.of("words"))
    for cut in cuts:
        assert cut.join(cut.words(caption)) == caption, cut


def test_no_letter_is_lost() -> None:
    captions = [*CHINESE, "ภาพของแมว", "Ein Mann, der's kann: 3,5 kg", "पानी में नाव"]
    for caption in captions:
        letters = [c for c in caption.lower() if c.isalnum()]
        for cut in (SPACES, CHARACTERS):
            said = "".join(cut.words(caption))
            assert [c for c in said if c.isalnum()] == letters


def test_english_is_cut_and_joined_as_ever() -> None:
    captions = ["A man's dog, 5 1/2 feet (tall).", "the letter K.", "The end"]
    assert [PTB.words(caption) for caption in captions] == [tokenize(c) for c in captions]
    assert PTB.words_of_all(captions) == tokenize_all(captions)
    assert PTB.join(["a", "l'", "狗", "猫"]) == "a l' 狗 猫"
    assert choose(captions) == choose_for_scores(captions) == (PTB, "")
    assert PTB.signature == TOKENIZER


def test_forty_captions_that_are_one_sentence_each(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(CHINESE) == 40
    monkeypatch.setattr(segment, "find_spec", lambda name: None)
    cut, reason = choose(CHINESE)
    assert cut == Segmentation.of("characters", "zh")
    assert "Chinese (zh), without spaces" in reason
    assert "[languages]" in reason  # what to install for words
    words = {word for caption in CHINESE for word in cut.words(caption)}
    assert len(words) > 30
    assert all(len(cut.words(caption)) >= 10 for caption in CHINESE)
    assert max(len(word) for word in words) == 1


def test_forty_captions_by_dictionary() -> None:
    assert icu() == choose(CHINESE)[0]
    words = [choose(CHINESE)[0].words(caption) for caption in CHINESE]
    assert {"红色", "沙滩", "女人", "公园"} <= {word for caption in words for word in caption}
    assert all(5 <= len(caption) < 12 for caption in words)


@pytest.mark.parametrize(
    ("captions", "kind", "language"),
    [
        (["Ein Hund läuft auf der Wiese", "Zwei Frauen sitzen im Park"], "spaces", "de"),
        (["Un homme est assis sur un banc", "Deux chiens dans l'herbe"], "spaces", "fr"),
        (["Een man zit op de bank", "Twee honden in het gras"], "spaces", "nl"),
        (["Um homem está na praia com o cachorro"], "spaces", "pt"),
        (["Собака бежит по траве"], "spaces", "ru"),
        (["Собака біжить по траві з м'ячем та стоїть"], "spaces", "uk"),
        (["قطة تجلس على الطاولة"], "spaces", "ar"),
        (["두 마리의 개가 달린다"], "spaces", "ko"),
        (["a dog on the grass", "two men in a boat"], "ptb", None),
        (["dog", "cat", "car"], "ptb", None),  # tags say nothing
        (["a man at the café with a piñata", "a señorita in the plaza"], "ptb", None),
        ([], "ptb", None),
        (["12 34", "!!!"], "ptb", None),
    ],
)
def test_chosen_by_letters(captions: list[str], kind: str, language: str | None) -> None:
    found, reason = choose(captions)
    assert (found.kind, found.language) == (kind, language)
    assert bool(reason) == (found != PTB)
    # Scores of captions with spaces stay equal to COCO's.
    assert choose_for_scores(captions)[0].kind == "ptb"
    assert choose_for_scores(captions)[0].language == language


def test_japanese_is_not_chinese() -> None:
    assert guess_language(["赤い服を着た女性が砂浜で自転車に乗っている"]) == "ja"
    assert guess_language(["紅色的花"]) == "zh"
    assert letters_of(["二匹の子犬"]).script == "KANA"


def test_a_few_chinese_captions_among_english_ones_are_said() -> None:
    captions = ["a dog on the grass"] * 95 + ["一只狗在草地上"] * 5
    found, reason = choose(captions)
    assert found == PTB
    assert reason.startswith("5% of captions are in scripts without spaces")
    assert "-s data.segmentation=characters" in reason
    assert choose(captions[:20] + captions[-5:])[0].kind in ("words", "characters")


def test_asked_for() -> None:
    assert choose(CHINESE, "characters")[0] == Segmentation.of("characters", "zh")
    assert choose(["a dog on the grass"], "spaces") == (
        Segmentation.of("spaces"),
        "captions are cut into words by spaces, as asked",
    )
    assert choose(["a dog"], language="pt_BR")[0] == Segmentation.of("spaces", "pt")
    assert choose(["Ein Hund auf der Wiese"], language="en")[0] == PTB
    with pytest.raises(ConfigError, match="segmentation 'icu': expected auto, ptb, spaces"):
        choose([], "icu")
    with pytest.raises(ConfigError, match="language 'Klingon': expected auto, or a code"):
        choose([], language="Klingon")


def test_words_without_the_extra_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "icu4py", None)
    segment._icu.cache_clear()
    segment._icu_version.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match=r"needs an extra: pip install .*languages"):
            choose(CHINESE, "words")
    finally:
        segment._icu.cache_clear()
        segment._icu_version.cache_clear()


def chinese_vocabulary(cut: Segmentation) -> WordVocabulary:
    counts: dict[str, int] = {}
    for caption in CHINESE:
        for word in cut.words(caption):
            counts[word] = counts.get(word, 0) + 1
    return WordVocabulary.build(counts, 2).cut_by(cut)


def test_a_vocabulary_keeps_its_segmentation(tmp_path: Path) -> None:
    cut = Segmentation.of("characters", "zh")
    vocabulary = chinese_vocabulary(cut)
    vocabulary.save(tmp_path / "vocabulary.json")
    loaded = load_vocabulary(tmp_path / "vocabulary.json")
    assert loaded.segmentation == cut
    for caption in CHINESE[:5]:
        ids = loaded.encode(caption)
        assert UNK not in ids
        assert loaded.decode(ids) == caption


def test_a_vocabulary_of_icu_loads_without_icu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Segmentation("words-icu70.1-v1", "zh")
    WordVocabulary({"红色": 2, "的": 2, "花": 1}, 1).cut_by(cut).save(tmp_path / "vocabulary.json")
    monkeypatch.setattr(segment, "_icu", lambda: pytest.fail("ICU is not needed"))
    loaded = load_vocabulary(tmp_path / "vocabulary.json")
    assert loaded.segmentation == cut
    assert loaded.decode([4, 5, 6]) == "红色的花"


def test_an_english_vocabulary_is_written_as_before(tmp_path: Path) -> None:
    vocabulary = WordVocabulary({"a": 3, "dog": 2}, 1)
    assert json.loads(vocabulary.to_json()) == {
        **{"format": 1, "tokenizer": TOKENIZER, "threshold": 1},
        "words": {"a": 3, "dog": 2},
    }
    old = {"format": 1, "tokenizer": "ptb-corenlp3.4.1-coco-v1", "threshold": 1, "words": {"a": 1}}
    (tmp_path / "vocabulary.json").write_text(json.dumps(old), encoding="utf-8")
    loaded = load_vocabulary(tmp_path / "vocabulary.json")
    assert loaded.tokenizer == "ptb-corenlp3.4.1-coco-v1"
    assert loaded.segmentation.kind == "ptb" and loaded.segmentation.is_english
    assert loaded.segmentation.signature == TOKENIZER  # what scores are made by now


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": "words-jieba-v1"}, "no tokeniser 'words-jieba-v1' is known"),
        ({"tokenizer": "spaces-v1", "language": 5}, "language 5 is not a code"),
        ({"tokenizer": "spaces-v1", "language": "<script>"}, "is not a code such as de or zh"),
    ],
)
def test_vocabularies_of_unknown_words_are_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    data = {"format": 1, "tokenizer": TOKENIZER, "threshold": 1, "words": {"a": 1}, **changes}
    (tmp_path / "vocabulary.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(VocabularyError, match=message):
        load_vocabulary(tmp_path / "vocabulary.json")


def test_pieces_of_chinese_words(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    cut = Segmentation.of("characters", "zh")
    counts = {word: 3 for caption in CHINESE for word in cut.words(caption)}
    SubwordVocabulary.build(counts, 40).cut_by(cut).save(tmp_path / "vocabulary.json")
    loaded = load_vocabulary(tmp_path / "vocabulary.json")
    assert loaded.segmentation == cut
    unseen = "一只熊猫坐在wifi旁边"
    assert loaded.decode(loaded.encode(unseen)) == unseen


def test_required_words_are_cut_as_captions_are() -> None:
    vocabulary = chinese_vocabulary(Segmentation.of("characters", "zh"))
    words = named_words(DecodingConfig(required_words=("红色",)), vocabulary)
    assert words.required == ("红 色",)
    with pytest.raises(VocabularyError, match="猫"):
        named_words(DecodingConfig(required_words=("猫",)), vocabulary)


def test_bad_endings_are_english() -> None:
    """ "an" and "am" end German captions rightly: "ein Mann zieht sich an"."""
    counts = {"an": 3, "mann": 2, "zieht": 2}
    config = DecodingConfig(no_bad_endings=True)
    assert "an" in named_words(config, WordVocabulary(counts, 1)).bad_endings
    german = WordVocabulary(counts, 1).cut_by(Segmentation.of("spaces", "de"))
    assert named_words(config, german).bad_endings == ()
