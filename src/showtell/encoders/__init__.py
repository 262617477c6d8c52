"""Picture networks, and the features that they give, kept on disk."""
