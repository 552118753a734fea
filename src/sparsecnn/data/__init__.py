"""Datasets: sources, the canonical form, augmentation, calibration sets."""
