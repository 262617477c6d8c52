"""Captions rated by people: a blind sheet for two or more captioners, and what its answers say."""
