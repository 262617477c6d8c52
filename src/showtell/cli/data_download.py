"""``showtell data download``: asks before it fetches, and says what to type next."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer


def download(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="coco2014, coco2017, karpathy, flickr8k or flickr30k."),
    ],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder to download into; default: NAME.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Accept the terms without being asked.")
    ] = False,
    keep: Annotated[
        bool,
        typer.Option("--keep-archives", help="Leave the fetched archives in FOLDER/.download."),
    ] = False,
) -> None:
    """Download a published data set from its makers' addresses, and unpack it.

    Its terms are shown first. If it is stopped, the same command continues where it stopped.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.data.download import download as get
    from showtell.data.download import next_steps, plan_download
    from showtell.data.download.catalogue import find_published
    from showtell.errors import UsageError

    published = find_published(name)
    folder = to or Path(name)
    typer.echo(published.title, err=True)
    for line in published.terms:
        typer.echo(f"  {line}", err=True)
    for archive in published.archives:
        typer.echo(f"  {archive.url}", err=True)
    plan = plan_download(published, folder)
    if plan.is_done:
        typer.echo(f"all of it is in {folder} already", err=True)
    else:
        if not yes and not sys.stdin.isatty():
            raise UsageError(
                "to accept the terms without being asked, add --yes: "
                f"showtell data download {name} --to {shlex.quote(str(folder))} --yes"
            )
        size = f"{plan.to_fetch / 1e9:,.2f} GB" if plan.to_fetch else "it"
        if not yes:
            typer.confirm(f"Accept the terms and download {size} into {folder}?", abort=True)
        with ConsoleReporter() as report:
            get(plan, report, keep=keep)
    for line in next_steps(plan):
        typer.echo(line)
