"""Odd captions and references, and what pycocoevalcap 1.2 makes of them.

    python tests/odd_captions.py

writes tests/metrics/golden_odd.json; it needs Java and the extra ``meteor``. The whole official
program runs: CoreNLP 3.4.1's tokeniser, BLEU, METEOR 1.5, ROUGE-L and CIDEr.
"""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "metrics" / "golden_odd.json"

# Three usual images, so that words have document frequencies; most cases put theirs before them.
USUAL = {
    "dog": ("a dog runs on the grass", ["A dog runs on grass.", "The brown dog is running."]),
    "men": ("two men with hats", ["Two men talk.", "Some men with hats stand there.", "Men."]),
    "bus": ("a red bus on a street", ["A red bus drives down the street.", "The bus is red."]),
}

Images = dict[str, tuple[str, list[str]]]

CASES: dict[str, Images] = {
    "an empty caption": {"x": ("", ["A cat sits.", "The cat is on a sofa."])},
    "a caption of spaces": {"x": ("  \t ", ["A cat sits."])},
    "a caption of punctuation": {"x": ("...", ["A cat sits."])},
    "captions of other punctuation": {
        "x": ("?! , ; : - -- ''", ["A cat sits."]),
        "y": ("( ) [ ] { } & % $", ["A cat sits."]),
    },
    "an empty reference beside another": {"x": ("a cat", ["", "A cat sits."])},
    "an empty reference alone": {"x": ("a cat", [""])},
    "a reference of punctuation": {"x": ("a cat", ["!!!"])},
    "an empty caption and an empty reference": {"x": ("", [""])},
    "punctuation and punctuation": {"x": (".", ["!", "..."])},
    "one reference": {"x": ("a cat sits", ["A cat sits on a sofa."])},
    "one reference, equal": {"x": ("a cat sits", ["A cat sits."])},
    "the same reference five times": {"x": ("a cat sits", ["A cat sleeps."] * 5)},
    "twenty references": {"x": ("a cat", [f"A cat number {n} sits." for n in range(20)])},
    "one word": {"x": ("cat", ["cat"])},
    "a word many times": {"x": ("cat " * 30, ["A cat sits on a cat."])},
    "a long caption": {"x": ("a cat and a dog and " * 30, ["A cat and a dog."])},
    "capitals": {"x": ("A CAT SITS ON THE SOFA", ["a cat sits on the sofa"])},
    "a line break inside": {"x": ("a cat\nsits", ["A cat\nsits on it."])},
    "html and entities": {"x": ("a <b>cat</b> &amp; a dog", ["A cat & a dog."])},
    "a url and an address": {"x": ("see www.cat.com or me@cat.org", ["A cat at www.cat.com."])},
    "numbers": {"x": ("5 1/2 cats, 1,000.50 dogs", ["5 1/2 cats and 1,000.50 dogs."])},
    "quotes": {"x": ("the “cat” isn’t 'here'", ['The "cat" isn\'t here.'])},
    "bars, which METEOR's protocol uses": {"x": ("a cat ||| a dog", ["A cat and a dog."])},
    "Chinese": {"x": ("一只猫坐在沙发上", ["一只猫坐在沙发上。", "猫 在 沙发 上"])},
    "Japanese": {"x": ("猫がソファに座っています", ["猫がソファに座っています。"])},
    "Arabic": {"x": ("قطة تجلس على الأريكة", ["قطة تجلس على أريكة."])},
    "Hebrew": {"x": ("חתול יושב על הספה", ["חתול יושב על ספה."])},
    "Hindi": {"x": ("एक बिल्ली सोफे पर बैठी है", ["बिल्ली सोफे पर बैठी है।"])},
    "Russian": {"x": ("Кошка сидит на диване", ["Кошка сидит на диване.", "Кот."])},
    "Greek": {"x": ("Η ΓΑΤΑ κάθεται", ["Η γάτα κάθεται στον καναπέ."])},
    "Thai": {"x": ("แมวนั่งอยู่บนโซฟา", ["แมวนั่งบนโซฟา"])},
    "Vietnamese": {"x": ("một con mèo ngồi", ["Một con mèo ngồi trên ghế."])},
    "German": {"x": ("eine Katze auf dem Sofa", ["Die Katze sitzt „auf“ dem größten Sofa."])},
    "emoji": {"x": ("a cat 🐱 sits 😀", ["A cat 🐱 sits."])},
    "letters with separate accents": {"x": ("cafe\u0301 nai\u0308ve", ["Café naïve."])},
    "full-width letters": {"x": ("ａ ｃａｔ", ["a cat", "ａ ｃａｔ"])},
    "the last caption is empty": USUAL | {"z": ("", ["A cat sits."])},
    "the last two captions have no words": USUAL | {"y": ("", ["A."]), "z": ("..", ["A cat."])},
    "the last reference is empty": USUAL | {"z": ("a cat", ["A cat.", ""])},
    "every caption is empty": {name: ("", people) for name, (_, people) in USUAL.items()},
    "bars in a reference": {"x": ("a cat", ["A cat ||| sits."])},
    "a next-line character and a NUL": {"x": ("a\x85cat\x00sits", ["A cat sits."])},
    "a zero-width space and a soft hyphen": {"x": ("a\u200bcat so\xadfa", ["a cat sofa"])},
}


def images_of(case: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The captions and the references of a case, its own first."""
    images = CASES[case] | USUAL
    return (
        {name: caption for name, (caption, _) in images.items()},
        {name: list(people) for name, (_, people) in images.items()},
    )


def official_scores(case: str, meteor: Any) -> dict[str, Any]:
    """``{"corpus": {metric: score}, "images": {image: {metric: score}}}``."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    captions, references = images_of(case)
    tokenizer = PTBTokenizer()
    gts = tokenizer.tokenize({i: [{"caption": c} for c in said] for i, said in references.items()})
    res = tokenizer.tokenize({i: [{"caption": c}] for i, c in captions.items()})
    found: dict[str, tuple[Any, Any]] = {}
    with redirect_stdout(io.StringIO()):
        bleu, each = Bleu(4).compute_score(gts, res)
        found |= {f"BLEU-{n + 1}": (bleu[n], each[n]) for n in range(4)}
        found["METEOR"] = meteor.compute_score(gts, res)
        found["ROUGE-L"] = Rouge().compute_score(gts, res)
        found["CIDEr-D"] = Cider().compute_score(gts, res)
    return {
        "corpus": {metric: float(corpus) for metric, (corpus, _) in found.items()},
        "images": {
            name: {metric: float(scores[number]) for metric, (_, scores) in found.items()}
            for number, name in enumerate(gts)
        },
    }


def main() -> None:
    from pycocoevalcap.meteor.meteor import Meteor

    meteor = Meteor()
    golden: dict[str, Any] = {}
    for case in CASES:
        try:
            golden[case] = official_scores(case, meteor)
        except Exception as error:
            golden[case] = {"error": f"{type(error).__name__}: {error}"}
            print(case, golden[case])
            meteor = Meteor()
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
