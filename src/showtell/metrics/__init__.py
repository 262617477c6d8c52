"""COCO's caption metrics, equal to the official scorer's, without Java."""

from showtell.metrics.cider import CiderD
from showtell.metrics.evaluate import METRICS, Scores, evaluate
from showtell.metrics.references import References

__all__ = ["METRICS", "CiderD", "References", "Scores", "evaluate"]
