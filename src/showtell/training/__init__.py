"""Training: ``loop.py`` is the story of one run, ``request.py`` starts it."""
