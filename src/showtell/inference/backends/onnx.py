"""Exported models (``showtell export``): their graphs run in onnxruntime, search runs in NumPy.

A captioner of this kind imports no torch. ``graphs.py`` loads the graphs.
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from showtell.config import DecodingConfig
from showtell.core.device import Runtime
from showtell.core.files import short_digest
from showtell.decoding.arrays import Array, Ids, State
from showtell.decoding.constraints.named_words import named_words
from showtell.decoding.ensemble import Ensemble
from showtell.decoding.hypotheses import ATTENTION, Steps
from showtell.decoding.reranking import RERANKER, Reranker
from showtell.encoders.features import Closer, Concepts, Features
from showtell.errors import CheckpointError, ConfigError
from showtell.images.open import Pixels
from showtell.images.preprocess import Preprocessing
from showtell.inference.backends.graphs import Graphs, choose_onnx_runtime
from showtell.inference.backends.local import (
    LocalCaptioner,
    calibration_in,
    check_companion,
    model_name,
)
from showtell.inference.captioner import ModelInfo
from showtell.inference.exported import find_export, read_export
from showtell.inference.files import VOCABULARY
from showtell.inference.loading import ModelRequest
from showtell.pretrained import DEFAULT, LICENCE, shipped_folder
from showtell.text.vocabulary import Vocabulary, load_vocabulary

# Pictures in a pass of the encoder: on a processor one is the fastest, and features then do not
# depend on the other pictures of a batch.
AT_ONCE, AT_ONCE_ON_GPU = 1, 64


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
        if self.manifest.compute == "int8":
            self.runtime = replace(self.runtime, precision_reason="and int8, as exported")
        self.name, self.metrics = self.manifest.name, self.manifest.metrics
        self.licence = self.manifest.licence
        self.parts = tuple(ExportedDecoder(each) for each in (graphs, *others))
        self.steps: Steps = Ensemble(self.parts) if others else self.parts[0]
        # All have one encoder, but its graph gives regions only where its own decoder reads them.
        seeing = [each for each in (graphs, *others) if each.manifest.encoder.grid_size is not None]
        self._encoder = seeing[0] if seeing else graphs
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
        """As ``LocalCaptioner.encode``; regions are there if a decoder needs them.

        Raises:
            ConfigError: regions are asked for, and no graph gives them.
        """
        if regions and self._encoder.manifest.encoder.grid_size is None:
            raise ConfigError(f"the export {self.name} gives no grid features")
        pixels = np.ascontiguousarray(views)
        num = AT_ONCE if self.runtime.device == "cpu" else AT_ONCE_ON_GPU
        parts = [
            self._encoder.run("encoder", {"pixels": pixels[first : first + num]})
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
