"""``showtell caption --engine ray``."""

import os
from pathlib import Path
from typing import Any

from showtell.cli.console import ConsoleReporter
from showtell.errors import ConfigError


def caption_on_ray(
    pictures: list[str],
    output: Path | None,
    kind: str,
    loading: dict[str, Any],
    decoding: dict[str, Any],
    *,
    address: str | None,
    workers: int | None,
    dedupe: bool,
    overwrite: bool,
) -> int:
    """Run the job on Ray; how many pictures and shards failed."""
    if output is None:
        raise ConfigError("--engine ray writes a file a shard: add -o FOLDER")
    if output.is_file():
        raise ConfigError(f"-o {output} is a file; --engine ray writes into a folder")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    from showtell.bulk.ray_engine import Job, caption_shards
    from showtell.bulk.remote import name_of

    if os.path.exists(loading["model"]):  # actors have working folders of their own
        loading = loading | {"model": os.path.abspath(loading["model"])}
    job = Job(loading, decoding, name_of(output), kind, dedupe, overwrite)
    with ConsoleReporter() as report:
        return caption_shards(pictures, job, address=address, workers=workers, report=report)
