"""A tiny GPT-2 of random weights, as transformers saves it, with a tokeniser of its make."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE

from showtell.text.subwords import SubwordVocabulary

WORDS = {"a": 40, "the": 30, "is": 30, "there": 20, "dog": 9, "red": 9, "white": 8, "boat": 8}
END_OF_TEXT = "<|endoftext|>"


def save_language_model(folder: Path, *, num_layers: int = 2, **settings: Any) -> Any:
    """Write it, and give transformers' own ``GPT2LMHeadModel``.

    Needs the fixture ``torchvision_operators``: transformers imports torchvision.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    learnt = SubwordVocabulary.build(WORDS, 30)
    numbers = {piece: number for number, piece in enumerate(learnt.pieces)}
    tokenizer = Tokenizer(BPE(vocab=numbers, merges=list(learnt.merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([END_OF_TEXT])
    end = tokenizer.token_to_id(END_OF_TEXT)
    torch.manual_seed(7)
    config = GPT2Config(
        vocab_size=end + 1,
        n_positions=64,
        n_embd=32,
        n_layer=num_layers,
        n_head=4,
        bos_token_id=end,
        eos_token_id=end,
        initializer_range=0.2,  # so that what is said differs from word to word
        **settings,
    )
    model = GPT2LMHeadModel(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "ln_1.weight", "ln_2.weight", "ln_f.weight")):
            parameter.data += 0.1 * torch.randn_like(parameter)
    folder.mkdir(exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return model
