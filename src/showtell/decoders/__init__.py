"""Decoders: models that turn a picture's features into words, one module for each paper."""
