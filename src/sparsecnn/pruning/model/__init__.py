"""The weights of a model: which there are, and which of them are weights in use."""
