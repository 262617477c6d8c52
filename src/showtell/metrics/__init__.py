"""COCO's caption metrics, equal to the official scorer's, without Java.

Importing this package imports NumPy and nothing else: no torch, nothing of showtell's extras.
"""

from showtell.metrics.cider import CiderD
from showtell.metrics.evaluate import CHECKS, FAMILIES, METRICS, Family, Scores, evaluate
from showtell.metrics.objects import BLEU, METEOR, ROUGEL, CaptionMetrics, CIDEr, compute
from showtell.metrics.references import References

__all__ = [
    "BLEU",
    "CHECKS",
    "FAMILIES",
    "METEOR",
    "METRICS",
    "ROUGEL",
    "CIDEr",
    "CaptionMetrics",
    "CiderD",
    "Family",
    "References",
    "Scores",
    "compute",
    "evaluate",
]
