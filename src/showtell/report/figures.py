"""Drawing: lines and bars by matplotlib, each figure once for light and once for dark pages.

``charts.py`` decides what to draw. The colours can be told apart by people with colour blindness,
and lines also differ in their dashes.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell.errors import MissingExtraError
from showtell.images.lettering import Lettering, told
from showtell.report.page import WIDTH, Figure
from showtell.report.reading import Values

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.font_manager import FontProperties, fontManager
    from matplotlib.ticker import FuncFormatter, MaxNLocator
except ImportError:
    raise MissingExtraError("train", "showtell report") from None

# Inches, and dots an inch: twice what a page shows, for dense screens. The letters are of a size
# that can be read where a phone shows the figure at two thirds.
HEIGHT, DOTS = 3.5, 200
FONT_SIZE = 11
LEGEND_LETTERS = 56  # that fit beside each other
STEPS_OF_TICKS = [1, 2, 5, 10]
NEUTRAL = -1
LEAST_LOG = 5
DASHES = ("-", "--", "-.", ":")
BAND = 0.22  # opacity: the bands of several lines lie over each other


@dataclass(frozen=True)
class Theme:
    """Colours of a page."""

    paper: str
    ink: str
    grid: str
    neutral: str
    series: tuple[str, ...]

    def colour(self, number: int) -> str:
        """The colour of a line or bar; ``NEUTRAL`` is for the series to compare others with."""
        return self.neutral if number == NEUTRAL else self.series[number % len(self.series)]


# After Okabe and Ito (2008), made darker or lighter until each has a contrast of 3:1 and more.
LIGHT = Theme(
    "#ffffff",
    "#1f2328",
    "#d5dae0",
    "#6e7781",
    ("#0072b2", "#c2510a", "#00805e", "#b0508a", "#8a6d00", "#5b5bd6"),
)
DARK = Theme(
    "#161b22",
    "#e6edf3",
    "#333b45",
    "#9aa4af",
    ("#58b4f0", "#ff9b5e", "#3fc79a", "#e79ac6", "#e8c547", "#a5a5ff"),
)


@dataclass(frozen=True)
class Line:
    """A line of a chart, (P,) points; ``low`` and ``high`` bound a band around it.

    Attributes:
        dots: whether points are marked; the point of a one-point line always is.
        colour: number of its colour; by default its position among the lines.
    """

    label: str
    x: Values
    y: Values
    low: Values | None = None
    high: Values | None = None
    dots: bool = False
    colour: int | None = None


def line_figure(
    name: str,
    title: str,
    alt: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    log: bool = False,
    whole_x: bool = False,
    from_zero: bool = False,
    percent: bool = False,
) -> Figure:
    """Lines over a common axis.

    Args:
        log: whether y is logarithmic, where the highest value is many times the lowest.
        whole_x: whether x has whole numbers only, as epochs are.
        from_zero: whether y begins at 0.
        percent: whether y is a share, shown in per cent.
    """

    top, bottom = max(line.y.max() for line in lines), min(line.y.min() for line in lines)
    # Between ends that are closer there may be no tick with a label, and not two.
    is_log = log and top > LEAST_LOG * bottom

    def plot(axes: Axes, theme: Theme) -> None:
        for index, line in enumerate(lines):
            _plot_line(axes, theme, index, line)
        if is_log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(_plain))
            digits = "235" if top < 100 * bottom else "25"  # as many as there is room for
            axes.yaxis.set_minor_formatter(FuncFormatter(_only(digits)))
        else:
            axes.yaxis.set_major_formatter(FuncFormatter(_percent if percent else _plain))
        is_share = max(line.x.max() for line in lines) <= 1  # steps and epochs come whole
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS_OF_TICKS, integer=not is_share))
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
        if whole_x:
            ends = min(line.x.min() for line in lines), max(line.x.max() for line in lines)
            axes.set_xlim(ends[0] - 0.4, ends[1] + 0.4)
        if from_zero:
            axes.set_ylim(bottom=0)
        _label(axes, theme, x_label, y_label, legend=len(lines) > 1)

    return _draw(name, title, alt, plot, [line.label for line in lines])


def bar_figure(
    name: str,
    title: str,
    alt: str,
    labels: Sequence[str],
    series: Sequence[tuple[str, int, Sequence[float]]],
    *,
    x_label: str,
) -> Figure:
    """Horizontal bars: for each label one bar of every series; the first label is at the top.

    Args:
        series: name, number of the colour and (L,) shares of each, 0 to 1.
    """
    thickness = 0.8 / len(series)

    def plot(axes: Axes, theme: Theme) -> None:
        for index, (label, colour, shares) in enumerate(series):
            places = [row - 0.4 + (index + 0.5) * thickness for row in range(len(labels))]
            axes.barh(
                places,
                shares,
                thickness * 0.9,
                label=label,
                color=theme.colour(colour),
                hatch="" if colour < len(theme.series) else "//",
            )
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS_OF_TICKS))
        axes.xaxis.set_major_formatter(FuncFormatter(_percent))
        _label(axes, theme, x_label, "", legend=len(series) > 1)
        axes.grid(axis="y", visible=False)

    height = max(HEIGHT, 1 + len(labels) * max(0.26, 0.13 * len(series)))
    texts = [*labels, *(label for label, _, _ in series)]
    return _draw(name, title, alt, plot, texts, height=height)


def _plot_line(axes: Axes, theme: Theme, index: int, line: Line) -> None:
    colour = theme.colour(index if line.colour is None else line.colour)
    if line.low is not None and line.high is not None:
        if len(line.x) == 1:  # a band of no width
            axes.vlines(line.x, line.low, line.high, color=colour, alpha=BAND, linewidth=9)
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=BAND, linewidth=0)
    axes.plot(
        line.x,
        line.y,
        color=colour,
        linestyle=DASHES[index % len(DASHES)],
        linewidth=1.8,
        marker="o" if line.dots or len(line.x) == 1 else "",
        markersize=4.5,
        clip_on=not line.dots,  # a dot on an axis is shown whole
        label=line.label,
    )


def _label(axes: Axes, theme: Theme, x_label: str, y_label: str, *, legend: bool) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(color=theme.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if legend:
        # Above the axes, where it hides nothing.
        handles, names = axes.get_legend_handles_labels()
        columns = max(1, min(len(names), LEGEND_LETTERS // (max(map(len, names)) + 6)))
        axes.figure.legend(handles, names, loc="outside upper center", ncols=columns, frameon=False)


def _draw(
    name: str,
    title: str,
    alt: str,
    plot: Callable[[Axes, Theme], None],
    texts: Sequence[str],
    *,
    height: float = HEIGHT,
) -> Figure:
    lettering = Lettering(texts)
    families = ["DejaVu Sans", *map(_family, lettering.files)]
    light, dark = (_render(theme, height, plot, families) for theme in (LIGHT, DARK))
    return Figure(name, title, alt, light, dark, told(lettering.missing))


def _family(font: Path) -> str:
    """Under which name matplotlib knows a font."""
    if not any(entry.fname == str(font) for entry in fontManager.ttflist):
        fontManager.addfont(font)
    return FontProperties(fname=font).get_name()


def _render(
    theme: Theme, height: float, plot: Callable[[Axes, Theme], None], families: Sequence[str]
) -> bytes:
    style: dict[Any, Any] = {
        "font.family": list(families),
        "font.size": FONT_SIZE,
        "legend.fontsize": FONT_SIZE - 1,
        "figure.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.grid,
        "text.parse_math": False,  # a "$" in a caption or a folder's name is a "$"
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), theme.ink),
    }
    # Without pyplot: no window system is looked for, and nothing is kept after the drawing.
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # Figure.note
        canvas = Canvas(figsize=(WIDTH, height), dpi=DOTS, layout="constrained")
        plot(canvas.add_subplot(), theme)
        file = io.BytesIO()
        canvas.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _plain(value: float, _: int | None = None) -> str:
    """Tick labels such as 12,000, 0.001 and 1e-05, never with an offset."""
    if value and abs(value) < 1e-3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def _only(digits: str) -> Callable[[float, int | None], str]:
    """Labels for those ticks between two powers of ten that begin with one of ``digits``."""

    def label(value: float, _: int | None = None) -> str:
        return _plain(value) if f"{value:e}"[0] in digits else ""

    return label


def _percent(value: float, _: int | None = None) -> str:
    return f"{100 * value:.3g} %"
