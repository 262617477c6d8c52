"""Words that a trained model does not know: their ids, and rows that begin as those of others."""

import numpy as np
import pytest
import torch
from decoder_cases import CASES, REGION_WIDTH, VOCAB, WIDTH, features, make, settings, tokens
from tiny_run import Notes

from showtell.config import Config
from showtell.decoders.registry import DECODERS, load_decoder
from showtell.errors import ConfigError
from showtell.text.segment import PTB, Segmentation
from showtell.text.vocabulary import START, WordVocabulary
from showtell.training.corpus import Corpus, TokenizedCaptions
from showtell.training.new_words import by_letters, by_neighbours, grown, likeness
from showtell.training.words import choose_segmentation, note_unknown

NEW = 4
SHARES = torch.zeros(NEW, VOCAB)
SHARES[0, 7] = 1.0
SHARES[1, [8, 9]] = 0.5
SHARES[2, 4:] = 1 / (VOCAB - 4)
SHARES[3, START] = 1.0  # a style


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_every_decoder_says_of_its_own_words_what_it_said(kind: str, options: dict) -> None:
    """The logits of known words stay, and a copied row's logit is that of its pattern."""
    decoder = make(kind, options)
    config = Config.load(None, settings(kind, options)).decoder
    sizes = {"feature_size": WIDTH, "region_size": REGION_WIDTH}
    weights = grown(decoder.state_dict(), config, SHARES, **sizes)
    larger = load_decoder(config, weights, vocab_size=VOCAB + NEW, **sizes)
    assert larger.num_parameters() > decoder.num_parameters()
    with torch.no_grad():
        before = decoder(features(2), tokens(2, 5))
        after = larger(features(2), tokens(2, 5))
        torch.testing.assert_close(after[..., :VOCAB], before)
        torch.testing.assert_close(after[..., VOCAB + 1], before[..., 8:10].mean(-1))
        # A word that begins as another's copy is also heard as that word.
        for word, copy in ((7, VOCAB), (START, VOCAB + 3)):
            torch.testing.assert_close(after[..., copy], before[..., word])
            said = torch.full((2, 4), word), torch.full((2, 4), copy)
            heard = [larger(features(2), ids) for ids in said]
            torch.testing.assert_close(heard[0], heard[1])


def test_all_decoders_were_visited() -> None:
    assert {kind for kind, _ in CASES} == set(DECODERS)


def test_a_vocabulary_grows_at_its_end() -> None:
    vocabulary = WordVocabulary({"a": 9, "dog": 5}, 3)
    vocabulary.tokenizer = "an older one"
    larger = vocabulary.extended({"dog": 4, "axolotl": 2, "yurt": 7, "rare": 1}, 2)
    assert larger.words == (*vocabulary.words, "yurt", "axolotl")
    assert larger.counts == {"a": 9, "dog": 5, "yurt": 7, "axolotl": 2}
    assert larger.tokenizer == "an older one"
    assert vocabulary.extended({"dog": 9, "rare": 1}, 2) is vocabulary


def test_a_vocabulary_is_not_cut_otherwise_than_asked() -> None:
    def chosen(vocabulary: WordVocabulary, *settings: str) -> Segmentation:
        data = Config.load(None, settings).data
        return choose_segmentation([], data, vocabulary)[0]

    english = WordVocabulary({"a": 9}, 1)
    german = WordVocabulary({"ein": 9}, 1).cut_by(Segmentation.of("spaces", "de"))
    assert chosen(english, "data.language=en", "data.segmentation=ptb") == PTB
    assert chosen(german, "data.language=de-AT").language == "de"
    with pytest.raises(
        ConfigError, match=r"data\.segmentation = characters: .* goes by ptb; leave"
    ):
        chosen(english, "data.segmentation=characters")
    with pytest.raises(ConfigError, match=r"data\.language = en: .* goes by spaces, German"):
        chosen(german, "data.language=en")
    unnamed = WordVocabulary({"一": 9}, 1).cut_by(Segmentation.of("characters"))
    assert chosen(unnamed, "data.language=zh").kind == "characters"


@pytest.mark.parametrize(
    ("captions", "said"),
    [(["a dog", "a yurt"], []), (["a dog", "一只狗", "猫在跑"], ["50% of the words"])],
)
def test_a_vocabulary_that_lacks_many_words_is_told(captions: list[str], said: list[str]) -> None:
    vocabulary = WordVocabulary({"a": 9, "dog": 5}, 3)
    tokenized = TokenizedCaptions.tokenize(captions)
    corpus = Corpus.encode(tokenized, np.arange(len(captions)), vocabulary, 9)
    report = Notes()
    note_unknown(corpus, vocabulary.segmentation, report)
    assert [note[: len("50% of the words")] for note in report.notes] == said


def test_words_of_one_stem_have_letters_in_common() -> None:
    known = ("<pad>", "<start>", "<end>", "<unk>", "triangle", "dog", "angle")
    [[*_, triangle, dog, angle]] = by_letters(["triangles"], known)
    assert triangle > angle > dog == 0
    assert by_letters(["dog"], known)[0, 5] == 1


def test_words_between_the_same_neighbours_are_alike() -> None:
    vocabulary = WordVocabulary(
        dict.fromkeys(("a", "dog", "runs", "red", "zebu", "on", "grass"), 5), 1
    )
    captions = TokenizedCaptions.tokenize(
        ["a dog runs on grass", "a zebu runs on grass", "a red dog", "a red zebu", "a red grass"]
    )
    order = [word for word in vocabulary.words if word != "zebu"]
    larger = WordVocabulary(dict.fromkeys([*order[4:], "zebu"], 5), 1)
    corpus = Corpus.encode(captions, np.arange(5), larger, 9)
    num_known = len(order)
    [shares] = by_neighbours(corpus, num_known, len(larger))
    assert order[int(shares.argmax())] == "dog"
    assert shares[:4].sum() == 0
    [row] = likeness(larger, num_known, corpus)
    assert row.sum() == pytest.approx(1)
    assert order[int(row.argmax())] == "dog"
    assert (row > 0).sum() <= 5


def test_a_word_at_which_captions_are_cut_is_not_like_those_that_end_them() -> None:
    words = WordVocabulary(dict.fromkeys(("dog", "zebu", "runs"), 5), 1)
    shares = []
    for caption in ("runs zebu", "runs zebu runs"):
        captions = TokenizedCaptions.tokenize(["dog", caption])
        corpus = Corpus.encode(captions, np.arange(2), words, 2)
        shares.append(by_neighbours(corpus, num_known=5, num_words=7)[0])  # of zebu
    assert shares[0][4] == pytest.approx(0.5)  # both end a caption, and begin it otherwise
    assert shares[1].tolist() == [0] * 5


def test_a_word_like_none_begins_as_the_mean_of_all() -> None:
    larger = WordVocabulary({"a": 5, "dog": 5, "xyzzy": 5}, 1)
    nothing = Corpus(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int64))
    [row] = likeness(larger, 6, nothing)
    assert row.tolist() == [0, 0, 0, 0, 0.5, 0.5]
