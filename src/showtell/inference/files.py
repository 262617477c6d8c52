"""The names of the files and folders that runs, checkpoints and exports consist of.

Nothing here imports torch, so the report of a run and the commands read the same names that
training writes.
"""

import re
from pathlib import Path

from showtell.decoding.reranking import RERANKER
from showtell.pretrained import CARD

# A run's folder.
BEST, LAST = "best", "last"  # the checkpoints of the best and of the last epoch
RUN_FILE = "run.json"  # what the run was made from and by
LOG_FILE = "metrics.jsonl"  # the figures of every step and every validation

# A checkpoint's folder.
MODEL = "model.safetensors"
ENCODER = "encoder.safetensors"  # the weights that were trained
ENCODER_WEIGHTS = "encoder-weights-"  # published weights; followed by a hash and .safetensors
CONFIG = "config.toml"  # a run's folder has one, too
VOCABULARY = "vocabulary.json"
METRICS = "metrics.json"
AVERAGE_START = "average_start"  # in METRICS: how a model was averaged with the one it began with
RESUME_TENSORS, RESUME_DATA = "resume.safetensors", "resume.json"  # what training goes on from
EXAMPLES, RELIABILITY = "examples.jpg", "reliability.png"  # pictures in the card
CARD_FILES = (CARD, EXAMPLES, RELIABILITY)

# An export's folder, which may be a checkpoint's own.
MANIFEST = "showtell-onnx.json"
WEIGHTS = "weights.bin"

MOST_JSON = 2**22  # bytes of METRICS and of MANIFEST

_CHECKPOINT_FILES = (MODEL, ENCODER, RERANKER, CONFIG, VOCABULARY, METRICS)
CHECKPOINT_FILE = re.compile(
    rf"{'|'.join(map(re.escape, _CHECKPOINT_FILES))}|{ENCODER_WEIGHTS}\w+\.safetensors"
)
"""Matches the name of a file of a checkpoint, without the state that training goes on from."""


def checkpoint_folders(folder: Path) -> tuple[Path, ...]:
    """Where the model of a run's or a checkpoint's folder may be, the first that is there."""
    return folder, folder / BEST, folder / LAST
