"""What becomes of the texts that captioners say."""

import time

import pytest

from showtell.errors import ConfigError
from showtell.text.clean import Cleaning, as_text, first_sentences, shortened, tidied

# What models say, and the caption in it; docs/backends.md shows some of these.
SAID = [
    ("A dog runs on the grass.", "A dog runs on the grass."),
    ("a dog runs on the grass", "a dog runs on the grass"),
    ("The image shows a dog running on grass.", "A dog running on grass."),
    ("the photo depicts a cat", "a cat"),
    ("Sure! Here's a caption for the image:\n\n**A dog runs.**", "A dog runs."),
    ("Certainly! Here is a short description of the picture: A dog runs.", "A dog runs."),
    ('**Caption:** "A cat sits on a mat"', "A cat sits on a mat"),
    ("Caption: A cat", "A cat"),
    ("Alt text for the image: a red_car_file", "A red_car_file"),
    ("A close-up photo of a cat.", "A cat."),
    ("In this image, we can see two men.", "Two men."),
    ("This is a black and white photograph of a boat", "A boat"),
    ("1. A dog.\n2. A cat.", "A dog."),
    ("Here are some options:\n- A dog on a beach\n- A cat", "A dog on a beach"),
    ("# Description\n\nA dog.", "Description"),
    ("```\nA dog\n```", "A dog"),
    ("*A dog* in [a park](https://example.org)", "A dog in a park"),
    ("<think>It may be\n a cat.</think>\nA dog.", "A dog."),
    ("It may be a cat.</think>A dog.", "A dog."),
    ("<|im_start|>A dog.<|im_end|>", "A dog."),
    ("“A dog.”", "A dog."),
    ("Great - a dog", "A dog"),
    ("Sure—a dog", "A dog"),
    ("A photo of a dog that is running", "A dog that is running"),
    ("A picture of two women sitting. A cat is there", "Two women sitting. A cat is there"),
    ("This is a painting of a woman", "A painting of a woman"),
    # What only looks like something to be removed.
    ("Great-horned owl, perched.", "Great-horned owl, perched."),
    ("Sure-footed goat on a cliff.", "Sure-footed goat on a cliff."),
    ("A painting of a woman hangs here.", "A painting of a woman hangs here."),
    ("A drawing of a cat", "A drawing of a cat"),
    ("A screenshot showing a map", "A screenshot showing a map"),
    ("A photo of a dog is on the wall", "A photo of a dog is on the wall"),
    ("An old photograph of two men leans on it", "An old photograph of two men leans on it"),
    ('A sign says "STOP"', 'A sign says "STOP"'),
    ('"STOP" and "GO"', '"STOP" and "GO"'),
    ("A dog's 'toy' is here", "A dog's 'toy' is here"),
    ("2 * 3 * 4 stars", "2 * 3 * 4 stars"),
    ("OK Corral at dusk", "OK Corral at dusk"),
    ("The scene is calm.", "The scene is calm."),
    ("A photo of", "A photo of"),
    ("Sure.", "Sure."),
    ("这是一只狗。", "这是一只狗。"),
    ("", ""),
    ("  \n ", ""),
    ("```\n```", ""),
]


@pytest.mark.parametrize(("said", "caption"), SAID)
def test_the_caption_in_an_answer(said: str, caption: str) -> None:
    assert tidied(said) == caption
    assert tidied(caption) == caption


def test_the_first_sentences() -> None:
    text = "Mr. J. Smith is in the U.S. Capitol. He smiles! It is 2.5 m ... high. So."
    assert first_sentences(text, 1) == "Mr. J. Smith is in the U.S. Capitol."
    assert first_sentences(text, 2) == "Mr. J. Smith is in the U.S. Capitol. He smiles!"
    assert first_sentences(text, 3).endswith("high.")
    assert first_sentences(text, 9) == text
    assert first_sentences("这是一只狗。它很可爱。", 1) == "这是一只狗。"
    assert first_sentences('"Go." said he. Then', 1) == '"Go." said he.'
    assert first_sentences("no end", 1) == "no end"


@pytest.mark.parametrize(
    ("most", "kept"),
    [
        (20, "A man in a red shirt, holding a bat, is standing on a field with a dog."),
        (15, "A man in a red shirt, holding a bat."),
        (14, "A man in a red shirt, holding a bat."),
        (8, "A man in a red shirt."),
        (6, "A man in a red shirt."),
        (4, "A man."),
        (1, "A."),
    ],
)
def test_texts_are_cut_at_a_sensible_place(most: int, kept: str) -> None:
    text = "A man in a red shirt, holding a bat, is standing on a field with a dog."
    assert shortened(text, most) == kept
    assert len(kept.split()) <= most


def test_sentences_are_kept_whole_where_they_fit() -> None:
    assert shortened("A dog runs. It is happy and it jumps", 5) == "A dog runs."
    assert shortened("big dogs run fast", 2) == "big dogs"
    assert shortened("dogs with , a bone", 3) == "dogs"


def test_all_together_in_its_order() -> None:
    cleaning = Cleaning(
        tidy=True,
        max_sentences=1,
        max_words=9,
        replace=(r"\bdog\b=ohwx dog", r"(\w+)s on=\1 near", "(?<=the )grass=lawn"),
        prefix="photo, ",
        suffix=", 35mm",
    )
    said = "The image shows a dog that sits on the grass. It is green."
    assert cleaning(said) == "photo, A ohwx dog that sit near the lawn., 35mm"
    assert Cleaning()("  as it   is ") == "  as it   is "
    assert Cleaning(tidy=True)("```\n```") == "```\n```"  # nothing else is left


def test_settings_have_an_identity() -> None:
    assert Cleaning().identity == ""
    many = [
        Cleaning(tidy=True),
        Cleaning(max_words=3),
        Cleaning(max_sentences=3),
        Cleaning(prefix="x"),
        Cleaning(suffix="x"),
        Cleaning(replace=("x=",)),
    ]
    assert len({each.identity for each in many}) == len(many)
    assert Cleaning(prefix="x").identity == Cleaning(prefix="x").identity


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("dog", "expected REGEX=TEXT"),
        ("=x", "expected REGEX=TEXT"),
        ("(dog=x", "missing \\)"),
        (r"(dog)=\2", "invalid group reference"),
        (r"a\=b", "expected REGEX=TEXT"),
    ],
)
def test_a_wrong_pattern_is_one_line(given: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        Cleaning(replace=(given,))
    assert "\n" not in str(caught.value) and "--replace" in str(caught.value)


def test_a_pattern_that_never_ends_is_stopped() -> None:
    cleaning = Cleaning(replace=("(a|aa)+$=x",))
    started = time.monotonic()
    with pytest.raises(ConfigError, match="repetition within a repetition"):
        cleaning("a" * 60 + "!")
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "wrong", [{"max_words": 0}, {"max_sentences": 0}, {"prefix": "a\nb"}, {"suffix": "\0"}]
)
def test_impossible_settings(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        Cleaning(**wrong)


def test_long_texts_take_no_time() -> None:
    started = time.process_time()
    for piece in ("a", "**", "[", "_a ", "`", "<think>", "'", "A. ", "Sure, ", "- a\n", "\n\n"):
        Cleaning(tidy=True, max_sentences=1, max_words=20)(piece * (100_000 // len(piece)))
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("a smile \ud83d here", "a smile \ufffd here"),
        ("a\0 dog\x1b[31m\x9b runs\x7f", "a dog[31m runs"),
        ("one\r\ntwo\u2028three\n\n\x85four\tfive", "one\ntwo\nthree\n\n\nfour\tfive"),
        ("\U0001f469\u200d\U0001f680 \u0645\u06cc\u200c\u062e \ufffd", None),
    ],
)
def test_what_a_model_says_goes_into_any_file(said: str, text: str | None) -> None:
    assert as_text(said) == (said if text is None else text)
    as_text(said).encode()


@pytest.mark.parametrize(
    "text",
    [
        "एक कुत्ता दौड़ता है।",
        "ماذا يفعل الرجل؟",
        "یہ ایک کتا ہے۔",
        "一只狗在跑。",
        "犬が走る！",
        "A dog runs.",
    ],
)
def test_first_sentences_of_any_script(text: str) -> None:
    for gap in ("", " ") if text[-1] != "." else (" ",):
        assert Cleaning(max_sentences=1)(f"{text}{gap}{text}") == text


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("一只棕色的狗在草地上奔跑，后面有一棵树。", 15, "一只棕色的狗在草地上奔跑。"),
        ("一只棕色的狗。后面有一棵树。", 9, "一只棕色的狗。"),
        ("一只棕色的狗在草地上奔跑。", 5, "一只棕色。"),
        ("一只棕色的狗。", 6, "一只棕色的狗。"),
        ("茶色の犬が緑の芝生の上を走っています。", 5, "茶色の犬。"),
        ("สุนัขวิ่ง", 2, "สุนั"),  # a letter and its marks are one
        ("一只iPhone 12 Pro手机在这里", 6, "一只iPhone 12 Pro手"),
        ("एक कुत्ता दौड़ता है, और वह खुश दिखता है।", 6, "एक कुत्ता दौड़ता है।"),
        ("رجل يقف هنا، وكلب يركض بعيدا.", 4, "رجل يقف هنا."),
        (
            "A sign with a picture of a bowl that says 寿司 on the wall.",
            6,
            "A sign with a picture.",
        ),
        ("A man holds a big iPhone と", 4, "A man holds"),
        ("A bowl of 寿司 – on a long table", 6, "A bowl of 寿司"),
    ],
)
def test_max_words_in_any_script(text: str, most: int, expected: str) -> None:
    assert Cleaning(max_words=most)(f"  {text} ") == expected
    assert Cleaning(max_words=most)(text) == expected
