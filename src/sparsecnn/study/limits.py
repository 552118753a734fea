"""What images allow of a study's settings.

What is refused here would end in an error of a later stage, mostly after all training; both ask
`sparsecnn.image_limits`. Settings alone decide it for the datasets that are always the same, and
`scripts/check.py` for all, as soon as the images are there.
"""

from collections.abc import Iterator, Mapping
from math import comb
from typing import Any

from sparsecnn.image_limits import (
    calibration_problem,
    holdout_problem,
    sample_problem,
    shape_problem,
)
from sparsecnn.study.known_images import after_holdout, known_facts

AUGMENTATION = ("crop_padding", "cutout")
"""Settings of a recipe that images limit."""
PRUNING = (
    *("method", "pattern", "layout", "coverage", "include", "exclude"),
    *("bn_recalibration", "bias_correction", "precision", "calibration", "target", "refit"),
    *("column_order", "ridge"),
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
        if problem := holdout_problem(dataset["holdout"], facts["class_counts"]["train"]):
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
    calibration, available = config["calibration"], facts["n_train"]
    asked = (config["diagnostics"] or {}).get("images", 0)
    sample = sample_problem(asked, available)
    found = [
        shape_problem(height, width),
        calibration_problem(
            calibration["images"], calibration["class_balanced"], facts["class_counts"]["train"]
        ),
        sample and f"{sample}, choose 1 to {available}",
    ]
    for name, recipe in config["recipes"].items():
        most = 2 * max(height, width) - 2
        if recipe["cutout"] > most:
            found.append(
                f"recipes.{name}.cutout: {recipe['cutout']} is not possible; such a square hides "
                f"every image of {width}x{height} pixels, wherever it lies; choose 0 to {most}"
            )
    return [problem for problem in found if problem]


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
    if settings.get("permute_channels") and not (group and settings["layout"] == "channels"):
        yield "permute_channels: is for patterns N:M with layout: channels"
    if settings.get("precision") == "float64" and device == "mps":
        yield "precision: MPS has no float64; choose float32, or set device to cpu"


def hidden_crops(recipe: Mapping[str, Any], facts: Mapping[str, Any]) -> float:
    """Share of a recipe's random crops that hold nothing of their image, 0 to 1."""
    offsets = 2 * recipe["crop_padding"] + 1
    seen = 1.0
    for side in facts["image_shape"][1:]:
        seen *= min(1.0, (2 * side - 1) / offsets)
    return 1 - seen
