"""What can stand behind a ``Captioner``: today showtell's own models."""
