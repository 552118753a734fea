"""Baseline training."""
