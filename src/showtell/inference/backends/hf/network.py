"""A captioning network of transformers: loaded without remote code, fed with pictures, and run.

Networks differ in what they want beside the picture (``Family``): nothing (BLIP, GIT, ViT-GPT2), a
task (Florence-2), words (BLIP-2, PaliGemma) or a conversation (SmolVLM, Qwen-VL, LLaVA). ``run``
gives token ids with their log-probabilities, whatever the network is. torch and transformers are
imported when the first network is loaded.
"""

import copy
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from showtell.config import DecodingConfig
from showtell.core.device import Runtime
from showtell.core.torchvision import lacks_operators, make_torchvision_importable
from showtell.errors import (
    CheckpointError,
    ConfigError,
    ImageError,
    MissingExtraError,
    first_line,
    one_line,
)

PLAIN = ("blip", "git", "vision-encoder-decoder")
NUM_TOKENS = {"plain": 30, "task": 200, "words": 60, "chat": 200}
"""The most tokens of a caption, where a model does not say."""

TASKS = {"short": "<CAPTION>", "detailed": "<DETAILED_CAPTION>", "alt": "<CAPTION>"}
"""Florence-2's own words for the named prompts."""

UNUSED = re.compile(r"pooler|position_ids")
"""Weights that may be missing from a file, because no caption depends on them."""

Auto = ("AutoModelForImageTextToText", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM")


class Family(Enum):
    """What a network wants beside the picture."""

    plain = "plain"
    task = "task"
    words = "words"
    chat = "chat"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a network says of one picture, once.

    Attributes:
        ids: without the prompt, up to the end token, which is the last if it was reached.
        log_probs: of each, in nats, by the network alone: no penalty or limit changes them.
        ended: whether the last one is an end token.
    """

    ids: list[int]
    log_probs: list[float]
    ended: bool


class Network:
    """A network with all that stands between pictures and its tokens.

    Attributes:
        kind: its type, as transformers calls it: ``blip``, ``qwen2_vl``.
        family: what it wants beside the picture.
        tokenizer: turns ids into text.
        num_parameters: of all its parts.
    """

    def __init__(self, folder: Path, name: str, runtime: Runtime, *, trusted: bool) -> None:
        """Load it.

        Args:
            name: of the model, for messages.
            trusted: whether Python in the folder may run.

        Raises:
            CheckpointError: it is damaged, is not a captioner, or needs Python that is not trusted.
            ConfigError, MissingExtraError: a package is missing or does not fit.
        """
        transformers = import_transformers()
        self.runtime = runtime
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trusted}
        with _loading(name, trusted), quiet():
            config = transformers.AutoConfig.from_pretrained(folder, **options)
            self.kind = str(config.model_type)
            auto = _auto_class(transformers, config, name, trusted)
            self._model, told = auto.from_pretrained(
                folder,
                dtype=runtime.dtype,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
            missing = sorted(key for key in told["missing_keys"] if not UNUSED.search(key))
            if missing:
                raise CheckpointError(
                    f"{name}: {len(missing)} weights are missing, such as {missing[0]}: the files "
                    "are damaged, or of another kind of model"
                )
            self._load_processor(transformers, folder, options)
        self._turn = threading.Lock()
        self._model = self._model.eval().to(runtime.device)
        self.num_parameters = sum(p.numel() for p in self._model.parameters())
        self._ends = self._end_tokens()

    def _load_processor(self, transformers: Any, folder: Path, options: dict[str, Any]) -> None:
        if self.kind in PLAIN:
            self.family = Family.plain
            self._processor = transformers.AutoImageProcessor.from_pretrained(folder, **options)
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
            return
        self._processor = transformers.AutoProcessor.from_pretrained(folder, **options)
        self.tokenizer = self._processor.tokenizer
        template = getattr(self.tokenizer, "chat_template", None)
        if not getattr(self._processor, "chat_template", None) and "image" in str(template):
            self._processor.chat_template = template  # older files have it beside the words
        if self.kind.startswith("florence2"):
            self.family = Family.task
        elif getattr(self._processor, "chat_template", None):
            self.family = Family.chat
        else:
            self.family = Family.words
        if not self._model.config.is_encoder_decoder:
            self.tokenizer.padding_side = "left"  # captions begin where prompts end
            if self.tokenizer.pad_token is None:
                self.tokenizer.pad_token = self.tokenizer.eos_token

    @property
    def _writer(self) -> Any:
        """The part whose ``generate`` runs, with its own settings."""
        return self._model.text_decoder if self.kind == "blip" else self._model

    def _own(self, name: str) -> Any:
        """A setting that the model itself has; None where it has none."""
        found = [
            getattr(part.generation_config, name, None) for part in (self._model, self._writer)
        ]
        return next((value for value in found if value is not None), None)

    def _end_tokens(self) -> set[int]:
        ends = self._own("eos_token_id")
        if self.kind == "blip":  # its ``generate`` says so, whatever the settings are
            ends = self._model.config.text_config.sep_token_id
        if ends is None:
            ends = self.tokenizer.eos_token_id
        return {ends} if isinstance(ends, int) else set(ends or ())

    def own_decoding(self) -> DecodingConfig:
        """How the model captions where nobody says otherwise."""
        beams = int(self._own("num_beams") or 1)
        shortest, longest = self._own_lengths()
        return DecodingConfig(
            method="beam" if beams > 1 else "greedy",
            beam_size=min(beams, 100),
            length_penalty=min(max(0.0, float(self._own("length_penalty") or 0.0)), 10.0)
            if self._own("length_penalty") is not None
            else 1.0,
            min_length=min(shortest, longest),
            max_length=longest,
            no_repeat_ngram=self._own("no_repeat_ngram_size") or None,
        )

    def _own_lengths(self) -> tuple[int, int]:
        """The fewest and the most tokens of a caption, as the model has it.

        ``min_length`` and ``max_length`` of transformers count what stands before the caption: one
        token that begins it, or a prompt, whose length is not known here.
        """
        begun = 1 if self.family is Family.plain or self._model.config.is_encoder_decoder else None
        shortest, longest = self._own("min_new_tokens"), self._own("max_new_tokens")
        if shortest is None and begun is not None:
            shortest = (self._own("min_length") or begun) - begun
        total = self._own("max_length")
        if longest is None and total not in (None, 20):  # which is transformers' default
            longest = total - (begun or 0)
        return (
            max(0, int(shortest or 0)),
            max(1, min(int(longest or NUM_TOKENS[self.family.value]), 200)),
        )

    def prompt_for(self, prompt: str | None, instruction: str | None) -> str | None:
        """What the network is told, of a user's prompt.

        Args:
            prompt: as given; a name such as ``short``, or the text itself.
            instruction: the text that a name stands for.

        Raises:
            ConfigError: this network takes no prompt.
        """
        if self.family is Family.plain:
            if prompt is not None:
                raise ConfigError(
                    f"--prompt: a captioner of the kind {self.kind!r} follows no instruction"
                )
            return None
        if self.family is Family.task:
            return TASKS.get(prompt or "short", prompt)
        return instruction

    def inputs(self, images: Sequence[Image.Image], prompt: str | None) -> Any:
        """What ``generate`` takes for pictures: tensors on the network's device.

        Raises:
            ImageError: the model refuses one, such as Qwen2-VL a strip 200 times as long as wide.
        """
        try:
            found = self._processed(list(images), prompt)
        except ValueError as error:
            raise ImageError(f"{self.kind} cannot see it: {first_line(error)}") from None
        return found.to(self.runtime.device, self.runtime.dtype)

    def _processed(self, pictures: list[Image.Image], prompt: str | None) -> Any:
        if self.family is Family.plain:
            return self._processor(images=pictures, return_tensors="pt")
        if self.family is Family.chat:
            assert prompt is not None
            text = self._processor.apply_chat_template(
                [
                    {
                        "role": "user",
                        "content": [{"type": "image"}, {"type": "text", "text": prompt}],
                    }
                ],
                add_generation_prompt=True,
            )
            begin = self.tokenizer.bos_token
            # The template may have written the token that begins a text; it stands there once.
            options = {"add_special_tokens": False} if begin and text.startswith(begin) else {}
            return self._processor(
                images=[[picture] for picture in pictures],
                text=[text] * len(pictures),
                return_tensors="pt",
                padding=True,
                **options,
            )
        words = {} if prompt is None else {"text": [prompt] * len(pictures), "padding": True}
        return self._processor(images=pictures, return_tensors="pt", **words)

    def run(
        self,
        images: Sequence[Image.Image],
        prompt: str | None,
        decoding: DecodingConfig,
        *,
        first: int = 0,
    ) -> list[list[Tokens]]:
        """The captions of each picture, best first; calls from several threads wait for each other.

        Args:
            first: the first picture's number, of which its samples depend.
        """
        torch: Any = import_module("torch")
        num = decoding.num_captions
        samples = decoding.method == "sample"
        seen = [image for image in images for _ in range(num)] if samples else images
        with self._turn, quiet(), torch.no_grad():
            inputs = self.inputs(seen, prompt)
            keys = [(decoding.seed, first + n, s) for n in range(len(images)) for s in range(num)]
            found = self._model.generate(
                **inputs,
                generation_config=self._generation_config(decoding),
                logits_processor=_sampling(decoding, keys) if samples else None,
            )
            tokens = self._tokens(torch, found)
        rows = [tokens[start : start + num] for start in range(0, len(tokens), num)]
        if samples:
            rows = [sorted(row, key=lambda t: -sum(t.log_probs)) for row in rows]
        return rows

    def _generation_config(self, decoding: DecodingConfig) -> Any:
        """``decoding`` in transformers' words; what it does not name stays as the model has it."""
        beams = decoding.beam_size if decoding.method == "beam" else 1
        config = copy.deepcopy(self._writer.generation_config)
        for name, value in {
            "num_beams": beams,
            "num_return_sequences": decoding.num_captions if decoding.method == "beam" else 1,
            "do_sample": False,  # samples come from ``_sampling``
            "temperature": None,
            "top_k": None,
            "top_p": None,
            "max_length": None,
            "max_new_tokens": decoding.max_length,
            "min_length": None,
            "min_new_tokens": decoding.min_length or None,
            "length_penalty": decoding.length_penalty if beams > 1 else None,
            "early_stopping": self._own("early_stopping") if beams > 1 else None,
            "no_repeat_ngram_size": decoding.no_repeat_ngram,
            "return_dict_in_generate": True,
            "output_logits": True,
        }.items():
            setattr(config, name, value)
        if config.pad_token_id is None and self._ends:
            config.pad_token_id = min(self._ends)
        return config

    def _tokens(self, torch: Any, found: Any) -> list[Tokens]:
        """The generated tokens of each row with their log-probabilities.

        ``found.logits`` are of each step (rows of the search, V). Beams change rows, so the row in
        which a caption had its token at each step is looked up in ``beam_indices``.
        """
        sequences, logits = found.sequences, found.logits
        beams = getattr(found, "beam_indices", None)
        length = len(logits) if beams is None else beams.shape[1]
        ids = sequences[:, sequences.shape[1] - length :]
        log_probs = torch.zeros(ids.shape, dtype=torch.float32, device=ids.device)
        for step in range(length):
            scores = logits[step]
            if beams is not None:
                scores = scores[beams[:, step].clamp(min=0)]
            chosen = scores.gather(1, ids[:, step : step + 1]).squeeze(1)
            log_probs[:, step] = chosen - scores.logsumexp(1)
        return [self._cut(*row) for row in zip(ids.tolist(), log_probs.tolist(), strict=True)]

    def _cut(self, ids: list[int], log_probs: list[float]) -> Tokens:
        """A row up to its end token."""
        end = next((place for place, token in enumerate(ids) if token in self._ends), None)
        size = len(ids) if end is None else end + 1
        return Tokens(ids[:size], log_probs[:size], end is not None)


def import_transformers() -> Any:
    """transformers, or one line that says what is missing.

    Raises:
        MissingExtraError: the extra is not installed.
        ConfigError: torchvision was built for another torch.
    """
    try:
        torch: Any = import_module("torch")
        transformers = import_module("transformers")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers"):
            raise
        raise MissingExtraError("hf", "a captioner hf:ID") from None
    try:
        make_torchvision_importable()  # transformers imports it, if it is there
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        from showtell.encoders.timm import other_torchvision

        if not lacks_operators(error):
            raise ConfigError(f"torchvision cannot be imported: {first_line(error)}") from None
        raise ConfigError(other_torchvision(torch.__version__, "transformers")) from None
    return transformers


def _auto_class(transformers: Any, config: Any, name: str, trusted: bool) -> Any:
    """The class that loads a configuration's model."""
    known = kinds_of_models()
    if config.model_type in known:
        return transformers.AutoModelForImageTextToText
    remote = getattr(config, "auto_map", None) or {}
    if trusted:
        for auto in Auto:
            if auto in remote:
                return getattr(transformers, auto)
    raise CheckpointError(
        f"{name} is a model of the kind {config.model_type!r}, which is not a captioner that "
        "transformers knows (BLIP, GIT, vision-encoder-decoder, Florence-2, SmolVLM, Qwen-VL, LLaVA"
        " and others)" + "; its own Python runs with --trust-remote-code" * bool(remote)
    )


def kinds_of_models() -> set[str]:
    """The types of models that make text of pictures."""
    auto = import_module("transformers.models.auto.modeling_auto")
    return set(auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


@contextmanager
def _loading(name: str, trusted: bool) -> Iterator[None]:
    """Turn what transformers raises into one line."""
    safetensors: Any = import_module("safetensors")
    try:
        yield
    except (CheckpointError, ConfigError):
        raise
    except ImportError as error:
        needed = re.search(r"pip install ([\w-]+)", str(error))
        how = f"pip install {needed[1]}" if needed else first_line(error)
        raise ConfigError(f"{name} needs a package that is not installed: {how}") from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError,
            safetensors.SafetensorError) as error:  # fmt: skip
        text = one_line(error)
        if "trust_remote_code" in text or "custom code" in text:
            raise CheckpointError(
                f"{name} brings Python of its own, which is not run: if you trust whoever made "
                "it, add --trust-remote-code"
            ) from None
        raise CheckpointError(f"{name} cannot be loaded: {one_line(error, 300)}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its own log lines and progress bars."""
    logging: Any = import_module("transformers.utils.logging")
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _sampling(decoding: DecodingConfig, keys: Sequence[tuple[int, int, int]]) -> Any:
    """Logits processors by which greedy search draws samples.

    The largest of log-probabilities plus Gumbel noise is a sample (Gumbel 1954; Maddison et al.
    2014, section 2). The noise of a row depends on its key alone, so that a picture has the same
    samples in every batch, and no global random state is touched.
    """
    torch: Any = import_module("torch")
    generation: Any = import_module("transformers.generation.logits_process")

    class Gumbel(generation.LogitsProcessor):  # type: ignore[misc]
        def __init__(self) -> None:
            self._draws = [np.random.Generator(np.random.Philox(_seed(key))) for key in keys]

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            noise: NDArray[np.float64] = np.stack(
                [d.gumbel(size=scores.shape[1]) for d in self._draws]
            )
            return scores.log_softmax(-1) + torch.from_numpy(noise).to(scores)

    found: list[Any] = []
    if decoding.temperature != 1:
        found.append(generation.TemperatureLogitsWarper(decoding.temperature))
    if decoding.top_k is not None:
        found.append(generation.TopKLogitsWarper(decoding.top_k))
    if decoding.top_p is not None and decoding.top_p < 1:
        found.append(generation.TopPLogitsWarper(decoding.top_p))
    return generation.LogitsProcessorList([*found, Gumbel()])


def _seed(key: tuple[int, int, int]) -> np.random.SeedSequence:
    return np.random.SeedSequence(key)
