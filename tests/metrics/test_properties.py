"""Random captions against pycocoevalcap's own scorers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.metrics import CiderD, evaluate
from showtell.text.tokenizer import tokenize, tokenize_all

pytest.importorskip("pycocoevalcap")

_WORDS = "a a the dog dogs man's red big on and . , 5 1/2 café 日本 don't t.v. -- ½ “x” K. The no."
WORDS = _WORDS.split()

captions = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    st.text(
        alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=20
    ),
)
sets = st.lists(
    st.tuples(captions, st.lists(captions, min_size=1, max_size=20)), min_size=1, max_size=6
)


@settings(max_examples=150)
@given(sets)
def test_python_scorers(official: Any, images: list[tuple[str, list[str]]]) -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    candidates = {str(number): caption for number, (caption, _) in enumerate(images)}
    references = {str(number): said for number, (_, said) in enumerate(images)}
    ours = evaluate(
        candidates,
        references,
        metrics=["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"],
    )
    said = [" ".join(words) for words in tokenize_all(list(candidates.values()))]
    flat = iter([" ".join(w) for w in tokenize_all([c for r in references.values() for c in r])])
    tokenised = {i: [next(flat) for _ in r] for i, r in references.items()}
    heard = dict(zip(candidates, said, strict=True))
    bleu, each = official(Bleu(4), heard, tokenised)
    theirs = {f"BLEU-{n + 1}": (bleu[n], each[n]) for n in range(4)}
    theirs["ROUGE-L"] = official(Rouge(), heard, tokenised)
    if any(tokenised[i] != [""] * len(tokenised[i]) for i in tokenised):
        theirs["CIDEr-D"] = official(Cider(), heard, tokenised)  # it fails without any n-gram
    for name, (corpus, per_image) in theirs.items():
        found = [ours.per_image[i][name] for i in candidates]
        assert np.allclose(found, per_image, rtol=0, atol=1e-9), name
        assert ours.metrics[name] == pytest.approx(corpus, abs=1e-9)


@given(sets, st.data())
def test_cider_d_takes_any_image_any_number_of_times(
    images: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    scorer = CiderD({str(number): said for number, (_, said) in enumerate(images)})
    chosen = data.draw(st.lists(st.integers(0, len(images) - 1), max_size=8))
    together = scorer.score([str(n) for n in chosen], [images[n][0] for n in chosen])
    alone = [scorer.score([str(n)], [images[n][0]])[0] for n in chosen]
    assert np.allclose(together, alone, rtol=0, atol=1e-12)


@given(sets)
def test_cider_d_of_ids_is_cider_d_of_words(images: list[tuple[str, list[str]]]) -> None:
    ids: dict[str, int] = {}

    def number(caption: str) -> list[int]:
        return [ids.setdefault(word, len(ids)) for word in tokenize(caption)]

    names = [str(n) for n in range(len(images))]
    by_word = CiderD(
        {n: [tokenize(c) for c in said] for n, (_, said) in zip(names, images, strict=True)}
    )
    by_id = CiderD(
        {n: [number(c) for c in said] for n, (_, said) in zip(names, images, strict=True)}
    )
    words = by_word.score(names, [tokenize(caption) for caption, _ in images])
    assert np.allclose(words, by_id.score(names, [number(caption) for caption, _ in images]))
