"""From the notebook's three files to a checkpoint.

The notebook's picture is the LSTM's first input, as ``show_tell`` has it, and ``<start>`` comes
after it. So the weights are taken over as they are; words move to the places that a vocabulary of
showtell gives them. A special word that the notebook did not have can never be said.
"""

import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from showtell.config import Config
from showtell.core.messages import counted
from showtell.course.pickled import read_pickled_vocabulary
from showtell.course.weights import (
    NotebookDecoder,
    NotebookEncoder,
    read_state,
    understand_decoder,
    understand_encoder,
)
from showtell.decoders.registry import load_decoder, outline_decoder
from showtell.encoders.encoder import Encoder, build_encoder
from showtell.errors import CheckpointError, VocabularyError
from showtell.inference.checkpoint import Checkpoint, save_checkpoint
from showtell.text.vocabulary import SPECIAL_WORDS, WordVocabulary
from showtell.version import __version__

NEVER = -1e4  # a logit whose probability is 0 in fp32, and that fp16 can hold
MOST_WORDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import, for people.

    Attributes:
        folder: the checkpoint.
        description: one line: encoder, decoder, vocabulary.
    """

    folder: Path
    description: str


def import_notebook(encoder: Path, decoder: Path, vocabulary: Path, folder: Path) -> Imported:
    """Make a checkpoint of the notebook's files.

    Args:
        encoder, decoder: state dicts, ``encoder-i.pkl`` and ``decoder-i.pkl``.
        vocabulary: ``vocab.pkl``.
        folder: the checkpoint's; it must not exist.

    Raises:
        CheckpointError: a file is not what the notebook writes, or they do not belong together; or
            ``folder`` exists.
        VocabularyError: ``vocabulary`` is not a pickled vocabulary, or asks for more.
        ConfigError: a file of weights holds anything but tensors.
        MissingExtraError: timm is not installed.
    """
    if folder.exists():
        raise CheckpointError(f"{folder} already exists: give a new folder with -o")
    attributes = read_pickled_vocabulary(vocabulary)
    words = _words_in_order(attributes, vocabulary)
    places = _places(words, attributes)
    threshold = attributes.get("vocab_threshold")
    threshold = threshold if type(threshold) is int and threshold > 0 else 1
    ours = WordVocabulary(dict.fromkeys(places.others, threshold), threshold)
    net = understand_encoder(read_state(encoder), encoder)
    rnn = understand_decoder(read_state(decoder), decoder)
    if len(rnn.words) != len(words):
        raise CheckpointError(
            f"{decoder} has {counted(len(rnn.words), 'word')} and {vocabulary} has {len(words)}: "
            "they are from different trainings; give the vocab.pkl that the decoder was trained "
            "with"
        )
    embed = len(net.embedding["linear.bias"])
    if rnn.words.shape[1] != embed:
        raise CheckpointError(
            f"{encoder} makes {embed} numbers per picture and {decoder} reads "
            f"{rnn.words.shape[1]}: they are from different trainings"
        )
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / "resnet.safetensors"
        save_file(net.resnet, weights)
        config = _config(net, rnn, threshold)
        network = build_encoder(config.encoder.name, weights=weights)
        checkpoint = _checkpoint(config, network, ours, _decoder_weights(net, rnn, places), weights)
        save_checkpoint(folder, checkpoint)
    return Imported(
        folder,
        f"ResNet-{net.depth}, {rnn.cell.upper()} of {counted(rnn.num_layers, 'layer')}, "
        f"{rnn.output.shape[1]} wide, {len(words):,} words",
    )


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the notebook's words go.

    Attributes:
        special: the notebook's ids of ``<pad>``, ``<start>``, ``<end>``, ``<unk>``; None: none.
        others: the other words, in order.
        other_ids: their ids in the notebook.
    """

    special: tuple[int | None, ...]
    others: tuple[str, ...]
    other_ids: tuple[int, ...]

    def move(self, rows: Tensor, missing: float) -> Tensor:
        """(V, ...) in the notebook's order -> in ours; ``missing`` for words that it lacks."""
        absent = torch.full_like(rows[:1], missing)
        special = [absent if i is None else rows[i : i + 1] for i in self.special]
        return torch.cat([*special, rows[list(self.other_ids)]])


def _words_in_order(attributes: Mapping[str, Any], path: Path) -> list[str]:
    ids = attributes.get("word2idx")
    if not isinstance(ids, dict) or not ids:
        raise VocabularyError(f"{path} has no word2idx, a dictionary of words and their ids")
    if len(ids) > MOST_WORDS:
        raise VocabularyError(f"{path} has {len(ids):,} words; expected {MOST_WORDS:,} at most")
    if not all(isinstance(w, str) and type(i) is int for w, i in ids.items()):
        raise VocabularyError(f"{path}: word2idx does not map words to whole numbers")
    words = sorted(ids, key=lambda word: ids[word])
    if [ids[word] for word in words] != list(range(len(words))):
        raise VocabularyError(
            f"{path}: the ids in word2idx are not 0 to {len(words) - 1}, each once"
        )
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        raise VocabularyError(f"{path}: a word is not text") from None
    return words


def _places(words: list[str], attributes: Mapping[str, Any]) -> _Places:
    """Which words are the special ones, by the class's own attributes or by their usual names."""
    ids = {word: index for index, word in enumerate(words)}
    special: list[int | None] = []
    for word in SPECIAL_WORDS:
        given = attributes.get(f"{word.strip('<>')}_word")
        names = (given, word, word.upper()) if isinstance(given, str) else (word, word.upper())
        special.append(next((ids[name] for name in names if name in ids), None))
    for word, index in zip(SPECIAL_WORDS[1:3], special[1:3], strict=True):
        if index is None:
            raise VocabularyError(f"the vocabulary has no {word}: expected the notebook's words")
    others = [index for index in range(len(words)) if index not in special]
    return _Places(tuple(special), tuple(words[i] for i in others), tuple(others))


def _config(net: NotebookEncoder, rnn: NotebookDecoder, threshold: int) -> Config:
    """Settings that describe the model, and the notebook's way of writing a caption: greedy."""
    return Config.of(
        {
            "data": {"vocab_threshold": threshold},
            # torchvision's weights and its recipe: short side to 256, the centre of 224.
            "encoder": {"name": f"timm:resnet{net.depth}.tv_in1k"},
            "decoder": {
                "kind": "show_tell",
                "embed_size": rnn.words.shape[1],
                "hidden_size": rnn.output.shape[1],
                "num_layers": rnn.num_layers,
                "cell": rnn.cell,
                "dropout": 0.0,
                "image_norm": "norm.weight" in net.embedding,
            },
            "decoding": {"method": "greedy"},
        }
    )


def _decoder_weights(
    net: NotebookEncoder, rnn: NotebookDecoder, places: _Places
) -> dict[str, Tensor]:
    return {
        **{f"image_embedding.{name}": value for name, value in net.embedding.items()},
        **{f"rnn.{name}": value for name, value in rnn.rnn.items()},
        "word_embedding.weight": places.move(rnn.words, 0.0),
        "output.weight": places.move(rnn.output, 0.0),
        "output.bias": places.move(rnn.output_bias, NEVER),
    }


def _checkpoint(
    config: Config,
    encoder: Encoder,
    vocabulary: WordVocabulary,
    weights: dict[str, Tensor],
    encoder_weights: Path,
) -> Checkpoint:
    """A checkpoint whose weights fit its settings.

    Raises:
        CheckpointError: they do not.
    """
    sizes = {
        "vocab_size": len(vocabulary),
        "feature_size": encoder.pooled_size,
        "region_size": encoder.grid_size[1],
    }
    outline = outline_decoder(config.decoder, **sizes)
    for name, expected in outline.items():
        shape = tuple(weights[name].shape) if name in weights else None
        if shape != tuple(expected.shape):
            raise CheckpointError(
                f"{name} has the shape {shape}, and the other weights need {tuple(expected.shape)}"
            )
    metrics = {
        "feature_size": encoder.pooled_size,
        "region_size": encoder.grid_size[1],
        "encoder_fingerprint": encoder.fingerprint,
        "data": "the course notebook",
        "versions": {
            "showtell": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }
    decoder = load_decoder(config.decoder, weights, **sizes)
    return Checkpoint(decoder, vocabulary, config, metrics, encoder_weights=encoder_weights)
