"""A pretrained GPT-2 to start ``prefix_lm`` from: its sizes, vocabulary and weights.

It is a folder as transformers writes it (``config.json``, ``tokenizer.json``,
``model.safetensors``), on this machine or on the Hugging Face hub. Only the start of training needs
it: a checkpoint holds everything.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from showtell.core.files import parse_json
from showtell.decoders.prefix_lm import NUM_SPECIAL, PrefixLm
from showtell.errors import ConfigError, first_line, needs_extra, one_line
from showtell.text.subwords import SubwordVocabulary
from showtell.text.vocabulary import END, START

CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"

SIZES = {
    "num_layers": "n_layer",
    "hidden_size": "n_embd",
    "num_heads": "n_head",
    "num_positions": "n_positions",
}
# What ``prefix_lm.GPT2`` computes. A key that config.json lacks has transformers' default, which
# is the first value.
COMPUTED: dict[str, tuple[Any, ...]] = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # transformers has them (in, out)
NO_WEIGHTS = (".attn.bias", ".attn.masked_bias", "lm_head.weight")  # masks, and the words again


@dataclass(frozen=True)
class LanguageModel:
    """A folder with a GPT-2.

    Attributes:
        name: as the user gave it.
        folder: its files.
        config: its ``config.json``.
    """

    name: str
    folder: Path
    config: dict[str, Any]

    @classmethod
    def open(cls, name: str) -> "LanguageModel":
        """Find a local folder, or download a model of the hub (into the hub library's own cache).

        Raises:
            ConfigError: there is none, or it cannot be downloaded, or is not a GPT-2.
            MissingExtraError: a download needs ``huggingface_hub``, which is not installed.
        """
        folder = Path(name) if Path(name).is_dir() else _download(name)
        config = _read_json(folder / CONFIG, name)
        if (kind := config.get("model_type")) != "gpt2":
            raise ConfigError(f"decoder.lm = {name!r} is a {kind!r} model; expected a 'gpt2'")
        for key, computed in COMPUTED.items():
            if config.get(key, computed[0]) not in computed:
                raise ConfigError(
                    f"decoder.lm = {name!r}: {key} = {config[key]!r} in its {CONFIG}; "
                    f"showtell's GPT-2 has {computed[0]!r}"
                )
        if config.get("n_inner") not in (None, 4 * config.get("n_embd", 0)):
            raise ConfigError(f"decoder.lm = {name!r}: n_inner is not four times n_embd")
        return cls(name, folder, config)

    def sizes(self) -> dict[str, int]:
        """The settings of ``prefix_lm`` that the weights determine."""
        try:
            return {setting: int(self.config[key]) for setting, key in SIZES.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"decoder.lm = {self.name!r}: its {CONFIG} lacks {error}") from None

    def vocabulary(self) -> SubwordVocabulary:
        """The model's own vocabulary.

        Raises:
            VocabularyError: its tokeniser is not of GPT-2's kind.
        """
        return SubwordVocabulary.from_tokenizer(_read_json(self.folder / TOKENIZER, self.name))

    def fill(self, decoder: PrefixLm) -> None:
        """Copy the weights into a decoder.

        ``<start>`` and ``<end>`` start as the model's own tokens for the beginning and the end of a
        text (GPT-2 has one token for both), ``<pad>`` and ``<unk>`` as the mean word.

        Raises:
            ConfigError: there are no weights, or they are pickled, or do not fit.
        """
        state = self._weights()
        try:
            words = state.pop("wte.weight")
            decoder.lm.load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            raise ConfigError(
                f"{self.folder / WEIGHTS} does not fit its {CONFIG}: {one_line(error, 300)}"
            ) from None
        target, special = decoder.output.weight, decoder.output.special
        if len(words) < len(target) or words.shape[1] != target.shape[1]:
            raise ConfigError(
                f"{self.folder / WEIGHTS} has {len(words)} words and {TOKENIZER} {len(target)}"
            )
        with torch.no_grad():
            target.copy_(words[: len(target)])
            special.copy_(target.mean(dim=0).expand(NUM_SPECIAL, -1))
            for index, key in ((START, "bos_token_id"), (END, "eos_token_id")):
                number = self.config.get(key)
                if isinstance(number, int) and number < len(target):
                    special[index] = target[number]

    def _weights(self) -> dict[str, Tensor]:
        """With the names and shapes of ``prefix_lm.GPT2``, and ``wte.weight``."""
        path = self.folder / WEIGHTS
        if not path.is_file():
            pickled = sorted(one.name for one in self.folder.glob("*.bin"))
            if pickled:
                raise ConfigError(
                    f"{self.folder / pickled[0]} is a pickle and is not opened, as it could run "
                    f"any program; ask for {WEIGHTS} (transformers' save_pretrained writes it)"
                )
            raise ConfigError(f"decoder.lm = {self.name!r} has no {WEIGHTS}")
        try:
            given = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"cannot read weights {path}: {error}") from None
        return {
            name.removeprefix("transformer."): (
                weight.T if name.endswith(TRANSPOSED) else weight
            ).float()
            for name, weight in given.items()
            if not name.endswith(NO_WEIGHTS)
        }


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("it is not a JSON object")
    except FileNotFoundError:
        raise ConfigError(
            f"decoder.lm = {name!r} has no {path.name}; expected a folder with {CONFIG}, "
            f"{TOKENIZER} and {WEIGHTS}, as transformers writes it"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    return data


def _download(name: str) -> Path:
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).exists():
        raise ConfigError(f"decoder.lm = {name!r}: no such folder")
    with needs_extra("hf", f"fetching the language model {name!r}"):
        from huggingface_hub import snapshot_download
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, TOKENIZER, WEIGHTS]))
    except Exception as error:
        # The download may fail in as many ways as there are networks, proxies and disks.
        raise ConfigError(
            f"decoder.lm = {name!r} is not a local folder and cannot be fetched "
            f"({first_line(error)}); try again online, or give a folder"
        ) from None
