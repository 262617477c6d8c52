"""How good a model's captions are, and how well it knows."""
