"""Which figures a report has, and the text that describes each.

For one run there is a figure for each group of measurements; for several runs each figure has a
line with a run's name. ``reliability_figure`` draws confidence against the share of acceptable
captions.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from showtell.evaluation.calibration import Reliability
from showtell.metrics.evaluate import METRICS
from showtell.report.figures import NEUTRAL, Line, bar_figure, line_figure
from showtell.report.page import Figure
from showtell.report.reading import RunFolder, Values, smooth, speed
from showtell.report.words import WordUse

NUM_WORDS = 16
INTERVALS = "95 % intervals"
# A step's figures that have a chart of their own, or are not a curve.
KNOWN = {"epoch", "step", "loss", "perplexity", "objective", "lr", "tokens", "seconds"}

# The titles of others, and what their axes measure.
WORDS = {
    "text_loss": ("Loss on captions without pictures", "nats a token"),
    "old_kl": ("Drift from the start, on old pictures", "KL divergence, nats a token"),
    "graded_loss": ("Loss on graded captions", "nats a pair"),
    "teacher_kl": ("Distance from the teachers", "KL divergence, nats a token"),
    "reward": ("Reward of sampled captions", "reward"),
    "baseline": ("Reward that samples are compared with", "reward"),
}


def curve_figures(runs: Sequence[RunFolder]) -> list[Figure]:
    """A figure for everything in the log; a figure without any point is left out."""
    found = [*_loss(runs), *_perplexity(runs), *_metrics(runs), *_course(runs)]
    return [figure for figure in found if figure is not None]


def word_figures(people: WordUse, said: Sequence[tuple[str, WordUse]]) -> list[Figure]:
    """Word frequencies and caption lengths of the references and of each run."""
    series = [("references", people), *said]
    words = [word for word, _ in people.words.most_common(NUM_WORDS)]
    shares = [
        (name, colour, [use.share(word) for word in words])
        for colour, (name, use) in enumerate(series, NEUTRAL)
    ]
    frequent = ", ".join(
        f"{word} " + " / ".join(f"{use.share(word):.1%}" for _, use in series) for word in words[:8]
    )
    lengths = np.arange(0.0, 1 + max(_usual_length(use) for _, use in series))
    lines = [
        Line(
            name,
            lengths,
            np.array([use.length_share(int(n)) for n in lengths]),
            dots=True,
            colour=colour,
        )
        for colour, (name, use) in enumerate(series, NEUTRAL)
    ]
    means = ", ".join(f"{name} {use.mean_length:.1f}" for name, use in series)
    return [
        bar_figure(
            "word-frequencies",
            f"The references' {len(words)} most frequent words",
            f"Share of all words ({' / '.join(name for name, _ in series)}): {frequent}.",
            words,
            shares,
            x_label="share of all words",
        ),
        line_figure(
            "caption-lengths",
            "Caption lengths",
            f"Share of captions by their number of words. Mean length: {means} words.",
            lines,
            x_label="words in a caption",
            y_label="share of captions",
            whole_x=True,
            from_zero=True,
            percent=True,
        ),
    ]


def _usual_length(use: WordUse) -> int:
    """The length that 99.5 % of captions do not exceed; longer ones would squeeze the rest."""
    seen = 0
    for length in sorted(use.lengths):
        seen += use.lengths[length]
        if seen >= 0.995 * use.num_captions:
            return length
    return 0


def _loss(runs: Sequence[RunFolder]) -> list[Figure | None]:
    if len(runs) == 1:
        lines = [*_trained(runs, "loss", "training"), *_validated(runs, "val_loss", "validation")]
        return [_steps("loss", "Loss", lines, "nats a token")]
    return [
        _steps("loss", "Training loss", _trained(runs, "loss"), "nats a token"),
        _steps("val-loss", "Validation loss", _validated(runs, "val_loss"), "nats a token"),
    ]


def _perplexity(runs: Sequence[RunFolder]) -> list[Figure | None]:
    """Perplexity of the mean loss, as training reports it; a mean of perplexities follows peaks."""

    def exp(loss: Values) -> Values:
        return np.exp(np.minimum(loss, 100.0))  # of a run that diverged; axes have room for no more

    def raised(lines: list[Line]) -> list[Line]:
        return [
            replace(
                line,
                y=exp(line.y),
                low=None if line.low is None else exp(line.low),
                high=None if line.high is None else exp(line.high),
            )
            for line in lines
        ]

    if len(runs) == 1:
        trained = raised(_trained(runs, "loss", "training"))
        lines = [*trained, *_validated(runs, "val_perplexity", "validation")]
        return [_steps("perplexity", "Perplexity", lines, "perplexity", log=True)]
    trained, validated = raised(_trained(runs, "loss")), _validated(runs, "val_perplexity")
    return [
        _steps("perplexity", "Training perplexity", trained, "perplexity", log=True),
        _steps("val-perplexity", "Validation perplexity", validated, "perplexity", log=True),
    ]


def _metrics(runs: Sequence[RunFolder]) -> list[Figure | None]:
    def chart(name: str, title: str, lines: list[Line]) -> Figure | None:
        if not lines:
            return None
        alt = _in_words(lines, "epoch")
        if any(line.low is not None for line in lines):
            title, alt = f"{title}, with {INTERVALS}", f"{alt} {_bands_in_words(lines)}"
        return line_figure(name, title, alt, lines, x_label="epoch", y_label="score", whole_x=True)

    if len(runs) == 1:
        others = [line for m in METRICS if m != "CIDEr-D" for line in _by_epoch(runs, m, m)]
        return [
            chart("cider-d", "CIDEr-D", _by_epoch(runs, "CIDEr-D", "CIDEr-D")),
            chart("metrics", "BLEU, METEOR, ROUGE-L", others),
        ]
    shown = [m for m in METRICS if m not in ("BLEU-1", "BLEU-2", "BLEU-3")]
    return [chart(metric.lower(), metric, _by_epoch(runs, metric)) for metric in shown]


def _course(runs: Sequence[RunFolder]) -> list[Figure | None]:
    """The course of training: learning rate, speed, endings, and other values that were logged."""
    rates = [_thinned(run.name, *run.log.series("lr")) for run in runs]
    speeds = [Line(run.name, *speed(run.log)) for run in runs]
    endings = _by_epoch(runs, "bad_endings")
    others = sorted({name for run in runs for name in run.log.steps} - KNOWN)
    return [
        _steps("learning-rate", "Learning rate", rates, "learning rate", from_zero=True),
        _steps("speed", "Speed of training", speeds, "tokens a second", from_zero=True),
        line_figure(
            "bad-endings",
            "Bad endings",
            _in_words(endings, "epoch"),
            endings,
            x_label="epoch",
            y_label="share of captions",
            whole_x=True,
            from_zero=True,
            percent=True,
        )
        if endings
        else None,
        *(
            _steps(name, title, _trained(runs, name), unit)
            for name in others
            for title, unit in [_words(name)]
        ),
    ]


def _words(name: str) -> tuple[str, str]:
    plain = name.replace("_", " ")
    return WORDS.get(name, (plain.capitalize(), plain))


def _steps(
    name: str,
    title: str,
    lines: Sequence[Line],
    y_label: str,
    *,
    log: bool = False,
    from_zero: bool = False,
) -> Figure | None:
    lines = [line for line in lines if len(line.x)]
    if not lines:
        return None
    alt = _in_words(lines, "step")
    name = re.sub(r"[^\w.-]+", "-", name)  # it names a file
    return line_figure(
        name, title, alt, lines, x_label="step", y_label=y_label, log=log, from_zero=from_zero
    )


def _trained(runs: Sequence[RunFolder], figure: str, label: str | None = None) -> list[Line]:
    """A training figure over the steps, smoothed; with a band if there is only one run."""
    lines = []
    for index, run in enumerate(runs):
        curve = smooth(*run.log.series(figure))
        low, high = (curve.low, curve.high) if len(runs) == 1 else (None, None)
        lines.append(Line(label or run.name, curve.x, curve.y, low, high, colour=index))
    return [line for line in lines if len(line.x)]


def _validated(runs: Sequence[RunFolder], figure: str, label: str | None = None) -> list[Line]:
    """A validation figure over the steps."""
    lines = []
    for index, run in enumerate(runs):
        epochs, values = run.log.validation(figure)
        steps = np.array([float(epoch.step) for epoch in epochs])
        colour = index if label is None else 1
        lines.append(Line(label or run.name, steps, values, dots=True, colour=colour))
    return [line for line in lines if len(line.x)]


def _by_epoch(runs: Sequence[RunFolder], figure: str, label: str | None = None) -> list[Line]:
    """A validation figure over the epochs; a band has its intervals, if the run has logged them."""
    lines = []
    for index, run in enumerate(runs):
        epochs, values = run.log.validation(figure)
        numbers = np.array([float(epoch.epoch) for epoch in epochs])
        low, high = run.log.band(figure) or (None, None)
        colour = index if label is None else None
        lines.append(Line(label or run.name, numbers, values, low, high, dots=True, colour=colour))
    return [line for line in lines if len(line.x)]


def _thinned(label: str, x: Values, y: Values) -> Line:
    """Single points, not means: a rate has no noise, and its first steps matter."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), 1000)).astype(int))
    return Line(label, x[kept], y[kept])


def _in_words(lines: Sequence[Line], unit: str) -> str:
    """A description of a figure: a sentence for each line."""
    return " ".join(
        f"{line.label}: from {line.y[0]:.4g} at {unit} {line.x[0]:,.0f} to {line.y[-1]:.4g} at "
        f"{unit} {line.x[-1]:,.0f}; lowest {line.y.min():.4g}, highest {line.y.max():.4g}."
        for line in lines
    )


def _bands_in_words(lines: Sequence[Line]) -> str:
    ends = ", ".join(
        f"{line.label} {line.low[-1]:.4g} to {line.high[-1]:.4g}"
        for line in lines
        if line.low is not None and line.high is not None and np.isfinite(line.low[-1])
    )
    return f"A band shows {INTERVALS}; at the last epoch: {ends}."


def reliability_figure(found: Reliability) -> Figure:
    """Share of acceptable captions and their CIDEr-D over the confidence; the diagonal is ideal."""
    sure = np.array([part.confidence for part in found.bins])
    fine = np.array([part.acceptable for part in found.bins])
    cider = np.array([part.cider for part in found.bins])
    ideal = np.array([0.0, 1.0])
    alt = (
        f"{found.num_captions:,} captions in {len(found.bins)} groups: of the least sure "
        f"{fine[0]:.0%} are acceptable (CIDEr-D {cider[0]:.2f}), of the surest {fine[-1]:.0%} "
        f"(CIDEr-D {cider[-1]:.2f}). Rank correlation {found.rank_correlation:.2f}, calibration "
        f"error {found.error:.3f}."
    )
    lines = [
        Line(
            f"acceptable (CIDEr-D of {found.threshold:g} or more)", sure, fine, dots=True, colour=0
        ),
        Line("mean CIDEr-D", sure, cider, dots=True, colour=1),
        Line("ideal: share = confidence", ideal, ideal, colour=NEUTRAL),
    ]
    return line_figure(
        "reliability",
        "Confidence and quality",
        alt,
        lines,
        x_label=f"confidence (each point: {_sizes(found)})",
        y_label="share of captions; CIDEr-D",
        from_zero=True,
    )


def _sizes(found: Reliability) -> str:
    """How many captions a point is of: a share of one or two captions says little."""
    sizes = sorted({part.num for part in found.bins})
    text = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
    return f"{text} caption{'s' * (sizes[-1] > 1)}"
