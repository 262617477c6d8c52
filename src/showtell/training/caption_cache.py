"""Tokenised captions, kept under the hash of what they were before.

Half a million captions take seconds to tokenise, and every run on the same data needs them. What is
kept is found by the captions themselves and the tokeniser's name, so it is never out of date. The
cache is a convenience: if it cannot be written or read, the captions are tokenised anew.
"""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from showtell.files import atomic_write, cache_folder
from showtell.text.tokenizer import TOKENIZER
from showtell.training.corpus import TokenizedCaptions

FORMAT = 1
WORTH_IT = 20_000  # captions; fewer are tokenised in less than a tenth of a second


def tokenize_cached(captions: Sequence[str]) -> TokenizedCaptions:
    """As ``TokenizedCaptions.tokenize``, from the cache where it has them."""
    if len(captions) < WORTH_IT:
        return TokenizedCaptions.tokenize(captions)
    file = _cache_file(captions)
    kept = _read(file, len(captions))
    if kept is not None:
        return kept
    tokenized = TokenizedCaptions.tokenize(captions)
    words = np.frombuffer(json.dumps(tokenized.words).encode(), np.uint8)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file, "wb") as target:
            np.savez(target, words=words, numbers=tokenized.numbers, lengths=tokenized.lengths)
    return tokenized


def _cache_file(captions: Sequence[str]) -> Path:
    digest = hashlib.sha256(f"{FORMAT} {TOKENIZER} {len(captions)}\n".encode())
    # With the lengths, as any character may be in a caption and nothing could part them.
    digest.update(np.fromiter(map(len, captions), np.int64, len(captions)).tobytes())
    digest.update("".join(captions).encode())
    return cache_folder() / "captions" / f"{digest.hexdigest()[:32]}.npz"


def _read(file: Path, num_captions: int) -> TokenizedCaptions | None:
    try:
        with open(file, "rb") as source, np.load(source, allow_pickle=False) as arrays:
            words = json.loads(arrays["words"].tobytes())
            kept = TokenizedCaptions(words, arrays["numbers"], arrays["lengths"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    is_whole = len(kept.lengths) == num_captions and kept.lengths.sum() == len(kept.numbers)
    return kept if is_whole else None
