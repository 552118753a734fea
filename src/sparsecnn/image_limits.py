"""How many images can be asked for, and of what shape: said before and when they are there.

Each function returns the line that refuses what is not possible, or None; none needs the images
themselves.
"""

from collections.abc import Mapping


def calibration_problem(size: int, class_balanced: bool, counts: Mapping[str, int]) -> str | None:
    """Of a calibration set of `size` from a train split with so many images of each class."""
    available = sum(counts.values())
    share, remainder = divmod(size, len(counts))
    with_spare = sum(count > share for count in counts.values())
    if not 1 <= size <= available:
        return (
            f"calibration.images: {size} is not possible; the train split has {available} images, "
            f"choose 1 to {available}"
        )
    if class_balanced and (min(counts.values()) < share or with_spare < remainder):
        smallest = min(counts, key=counts.__getitem__)
        return (
            f"calibration.images: {size} is not possible with equal counts per class; class "
            f"{smallest!r} has only {counts[smallest]} train images; choose at most "
            f"{counts[smallest] * len(counts)}, or set calibration.class_balanced to false"
        )
    return None


def holdout_problem(count: int, counts: Mapping[str, int]) -> str | None:
    """Of `count` images held out of a train split with so many images of each class."""
    each, rest = divmod(count, len(counts))
    fewest = min(counts.values())
    if not rest and 1 <= each < fewest:
        return None
    return (
        f"dataset.holdout: {count} is not possible; with {len(counts)} classes, the smallest "
        f"of {fewest} train images, choose a multiple of {len(counts)} up to "
        f"{(fewest - 1) * len(counts)}"
    )


def sample_problem(size: int, available: int) -> str | None:
    """Of the images to diagnose on, from a train split of so many."""
    if size <= available:
        return None
    return f"diagnostics.images: {size} is not possible; the train split has {available} images"


def shape_problem(height: int, width: int) -> str | None:
    """Of images of so many pixels."""
    if height == width:
        return None
    return (
        f"dataset: the images are {width}x{height} pixels (width, height); the networks take "
        "square ones, so crop or scale them first"
    )
