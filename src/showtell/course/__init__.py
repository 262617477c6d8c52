"""The files of the captioning course's notebook: reading them as models, and writing them."""
