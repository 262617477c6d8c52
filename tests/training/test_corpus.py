from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from showtell.text.tokenizer import tokenize
from showtell.text.vocabulary import END, PAD, START, UNK, WordVocabulary
from showtell.training.corpus import Corpus, TokenizedCaptions

captions_strategy = st.lists(
    st.lists(st.sampled_from(["a", "dog", "runs", "on", "grass", "quickly"]), max_size=8).map(
        " ".join
    ),
    min_size=1,
    max_size=20,
)


def encode(captions: list[str], threshold: int = 1, max_length: int = 40) -> tuple:
    tokenized = TokenizedCaptions.tokenize(captions)
    vocabulary = WordVocabulary.build(tokenized.counts() or {"x": 1}, threshold)
    pictures = np.arange(len(captions))
    return vocabulary, Corpus.encode(tokenized, pictures, vocabulary, max_length)


@given(captions_strategy)
def test_batches_give_back_the_captions(captions: list[str]) -> None:
    vocabulary, corpus = encode(captions)
    filled = [i for i, caption in enumerate(captions) if tokenize(caption)]
    assert corpus.pictures.tolist() == filled
    if not filled:
        return
    inputs, targets = corpus.batch(np.arange(len(corpus)))
    for row, i in enumerate(filled):
        words = tokenize(captions[i])
        assert inputs[row, 0] == START
        assert vocabulary.decode_words(targets[row].tolist()) == words
        assert targets[row, len(words)] == END
        assert (inputs[row, 1 : len(words) + 1] == targets[row, : len(words)]).all()
        assert (inputs[row, len(words) + 1 :] == PAD).all()
        assert (targets[row, len(words) + 1 :] == PAD).all()


def test_rare_words_become_unk() -> None:
    vocabulary, corpus = encode(["a dog", "a cat", "a dog"], threshold=2)
    assert set(vocabulary.counts) == {"a", "dog"}
    _, targets = corpus.batch(np.array([1]))
    assert targets.tolist() == [[vocabulary.encode("a")[0], UNK, END]]


def test_long_captions_are_cut() -> None:
    vocabulary, corpus = encode(["one two three four", "five"], max_length=2)
    assert corpus.lengths.tolist() == [2, 1]
    _, targets = corpus.batch(np.array([0]))
    assert vocabulary.decode(targets[0].tolist()) == "one two"


def test_a_caption_does_not_end_where_it_is_cut() -> None:
    vocabulary, corpus = encode(["one two three", "one two", "five"], max_length=2)
    one, two, five = (vocabulary.encode(word)[0] for word in ("one", "two", "five"))
    inputs, targets = corpus.batch(np.arange(3))
    assert inputs.tolist() == [[START, one, two], [START, one, two], [START, five, PAD]]
    assert targets.tolist() == [[one, two, PAD], [one, two, END], [five, END, PAD]]
    assert corpus.num_targets.tolist() == (targets != PAD).sum(axis=1).tolist()
    assert corpus.references(np.arange(3)) == [[[one, two]], [[one, two, END]], [[five, END]]]
    last = corpus.only(np.array([True, False, True]))
    assert last.batch(np.arange(2))[1].tolist() == [[one, two, PAD], [five, END, PAD]]
    assert last.pictures.tolist() == [0, 2] and last.num_cut == 1
    whole = corpus.only(np.array([False, True, True]))
    assert whole.num_targets.tolist() == [3, 2]
    assert encode(["one two", "five"], max_length=2)[1].is_cut is None  # costs no memory


def test_punctuation_alone_is_no_caption() -> None:
    _, corpus = encode(["...", "a dog", " "])
    assert corpus.pictures.tolist() == [1]


@given(captions_strategy, st.integers(1, 6))
def test_cutting_keeps_the_first_words(captions: list[str], max_length: int) -> None:
    vocabulary, corpus = encode(captions, max_length=max_length)
    expected = [tokenize(caption)[:max_length] for caption in captions if tokenize(caption)]
    found = [
        vocabulary.decode_words(corpus.ids[start:end].tolist())
        for start, end in pairwise(corpus.offsets)
    ]
    assert found == expected
    assert corpus.num_cut == sum(len(tokenize(caption)) > max_length for caption in captions)
