"""A process that decodes pictures and cuts one view of each, for ``view_workers.py``.

It reads requests, a line of JSON each, and answers each with the length of an error message and
the message, or with 0 and the pixels. It ends when its input does: when whoever asks has closed it
or is gone, in whatever way. Imports neither torch nor the program that started it.
"""

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from showtell.errors import ImageError
from showtell.features.images import Pixels, Preprocessing, open_image

LENGTH_BYTES = 4  # of the error message's length, big-endian


def cut_view(
    path: Path, recipe: Preprocessing, *, seed: Sequence[int] | None, flips: bool
) -> Pixels | str:
    """One view of a picture, (3, S, S); or, where it cannot be decoded, the reason.

    Args:
        seed: of a random view; None is the evaluation view.
        flips: whether half of the random views are mirrored.
    """
    try:
        image = open_image(path, min_side=recipe.decode_side)
    except ImageError as error:
        return str(error)
    if seed is None:
        return recipe.eval_view(image)
    return recipe.random_view(image, np.random.default_rng(seed), flip=flips)


def main() -> None:
    """Answer requests until there are no more; the recipe is the last argument."""
    # A stop is the business of the program that asks; it still wants the step's pictures.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    settings = json.loads(sys.argv[-1])
    recipe = Preprocessing(
        **settings | {key: tuple(settings[key]) for key in ("mean", "std")},
    )
    answers = sys.stdout.buffer
    for line in sys.stdin.buffer:
        request = json.loads(line)
        view = cut_view(Path(request["path"]), recipe, seed=request["seed"], flips=request["flips"])
        message = view.encode("utf-8", "replace") if isinstance(view, str) else b""
        answers.write(len(message).to_bytes(LENGTH_BYTES, "big"))
        answers.write(message if isinstance(view, str) else view.transpose(1, 2, 0).tobytes())
        answers.flush()
