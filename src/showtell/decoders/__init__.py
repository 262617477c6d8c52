"""Language models over captions: one file a paper, behind one interface."""
