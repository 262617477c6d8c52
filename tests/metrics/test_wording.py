"""Length, endings and repeats, by arithmetic."""

from showtell.metrics.wording import statistics_of_words


def test_by_hand() -> None:
    captions = [
        ["a", "dog", "runs", "on", "the", "grass", "with", "a"],  # 8 words, a bad ending
        [
            "a",
            "dog",
            "and",
            "a",
            "dog",
            "and",
            "a",
            "cat",
        ],  # 8 words; "a dog and a" twice
        ["on", "the", "left", "is", "the", "left"],  # 6 words; "the left" twice
        [],
    ]
    found = {one.names[0]: one.figures()[0] for one in statistics_of_words(captions)}
    assert found == {
        "length": 22 / 4,
        "bad-endings": 1 / 4,
        "repeats-2": 2 / 4,
        "repeats-3": 1 / 4,  # "a dog and"
        "repeats-4": 1 / 4,  # "a dog and a", whose last word begins it anew
    }
