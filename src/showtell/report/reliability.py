"""The figure of a confidence's reliability: how many captions are acceptable where it says so."""

import numpy as np

from showtell.reliability import Reliability
from showtell.report.figures import NEUTRAL, Figure, Line, line_figure


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
        x_label="confidence",
        y_label="share of captions; CIDEr-D",
        from_zero=True,
    )
