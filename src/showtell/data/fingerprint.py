"""What a run was trained on, as one hash."""

import hashlib
import json
import os

from showtell.data.records import Dataset


def dataset_fingerprint(dataset: Dataset) -> str:
    """sha256 of every record's id, split, captions and picture's size in bytes, ordered by id.

    Not of paths, so that a data set may be moved, and not of the pictures' contents, so that
    COCO takes a second. A picture that is no longer there counts as of size -1.
    """
    digest = hashlib.sha256()
    for record in sorted(dataset.records, key=lambda record: record.image_id):
        try:
            num_bytes = os.stat(record.path).st_size
        except OSError:
            num_bytes = -1
        line = json.dumps([record.image_id, record.split, num_bytes, *record.captions])
        digest.update(line.encode("ascii") + b"\n")
    return digest.hexdigest()
