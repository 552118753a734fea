"""What images allow of a study's settings.

What is refused here would end in an error of a later stage, mostly after all training; it is said
in the same words. Settings alone decide it for the datasets that are always the same, and
`scripts/check.py` for all, as soon as the images are there.
"""

from collections.abc import Iterator, Mapping
from math import comb
from typing import Any

from sparsecnn.study.known_images import after_holdout, known_facts

AUGMENTATION = ("crop_padding", "cutout")
"""Settings of a recipe that images limit."""
PRUNING = (
    *("method", "pattern", "layout", "coverage", "include", "exclude"),
    *("bn_recalibration", "precision", "calibration", "refit", "column_order"),
)
"""Settings of a variant that images, networks and memory limit."""

_MAX_MASKS = 70
"""As `sparsecnn.pruning.methods.block_pruners`, which a study does not import."""


def before_any_job(config: Mapping[str, Any]) -> list[str]:
    """What is wrong with a checked configuration's numbers of images, a line each.

    Nothing is known of local images: for these the list is empty.
    """
    dataset = config["dataset"]
    facts = known_facts(dataset["name"])
    if facts is None:
        return []
    if dataset["holdout"]:
        if problem := _holdout_problem(dataset["holdout"], facts):
            return [problem]
        facts = after_holdout(facts, dataset["holdout"])
    return problems(config, facts)


def problems(config: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """What settings ask of these images that they do not have, a line each.

    Parameters
    ----------
    config
        Of a configuration `calibration`, `diagnostics` and the `recipes` that are used.
    facts
        The value of dataset.json.
    """
    height, width = facts["image_shape"][1:]
    found = []
    if height != width:
        found.append(
            f"dataset: the images are {width}x{height} pixels (width, height); the networks take "
            "square ones, so crop or scale them first"
        )
    found += _calibration_problems(config["calibration"], facts)
    asked, available = (config["diagnostics"] or {}).get("images", 0), facts["n_train"]
    if asked > available:
        found.append(
            f"diagnostics.images: {asked} is not possible; the train split has {available} images, "
            f"choose 1 to {available}"
        )
    for name, recipe in config["recipes"].items():
        most = 2 * max(height, width) - 2
        if recipe["cutout"] > most:
            found.append(
                f"recipes.{name}.cutout: {recipe['cutout']} is not possible; such a square hides "
                f"every image of {width}x{height} pixels, wherever it lies; choose 0 to {most}"
            )
    return found


def _calibration_problems(
    calibration: Mapping[str, Any], facts: Mapping[str, Any]
) -> Iterator[str]:
    size, available = calibration["images"], facts["n_train"]
    counts = facts["class_counts"]["train"]
    share, remainder = divmod(size, len(counts))
    with_spare = sum(count > share for count in counts.values())
    if size > available:
        yield (
            f"calibration.images: {size} is not possible; the train split has {available} images, "
            f"choose 1 to {available}"
        )
    elif calibration["class_balanced"] and (min(counts.values()) < share or with_spare < remainder):
        smallest = min(facts["classes"], key=counts.__getitem__)
        yield (
            f"calibration.images: {size} is not possible with equal counts per class; class "
            f"{smallest!r} has only {counts[smallest]} train images; choose at most "
            f"{counts[smallest] * len(counts)}, or set calibration.class_balanced to false"
        )


def _holdout_problem(count: int, facts: Mapping[str, Any]) -> str | None:
    classes = len(facts["classes"])
    each, rest = divmod(count, classes)
    fewest = min(facts["class_counts"]["train"].values())
    if not rest and 1 <= each < fewest:
        return None
    return (
        f"dataset.holdout: {count} is not possible; with {classes} classes, the smallest "
        f"of {fewest} train images, choose a multiple of {classes} up to {(fewest - 1) * classes}"
    )


def impossible_pruning(settings: Mapping[str, Any], device: str) -> Iterator[str]:
    """What a variant's settings ask of its method that this has not: a key and a line each.

    `device` is the setting of that name.
    """
    pattern = settings["pattern"]
    kept, _, group = pattern.partition(":")
    if settings["method"] == "exact_obs" and pattern.endswith("%"):
        yield f"pattern: exact_obs prunes row by row: '{pattern}' has to be '{pattern} per row'"
    if settings.get("selection") == "joint" and not (
        group and comb(int(group), int(kept)) <= _MAX_MASKS
    ):
        yield (
            f"selection: 'joint' tries every mask of a group, and pattern {pattern} has more than "
            f"{_MAX_MASKS}: use selection 'diagonal'"
        )
    if settings.get("precision") == "float64" and device == "mps":
        yield "precision: MPS has no float64; choose float32, or set device to cpu"


def hidden_crops(recipe: Mapping[str, Any], facts: Mapping[str, Any]) -> float:
    """Share of a recipe's random crops that hold nothing of their image, 0 to 1."""
    offsets = 2 * recipe["crop_padding"] + 1
    seen = 1.0
    for side in facts["image_shape"][1:]:
        seen *= min(1.0, (2 * side - 1) / offsets)
    return 1 - seen
