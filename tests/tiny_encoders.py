"""A tiny CLIP and a tiny BERT of random weights, as transformers saves them, with tokenisers."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase

WORDS = (
    *("a", "photo", "depicts", "the", "red", "blue", "dog", "cat", "runs", "sits", "on"),
    *("grass", "picture", "of", "circle", "square"),
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def save_clip(folder: Path) -> Any:
    """Write a CLIP for pictures of 32 x 32; gives transformers' own model.

    Needs the fixture ``torchvision_operators``: transformers imports torchvision.
    """
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    ids = _save_tokenizer(folder)
    tower = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "initializer_range": 0.5,
    }
    text = {
        **tower,
        "vocab_size": len(ids),
        "max_position_embeddings": 12,
        "bos_token_id": ids["[CLS]"],
        "eos_token_id": ids["[SEP]"],
        "pad_token_id": ids["[PAD]"],
    }
    vision = {**tower, "image_size": 32, "patch_size": 8}
    torch.manual_seed(10)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    model.save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return model


def save_bert(folder: Path) -> Any:
    """Write a BERT of 3 layers; gives transformers' own model. Needs what ``save_clip`` needs."""
    from transformers import BertConfig, BertModel

    ids = _save_tokenizer(folder)
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(ids),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        initializer_range=0.5,
    )
    model = BertModel(config).eval()
    model.save_pretrained(folder)
    return model


def _save_tokenizer(folder: Path) -> dict[str, int]:
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(word, ids[word]) for word in ("[CLS]", "[SEP]")],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        model_max_length=16,
    ).save_pretrained(folder)
    return ids
