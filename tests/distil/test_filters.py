"""What is left out of a teacher's captions, and why."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from showtell.distil.filters import (
    Filtered,
    Said,
    agreements,
    filter_captions,
    read_kept,
    repeated,
)
from showtell.distil.fit import drop_misfits, gains, in_second_half
from showtell.distil.request import FilterConfig
from showtell.errors import ConfigError, DataError, UsageError
from showtell.text.segment import Segmentation

KEEP_ALL = {"min_agreement": 0.0, "min_words": 1, "language": "any", "repeats": False}


def said(*texts: str, picture: str = "a.jpg", confidence: float | None = 0.9) -> list[Said]:
    return [Said(picture, f"/{picture}", t, confidence, n) for n, t in enumerate(texts)]


def reasons(captions: list[Said], **changes: object) -> dict[str, str]:
    found = filter_captions(captions, FilterConfig(**(KEEP_ALL | changes)))
    return {one.text: reason for one, reason, _ in found.dropped}


def test_each_reason() -> None:
    captions = [
        *said("a dog on the grass", "dog", "a dog on the grass"),
        *said("a cat", picture="b.jpg", confidence=0.2),
        *said("I'm sorry, I can't see a picture", picture="c.jpg"),
        *said("a man and a man and a man", picture="d.jpg"),
        *said("a photo of a bird", picture="e.jpg"),
        *said("a " + "very " * 9 + "long caption", picture="f.jpg"),
    ]
    assert reasons(captions, min_words=2, max_words=9, min_confidence=0.5, repeats=True) == {
        "dog": "too short",
        "a dog on the grass": "said twice",
        "a cat": "low confidence",
        "I'm sorry, I can't see a picture": "a refusal",
        "a man and a man and a man": "repeats itself",
        "a " + "very " * 9 + "long caption": "too long",
    }


def test_a_teacher_that_does_not_tell_how_sure_it_is() -> None:
    captions = said("a dog", confidence=None) + said("a cat", picture="b.jpg", confidence=0.1)
    assert reasons(captions, min_confidence=0.5) == {"a cat": "low confidence"}


def test_a_list_of_words(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("# nobody says these\nPhoto of\nugly\n\n")
    captions = said("a photo of a dog", "photos of dogs", "an ugly duck", "a duckling")
    assert reasons(captions, words=words) == {
        "a photo of a dog": "a listed word",
        "an ugly duck": "a listed word",
    }
    with pytest.raises(ConfigError, match="cannot be read"):
        reasons(captions, words=tmp_path / "none.txt")


def test_a_caption_that_shares_nothing_with_the_others_is_left_out() -> None:
    texts = ["a brown dog runs on grass", "a dog is running on green grass", "two men play chess"]
    assert reasons(said(*texts), min_agreement=0.1) == {texts[2]: "the teacher's captions disagree"}
    one, two, three = agreements(texts)
    assert one == pytest.approx((2 * 2 / 8 + 0) / 2)  # dog, grass of 4 and 4 content words
    assert two is not None and two > 0.2 and three == 0
    assert agreements(["a dog"]) == [None]
    assert agreements(["a", "a dog on a bed"]) == [None, None]


def test_words_that_repeat() -> None:
    assert repeated(["a", "dog", "and", "a", "cat"]) is None
    assert repeated(["a", "dog", "with", "a", "dog", "with", "a", "ball"]) == "a dog with"
    assert repeated(["very", "very", "very", "good"]) == "very"
    assert repeated([]) is None


ENGLISH = [
    "a man riding a wave on top of a surfboard",
    "two dogs play with a ball",
    "children in a park",
]
OTHERS = {
    "de": "ein Mann reitet auf einer Welle",
    "zh": "一个男人在海里冲浪",
}


def test_captions_in_another_language_than_most_are_left_out() -> None:
    captions = said(*ENGLISH, OTHERS["zh"], OTHERS["de"])
    assert reasons(captions, language="auto") == {
        OTHERS["zh"]: "another language",
        OTHERS["de"]: "another language",
    }
    assert reasons(captions, language="any") == {}
    assert set(reasons(captions, language="de")) == {*ENGLISH, OTHERS["zh"]}


def test_no_language_has_most_captions() -> None:
    """Then nothing says which of them are wrong."""
    texts = [OTHERS["zh"], "波に乗っている男性", "мужчина на доске для сёрфинга"]
    assert reasons(said(*texts, OTHERS["de"]), language="auto") == {}


CHINESE = [
    "一个穿红色衣服的男人和一个穿蓝色衣服的女人在公园里",
    "男人和女人走在公园的路上",
    "两个人在公园里走路",
]


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_captions_in_scripts_without_spaces(kind: str, tmp_path: Path) -> None:
    if kind == "words":
        pytest.importorskip("icu4py")
    cut, words = Segmentation.of(kind, "zh"), tmp_path / "words.txt"
    found = filter_captions(said(*CHINESE), FilterConfig(), cut)
    assert [one.text for one in found.kept] == CHINESE
    stammer, other = "一只狗在一只狗在一只狗在草地上跑", "厨房桌上摆着许多新鲜水果"
    words.write_text("水果\n", encoding="utf-8")
    captions = said(*CHINESE, "狗", stammer, other)
    found = filter_captions(captions, FilterConfig(words=words, min_agreement=0.0), cut)
    assert {one.text: why for one, why, _ in found.dropped} == {
        "狗": "too short",
        stammer: "repeats itself",
        other: "a listed word",
    }
    *alike, none = agreements([*CHINESE, other], cut)
    assert none is not None and none < 0.1
    assert all(share is not None and share > 0.1 for share in alike)
    short = FilterConfig(max_words=12, min_agreement=0)
    assert CHINESE[0] not in [one.text for one in filter_captions(said(*CHINESE), short, cut).kept]


def test_what_was_left_out_is_kept_in_a_file(tmp_path: Path) -> None:
    found = filter_captions(said("a dog", "dog"), FilterConfig(min_words=2))
    found.write(tmp_path)
    assert read_kept(tmp_path) == found.kept == said("a dog")
    assert '"reason": "too short"' in (tmp_path / "dropped.jsonl").read_text()
    with pytest.raises(DataError, match=r"leave none of 2 captions \(too short: 2\)"):
        filter_captions(said("a dog", "dog"), FilterConfig(min_words=9))


def test_a_filter_that_leaves_nothing_names_the_setting_that_helps(tmp_path: Path) -> None:
    """A command that works: with it the same captions pass."""
    words = tmp_path / "words.txt"
    words.write_text("dog")
    cases = {
        "min_words=9": ("too short: 2", "min_words=1"),
        "max_words=2": ("too long: 2", "max_words=4"),
        "min_confidence=1": ("low confidence: 2", "min_confidence=0"),
        "min_agreement=1": ("the teacher's captions disagree: 2", "min_agreement=0"),
        "language=ja": ("another language: 2", "language=any"),
    }
    captions = said("a brown dog", "a dog that runs")
    for given, (reason, advice) in cases.items():
        settings = [f"{name}={value}".lower() for name, value in KEEP_ALL.items()]
        with pytest.raises(DataError, match=rf"leave none of 2 captions \({reason}\): ") as told:
            filter_captions(captions, FilterConfig.of([*settings, given]))
        assert str(told.value).endswith(f": loosen them with --filter {advice}")
        found = filter_captions(captions, FilterConfig.of([*settings, given, advice]))
        assert found.kept == captions
    with pytest.raises(DataError, match=r"a listed word: 2\): give --filter words=FILE"):
        filter_captions(captions, FilterConfig(**KEEP_ALL, words=words))
    with pytest.raises(DataError, match=r"a refusal: 1\): the teacher does not caption"):
        filter_captions(said("I cannot see it"), FilterConfig(**KEEP_ALL))
    with pytest.raises(DataError, match=r"gave no caption; captions/failures\.jsonl says why"):
        filter_captions([], FilterConfig(**KEEP_ALL))


def test_settings_of_the_command_line() -> None:
    config = FilterConfig.of(["min_words=4", "language=de", "fit=0.5", "repeats=false"])
    assert (config.min_words, config.language, config.fit, config.repeats) == (4, "de", 0.5, False)
    with pytest.raises(UsageError, match="min_wrds: no such setting, did you mean min_words"):
        FilterConfig.of(["min_wrds=4"])
    with pytest.raises(UsageError, match="unknown language 'english'"):
        FilterConfig.of(["language=english"])
    with pytest.raises(UsageError, match="is not name=value"):
        FilterConfig.of(["min_words"])


def test_a_judge_that_has_learnt_nothing_drops_nothing() -> None:
    captions = said("one", "two", "three", "four", "five")
    found = Filtered()
    alike = np.array([[3.0, 3.1, 2.9], [2, 1, 3], [5, 4, 6], [1, 2, 0], [1, 0, 2]])
    assert not drop_misfits(captions, alike, 0.25, found)
    assert found.kept == captions and not found.dropped
    # The third fits another picture better; the last one's picture could not be read.
    told_apart = np.array([[1.0, 9, 9], [2, 8, 3], [5, 9, 3], [0, 9, 9], [np.nan] * 3])
    assert gains(told_apart)[0] == pytest.approx(8)
    assert gains(told_apart)[1] == pytest.approx(np.log(2 / (np.exp(-6) + np.exp(-1))))
    assert gains(told_apart)[4] == np.inf
    found = Filtered()
    assert drop_misfits(captions, told_apart, 0.25, found)
    assert [one.text for one in found.kept] == ["one", "two", "four", "five"]
    assert found.counts == {"fits other pictures as well": 1}


def test_each_picture_is_judged_by_the_student_of_the_other_half() -> None:
    captions = [one for n in range(40) for one in said("a", "b", picture=f"{n}.jpg")]
    second = in_second_half(captions)
    assert sum(second) == 40 and second[::2] == second[1::2]
    assert second == in_second_half(captions[::-1])[::-1]
    elsewhere = [replace(one, picture=f"/some/where/{one.picture}") for one in captions]
    assert second == in_second_half(elsewhere)
