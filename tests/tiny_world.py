"""A tiny captioned world whose pictures are known only by their features.

Each "picture" has a colour and a thing; its features say which, its captions name them. So a
decoder can really learn it, in seconds, without an encoder.
"""

from pathlib import Path

import numpy as np

from showtell.config import Config
from showtell.data.records import Record, Split
from showtell.encoders.store import FeatureStore, Half, StoreSpec
from showtell.encoders.store_writer import StoreWriter

COLOURS = ("red", "green", "blue", "white")
THINGS = ("dog", "ball", "house", "boat", "bird")
WIDTH, VIEWS = 32, 2

SETTINGS = (
    "encoder.views=2",
    "data.vocab_threshold=1",
    "decoder.embed_size=24",
    "decoder.hidden_size=32",
    "decoder.dropout=0.2",
    "optimizer.lr=0.01",
    "optimizer.warmup_steps=5",
    "training.batch_size=8",
    "training.num_epochs=3",
    "training.precision=fp32",
    "decoding.beam_size=2",
    "decoding.max_length=10",
)


def tiny_config(*changes: str) -> Config:
    return Config.load(None, (*SETTINGS, *changes))


def tiny_records(num: int = 60) -> tuple[Record, ...]:
    records = []
    for i in range(num):
        colour, thing = COLOURS[i % 4], THINGS[i // 4 % 5]
        captions = (
            f"a {colour} {thing}",
            f"there is a {thing} that is {colour} here",
            f"the {thing} is {colour}",
        )
        split: Split = "train" if i < num * 2 // 3 else "val" if i < num * 5 // 6 else "test"
        records.append(Record(f"p{i}", Path(f"p{i}.jpg"), captions, split))
    return tuple(records)


# A small decoder of each kind that attends, for a store with a grid.
ATTENDING = {
    "attention": ("decoder.hidden_size=32", "decoder.attention_size=16"),
    "up_down": ("decoder.hidden_size=32", "decoder.attention_size=16"),
    "transformer": (
        "decoder.hidden_size=32",
        "decoder.num_heads=4",
        "decoder.num_encoder_layers=0",
    ),
}


def prefix_lm_config(*changes: str) -> Config:
    """As ``tiny_config``, with a small language model."""
    general = [setting for setting in SETTINGS if not setting.startswith("decoder.")]
    decoder = (
        "decoder.kind=prefix_lm",
        "decoder.hidden_size=32",
        "decoder.num_heads=4",
        "decoder.num_layers=2",
        "decoder.prefix_length=3",
    )
    return Config.load(None, (*general, *decoder, *changes))


def attending_config(kind: str, *changes: str) -> Config:
    """As ``tiny_config``, with a decoder that attends."""
    general = [setting for setting in SETTINGS if not setting.startswith("decoder.")]
    decoder = (f"decoder.kind={kind}", "decoder.dropout=0.1", *ATTENDING[kind])
    return Config.load(None, (*general, *decoder, *changes))


def tiny_store(
    folder: Path, records: tuple[Record, ...], *, grid_size: tuple[int, int] | None = None
) -> FeatureStore:
    """Features of ``records``; with a grid, one of its cells shows the picture."""
    rng = np.random.default_rng(0)
    meaning = {word: rng.normal(size=WIDTH) for word in (*COLOURS, *THINGS)}
    spec = StoreSpec("tiny", "tiny-1", VIEWS, 0, WIDTH, grid_size)
    with StoreWriter(folder, spec) as writer:
        for record in records:
            colour, thing = record.captions[0].split()[1:]
            views = 1 + VIEWS if record.split == "train" else 1
            rows = meaning[colour] + meaning[thing] + rng.normal(size=(views, WIDTH)) / 10
            writer.add(record.image_id, 0, 0, views)
            grid: Half | None = None
            if grid_size is not None:
                grid = rng.normal(size=(views, *grid_size)).astype(np.float16) / np.float16(10)
                grid[np.arange(views), rng.integers(grid_size[0], size=views), :WIDTH] += rows
            writer.append(rows.astype(np.float16), grid)
    return FeatureStore.open(folder, fingerprint="tiny-1", views=VIEWS, grid=grid_size is not None)
