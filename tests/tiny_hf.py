"""Tiny captioners of transformers: random weights, a tokeniser trained on the spot, saved.

Needs the fixture ``torchvision_operators``: transformers imports torchvision.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SENTENCES = [
    "a dog runs across a field of green grass",
    "two people ride a red bicycle along the beach",
    "a white boat is in the water near a small house",
    "there is a cat on the sofa and a cup on the table",
    "a man in a blue shirt throws a ball to the black dog",
]
SIDE, PATCH, WIDTH = 32, 8, 32
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "[CLS]", "[SEP]", "[DEC]"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }}{% endif %}{% endfor %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


def pictures(num: int = 5) -> list[Image.Image]:
    """Pictures of different sizes that look different."""
    rng = np.random.default_rng(3)
    found = []
    for number in range(num):
        coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        size = (40 + 7 * number, 60 - 5 * number)
        found.append(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    return found


def tokenizer(**names: str) -> Any:
    """Pieces of words, learnt from ``SENTENCES``."""
    from transformers import PreTrainedTokenizerFast

    learnt = Tokenizer(models.BPE(unk_token="<unk>"))
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learnt.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=100,
        special_tokens=SPECIAL,
        show_progress=False,
    )
    learnt.train_from_iterator(SENTENCES * 4, trainer)
    learnt.post_processor = processors.ByteLevel(trim_offsets=False)
    usual = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=learnt, **(usual | names))


def _ids(words: Any) -> dict[str, int]:
    return {
        "vocab_size": len(words),
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }


def _vision(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": PATCH,
        **more,
    }


def _text(words: Any, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        **_ids(words),
        **more,
    }


def _save(folder: Path, model: Any, *parts: Any) -> None:
    model.save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)


def _lively(model: Any) -> Any:
    """Weights so large that captions differ from picture to picture and from word to word."""
    torch.manual_seed(11)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.35 if "embed" in name else 0.22)
    return model.eval()


def _blip(folder: Path) -> None:
    from transformers import (
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    words = tokenizer(cls_token="[CLS]", sep_token="[SEP]")
    text = _text(
        words,
        encoder_hidden_size=WIDTH,
        bos_token_id=words.convert_tokens_to_ids("[DEC]"),
        sep_token_id=words.sep_token_id,
        eos_token_id=words.sep_token_id,
        projection_dim=WIDTH,
    )
    config = BlipConfig(text_config=text, vision_config=_vision(projection_dim=WIDTH))
    model = _lively(BlipForConditionalGeneration(config))
    picture = BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    _save(folder, model, BlipProcessor(picture, words))


def _git(folder: Path) -> None:
    from transformers import CLIPImageProcessor, GitConfig, GitForCausalLM, GitProcessor

    words = tokenizer(cls_token="[CLS]", sep_token="[SEP]")
    config = GitConfig(vision_config=_vision(), **_text(words))
    picture = CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    _save(folder, _lively(GitForCausalLM(config)), GitProcessor(picture, words))


def vit_gpt2(folder: Path, *, width: int = WIDTH, layers: int = 2, side: int = SIDE) -> None:
    """A vision-encoder-decoder: ViT and GPT-2."""
    from transformers import (
        GPT2Config,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessor,
    )

    words = tokenizer()
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": 2 * width}
    vision = ViTConfig(**_vision(image_size=side, **sizes))
    text = GPT2Config(
        n_embd=width,
        n_layer=layers,
        n_head=4,
        n_positions=64,
        add_cross_attention=True,
        is_decoder=True,
        **_ids(words),
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    config.decoder_start_token_id = words.bos_token_id
    config.pad_token_id, config.eos_token_id = words.pad_token_id, words.eos_token_id
    model = _lively(VisionEncoderDecoderModel(config))
    model.generation_config.decoder_start_token_id = words.bos_token_id
    model.generation_config.pad_token_id = words.pad_token_id
    model.generation_config.eos_token_id = words.eos_token_id
    picture = ViTImageProcessor(size={"height": side, "width": side})
    _save(folder, model, picture, words)


def _florence2(folder: Path) -> None:
    from transformers import (
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
    )

    words = tokenizer(extra_special_tokens={"image_token": "<image>"})
    stages = 2
    vision = {
        "embed_dim": [WIDTH // 2, WIDTH],
        "depths": [1, 1],
        "patch_size": [7, 3],
        "patch_stride": [4, 2],
        "patch_padding": [3, 1],
        "patch_prenorm": [False, True],
        "num_heads": [2, 4],
        "num_groups": [2, 4],
        "window_size": 4,
        "projection_dim": WIDTH,
        "max_temporal_embeddings": 10,
        "max_position_embeddings": 16,
    }
    assert len(vision["depths"]) == stages  # type: ignore[arg-type]
    text = {
        "model_type": "bart",
        "d_model": WIDTH,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 2 * WIDTH,
        "decoder_ffn_dim": 2 * WIDTH,
        "max_position_embeddings": 128,
        "decoder_start_token_id": words.eos_token_id,
        "forced_eos_token_id": None,
        **_ids(words),
    }
    config = Florence2Config(
        text_config=text,
        vision_config=vision,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        **{name: value for name, value in _ids(words).items() if name != "vocab_size"},
    )
    model = _lively(Florence2ForConditionalGeneration(config))
    picture = CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    picture.image_seq_length = (SIDE // 8) ** 2 + 1
    _save(folder, model, Florence2Processor(picture, words))


def _llava(folder: Path) -> None:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    words = tokenizer(extra_special_tokens={"image_token": "<image>"})
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_vision()),
        text_config=LlamaConfig(**_text(words, num_key_value_heads=4)),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    model = _lively(LlavaForConditionalGeneration(config))
    model.generation_config.eos_token_id = words.eos_token_id
    model.generation_config.pad_token_id = words.pad_token_id
    picture = CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    processor = LlavaProcessor(
        picture,
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    _save(folder, model, processor)


def _blip2(folder: Path) -> None:
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessor,
        OPTConfig,
    )

    words = tokenizer(extra_special_tokens={"image_token": "<image>"})
    text = OPTConfig(
        hidden_size=WIDTH,
        ffn_dim=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        word_embed_proj_dim=WIDTH,
        **_ids(words),
    )
    config = Blip2Config(
        vision_config=_vision(),
        qformer_config={
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "encoder_hidden_size": WIDTH,
            "vocab_size": len(words),
        },
        text_config=text.to_dict(),
        num_query_tokens=4,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    model = _lively(Blip2ForConditionalGeneration(config))
    picture = BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    _save(folder, model, Blip2Processor(picture, words, num_query_tokens=4))


KINDS: dict[str, Callable[[Path], None]] = {
    "blip": _blip,
    "blip-2": _blip2,
    "git": _git,
    "vision-encoder-decoder": vit_gpt2,
    "florence2": _florence2,
    "llava": _llava,
}


def save_captioner(kind: str, folder: Path) -> Path:
    """A captioner of a kind, as transformers saves it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(5)
    KINDS[kind](folder)
    return folder
