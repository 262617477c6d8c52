"""``showtell export``: a model for a runtime without torch."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import options
from showtell.cli.groups import group, with_options
from showtell.cli.models import Storage
from showtell.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from showtell.export.onnx import Numbers


class Format(StrEnum):
    """What a model is exported to."""

    onnx = "onnx"
    notebook = "notebook"


class Compute(StrEnum):
    """What numbers an export computes in."""

    fp32 = "fp32"
    int8 = "int8"


@group
class NumberOptions:
    """What numbers an export stores and computes in."""

    weights: Annotated[
        Storage | None,
        typer.Option(
            "--weights",
            help="Format of the weights; int8 takes a quarter of the space of fp32. With "
            "--in-place, of those that MODEL's folder does not have. Default: fp32; int8 with "
            "--compute int8 into a folder of its own.",
        ),
    ] = None
    compute: Annotated[
        Compute,
        typer.Option(
            "--compute",
            help="Numbers to compute in; int8, where it costs little, is faster and takes less "
            "memory.",
        ),
    ] = Compute.fp32
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="PICTURES",
            help="Folder of photos, or captioned pictures as for train: makes int8 more exact; "
            "with --compute int8 the encoder computes in int8, too.",
        ),
    ] = None

    @property
    def is_given(self) -> bool:
        """Whether any option asks for something."""
        return (
            self.weights is not None
            or self.compute is not Compute.fp32
            or self.calibration is not None
        )

    def storage(self, *, in_place: bool) -> Storage:
        """How weights are stored; in MODEL's own folder, those that it does not have."""
        is_implied = self.compute is Compute.int8 and not in_place
        return self.weights or (Storage.int8 if is_implied else Storage.fp32)

    def check(self, *, in_place: bool) -> None:
        """Raise UsageError where options have no effect, as nothing is in int8."""
        storage = self.storage(in_place=in_place)
        if storage is Storage.int8:
            return
        if self.compute is Compute.int8:
            if self.calibration is None and not in_place:
                raise UsageError(
                    f"--compute int8 multiplies weights in int8, and --weights is {storage.value}: "
                    "leave --weights out"
                )
        elif self.calibration is not None:
            raise UsageError(
                "--calibration is for --weights int8 or --compute int8; weights are "
                f"{storage.value}, and the export computes in {self.compute.value}"
            )

    def request(self, *, in_place: bool) -> "Numbers":
        """The same in the library's words."""
        from showtell.export.onnx import Numbers

        pictures = _pictures(self.calibration) if self.calibration is not None else ()
        return Numbers(self.storage(in_place=in_place).value, self.compute.value, pictures)


@with_options
def export(
    *,
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a run or a checkpoint, or a name that `showtell models` lists."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the export.")
    ] = None,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="Write the graphs into MODEL's own folder; they share its weights.",
        ),
    ] = False,
    format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="onnx, which captions without torch; or notebook: encoder-i.pkl, decoder-i.pkl "
            "and vocab.pkl, as the course notebook has them.",
        ),
    ] = Format.onnx,
    numbers: NumberOptions,
    trust_model: options.TrustModel = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an earlier export in the folder of -o."),
    ] = False,
) -> None:
    """Export MODEL, with its encoder, to a folder that captions without torch.

    The folder works wherever a model's folder does: caption --model FOLDER. With --in-place,
    MODEL's own folder captions without torch, and still with it (--runtime torch).
    """
    from showtell.cli.console import ConsoleReporter

    if format is Format.notebook:
        if output is None or in_place or numbers.is_given or overwrite:
            raise UsageError(
                "--format notebook takes -o FOLDER, and no --in-place, --weights, --compute, "
                "--calibration or --overwrite"
            )
        _to_notebook(model, output, trust_model=trust_model)
        return
    try:
        from showtell.export.onnx import export_onnx
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("export", "showtell export") from None

    if (output is None) is not in_place:
        problem = "-o FOLDER and --in-place exclude each other" if in_place else "no output"
        raise UsageError(
            f"{problem}: give -o FOLDER for a folder of its own, or --in-place for MODEL's own"
        )
    numbers.check(in_place=in_place)
    with ConsoleReporter() as report:
        folder, size = export_onnx(
            model,
            output,
            how=numbers.request(in_place=in_place),
            trust_model=trust_model,
            overwrite=overwrite,
            notify=report.note,
        )
    typer.echo(f"the export is {folder}, {size / 1e6:.1f} MB")


def _to_notebook(model: str, output: Path, *, trust_model: bool) -> None:
    try:
        from showtell.course.save import export_notebook
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("timm", "showtell export --format notebook") from None

    for path in export_notebook(model, output, trust_model=trust_model):
        typer.echo(f"{path}, {path.stat().st_size / 1e6:.1f} MB")


def _pictures(given: str) -> list[Path]:
    """The pictures of a folder, or of a data set."""
    if Path(given).is_dir():
        from showtell.bulk.inputs import find_inputs

        return [Path(picture.path) for picture in find_inputs([given]) if picture.read is None]
    from showtell.data.sources import load_dataset

    dataset = load_dataset(given)
    for remark in dataset.remarks():
        typer.echo(remark, err=True)
    return [record.path for record in dataset.records]
