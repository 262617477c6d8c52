"""From captioned pictures to a packed model with a card: one recipe, one command.

A recipe is data (``recipe.py``); its stages call what the command line calls (``stages.py``).
"""
