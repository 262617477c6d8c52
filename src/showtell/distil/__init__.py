"""A captioner of one's own from a larger one: ``showtell distil``.

Sequence-level distillation (Kim and Rush 2016, arXiv 1606.07947): a teacher captions pictures, what
is doubtful among its captions is left out, and a small student learns the rest. ``run.py`` has the
story, ``stages.py`` how a stage is made once.
"""
