"""Backends of ``Captioner``: so far, the models that showtell itself trains."""
