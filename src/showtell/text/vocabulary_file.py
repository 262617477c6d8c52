"""Reading ``vocabulary.json``, whichever kind of vocabulary is in it."""

import json
from pathlib import Path

from showtell.errors import VocabularyError
from showtell.text.subwords import KIND, SubwordVocabulary
from showtell.text.tokenizer import TOKENIZER
from showtell.text.vocabulary import Vocabulary, WordVocabulary


def load_vocabulary(path: Path) -> Vocabulary:
    """Read what ``Vocabulary.save`` wrote.

    Raises:
        VocabularyError: missing, not JSON, not a vocabulary, or for another tokeniser.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        is_subwords = data.get("kind") == KIND
        kind = SubwordVocabulary if is_subwords else WordVocabulary
        vocabulary: Vocabulary = kind.from_json(data)
        tokenizer = data["tokenizer"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, VocabularyError) as error:
        raise VocabularyError(f"{path} is not a showtell vocabulary: {error}") from None
    if tokenizer != TOKENIZER:
        raise VocabularyError(
            f"{path} was made with tokeniser {tokenizer!r}, this version has {TOKENIZER!r}; "
            "build the vocabulary again"
        )
    return vocabulary
