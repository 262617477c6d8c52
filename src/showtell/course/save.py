"""Write a model as the notebook's files, for programs that read those.

``encoder-i.pkl`` and ``decoder-i.pkl`` are state dicts of the course's ``EncoderCNN`` (``resnet``,
``embed``) and ``DecoderRNN`` (``word_embeddings``, ``lstm``, ``hidden2vocab``); i is the epoch. The
notebook's model has no batch norm after the picture's embedding, so that norm is multiplied into
the linear layer: in evaluation it is the same function. ``vocab.pkl`` is a dictionary of plain
containers with the attributes of the course's ``Vocabulary``, so that it can be read without any
class: ``vocab.__dict__.update(pickle.load(file))``.
"""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from showtell.config.decoder import ShowTellConfig
from showtell.core.files import atomic_write
from showtell.course.weights import PARTS
from showtell.encoders.encoder import Encoder
from showtell.errors import CheckpointError
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import Checkpoint, load_checkpoint, new_folder
from showtell.text.vocabulary import SPECIAL_WORDS, UNK, WordVocabulary

NUMBERS = {name: number for number, name in PARTS.items()}
LAYERS = {
    "word_embedding.weight": "word_embeddings.weight",
    "output.weight": "hidden2vocab.weight",
    "output.bias": "hidden2vocab.bias",
}
PROTOCOL = 2  # which the Python of the course's time reads


def export_notebook(model: str | Path, folder: Path, *, trust_model: bool = False) -> list[Path]:
    """Write a ``show_tell`` model with one of timm's ResNets as the notebook's three files.

    Args:
        folder: of the files; it must not exist.
        trust_model: as for ``showtell.load``.

    Returns:
        ``encoder-i.pkl``, ``decoder-i.pkl`` and ``vocab.pkl``.

    Raises:
        CheckpointError: the model has another form, or ``folder`` exists.
        OSError: they cannot be written.
    """
    if folder.exists():
        raise CheckpointError(f"{folder} already exists: give a new folder with -o")
    checkpoint = load_checkpoint(model)
    _check_form(checkpoint)
    captioner = NativeCaptioner.load(model, device="cpu", trust_model=trust_model)
    epoch = checkpoint.metrics.get("epoch")
    number = epoch if type(epoch) is int else 1
    names = f"encoder-{number}.pkl", f"decoder-{number}.pkl", "vocab.pkl"
    with new_folder(folder) as temporary:
        states = _encoder_state(captioner.encoder, checkpoint), _decoder_state(checkpoint)
        for name, state in zip(names, states, strict=False):
            with atomic_write(temporary / name, "wb") as file:
                torch.save(state, file)
        with atomic_write(temporary / names[2], "wb") as file:
            pickle.dump(_vocabulary(checkpoint), file, protocol=PROTOCOL)
    return [folder / name for name in names]


def _check_form(checkpoint: Checkpoint) -> None:
    settings, encoder = checkpoint.config.decoder, checkpoint.config.encoder.name
    wanted = "--format notebook writes show_tell models with an LSTM, words and a ResNet of timm"
    if not isinstance(settings, ShowTellConfig) or settings.cell != "lstm":
        kind = f"{settings.kind}, {getattr(settings, 'cell', '')}".rstrip(", ")
        raise CheckpointError(f"{wanted}; this model's decoder is {kind}")
    if not re.fullmatch(r"timm:resnet(18|34|50|101|152)(\.\w+)?", encoder):
        raise CheckpointError(f"{wanted} (timm:resnet50); this model's encoder is {encoder}")
    if not isinstance(checkpoint.vocabulary, WordVocabulary):
        unit = checkpoint.vocabulary.unit
        raise CheckpointError(f"{wanted}; this model's vocabulary has {unit}")


def _encoder_state(encoder: Encoder, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """``resnet.0.weight`` ... and ``embed.weight`` (E, D), ``embed.bias`` (E,)."""
    state = {}
    for name, value in encoder.backbone.state_dict().items():
        part, _, inner = name.removeprefix("network.").partition(".")
        if part in NUMBERS:  # not the classifier
            state[f"resnet.{NUMBERS[part]}.{inner}"] = value.detach().cpu().contiguous().clone()
    ours = checkpoint.decoder.state_dict()
    own = {
        name.removeprefix("image_embedding."): value
        for name, value in ours.items()
        if name.startswith("image_embedding.")
    }
    weight, bias = own["linear.weight"], own["linear.bias"]
    if "norm.weight" in own:
        eps = 1e-5  # torch's default, which ``BatchNorm`` has
        scale = own["norm.weight"].double() / (own["norm.running_var"].double() + eps).sqrt()
        weight = (weight.double() * scale[:, None]).float()
        bias = (bias.double() - own["norm.running_mean"].double()) * scale
        bias = (bias + own["norm.bias"].double()).float()
    return {**state, "embed.weight": weight.clone(), "embed.bias": bias.clone()}


def _decoder_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    state = {}
    for name, value in checkpoint.decoder.state_dict().items():
        if name.startswith("image_embedding."):
            continue
        theirs = LAYERS.get(name) or name.replace("rnn.", "lstm.", 1)
        state[theirs] = value.detach().clone()
    return state


def _vocabulary(checkpoint: Checkpoint) -> dict[str, Any]:
    """What ``vars(vocabulary)`` would be, with showtell's order of words."""
    vocabulary = checkpoint.vocabulary
    assert isinstance(vocabulary, WordVocabulary)
    return {
        "vocab_threshold": vocabulary.threshold,
        **{f"{word.strip('<>')}_word": word for word in SPECIAL_WORDS[1 : UNK + 1]},
        "word2idx": {word: index for index, word in enumerate(vocabulary.words)},
        "idx2word": dict(enumerate(vocabulary.words)),
        "idx": len(vocabulary),
    }
