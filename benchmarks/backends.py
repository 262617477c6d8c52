"""What showtell adds to a captioner of transformers: ``hf:`` against a loop over ``generate``.

A vision-encoder-decoder of random weights (a ViT and a GPT-2 of some million parameters) captions
picture files. The loop is what transformers' documentation shows: open a file, process it, call
``generate``, decode. Ours runs the same files through ``caption_stream``, one picture at a time and
in batches; words, log-probabilities and confidence are computed besides. All three take turns, and
each ratio is the median over the rounds. The texts must be equal.

    python benchmarks/backends.py [--rounds 5] [--pictures 64]
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _harness import Figure, benchmark, seconds
from PIL import Image

from showtell.core.device import choose_runtime
from showtell.errors import ConfigError, MissingExtraError
from showtell.inference.backends.hf import HfCaptioner
from showtell.inference.backends.hf.network import import_transformers, quiet
from showtell.inference.loading import ModelRequest

MOST, BATCHES = 1.05, 1.0
NUM_TOKENS = 20
TEXT = ["a dog runs across a field of green grass", "two people ride a bicycle on the beach"]


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Two figures: one picture at a time, and batches."""
    names = ("hf: one picture at a time", "hf: in batches")
    if options.quick:
        options.rounds, options.pictures = 1, 3
    runtime = choose_runtime(options.device, "fp32", threads=options.threads)
    print(runtime.describe())
    let_torchvision_be_imported()
    try:
        import_transformers()
    except (ConfigError, MissingExtraError) as error:
        for name in names:
            yield Figure.missing(name, "plain generate()", str(error))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with quiet():
            save_model(folder / "model", is_tiny=options.quick)
        paths = save_pictures(folder, options.pictures)
        plain = PlainLoop(folder / "model", runtime.device)
        request = ModelRequest(f"hf:{folder / 'model'}", device=runtime.device, precision="fp32")
        ours = HfCaptioner.of(request)
        settings = {"method": "greedy", "max_length": NUM_TOKENS}

        def through_us(batch_size: int | None) -> list[str]:
            found = ours.caption_stream(paths, decoding=settings, batch_size=batch_size)
            return [result.text for result in found]

        expected = plain(paths)
        assert through_us(1) == expected, "captions differ from generate()'s"
        same = sum(a == b for a, b in zip(through_us(None), expected, strict=True))
        assert same >= 0.95 * len(expected), "batches change captions"
        loop, alone, batches = [], [], []
        for _ in range(options.rounds):
            loop.append(seconds(lambda: plain(paths)))
            alone.append(seconds(lambda: through_us(1)))
            batches.append(seconds(lambda: through_us(None)))
        size = f"{ours.network.num_parameters / 1e6:.1f} M parameters"
        for name, times, most in (
            (names[0], alone, MOST),
            (names[1], batches, BATCHES),
        ):
            ratio = median(t / b for t, b in zip(times, loop, strict=True))
            detail = (
                f"{len(paths) / median(times):.1f} images/s against "
                f"{len(paths) / median(loop):.1f}, {size}"
            )
            yield Figure(name, "the time of plain generate()", ratio, most, True, detail)


class PlainLoop:
    """The loop that transformers' documentation shows."""

    def __init__(self, folder: Path, device: str) -> None:
        import transformers

        self.model: Any = transformers.VisionEncoderDecoderModel.from_pretrained(folder).eval()
        self.model.to(device)
        self.processor: Any = transformers.AutoImageProcessor.from_pretrained(folder)
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
        self.device = device

    def __call__(self, paths: list[Path]) -> list[str]:
        """The captions of picture files."""
        found = []
        for path in paths:
            with Image.open(path) as file:
                image = file.convert("RGB")
            inputs = self.processor(images=image, return_tensors="pt").to(self.device)
            with torch.no_grad(), quiet():
                ids = self.model.generate(**inputs, max_new_tokens=NUM_TOKENS, do_sample=False)
            text = self.tokenizer.decode(ids[0], skip_special_tokens=True)
            found.append(" ".join(text.split()))
        return found


def save_model(folder: Path, *, is_tiny: bool) -> None:
    """A ViT and a GPT-2 of random weights, with a tokeniser made of a few sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        GPT2Config,
        PreTrainedTokenizerFast,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessor,
    )

    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=80, special_tokens=special, show_progress=False)
    pieces.train_from_iterator(TEXT, trainer)
    words = PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    width, layers, side = (32, 1, 32) if is_tiny else (256, 6, 224)
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": 4 * width}
    vision = ViTConfig(image_size=side, patch_size=16, num_attention_heads=4, **sizes)
    vocab_size = len(words) if is_tiny else 20_000  # as large as a real one: its layer takes time
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    text = GPT2Config(
        vocab_size=vocab_size,
        n_embd=width,
        n_layer=layers,
        n_head=4,
        n_positions=64,
        add_cross_attention=True,
        **ids,
    )
    torch.manual_seed(0)
    model = VisionEncoderDecoderModel(
        VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    )
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 1.5 / width**0.5)
        model.decoder.transformer.wte.weight[len(words) :] = 0  # no ids that spell nothing
    settings = model.generation_config
    settings.decoder_start_token_id, settings.pad_token_id, settings.eos_token_id = 1, 0, 2
    for part in (model, words, ViTImageProcessor(size={"height": side, "width": side})):
        part.save_pretrained(folder)


def save_pictures(folder: Path, num: int) -> list[Path]:
    """JPEG files of 500 pixels, each another picture."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(num):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        paths.append(folder / f"{number}.jpg")
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def let_torchvision_be_imported() -> None:
    """Declare two operators, where torchvision was built for another torch than the installed one.

    Neither side of the comparison calls them; both cut pictures by torchvision's Python code.
    """
    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        return
    except RuntimeError:
        global kept  # as long as it lives, so do the operators
        kept = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            kept.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def more(parser: argparse.ArgumentParser) -> None:
    """This script's own options."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=64)


if __name__ == "__main__":
    benchmark(measure, __doc__, options=more)
