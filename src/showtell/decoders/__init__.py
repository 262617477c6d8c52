"""Decoders: models that turn a picture's features into words, one module for each paper.

``base.py`` has their interface. ``registry.py`` lists them, makes them from settings and says how
to add one.
"""
