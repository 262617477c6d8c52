"""COCO's caption metrics, equal to the official scorer's, without Java."""

from showtell.metrics.cider import CiderD
from showtell.metrics.evaluate import CHECKS, FAMILIES, METRICS, Family, Scores, evaluate
from showtell.metrics.references import References

__all__ = ["CHECKS", "FAMILIES", "METRICS", "CiderD", "Family", "References", "Scores", "evaluate"]
