"""The graphs of an export in onnxruntime: loaded when they are first needed, and checked.

Those that find where the decoder looked, or that name things, are for few requests.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from showtell.core.device import Runtime
from showtell.core.memory import give_back_memory
from showtell.core.onnxruntime import InferenceSession, onnxruntime
from showtell.decoding.arrays import Array
from showtell.decoding.hypotheses import ATTENTION
from showtell.errors import CheckpointError, ConfigError, first_line
from showtell.inference.exported import Manifest, StateEntry, graph_file

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
