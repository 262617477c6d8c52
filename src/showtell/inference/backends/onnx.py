"""Exported models (``showtell export``): their graphs run in onnxruntime, search runs in NumPy.

A captioner of this kind imports no torch. Graphs are loaded when they are first needed: those that
find where the decoder looked, or that name things, are for few requests.
"""

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from onnxruntime import InferenceSession

from showtell.config import DecodingConfig
from showtell.core.device import Runtime
from showtell.core.files import short_digest
from showtell.core.memory import give_back_memory
from showtell.decoding.arrays import Array, Ids, State
from showtell.decoding.constraints.named_words import named_words
from showtell.decoding.ensemble import Ensemble
from showtell.decoding.hypotheses import ATTENTION, Steps
from showtell.decoding.reranking import RERANKER, Reranker
from showtell.encoders.features import Closer, Concepts, Features
from showtell.errors import CheckpointError, ConfigError, first_line
from showtell.images.open import Pixels
from showtell.images.preprocess import Preprocessing
from showtell.inference.backends.local import (
    LocalCaptioner,
    calibration_in,
    check_companion,
    model_name,
)
from showtell.inference.captioner import ModelInfo
from showtell.inference.exported import Manifest, StateEntry, find_export, graph_file, read_export
from showtell.inference.files import VOCABULARY
from showtell.inference.loading import ModelRequest
from showtell.pretrained import DEFAULT, LICENCE, shipped_folder
from showtell.text.vocabulary import Vocabulary, load_vocabulary

# onnxruntime's execution providers, by the names of devices.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "directml": "DmlExecutionProvider",
}
# What computes graphs of fixed sizes alone. A step of search has sizes of its own each time, and
# OpenVINO's Reshape refuses the first, whose cache is empty; so only the encoder goes there.
ENCODERS_ALONE = frozenset({"coreml", "openvino", "directml"})
TYPES = {"float32": "tensor(float)", "int64": "tensor(int64)", "bool": "tensor(bool)"}
# Pictures in a pass of the encoder: on a processor one is the fastest, and features then do not
# depend on the other pictures of a batch.
AT_ONCE, AT_ONCE_ON_GPU = 1, 64
FIRST = ("encoder", "init", "step")  # what every caption needs
QUIET = 3  # onnxruntime's level for errors; its warnings are for those who make graphs


Loaded = tuple[InferenceSession, list[str], list[str]]  # with the names of inputs and outputs


class Graphs:
    """The graphs of one export, each loaded when it is first run.

    Args:
        folder: whose files ``read_export`` has checked.
        manifest: what it returned.
        runtime: device and threads.
    """

    def __init__(self, folder: Path, manifest: Manifest, runtime: Runtime) -> None:
        self.folder, self.manifest, self.runtime = folder, manifest, runtime
        self._loaded: dict[str, Loaded] = {}
        self._coming: dict[str, Future[Loaded]] = {}

    def load_ahead(self) -> None:
        """Begin to load in threads what every caption needs, while the picture is being read."""
        pool = ThreadPoolExecutor(len(FIRST))
        self._coming = {graph: pool.submit(self._load, graph) for graph in FIRST}
        pool.shutdown(wait=False)

    def run(self, graph: str, feed: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of a graph, by name.

        Args:
            feed: may have more than the graph reads.

        Raises:
            CheckpointError: the graph cannot be loaded, or does not fit the manifest.
        """
        if graph not in self._loaded:
            coming = self._coming.pop(graph, None)
            self._loaded[graph] = self._load(graph) if coming is None else coming.result()
            if not self._coming:
                give_back_memory()  # what loading took beside the weights
        session, inputs, outputs = self._loaded[graph]
        try:
            found = session.run(outputs, {name: feed[name] for name in inputs})
        except Exception as error:  # onnxruntime's errors have no common class
            raise CheckpointError(
                f"{self.folder / graph_file(graph)} cannot be computed: {first_line(error)}"
            ) from None
        return dict(zip(outputs, found, strict=True))

    def _load(self, graph: str) -> Loaded:
        path = self.folder / graph_file(graph)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.runtime.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = QUIET
        # Each session has threads of its own. They must not wait busily for its next run while
        # another session computes: on two cores that more than doubled a lone photo's time.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if self.manifest.compute == "fp32" or graph != "encoder":
            # Otherwise onnxruntime would unpack weights in int8 anew in each run.
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        elif products_overflow():
            options.add_session_config_entry("session.x64quantprecision", "1")
        # Sizes change from step to step; plans of memory for each would be kept for ever.
        options.enable_mem_pattern = graph == "encoder"
        try:
            session = InferenceSession(
                path, options, providers=_providers(self.runtime.device, graph)
            )
        except Exception as error:
            raise CheckpointError(f"{path} cannot be loaded: {first_line(error)}") from None
        taken = {value.name: (value.type, value.shape) for value in session.get_inputs()}
        given = {value.name: (value.type, value.shape) for value in session.get_outputs()}
        expected = _signature(graph, self.manifest)
        unknown = taken.keys() - expected[0].keys()
        if unknown or given.keys() != expected[1].keys():
            name = min(unknown or given.keys() ^ expected[1].keys())
            raise CheckpointError(f"{path} does not fit the manifest: {name}")
        for name, found in (taken | given).items():
            wanted = (expected[0] | expected[1])[name]
            if not _fits(found, wanted):
                raise CheckpointError(
                    f"{path} does not fit the manifest: {name} is {found[0]} of shape {found[1]}, "
                    f"expected {wanted[0]} of shape {list(wanted[1])}"
                )
        return session, list(taken), list(given)


@cache
def products_overflow() -> bool:
    """Whether onnxruntime's products in int8 overflow on this processor.

    With AVX2 and no VNNI, pairs of products are added in 16 bits. The features' error is 1.8 times
    as large then, unless onnxruntime is asked for precision, which is slower where nothing
    overflows. A product of the largest numbers shows it, whatever the processor calls itself.
    """
    levels, weights = np.full((1, 64), 255, np.uint8), np.full((64, 16), 127, np.int8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = InferenceSession(
        Path(__file__).with_name("int8_product.onnx"), options, providers=["CPUExecutionProvider"]
    )
    [sums] = session.run(None, {"levels": levels, "weights": weights})
    return bool((sums != levels.astype(np.int32) @ weights.astype(np.int32)).any())


Value = tuple[str, Sequence[int | str | None]]  # type and shape; None is any size


def _fits(found: Value, wanted: Value) -> bool:
    if found[0] != wanted[0] or len(found[1]) != len(wanted[1]):
        return False
    # A size that the graph leaves open fits all.
    pairs = zip(found[1], wanted[1], strict=True)
    return all(one == two or not isinstance(one, int) or two is None for one, two in pairs)


def _signature(graph: str, manifest: Manifest) -> tuple[dict[str, Value], dict[str, Value]]:
    """What a graph may take, and what it must give."""
    floats, ids = TYPES["float32"], TYPES["int64"]
    encoder, decoder = manifest.encoder, manifest.decoder
    features: dict[str, Value] = {"pooled": (floats, [None, encoder.pooled_size])}
    regions = [None, *(encoder.grid_size or ())]
    if encoder.grid_size is not None:
        features["regions"] = (floats, regions)
    if graph == "encoder":
        size = encoder.preprocessing.size
        return {"pixels": ("tensor(uint8)", [None, 3, size, size])}, features
    if graph == "closer":
        numbers: dict[str, Value] = dict.fromkeys(
            ("rare_score", "uncommon_score"), (floats, [None])
        )
        words = {"words": ids, "scores": floats, "usual_words": ids, "usual_scores": floats}
        lists: dict[str, Value] = {name: (kind, [None, None]) for name, kind in words.items()}
        return features, {"rare_word": (ids, [None]), **numbers, **lists}
    if graph in ("init", "told"):
        told: dict[str, Value] = {
            "mask": (TYPES["bool"], regions[:2]),
            "words": (ids, [None, None]),
            "scores": (floats, [None, None]),
        }
        return features | told, _state("state", [None], decoder.state)
    rows = [None, None]
    taken: dict[str, Value] = {"tokens": (ids, rows), **_state("state", rows, decoder.state)}
    given: dict[str, Value] = {"log_probs": (floats, [*rows, manifest.vocab_size])}
    if graph == "look":
        given[ATTENTION] = (floats, [*rows, *regions[1:2]])
    changed = [entry for entry in decoder.state if entry.changes]
    return taken, given | _state("next", rows, changed)


def _state(prefix: str, rows: list[None], entries: Sequence[StateEntry]) -> dict[str, Value]:
    return {
        f"{prefix}.{entry.name}": (
            TYPES[entry.dtype],
            [*(rows[:1] if entry.by_picture else rows)]
            + [None if size == "T" else size for size in entry.shape],
        )
        for entry in entries
    }


class ExportedDecoder:
    """The decoder of an export, as search has it (``Steps``).

    Attributes:
        concepts: reads the encoder's classifier, for ``Naming``; None if the decoder does not.
    """

    def __init__(self, graphs: Graphs) -> None:
        part = graphs.manifest.decoder
        self.graphs, self.entries = graphs, part.state
        self.picture_state = frozenset(entry.name for entry in part.state if entry.by_picture)
        self.max_tokens, self.attends = part.max_tokens, part.attends
        self.concepts = ExportedReader(graphs) if part.names_things else None

    def init_state(self, features: Features) -> State:
        """The state before the first token, of P rows."""
        feed: dict[str, Array] = {"pooled": features.pooled, "regions": features.regions}
        graph = "init"
        if features.concepts is not None:
            graph = "told"
            feed |= {"mask": features.mask, **features.concepts._asdict()}
        found = self.graphs.run(graph, feed)
        state = {entry.name: found[f"state.{entry.name}"] for entry in self.entries}
        if self.attends:
            assert features.regions is not None
            state[ATTENTION] = np.zeros(features.regions.shape[:2], dtype=np.float32)
        return state

    def step(self, tokens: Ids, state: State) -> tuple[Array, State]:
        """(N,) ids -> (N, V) log-probabilities in nats, fp32, and the new state."""
        num = len(tokens)
        num_pictures = next((len(state[name]) for name in self.picture_state), num)
        groups = (num_pictures, num // max(num_pictures, 1))
        feed: dict[str, Array] = {"tokens": tokens.reshape(groups)}
        for entry in self.entries:
            part = state[entry.name]
            feed[f"state.{entry.name}"] = (
                part if entry.by_picture else part.reshape(*groups, *part.shape[1:])
            )
        found = self.graphs.run("look" if ATTENTION in state else "step", feed)
        new = dict(state)
        for entry in self.entries:
            if entry.changes:
                part = found[f"next.{entry.name}"]
                new[entry.name] = part if entry.by_picture else part.reshape(num, *part.shape[2:])
        if ATTENTION in state:
            new[ATTENTION] = found[ATTENTION].reshape(num, -1)
        return found["log_probs"].reshape(num, -1), new


class ExportedReader:
    """The encoder's classifier, as ``Naming`` reads it."""

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs
        self._usual: tuple[Array, Concepts] | None = None

    def __call__(self, pooled: Array) -> Concepts:
        """(P, D) -> the likeliest words; of the pictures that were looked at last."""
        assert self._usual is not None and self._usual[0] is pooled
        return self._usual[1]

    def look_closer(self, pooled: Array, regions: Array) -> Closer:
        """(P, D), (P, R, D) -> the likeliest words in parts of the pictures."""
        found = self.graphs.run("closer", {"pooled": pooled, "regions": regions})
        self._usual = pooled, Concepts(found["usual_words"], found["usual_scores"])
        concepts = Concepts(found["words"], found["scores"])
        return Closer(found["rare_word"], found["rare_score"], found["uncommon_score"], concepts)


class OnnxCaptioner(LocalCaptioner):
    """Captions pictures, or features of pictures, with an exported model or an ensemble.

    Args:
        graphs: of the model.
        vocabulary: of the model.
        decoding: what ``caption`` does by default.
        others: the graphs of further models of the same vocabulary and encoder.
        reranker: of the model, if it has one.
    """

    def __init__(
        self,
        graphs: Graphs,
        vocabulary: Vocabulary,
        decoding: DecodingConfig,
        *,
        others: Sequence[Graphs] = (),
        reranker: Reranker | None = None,
    ) -> None:
        super().__init__()
        self.graphs, self.vocabulary, self._decoding = graphs, vocabulary, decoding
        self.manifest, self.runtime = graphs.manifest, graphs.runtime
        self.name, self.metrics = self.manifest.name, self.manifest.metrics
        self.licence = self.manifest.licence
        self.parts = tuple(ExportedDecoder(each) for each in (graphs, *others))
        self.steps: Steps = Ensemble(self.parts) if others else self.parts[0]
        # Both hold for the probabilities that they were fitted on, not for an ensemble's.
        self.reranker = None if others else reranker
        self.calibration = None if others else calibration_in(self.manifest.metrics, self.reranker)
        named_words(decoding, vocabulary)  # wrong words show now

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT,
        *,
        ensemble: Sequence[str | Path] = (),
        device: str = "auto",
        precision: str = "auto",
        trust_model: bool = False,
        runtime: str = "onnx",
        settings: object = None,  # which mean nothing here
        cleaning: object = None,  # which ``Captioner.load`` sees to
    ) -> Self:
        """As ``Captioner.load``; an export names nothing outside of its folder to be trusted."""
        assert runtime != "torch"
        runs_on = choose_onnx_runtime(device, precision)
        graphs, vocabulary, decoding = _open(model, runs_on)
        reranker = None
        if RERANKER in graphs.manifest.files:
            pooled, grid = graphs.manifest.encoder.pooled_size, graphs.manifest.encoder.grid_size
            sizes = {"feature_size": pooled, "region_size": grid[1] if grid else pooled}
            reranker = Reranker.read(graphs.folder, len(vocabulary), sizes)
        others = []
        for name in ensemble:
            other, words, _ = _open(name, runs_on)
            one, two = (part.manifest.encoder.fingerprint for part in (graphs, other))
            check_companion(model, name, (vocabulary, words), (one, two))
            others.append(other)
        found = cls(graphs, vocabulary, decoding, others=others, reranker=reranker)
        if shipped_folder(model):  # has the name by which it was asked for, as in torch
            found.name, found.licence = model_name(model), LICENCE
        return found

    @classmethod
    def of(cls, request: ModelRequest) -> Self:
        """The model that a user asks for, as ``load``."""
        return cls.load(
            request.model,
            ensemble=request.ensemble,
            device=request.device,
            precision=request.precision,
            trust_model=request.trust_model,
        )

    @cached_property
    def card(self) -> ModelInfo:
        """From the manifest."""
        return ModelInfo(
            name=self.name,
            licence=self.licence,
            num_parameters=self.manifest.num_parameters,
            alternatives=True,
            attention=self.attends,
            calibrated=self.calibration is not None,
        )

    @property
    def attends(self) -> bool:
        """As ``LocalCaptioner.attends``."""
        return any(part.attends for part in self.parts)

    @property
    def decoder_kind(self) -> str:
        """That of the manifest."""
        return self.manifest.decoder.kind

    @property
    def encoder_name(self) -> str:
        """That of the manifest."""
        return self.manifest.encoder.name

    @property
    def decoding(self) -> DecodingConfig:
        """That of the manifest."""
        return self._decoding

    @cached_property
    def recipe(self) -> Preprocessing:
        """That of the manifest."""
        return self.manifest.encoder.preprocessing.preprocessing()

    def encode(self, views: Pixels, *, regions: bool | None = None) -> Features:
        """As ``LocalCaptioner.encode``; regions are there if the decoder needs them.

        Raises:
            ConfigError: regions are asked for, and the graph has none.
        """
        if regions and self.manifest.encoder.grid_size is None:
            raise ConfigError(f"the export {self.name} gives no grid features")
        pixels = np.ascontiguousarray(views)
        num = AT_ONCE if self.runtime.device == "cpu" else AT_ONCE_ON_GPU
        parts = [
            self.graphs.run("encoder", {"pixels": pixels[first : first + num]})
            for first in range(0, len(pixels), num)
        ]
        found: dict[str, Array] = {
            name: np.concatenate([part[name] for part in parts]) for name in parts[0]
        }
        return Features(found["pooled"], None if regions is False else found.get("regions"))

    @cached_property
    def fingerprint(self) -> str:
        """12 digits that stand for the files of all models."""
        parts = [part.graphs.manifest.fingerprint for part in self.parts]
        return parts[0] if len(parts) == 1 else short_digest("\n".join(parts))


def _open(model: str | Path, runtime: Runtime) -> tuple[Graphs, Vocabulary, DecodingConfig]:
    folder = find_export(model)
    if folder is None:
        raise CheckpointError(
            f"{model} is not an exported model: make one with "
            f"`showtell export {shlex.quote(str(model))} -o FOLDER`"
        )
    manifest, decoding = read_export(folder)
    graphs = Graphs(folder, manifest, runtime)
    graphs.load_ahead()
    vocabulary = load_vocabulary(folder / VOCABULARY)
    if len(vocabulary) != manifest.vocab_size:
        raise CheckpointError(
            f"the export {folder} is damaged: {VOCABULARY} has {len(vocabulary)} tokens, and the "
            f"decoder {manifest.vocab_size}"
        )
    return graphs, vocabulary, decoding


def choose_onnx_runtime(device: str = "auto", precision: str = "auto") -> Runtime:
    """Settle the device; ``auto`` is the processor.

    Raises:
        ConfigError: the installed onnxruntime has nothing that computes on it.
    """
    if precision not in ("auto", "fp32"):
        raise ConfigError(f"precision {precision!r}: an export computes in fp32; use auto or fp32")
    kind, _, number = device.partition(":")
    kind = "cpu" if kind == "auto" else kind
    available = [d for d, name in PROVIDERS.items() if name in _available()]
    if kind not in PROVIDERS or (number and (kind != "cuda" or not number.isdecimal())):
        names = ", ".join(["auto", *PROVIDERS])
        raise ConfigError(f"device {device!r}: an export computes on {names} or cuda:NUMBER")
    if kind not in available:
        raise ConfigError(
            f"device {device!r}: the installed onnxruntime computes on {', '.join(available)}; "
            f"install a build of it with {PROVIDERS[kind]}"
        )
    reason = "as asked"
    if device == "auto":
        reason = "the default of exports"
        if shutil.which("nvidia-smi"):  # torch would know, after two seconds
            reason += "; for this machine's NVIDIA GPU: --device cuda"
    return Runtime(
        device=f"{kind}:{number}" if number else kind,
        precision="fp32",
        threads=num_threads(),
        device_reason=f"onnxruntime {onnxruntime.__version__}, {reason}",
        precision_reason="as exports do",
    )


def _available() -> list[str]:
    found: list[str] = onnxruntime.get_available_providers()
    return found


def num_threads() -> int:
    """Threads to compute with: ``OMP_NUM_THREADS``, else one for each processor of this process."""
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if chosen.isdecimal() and int(chosen):
        return int(chosen)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _providers(device: str, graph: str) -> list[Any]:
    kind, _, number = device.partition(":")
    if kind in ENCODERS_ALONE and graph != "encoder":
        kind = "cpu"
    chosen = (PROVIDERS[kind], {"device_id": number}) if number else PROVIDERS[kind]
    # What a device cannot compute, the processor does.
    return [chosen] if kind == "cpu" else [chosen, PROVIDERS["cpu"]]
