"""A picture's caption does not depend on the other pictures of its batch, to the bit.

Every kind of decoder in batches of several sizes, and the default model from pixels on, in both
precisions.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from decoder_cases import CASES, make
from decoder_cases import features as drawn_features
from torch import nn
from torch.nn import functional as F

from showtell.config import DecodingConfig
from showtell.core import fixed_rows
from showtell.core.device import Precision, Runtime, choose_runtime
from showtell.core.fixed_rows import FixedRows
from showtell.data.scenes import image_ids, scene_of
from showtell.data.scenes.draw import paint
from showtell.decoding.generate import generate
from showtell.decoding.hypotheses import Hypotheses, cut_to_longest
from showtell.encoders.features import Features
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.caption import Caption

CHOSEN = (0, 3, 5, 8, 9)  # one of each kind
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
CELLS = (nn.LSTM, nn.GRU, nn.RNN)
LOOKING = ("attention", "up_down")
NUM_SCENES = 3
NUM = 17
BATCHES = [
    (0, 1),
    (1, 1),
    (16, 1),
    (3, 2),
    (5, 3),
    (0, 5),
    (12, 5),
    (1, 16),
    (0, NUM),
]  # start, size
METHODS = (
    DecodingConfig(method="beam", beam_size=3, num_captions=3, max_length=4),
    DecodingConfig(method="greedy", max_length=4),
    DecodingConfig(method="sample", num_captions=2, max_length=4),
)


@pytest.fixture(params=[1])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def runtime(precision: Precision) -> Runtime:
    return choose_runtime("cpu", precision)


def part(features: Features, start: int, size: int) -> Features:
    assert features.regions is not None
    chosen = slice(start, start + size)
    return Features(features.pooled[chosen], features.regions[chosen])


def of_picture(found: Hypotheses, number: int) -> Hypotheses:
    """What was found, without the padding that the longest caption of a batch decides."""
    one = Hypotheses(*(None if part is None else part[number][None] for part in found))
    return cut_to_longest(one)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("kind", "options"), [CASES[i] for i in CHOSEN])
def test_no_decoder_gives_other_bits_in_another_batch(
    kind: str, options: dict, precision: Precision
) -> None:
    decoder, features = make(kind, options), drawn_features(NUM)
    for config in METHODS:
        seen: dict[int, list[Hypotheses]] = {number: [] for number in range(NUM)}
        for start, size in BATCHES:
            with runtime(precision).inference():
                found = generate(decoder, part(features, start, size), config, first=start)
            for number in range(size):
                seen[start + number].append(of_picture(found, number))
        assert sum(len(results) > 1 for results in seen.values()) == NUM
        for first, *others in seen.values():
            for other in others:
                assert np.array_equal(other.tokens, first.tokens)
                # Last bits of fp32 remain in attention over regions.
                is_exact = precision == "bf16" or kind not in LOOKING
                tolerance = 0.0 if is_exact else 1e-5
                for one, two in zip(other[1:4], first[1:4], strict=True):
                    np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)


def test_fixed_rows_change_no_value_but_by_rounding() -> None:
    torch.manual_seed(0)
    layer, regions, window = nn.Linear(40, 9), torch.randn(5, 36, 40), torch.randn(7, 36)
    recurrent = [kind(40, 8, 2, batch_first=first) for kind in CELLS for first in (True, False)]
    for num in (0, 1, 16, 37):
        rows = torch.randn(num, 3, 40)
        with torch.no_grad():
            plain = [layer(rows), F.linear(rows[:, 0], layer.weight)]
            with FixedRows():
                fixed = [layer(rows), F.linear(rows[:, 0], layer.weight)]
        assert [part.shape for part in fixed] == [part.shape for part in plain]
        torch.testing.assert_close(fixed, plain)
    with torch.no_grad():
        inputs = torch.randn(21, 21, 40)
        plain = [layer(regions), window @ regions, *(cell(inputs) for cell in recurrent)]
        with FixedRows():
            fixed = [layer(regions), window @ regions, *(cell(inputs) for cell in recurrent)]
    torch.testing.assert_close(fixed, plain)


def test_fixed_rows_reach_every_product_that_joins_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the number of rows, the library sees one shape: no processor can do otherwise."""
    seen: set[tuple[int, ...]] = set()
    product, lstm = F.linear, torch.lstm

    def linear(inputs: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        seen.add(tuple(inputs.shape))
        return product(inputs, *rest)

    monkeypatch.setattr(fixed_rows.F, "linear", linear)
    layer, cell = nn.Linear(8, 4), nn.LSTM(8, 4)
    assert lstm in fixed_rows._FORMS
    with torch.no_grad(), FixedRows():
        for num in (1, 5, 16, 17, 40):
            product(torch.zeros(num, 8), layer.weight)
    assert seen == {(16, 8)}
    sizes = []
    form = fixed_rows._FORMS[lstm]
    monkeypatch.setitem(fixed_rows._FORMS, lstm, lambda x, *r: sizes.append(x.shape) or form(x, *r))
    with torch.no_grad(), FixedRows():
        cell(torch.zeros(1, 3, 8))
    assert len(sizes) == 1


@pytest.fixture(scope="module")
def models() -> dict[str, NativeCaptioner]:
    """The default model in each precision."""
    return {name: NativeCaptioner.load(device="cpu", precision=name) for name in PRECISIONS}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_default_model_says_the_same_of_a_picture_in_any_batch(
    models: dict[str, NativeCaptioner], precision: str, threads: int
) -> None:
    model = models[precision]
    ids = [image_id for image_id, _ in image_ids(8)][:NUM_SCENES]
    views = np.stack([model.encoder.preprocessing.eval_view(paint(*scene_of(i))) for i in ids])
    settings = model.decoding.with_changes({"beam_size": 3, "max_length": 8})

    def captions(numbers: list[int]) -> list[Caption]:
        return model.caption_features(model.encode(views[numbers]), decoding=settings)

    alone = [captions([number])[0] for number in range(NUM_SCENES)]
    assert len({caption.text for caption in alone}) > 1
    for size in (2, NUM_SCENES):
        for start in range(0, NUM_SCENES, size):
            numbers = [2, 0, 1][start : start + size]
            wanted = [alone[number] for number in numbers]
            found = captions(numbers)
            if precision == "bf16" or threads == 1:
                assert found == wanted
            else:  # last bits of fp32 remain
                assert [c.text for c in found] == [c.text for c in wanted]
                for one, other in zip(found, wanted, strict=True):
                    assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
