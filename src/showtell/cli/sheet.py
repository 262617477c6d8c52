"""``showtell sheet``: pictures with their captions on one sheet."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import captioners
from showtell.cli.decoding import Decoding
from showtell.cli.files import check_file, told_skipped
from showtell.cli.groups import given, with_options
from showtell.errors import ConfigError, ImageError, UsageError
from showtell.pretrained import DEFAULT

if TYPE_CHECKING:
    from PIL import Image

    from showtell.inference.stream import Picture

SUFFIXES = (".jpg", ".jpeg", ".png")


@with_options
def sheet(
    *,
    pictures: Annotated[
        list[str], typer.Argument(metavar="PICTURE...", help="Files, folders or globs.")
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", dir_okay=False, help="File of the sheet, .jpg or .png."),
    ],
    model: captioners.Model = DEFAULT,
    columns: Annotated[
        int, typer.Option("--columns", min=1, help="Number of pictures in a row.")
    ] = 4,
    heading: Annotated[
        str, typer.Option("--heading", help="Line of text above the pictures.")
    ] = "",
    names: Annotated[
        bool, typer.Option("--names", help="Write the name of its file below each picture.")
    ] = False,
    loading: captioners.Loading,
    cleaning: captioners.Cleaning,
    settings: captioners.Settings,
    decoding: Decoding,
) -> None:
    """Draw pictures with their captions on one sheet.

    A picture that cannot be read is named on standard error; the exit code is then 1. Letters of
    any script are drawn with fonts of the system; those that no font has are named as well.
    """
    from showtell.bulk.inputs import find_inputs
    from showtell.images.sheet import Cell, most_cells, refuse_others, save_contact_sheet
    from showtell.inference.captioner import Captioner

    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"-o {output}: the name of a sheet must end in {', '.join(SUFFIXES)}")
    inputs = find_inputs(pictures)
    with told_skipped(inputs):
        check_file(output, inputs.paths, is_picture=True)
        refuse_others(output)
        most = most_cells(columns)
        _check_number(inputs.count or 0, most)
        captioner = Captioner.load(
            model,
            settings=captioners.prepared([model], settings),
            cleaning=given(cleaning),
            **loading.arguments(),
        )
        captioners.say_runtime(captioner)
        small: dict[str, Image.Image] = {}
        results = list(
            captioner.caption_stream(_kept(inputs, small, most), decoding=given(decoding))
        )
    cells = [
        Cell(
            small.get(str(found.path)) or Path(found.path),
            found.caption.text,
            name=PurePath(found.path).name if names else "",
        )
        for found in results
        if found.caption
    ]
    for found in results:
        if found.caption is None:
            typer.echo(f"error: {found.error}", err=True)
    if cells:
        if lacking := save_contact_sheet(output, cells, columns=columns, heading=heading):
            typer.echo(f"warning: {lacking}", err=True)
        typer.echo(f"the sheet is {output}")
    if len(cells) < len(results):
        raise typer.Exit(1)


def _check_number(num: int, most: int) -> None:
    if num > most:
        raise ConfigError(
            f"a sheet with this number of columns has room for {most:,} pictures: give another "
            "--columns, or fewer pictures"
        )


def _kept(
    pictures: "Iterable[Picture]", small: "dict[str, Image.Image]", most: int
) -> "Iterator[Picture]":
    """The pictures; of those that are not files, what the sheet shows goes into ``small``."""
    for num, picture in enumerate(pictures, 1):
        _check_number(num, most)
        yield (
            picture
            if picture.read is None
            else replace(picture, read=partial(_read, picture, small))
        )


def _read(picture: "Picture", small: "dict[str, Image.Image]") -> bytes:
    from showtell.images.open import open_image
    from showtell.images.sheet import thumbnail

    assert picture.read is not None
    content = picture.read()
    with suppress(ImageError):  # whoever captions it says what is wrong
        small[str(picture.path)] = thumbnail(open_image(content))
    return content
