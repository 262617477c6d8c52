"""How well `showtell distil --filter fit=...` tells captions of a photo from those of others.

A model that has seen none of the photos judges captions by people: two of each photo, and one of
another photo as a lie. A caption is compared with 20 of the same photos.

    python benchmarks/fit.py flickr8k [--model default] [--split val] [--num 300]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from showtell.core.progress import SilentReporter
from showtell.data.request import DataRequest
from showtell.distil.filters import Said
from showtell.distil.fit import compared_losses, gains
from showtell.encoders.extract import WantedFeatures, features_for
from showtell.inference.backends.native import NativeCaptioner

SHARES = (0.01, 0.1, 0.25, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--model", default="default")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--num", type=int, default=300)
    options = parser.parse_args()
    judge, dataset = NativeCaptioner.load(options.model), DataRequest(options.data).load()
    records = dataset.split(options.split)[: options.num]
    said: list[Said] = []
    is_lie: list[bool] = []
    for record, before in zip(records, (records[-1], *records), strict=False):
        for text, lies in (
            (record.captions[0], 0),
            (record.captions[1], 0),
            (before.captions[0], 1),
        ):
            said.append(Said(record.image_id, str(record.path), text, None))
            is_lie.append(bool(lies))
    named = tuple(replace(record, image_id=f"teacher/{record.image_id}") for record in records)
    with tempfile.TemporaryDirectory() as folder:
        store = features_for(
            replace(dataset, records=named),
            judge.encoder,
            WantedFeatures(grid=judge.needs_regions, augmented=()),
            runtime=judge.runtime,
            folder=Path(folder) / "features",
            report=SilentReporter(),
        )
        found = gains(compared_losses(said, judge, store, report=SilentReporter()))
    lies = np.array(is_lie)
    usual = float(np.median(found[~lies]))  # as if lies were few
    print(f"{len(records):,} photos; the middle right caption gains {usual:.1f} nats")
    for share in SHARES:
        low = found < share * usual
        right = low[~lies].mean()
        print(f"fit={share}: {low[lies].mean():.1%} of lies, {right:.1%} of right captions")


if __name__ == "__main__":
    main()
