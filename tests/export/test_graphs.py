"""The graphs of an export give torch's numbers: every decoder, three encoders."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from decoder_cases import CASES, features, make
from numpy.typing import NDArray
from tiny_encoder import staged_encoder

from showtell.decoders.base import Decoder, State
from showtell.decoders.registry import DECODERS
from showtell.encoders.encoder import Encoder, build_encoder
from showtell.encoders.features import Features
from showtell.encoders.finetune import train_from
from showtell.encoders.timm import TimmBackbone
from showtell.export.graphs import Graph, decoder_graphs, encoder_graph, trace
from showtell.export.weights import SharedWeights
from showtell.images.preprocess import Preprocessing
from showtell.inference.exported import WEIGHTS, StateEntry

Values = dict[str, NDArray]


def sessions(
    graphs: dict[str, Graph], folder: Path, storage: str = "fp32"
) -> dict[str, onnxruntime.InferenceSession]:
    weights, found = SharedWeights(WEIGHTS), {}
    for name, graph in graphs.items():
        model = trace(graph)
        weights.move(model, storage)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    (folder / WEIGHTS).write_bytes(weights.content)
    for name in graphs:
        found[name] = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    return found


def run(session: onnxruntime.InferenceSession, given: Values) -> Values:
    names = [value.name for value in session.get_outputs()]
    wanted = {value.name: given[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(None, wanted), strict=True))


def given(found: Features) -> Values:
    regions = {} if found.regions is None else {"regions": found.regions.numpy()}
    return {"pooled": found.pooled.numpy(), **regions}


def close(ours: NDArray, theirs: torch.Tensor) -> None:
    assert ours.shape == tuple(theirs.shape)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4, rtol=1e-4)


def reordered(state: State, rows: torch.Tensor, fixed: frozenset[str]) -> State:
    return {n: part if n in fixed else part.index_select(0, rows) for n, part in state.items()}


@torch.no_grad()
def check_search(
    decoder: Decoder,
    found: dict[str, onnxruntime.InferenceSession],
    entries: list[StateEntry],
    num: int,
    num_rows: int,
    step: str,
) -> None:
    """Steps of ``num`` pictures, with rows that change their places after each."""
    start = features(num)
    if not decoder.needs_regions:
        start = Features(start.pooled)
    theirs, ours = decoder.init_state(start), run(found["init"], given(start))
    for entry in entries:
        close(ours[f"state.{entry.name}"], theirs[entry.name])
    fixed = decoder.picture_state
    if step == "step":
        theirs.pop("attention", None)
    theirs = reordered(theirs, torch.arange(num).repeat_interleave(num_rows), fixed)
    state = {name.removeprefix("state."): torch.from_numpy(part) for name, part in ours.items()}
    state = reordered(state, torch.arange(num).repeat_interleave(num_rows), fixed)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        tokens = torch.randint(1, 30, (num * num_rows,), generator=generator)
        shape = (num, num_rows)
        feed = {
            f"state.{e.name}": (
                state[e.name] if e.by_picture else state[e.name].unflatten(0, shape)
            ).numpy()
            for e in entries
        }
        log_probs, theirs = decoder.step(tokens, theirs)
        new = run(found[step], {"tokens": tokens.view(shape).numpy(), **feed})
        close(new["log_probs"].reshape(log_probs.shape), log_probs)
        if step == "look":
            close(new["attention"].reshape(num * num_rows, -1), theirs["attention"])
        # The hypotheses of a picture change places, as search has it.
        order = torch.stack([torch.randperm(num_rows, generator=generator) for _ in range(num)])
        rows = (order + torch.arange(num)[:, None] * num_rows).flatten()
        theirs = reordered(theirs, rows, fixed)
        for entry in entries:
            if entry.changes:
                state[entry.name] = torch.from_numpy(new[f"next.{entry.name}"]).flatten(0, 1)
        state = reordered(state, rows, fixed)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_every_decoder_steps_as_in_torch(kind: str, options: dict, tmp_path: Path) -> None:
    decoder = make(kind, options)
    start = features(2)
    parts = decoder_graphs(decoder, start if decoder.needs_regions else Features(start.pooled))
    found = sessions(parts.graphs, tmp_path)
    assert parts.attends == decoder.needs_regions
    for step in ["step", *["look"] * parts.attends]:
        for num, num_rows in ((1, 1), (7, 1), (1, 5), (7, 3)):
            check_search(decoder, found, parts.state, num, num_rows, step)


def test_the_cases_have_every_decoder() -> None:
    assert {kind for kind, _ in CASES} == DECODERS.keys()
    assert len(DECODERS) == 5


def resnet() -> Encoder:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", pretrained=False).eval()
    recipe = Preprocessing(64, 0.9, "bicubic", (120.0, 118.0, 100.0), (60.0, 58.0, 57.0))
    return Encoder(
        name="timm:resnet10t",
        backbone=TimmBackbone(network),
        preprocessing=recipe,
        weights_hash="random",
    )


def trained() -> Encoder:
    encoder = staged_encoder()
    train_from(encoder, "stage1")
    with torch.no_grad():
        for weights in encoder.changed_weights().values():
            weights.mul_(1.1)
    return encoder


ENCODERS = {
    "lite0": lambda: build_encoder("lite0"),
    "lite2": lambda: build_encoder("lite2"),
    "resnet": resnet,
    "trained": trained,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_give_torchs_features(
    name: str, tmp_path: Path, torchvision_operators: object
) -> None:
    encoder = ENCODERS[name]()
    session = sessions({"encoder": encoder_graph(encoder, regions=True)}, tmp_path)["encoder"]
    generator = torch.Generator().manual_seed(0)
    size = encoder.preprocessing.size
    for num in (1, 3):
        pixels = torch.randint(0, 256, (num, 3, size, size), generator=generator, dtype=torch.uint8)
        ours = run(session, {"pixels": pixels.numpy()})
        theirs = encoder(pixels)
        close(ours["pooled"], theirs.pooled.detach())
        close(ours["regions"], theirs.regions.detach())
