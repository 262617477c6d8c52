"""Encoders: networks that turn pictures into features, and the store that keeps them on disk."""
