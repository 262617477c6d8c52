"""An encoder and a decoder as ONNX graphs, traced by torch's exporter.

A model becomes a few graphs. Search stays outside of them, so a decoder is cut where search calls
it (``decoding.hypotheses.Steps``):

- ``encoder``: pixels as bytes -> features; the normalisation is within.
- ``init``: features -> the state before the first token.
- ``step``: tokens and state -> log-probabilities and the entries of the state that change.
- ``look``: as ``step``, and where the decoder looked; only for decoders that attend. It alone is
  traced then: ``step`` is what is left of it without that output.
- ``closer``, ``told``: the classifier's words, and a first state made from given words; only for
  decoders with concepts (``decoding/naming.py``).

Shapes: ``P`` pictures, ``K`` hypotheses of each, ``T`` tokens so far, ``R`` regions. A state's
entries are (P, ...) where they depend on the picture alone and (P, K, ...) where they do not, so
that the number of rows is the product of two sizes, as the tracer needs to know.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from showtell.decoders.base import Decoder, State
from showtell.decoders.fast_cpu import plain_forms
from showtell.decoding.hypotheses import ATTENTION
from showtell.encoders.concepts import ConceptReader
from showtell.encoders.encoder import Encoder
from showtell.encoders.features import Concepts, Features
from showtell.errors import ConfigError, first_line
from showtell.inference.exported import StateEntry
from showtell.text.vocabulary import UNK

OPSET = 20
# What graphs are traced with; sizes of 0 and 1 would be taken for constants.
NUM_PICTURES, NUM_ROWS, NUM_STEPS = 2, 3, 5
TYPES: dict[torch.dtype, Literal["float32", "int64", "bool"]] = {
    torch.float32: "float32",
    torch.int64: "int64",
    torch.bool: "bool",
}


@dataclass(frozen=True)
class Graph:
    """A module to trace.

    Attributes:
        module: takes and returns tensors.
        inputs: by name, in the order of the module's arguments.
        dims: of each input, the names of the dimensions that change, by their number.
        outputs: names of what it returns.
        output_dims: as ``dims``.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    dims: Sequence[Mapping[int, str]]
    outputs: Sequence[str]
    output_dims: Sequence[Mapping[int, str]]


class _Encode(nn.Module):
    def __init__(self, encoder: Encoder, *, regions: bool) -> None:
        super().__init__()
        self.encoder, self.with_regions = encoder, regions

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        features: Features = self.encoder(pixels, regions=self.with_regions)
        return (features.pooled, *([] if features.regions is None else [features.regions]))


class _Init(nn.Module):
    def __init__(self, decoder: Decoder, names: Sequence[str]) -> None:
        super().__init__()
        self.decoder, self.names = decoder, names

    def forward(self, pooled: Tensor, regions: Tensor | None = None) -> tuple[Tensor, ...]:
        return self.start(Features(pooled, regions))

    def start(self, features: Features) -> tuple[Tensor, ...]:
        state = self.decoder.init_state(features)
        return tuple(state[name] for name in self.names)


class _Told(_Init):
    """``_Init`` with the regions that may be seen, and with words in place of the classifier's."""

    def forward(  # type: ignore[override]
        self, pooled: Tensor, regions: Tensor, mask: Tensor, words: Tensor, scores: Tensor
    ) -> tuple[Tensor, ...]:
        return self.start(Features(pooled, regions, mask, concepts=Concepts(words, scores)))


class _Closer(nn.Module):
    def __init__(self, reader: ConceptReader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, pooled: Tensor, regions: Tensor) -> tuple[Tensor, ...]:
        found = self.reader.look_closer(pooled, regions)
        assert found is not None
        return (*found[:3], *found.concepts, *self.reader(pooled))


CLOSER_OUTPUTS = (
    *("rare_word", "rare_score", "uncommon_score"),
    *("words", "scores", "usual_words", "usual_scores"),
)


class _Step(nn.Module):
    """A step of search over (P, K) rows.

    Args:
        names: of the state's entries, without the attention.
        returned: of those that a step changes.
        num_regions: R, if the attention is wanted.
    """

    def __init__(
        self,
        decoder: Decoder,
        names: Sequence[str],
        returned: Sequence[str],
        num_regions: int | None,
    ) -> None:
        super().__init__()
        self.decoder, self.names, self.returned = decoder, names, returned
        self.num_regions = num_regions

    def forward(self, tokens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        groups = tokens.shape
        by_picture = self.decoder.picture_state
        rows = {
            name: part if name in by_picture else part.flatten(0, 1)
            for name, part in zip(self.names, state, strict=True)
        }
        outputs = list(self.returned)
        if self.num_regions is not None:
            rows[ATTENTION] = torch.zeros(groups[0] * groups[1], self.num_regions)
            outputs.append(ATTENTION)
        log_probs, new = self.decoder.step(tokens.flatten(), rows)
        parts = (
            new[name] if name in by_picture else new[name].reshape(*groups, *new[name].shape[1:])
            for name in outputs
        )
        return (log_probs.view(*groups, -1), *parts)


def encoder_graph(encoder: Encoder, *, regions: bool) -> Graph:
    """Pixels (P, 3, S, S) uint8 -> pooled (P, D) and, if asked for, regions (P, R, D')."""
    size = encoder.preprocessing.size
    pixels = torch.zeros(NUM_PICTURES, 3, size, size, dtype=torch.uint8)
    names = ["pooled", *(["regions"] if regions else [])]
    return Graph(
        _Encode(encoder, regions=regions),
        {"pixels": pixels},
        [{0: "P"}],
        names,
        [{0: "P"}] * len(names),
    )


@dataclass(frozen=True)
class DecoderGraphs:
    """A decoder's graphs by name, and its state.

    Attributes:
        graphs: those to trace: ``step``, or ``look`` in its place.
        state: the entries, without the attention.
    """

    graphs: dict[str, Graph]
    state: list[StateEntry]

    @property
    def attends(self) -> bool:
        """Whether there is a graph ``look``."""
        return "look" in self.graphs


@torch.no_grad()
def decoder_graphs(decoder: Decoder, features: Features) -> DecoderGraphs:
    """Cut a decoder into graphs.

    Args:
        decoder: in eval mode, on the processor.
        features: of ``NUM_PICTURES`` pictures; of any content.

    Raises:
        ConfigError: the state of the decoder is not what ``Decoder`` promises.
    """
    with plain_forms():
        steps = _first_steps(decoder, features)
    names = [name for name in steps[0] if name != ATTENTION]
    entries = [_entry(name, name in decoder.picture_state, steps) for name in names]
    given: dict[str, Tensor] = {"pooled": features.pooled}
    if features.regions is not None:
        given["regions"] = features.regions
    start = [f"state.{name}" for name in names]
    firsts = [{0: "P"}] * len(names)
    graphs = {"init": Graph(_Init(decoder, names), given, [{0: "P"}] * len(given), start, firsts)}
    num_regions = steps[0][ATTENTION].shape[1] if ATTENTION in steps[0] else None
    step = "step" if num_regions is None else "look"
    graphs[step] = _step_graph(decoder, entries, steps[-1], num_regions)
    reader = getattr(decoder, "concepts", None)
    if isinstance(reader, ConceptReader) and features.regions is not None:
        closer = reader.look_closer(features.pooled, features.regions)
        if closer is not None:
            everywhere = torch.ones(features.regions.shape[:2], dtype=torch.bool)
            told = {**given, "mask": everywhere, **closer.concepts._asdict()}
            graphs["told"] = Graph(
                _Told(decoder, names), told, [{0: "P"}] * len(told), start, firsts
            )
            graphs["closer"] = Graph(
                _Closer(reader),
                given,
                [{0: "P"}] * 2,
                CLOSER_OUTPUTS,
                [{0: "P"}] * len(CLOSER_OUTPUTS),
            )
    return DecoderGraphs(graphs, entries)


def _first_steps(decoder: Decoder, features: Features) -> list[State]:
    """The state before the first token and after each of the first ``NUM_STEPS``, of P K rows."""
    state = {
        name: part if name in decoder.picture_state else part.repeat_interleave(NUM_ROWS, dim=0)
        for name, part in decoder.init_state(features).items()
    }
    steps, tokens = [state], torch.full((NUM_PICTURES * NUM_ROWS,), UNK)
    for _ in range(NUM_STEPS):
        _, state = decoder.step(tokens, state)
        if state.keys() != steps[0].keys():
            changed = ", ".join(sorted(state.keys() ^ steps[0].keys()))
            raise ConfigError(
                f"{type(decoder).__name__} cannot be exported: a step adds or removes entries of "
                f"its state ({changed}); every step must return the entries of init_state"
            )
        steps.append(state)
    return steps


def _entry(name: str, by_picture: bool, steps: Sequence[State]) -> StateEntry:
    """What a state's entry looks like: its shape without rows, ``T`` where a step makes it grow."""
    (before, after), first = (state[name] for state in steps[-2:]), steps[0][name]
    shape: list[int | Literal["T"]] = [
        "T" if one != two else two
        for one, two in zip(before.shape[1:], after.shape[1:], strict=True)
    ]
    if first.dtype not in TYPES:
        raise ConfigError(
            f"the decoder's state has {name} of type {first.dtype}, which cannot be exported; "
            f"expected one of {', '.join(TYPES.values())}"
        )
    return StateEntry(
        name=name,
        dtype=TYPES[first.dtype],
        shape=shape,
        by_picture=by_picture,
        changes=after is not before,
    )


def _step_graph(
    decoder: Decoder, entries: Sequence[StateEntry], state: State, num_regions: int | None
) -> Graph:
    tokens = torch.full((NUM_PICTURES, NUM_ROWS), UNK)
    inputs, dims = {"tokens": tokens}, [{0: "P", 1: "K"}]
    outputs, output_dims = ["log_probs"], [{0: "P", 1: "K"}]
    for entry in entries:
        rows = {0: "P"} if entry.by_picture else {0: "P", 1: "K"}
        grows = [len(rows) + i for i, size in enumerate(entry.shape) if size == "T"]
        part = state[entry.name]
        given = part if entry.by_picture else part.reshape(*tokens.shape, *part.shape[1:])
        inputs[f"state.{entry.name}"] = given.contiguous()
        dims.append(rows | dict.fromkeys(grows, "T"))
        if entry.changes:
            outputs.append(f"next.{entry.name}")
            output_dims.append(rows | dict.fromkeys(grows, "T + 1"))
    if num_regions is not None:
        outputs.append(ATTENTION)
        output_dims.append({0: "P", 1: "K"})
    names = [entry.name for entry in entries]
    returned = [entry.name for entry in entries if entry.changes]
    module = _Step(decoder, names, returned, num_regions)
    return Graph(module, inputs, dims, outputs, output_dims)


def trace(graph: Graph) -> onnx.ModelProto:
    """Trace a module by torch.export, and translate it.

    The older exporter (``dynamo=False``) is no choice: it writes graphs in which sizes that Python
    read are constants, and they give wrong results for other batches without any error.

    Raises:
        ConfigError: the module cannot be traced.
    """
    moving: list[dict[int, Any]] = [dict.fromkeys(dims, Dim.DYNAMIC) for dims in graph.dims]
    inputs = tuple(graph.inputs.values())
    try:
        with torch.no_grad(), plain_forms(), _quiet():
            program = torch.export.export(
                graph.module, inputs, dynamic_shapes=_by_argument(graph.module, moving)
            )
            program.example_inputs = None  # with it, checks of the inputs would be traced as well
            made = torch.onnx.export(
                program,
                dynamo=True,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch's tracer fails in as many ways as there are programs
        raise ConfigError(
            f"{type(graph.module).__name__.strip('_').lower()} graph: torch cannot export it "
            f"({first_line(error)})"
        ) from error
    assert made is not None
    return _tidied(made.model_proto, graph)


def _by_argument(module: nn.Module, dims: list[dict[int, Any]]) -> tuple[Any, ...]:
    """One entry for each parameter of ``forward``; that of ``*state`` is a tuple."""
    return (dims[0], tuple(dims[1:])) if isinstance(module, _Step) else tuple(dims)


def _tidied(model: onnx.ModelProto, graph: Graph) -> onnx.ModelProto:
    """Without what names this machine's files, and with names for the sizes that change."""
    del model.metadata_props[:], model.graph.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    model.graph.name = "showtell"
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    _drop_unused(model)
    named = dict(zip(graph.inputs, graph.dims, strict=True))
    for value in model.graph.input:
        _name_sizes(value, named[value.name])
    for value, dims in zip(model.graph.output, graph.output_dims, strict=True):
        _name_sizes(value, dims)
    return model


def without_attention(look: onnx.ModelProto) -> onnx.ModelProto:
    """The graph ``step`` from the graph ``look``."""
    step = onnx.ModelProto()
    step.CopyFrom(look)
    [attention] = [value for value in step.graph.output if value.name == ATTENTION]
    step.graph.output.remove(attention)
    _drop_unused(step)
    return step


def _drop_unused(model: onnx.ModelProto) -> None:
    """Remove what no output follows from: nodes, weights and inputs. Nodes are numbered anew."""
    nodes, used = model.graph.node, {value.name for value in model.graph.output}
    for number in reversed(range(len(nodes))):  # they are in the order of computation
        if used.isdisjoint(nodes[number].output):
            del nodes[number]
        else:
            used.update(filter(None, nodes[number].input))
    for number, node in enumerate(nodes):
        node.name = f"{node.op_type}_{number}"
    for values in (model.graph.initializer, model.graph.input):
        for number in reversed(range(len(values))):
            if values[number].name not in used:
                del values[number]


def _name_sizes(value: onnx.ValueInfoProto, dims: Mapping[int, str]) -> None:
    for number, size in enumerate(value.type.tensor_type.shape.dim):
        if number in dims:
            size.dim_param = dims[number]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings, none of which is about what a user can change.

    Where there is no torchvision, it logs for each graph which of its operators it leaves out.
    """
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    logger.addFilter(_is_news)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("torchvision is not installed")
