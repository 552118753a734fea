"""The weights of a model: which there are, and how those that are computed are made plain."""
