"""Graphs that compute in int8: near the ones that do not, and a row does not see its batch."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_encoder import staged_encoder
from tiny_export import traced

from showtell.export import integer
from showtell.export.graphs import encoder_graph
from showtell.export.weights import SharedWeights
from showtell.inference.files import WEIGHTS

Floats = NDArray[np.float32]
OUTPUTS = ("one", "two", "three")


def session(model: onnx.ModelProto, weights: SharedWeights, folder: Path, *, folds: bool = True):
    (folder / "graph.onnx").write_bytes(model.SerializeToString())
    (folder / WEIGHTS).write_bytes(weights.content)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", str(int(folds)))
    return onnxruntime.InferenceSession(folder / "graph.onnx", options)


def products(rng: np.random.Generator) -> onnx.ModelProto:
    """Three products: a MatMul, and a Gemm of each orientation with a bias."""
    plain, turned = (rng.normal(size=(256, 192)).astype(np.float32) for _ in range(2))
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["one"], name="one"),
        helper.make_node("Gemm", ["x", "a", "bias"], ["two"], name="two"),
        helper.make_node("Gemm", ["x", "b", "bias"], ["three"], name="three", transB=1),
    ]
    values = {"a": plain, "b": turned.T.copy(), "bias": rng.normal(size=192).astype(np.float32)}
    shapes = {"x": ["N", 256], **{name: ["N", 192] for name in OUTPUTS}}
    infos = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()}
    graph = helper.make_graph(
        nodes,
        "products",
        [infos["x"]],
        [infos[name] for name in OUTPUTS],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_products_in_int8(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model, weights = products(rng), SharedWeights(WEIGHTS)
    weights.move(model, "int8")
    x = rng.normal(size=(40, 256)).astype(np.float32)
    expected = session(model, weights, tmp_path).run(None, {"x": x})
    integer.multiply_in_int8(model, weights)
    assert [node.op_type for node in model.graph.node].count("MatMulNBits") == 3
    assert not {"MatMul", "Gemm", "DequantizeLinear"} & {n.op_type for n in model.graph.node}
    run = session(model, weights, tmp_path)
    found = run.run(None, {"x": x})
    for one, two in zip(found, expected, strict=True):
        assert 0 < np.linalg.norm(one - two) < 0.02 * np.linalg.norm(two)
    alone = [run.run(None, {"x": x[i : i + 1]}) for i in range(4)]
    for i, parts in enumerate(alone):
        for one, two in zip(parts, found, strict=True):
            np.testing.assert_allclose(one[0], two[i], rtol=1e-4, atol=1e-4)


def test_what_cannot_be_multiplied_in_int8_stays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for storage, least in (("fp16", 0), ("int8", 2**20)):
        model, weights = products(rng), SharedWeights(WEIGHTS)
        weights.move(model, storage, least=least)
        integer.multiply_in_int8(model, weights)
        assert "MatMulNBits" not in {node.op_type for node in model.graph.node}
        session(model, weights, tmp_path)


def test_rows_of_an_embedding_stay_packed(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(50, 24)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"])],
        "rows",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["N", 24])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    weights = SharedWeights(WEIGHTS)
    weights.move(model, "fp16")
    before = session(model, weights, tmp_path).run(None, {"ids": np.arange(50)})[0]
    integer.look_up_packed_rows(model)
    assert [node.op_type for node in model.graph.node] == ["Gather", "Cast"]
    after = session(model, weights, tmp_path).run(None, {"ids": np.arange(50)})[0]
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(after, table.astype(np.float16).astype(np.float32))


@torch.no_grad()
def test_late_convolutions_in_int8(tmp_path: Path) -> None:
    encoder = staged_encoder()
    dead = encoder.backbone.blocks[1][0]  # a channel that does not depend on its input
    dead.weight[2] *= 1e-9
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (24, 3, 32, 32), dtype=np.uint8)
    expected = encoder(torch.from_numpy(views)).regions.numpy()
    model, weights = traced(encoder_graph(encoder, regions=True)), SharedWeights(WEIGHTS)
    everything = [node for node in model.graph.node if node.op_type == "Conv"]
    assert integer.late_convolutions(model, 10**6) == []
    chosen = integer.late_convolutions(model, 400)
    assert [len(chosen), len(everything)] == [2, 3]  # the first one is small
    assert [n.output for n in chosen] == [n.output for n in everything[1:]]
    rounded = integer.roundings(model, chosen, views[:12])
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    biases = {node.input[2]: values[node.input[2]] for node in chosen}
    weights.move(model, "fp32", whole={node.input[1] for node in chosen})
    integer.convolve_in_int8(model, weights, chosen, rounded, biases)
    run = session(model, weights, tmp_path, folds=False)
    found = run.run(["regions"], {"pixels": views})[0]
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 0 < error < 0.05


def test_an_activation_is_rounded_with_the_least_error() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=1_000_000).astype(np.float32)
    values[0] = 40.0  # one that is far out does not decide for all
    how = integer._best_rounding(values)
    zero = np.float32(how.zero)
    rounded = (np.clip(np.round(values / how.scale) + zero, 0, 255) - zero) * how.scale
    widest = (40 - values.min()) / 255
    assert how.scale < 0.8 * widest
    assert np.square(rounded - values)[1:].mean() < widest**2 / 12
    only = integer._best_rounding(np.zeros(10, np.float32))
    assert only.zero == 0 and only.scale > 0


@pytest.mark.parametrize("storage", ["fp32", "int8"])
def test_weights_beside_those_in_int8_are_multiplied(storage: str) -> None:
    """onnxruntime would not unpack them once, where a graph computes in int8."""
    model, weights = traced(encoder_graph(staged_encoder(), regions=True)), SharedWeights(WEIGHTS)
    chosen = integer.late_convolutions(model, 800)
    weights.move(model, storage, whole={node.input[1] for node in chosen})
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("DequantizeLinear") == len(chosen) == 1
    assert kinds.count("Mul") == (1 if storage == "int8" else 0)
