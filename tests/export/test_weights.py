"""How weights are stored in an export, and what corrected biases gain."""

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_export
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from tiny_encoder import staged_encoder
from torch import Tensor

from showtell.encoders.encoder import Encoder
from showtell.encoders.packing import pack_weights, unpack_weights
from showtell.errors import ConfigError
from showtell.export.calibrate import choose_views, with_corrected_biases
from showtell.export.graphs import encoder_graph
from showtell.export.weights import SharedWeights
from showtell.inference.files import WEIGHTS


@pytest.fixture(scope="module")
def traced() -> onnx.ModelProto:
    return tiny_export.traced(encoder_graph(staged_encoder(), regions=True))


def views(num: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, 3, 32, 32), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8"])
def test_weights_are_those_of_a_packed_checkpoint(
    traced: onnx.ModelProto, storage: str, tmp_path: Path
) -> None:
    encoder = staged_encoder()
    model, weights = copy.deepcopy(traced), SharedWeights(WEIGHTS)
    weights.move(model, storage)
    twice = copy.deepcopy(traced)
    size = len(weights.content)
    weights.move(twice, storage)
    assert len(weights.content) == size  # each is stored once
    (tmp_path / WEIGHTS).write_bytes(weights.content)
    (tmp_path / "encoder.onnx").write_bytes(model.SerializeToString())
    pooled, _ = ReferenceEvaluator(str(tmp_path / "encoder.onnx")).run(
        None, {"pixels": views(3).numpy()}
    )
    state = encoder.backbone.state_dict()
    encoder.backbone.load_state_dict(unpack_weights(pack_weights(state, storage)))
    with torch.no_grad():
        expected = encoder(views(3)).pooled
    # Small matrices stay in the graph, in fp32.
    np.testing.assert_allclose(pooled, expected.numpy(), atol={"int8": 0.05}.get(storage, 1e-3))


def test_what_stays_in_fp16(traced: onnx.ModelProto) -> None:
    largest = max(traced.graph.initializer, key=lambda tensor: numpy_helper.to_array(tensor).size)
    kinds = {}
    for name, options in {
        "all": {},
        "named": {"halves": {largest.name}},
        "small": {"least": 10**6},
    }.items():
        model = copy.deepcopy(traced)
        SharedWeights(WEIGHTS).move(model, "int8", **options)
        stored = {t.name: t.data_type for t in model.graph.initializer}
        kinds[name] = stored[f"{largest.name}.stored"]
    assert kinds == {
        "all": onnx.TensorProto.INT8,
        "named": onnx.TensorProto.FLOAT16,
        "small": onnx.TensorProto.FLOAT16,
    }


@torch.no_grad()
def test_corrected_biases_bring_the_features_nearer() -> None:
    encoder, shown = staged_encoder(), views(40)
    before = copy.deepcopy(encoder.backbone.state_dict())
    corrected = with_corrected_biases(encoder, lambda weight: "int8", shown[:20])
    rounded = copy.deepcopy(encoder)
    matrices = {k: v for k, v in rounded.backbone.state_dict().items() if v.dim() == 4}
    rounded.backbone.load_state_dict(
        rounded.backbone.state_dict() | unpack_weights(pack_weights(matrices, "int8"))
    )

    def error(other: Encoder) -> float:
        return float((other(shown[20:]).regions - encoder(shown[20:]).regions).norm())

    assert 0 < error(corrected) < error(rounded)
    for name, value in encoder.backbone.state_dict().items():  # the encoder itself is as it was
        assert torch.equal(value, before[name])


def test_calibration_needs_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    with pytest.raises(ConfigError, match=r"--calibration: none of the pictures can be read"):
        choose_views([tmp_path / "a.jpg"], staged_encoder())
    with pytest.raises(ConfigError, match=r"--calibration"):
        choose_views([], staged_encoder())
