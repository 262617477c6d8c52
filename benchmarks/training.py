"""`showtell train` against the notebook's training loop: captions/s on the same photos.

The reference is written here as the course notebook does it, in fp32 with the same
EfficientNet-Lite2: at each step it draws a length by scanning the lengths of all captions, makes a
new iterator of the loader, decodes 64 JPEG files, resizes, crops and flips them (256 and 224,
scaled to the encoder's 260), tokenises their captions, runs the CNN, then the LSTM (embed 256,
hidden 512), loss and Adam. showtell trains with its defaults, batch 64 too: from features stored
beforehand, with 4 random views of each photo; its steps count with their logs, but not validation,
as the notebook has none. The second figure adds the making of the store, over 10 epochs.

Photos and captions: Flickr8k from the test data, all its words and lengths, the first photos; where
that is absent, the built-in scenes.

    python benchmarks/training.py [--photos 384] [--steps 12]
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from _harness import Figure, benchmark, part, test_data

EPOCHS, VIEWS = 10, 4
LEAST, LEAST_WITH_STORE = 30, 12


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """The two ratios."""
    photos, steps = (4, 1) if options.quick else (options.photos, options.steps)
    batch = 4 if options.quick else 64
    before = part(options, "notebook", steps=steps, batch=batch)
    ours = part(options, "showtell", photos=photos, batch=batch)
    after = before if options.quick else part(options, "notebook", steps=steps, batch=batch)
    theirs = (before["seconds"] + after["seconds"]) / 2
    detail = (
        f"{ours['captions_per_second']:,.0f} captions/s with {ours['num_words']:,} words, "
        f"{batch / theirs:.1f} by the notebook's loop, on {ours['device']}"
    )
    own = batch / ours["captions_per_second"]
    yield Figure(
        "training from stored features", "the notebook's loop", theirs / own, LEAST, detail=detail
    )
    making = ours["store_seconds_per_caption"] * batch
    yield Figure(
        f"training, {EPOCHS} epochs, with the making of the store",
        "the notebook's loop",
        EPOCHS * theirs / (EPOCHS * own + making),
        LEAST_WITH_STORE,
        detail=f"the store at {ours['views_per_second']:.0f} views/s, {1 + VIEWS} views a photo",
    )


def load(options: argparse.Namespace) -> Any:
    """Flickr8k, or scenes."""
    from showtell.data.sources import load_dataset

    data = test_data() / "flickr8k"
    if data.is_dir() and not options.quick:
        return load_dataset(data, format="flickr8k")
    return load_dataset("scenes:40" if options.quick else "scenes")


def notebook(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a step of the notebook's loop."""
    import numpy as np
    import torch
    from nltk.tokenize import NLTKWordTokenizer
    from PIL import Image
    from torch import nn
    from torch.utils.data import BatchSampler, DataLoader, Dataset, SubsetRandomSampler

    from showtell.encoders.encoder import build_encoder

    if options.threads:
        torch.set_num_threads(options.threads)
    device = "cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu"
    encoder = build_encoder("lite2").to(device)
    size = encoder.preprocessing.size
    tokenize = NLTKWordTokenizer().tokenize
    records = load(options).split("train")
    pairs = [(record.path, caption) for record in records for caption in record.captions]
    lengths = [len(tokenize(caption.lower())) for _, caption in pairs]
    counts: dict[str, int] = {}
    for _, caption in pairs:
        for word in tokenize(caption.lower()):
            counts[word] = counts.get(word, 0) + 1
    ids = {"<start>": 0, "<end>": 1, "<unk>": 2}
    for word, count in counts.items():
        if count >= 4:
            ids[word] = len(ids)

    class Captions(Dataset):
        def __len__(self) -> int:
            return len(pairs)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            path, text = pairs[index]
            image = Image.open(path).convert("RGB")
            scale = size * 256 / 224 / min(image.size)
            sides = (round(image.width * scale), round(image.height * scale))
            image = image.resize(sides, Image.Resampling.BILINEAR)
            left, top = (int(torch.randint(0, side - size + 1, ())) for side in image.size)
            image = image.crop((left, top, left + size, top + size))
            if torch.rand(()) < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
            words = [0, *(ids.get(word, 2) for word in tokenize(text.lower())), 1]
            return pixels, torch.tensor(words)

    batches = BatchSampler(SubsetRandomSampler([0]), options.batch, drop_last=False)
    loader = DataLoader(Captions(), num_workers=0, batch_sampler=batches)
    embed = nn.Linear(encoder.pooled_size, 256).to(device)
    words, lstm = nn.Embedding(len(ids), 256).to(device), nn.LSTM(256, 512, batch_first=True)
    lstm, output = lstm.to(device), nn.Linear(512, len(ids)).to(device)
    modules = nn.ModuleList([embed, words, lstm, output])
    optimizer = torch.optim.Adam(modules.parameters(), lr=1e-3)
    times = []
    for _ in range(options.steps + 1):
        start = time.perf_counter()
        length = np.random.choice(lengths)
        found = np.where([lengths[i] == length for i in np.arange(len(lengths))])[0]
        indices = list(np.random.choice(found, size=options.batch))
        loader.batch_sampler.sampler = SubsetRandomSampler(indices)
        images, captions = next(iter(loader))
        images, captions = images.to(device), captions.to(device)
        modules.zero_grad()
        picture = embed(encoder(images, regions=False).pooled)[:, None]
        outputs, _ = lstm(torch.cat([picture, words(captions[:, :-1])], dim=1))
        loss = nn.functional.cross_entropy(output(outputs).flatten(0, 1), captions.flatten())
        loss.backward()
        optimizer.step()
        loss.item()
        times.append(time.perf_counter() - start)
    return {"seconds": median(times[1:])}


def showtell(options: argparse.Namespace) -> dict[str, Any]:
    """The rates of showtell: views/s into the store, then captions/s of training."""
    import numpy as np

    from showtell.config import Config
    from showtell.core.device import choose_runtime
    from showtell.core.progress import SilentReporter, StepReport
    from showtell.data.records import Dataset
    from showtell.data.request import DataRequest
    from showtell.encoders.encoder import build_encoder
    from showtell.encoders.extract import WantedFeatures, features_for
    from showtell.text.vocabulary import WordVocabulary
    from showtell.training.corpus import TokenizedCaptions
    from showtell.training.request import TrainRequest, train_on

    class Clock(SilentReporter):
        """Notes when each step was done."""

        def __init__(self) -> None:
            self.ends: list[list[float]] = []

        def step(self, report: StepReport) -> None:
            if report.step == 1:
                self.ends.append([])
            self.ends[-1].append(time.perf_counter())

    runtime = choose_runtime(options.device, threads=options.threads)
    print(runtime.describe())
    whole = load(options)
    tokens = TokenizedCaptions.tokenize(c for r in whole.split("train") for c in r.captions)
    vocabulary = WordVocabulary.build(tokens.counts(), 4)
    train, val = whole.split("train")[: options.photos], whole.split("val")[:8]
    dataset = Dataset("photos", whole.format, (*train, *val))
    clock = Clock()
    views = 1 if options.quick else VIEWS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vocabulary.save(folder / "vocabulary.json")
        config = Config.load(
            None,
            (
                f"encoder.views={views}",
                f"data.vocab_file={folder / 'vocabulary.json'}",
                f"training.batch_size={options.batch}",
                f"training.num_epochs={1 if options.quick else 8}",
            ),
        )
        encoder = build_encoder("lite2")
        encoder.to(runtime.device)
        start = time.perf_counter()
        wanted = WantedFeatures(views=views, flips=dataset.may_be_mirrored)
        features_for(
            dataset, encoder, wanted, runtime=runtime, folder=folder / "store", report=clock
        )
        making = time.perf_counter() - start
        data = DataRequest("photos", store=folder / "store")
        train_on(
            dataset,
            TrainRequest(data, folder / "run", device=options.device),
            config,
            report=clock,
        )
    # From one step's end to the next; the first epoch also warms up.
    epochs = clock.ends[1:] or [[*clock.ends[0], clock.ends[0][-1] + 1]]
    steps = np.concatenate([np.diff(ends) for ends in epochs])
    num_views = (1 + VIEWS) * len(train) + len(val)
    return {
        "captions_per_second": options.batch / float(np.mean(steps)),
        "views_per_second": num_views / making,
        "store_seconds_per_caption": making / sum(len(record.captions) for record in train),
        "num_words": len(vocabulary),
        "device": runtime.device,
    }


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photos", type=int, default=384, help="of the store")
    parser.add_argument("--steps", type=int, default=12, help="of the notebook's loop, twice")


if __name__ == "__main__":
    benchmark(
        measure, __doc__, options=_options, parts={"notebook": notebook, "showtell": showtell}
    )
