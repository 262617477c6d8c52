"""The course notebook's model in plain torch, by its own names, and the files that it saves."""

import math
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 152: (3, 8, 36, 3)}
WORDS = ("<start>", "<end>", "<unk>", "a", "red", "circle", "above", "blue", "square", ".")


class Bottleneck(nn.Module):
    """torchvision's, by its names; the stride is in the 3 x 3 convolution."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        same = x if self.downsample is None else self.downsample(x)
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + same).relu()


def resnet_modules(depth: int) -> list[nn.Module]:
    """``list(torchvision.models.resnetN().children())[:-1]``."""
    layers: list[nn.Module] = []
    inputs = 64
    for stage, count in enumerate(BLOCKS[depth]):
        width = 64 * 2**stage
        blocks = []
        for number in range(count):
            blocks.append(Bottleneck(inputs, width, 2 if stage and not number else 1))
            inputs = 4 * width
        layers.append(nn.Sequential(*blocks))
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    return [*stem, nn.MaxPool2d(3, 2, 1), *layers, nn.AdaptiveAvgPool2d(1)]


class EncoderCNN(nn.Module):
    """As in the course's ``model.py``; with ``norm`` as in the tutorial."""

    def __init__(self, embed_size: int, depth: int = 50, norm: bool = False) -> None:
        super().__init__()
        self.resnet = nn.Sequential(*resnet_modules(depth))
        if norm:
            self.linear = nn.Linear(2048, embed_size)
            self.bn = nn.BatchNorm1d(embed_size, momentum=0.01)
        else:
            self.embed = nn.Linear(2048, embed_size)

    def forward(self, images: Tensor) -> Tensor:
        features = self.resnet(images)
        features = features.view(features.size(0), -1)
        return self.bn(self.linear(features)) if hasattr(self, "bn") else self.embed(features)


class DecoderRNN(nn.Module):
    """As in the course's ``model.py``."""

    def __init__(self, embed_size: int, hidden_size: int, vocab_size: int, num_layers: int = 1):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, embed_size)
        self.lstm = nn.LSTM(embed_size, hidden_size, num_layers, batch_first=True)
        self.hidden2vocab = nn.Linear(hidden_size, vocab_size)

    def forward(self, features: Tensor, captions: Tensor) -> Tensor:
        embeddings = self.word_embeddings(captions[:, :-1])
        inputs = torch.cat((features.unsqueeze(1), embeddings), dim=1)
        hidden, _ = self.lstm(inputs)
        return self.hidden2vocab(hidden)

    def sample(self, inputs: Tensor, states: Any = None, max_len: int = 20) -> list[int]:
        said = []
        for _ in range(max_len):
            hidden, states = self.lstm(inputs, states)
            predicted = self.hidden2vocab(hidden.squeeze(1)).argmax(1)
            said.append(int(predicted))
            if said[-1] == 1:
                break
            inputs = self.word_embeddings(predicted).unsqueeze(1)
        return said


class Vocabulary:
    """The attributes of the course's ``vocabulary.Vocabulary``."""

    def __init__(self) -> None:
        self.vocab_threshold = 5
        self.vocab_file = "./vocab.pkl"
        self.start_word, self.end_word, self.unk_word = WORDS[:3]
        self.word2idx = {word: index for index, word in enumerate(WORDS)}
        self.idx2word = dict(enumerate(WORDS))
        self.idx = len(WORDS)


def pickled(value: Any, module: str = "vocabulary", protocol: int = 2) -> bytes:
    """``pickle.dumps`` where the class is in the course's module."""
    before = Vocabulary.__module__
    Vocabulary.__module__ = module
    try:
        return _Pickler.dumps(value, protocol)
    finally:
        Vocabulary.__module__ = before


class _Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """The plain pickler, which does not look a class up where it is said to be."""

    @classmethod
    def dumps(cls, value: Any, protocol: int) -> bytes:
        import io

        file = io.BytesIO()
        cls(file, protocol).dump(value)
        return file.getvalue()

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj is not Vocabulary:
            super().save_global(obj, name)
            return
        if self.proto >= 4:
            self.save(obj.__module__)
            self.save("Vocabulary")
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{obj.__module__}\nVocabulary\n".encode())
        self.memoize(obj)

    dispatch: ClassVar[Any] = {**pickle._Pickler.dispatch, type: save_global}  # type: ignore[attr-defined]


def picture(seed: int = 0) -> Image.Image:
    """256 pixels square: the notebook's and our centre of 224 are the same pixels."""
    colours = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((256, 256), Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> Tensor:
    """CenterCrop(224) of a picture of 256, (1, 3, 224, 224) uint8."""
    return torch.from_numpy(np.array(image)[16:240, 16:240].transpose(2, 0, 1)[None].copy())


def normalised(image: Tensor) -> Tensor:
    """ToTensor and Normalize, as the notebook's transform has them."""
    mean = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
    std = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)
    return (image / 255 - mean) / std


def trained_models(
    depth: int, *, norm: bool = False, num_layers: int = 1
) -> tuple[EncoderCNN, DecoderRNN]:
    """Random weights; the decoder has learnt to say one caption, so its first word is <start>."""
    torch.manual_seed(depth)
    encoder = EncoderCNN(16, depth, norm)
    decoder = DecoderRNN(16, 32, len(WORDS), num_layers)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # statistics of one pass, so that 152 layers keep their scale
            module.weight.data.fill_(1 / math.sqrt(2))
    with torch.no_grad():
        encoder(torch.randn(2, 3, 64, 64))
        encoder.eval()
        if norm:
            encoder.bn.weight.uniform_(0.5, 1.5)
            encoder.bn.running_mean.normal_()
            encoder.bn.running_var.uniform_(0.5, 1.5)
        features = encoder(normalised(pixels(picture())))
    caption = torch.tensor([[0, 3, 4, 5, 6, 3, 7, 8, 9, 1]])
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
    for _ in range(80):
        logits = decoder(features, caption)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), caption.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encoder, decoder.eval()


def save_files(folder: Path, encoder: nn.Module, decoder: nn.Module) -> tuple[Path, Path, Path]:
    """As the notebook saves them after an epoch."""
    folder.mkdir(exist_ok=True)
    files = folder / "encoder-3.pkl", folder / "decoder-3.pkl", folder / "vocab.pkl"
    torch.save(encoder.state_dict(), files[0])
    torch.save(decoder.state_dict(), files[1])
    files[2].write_bytes(pickled(Vocabulary(), protocol=4))
    return files
