"""Accuracy, and proof that a pruned network has the pattern it claims."""
