"""Refuse settings that images, networks or memory do not allow, before any training (rule `check`).

A later stage would end in an error over each, most of them after all training.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sparsecnn.artifacts import Manifest, Origin, read_json, write_json
from sparsecnn.errors import UserError, in_a_line
from sparsecnn.evaluation.conditioning import MATRICES
from sparsecnn.job import run_job
from sparsecnn.models.network import (
    Architecture,
    architecture_of,
    build,
    build_without_numbers,
)
from sparsecnn.pruning.calibration.surroundings import Surroundings
from sparsecnn.pruning.calibration.survey import Survey, survey
from sparsecnn.pruning.memory import SHARE, hessian_bytes, layer_need
from sparsecnn.pruning.model.weights import Weight, find_weights
from sparsecnn.pruning.selection import reasons_to_stay_dense
from sparsecnn.pruning.settings import read_settings
from sparsecnn.study import memory
from sparsecnn.study.limits import hidden_crops, problems
from sparsecnn.study.memory import Need

if TYPE_CHECKING:
    from snakemake.script import snakemake

logger = logging.getLogger("sparsecnn")


def main(
    summary: Path,
    checked: Path,
    settings: dict[str, Any],
    code: str,
    origins: dict[str, Origin],
    computes: str,
) -> None:
    """Raise `UserError` unless all goes together; write what the Hessians will take.

    `computes` is ``here`` if this machine's CPU trains and prunes, so that its memory decides.
    """
    facts, parent = read_json(summary, "dataset_summary", origins["dataset"])
    wrong = problems(settings, facts)
    needs: dict[str, list[Need]] = {}
    height, width = facts["image_shape"][1:]
    for model in settings["models"] if height == width else []:
        try:
            lines, needs[model] = tried(model, settings, facts)
            wrong += lines
        except UserError as error:
            own = settings["models"][model].get("builder")
            advice = "" if own else "scale the images, or "
            advice += f"leave the network out (models: {{{model}: null}})"
            wrong.append(f"models.{model}: {error}; {advice}")
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    wrong += _too_large(settings, facts, needs, installed if computes == "here" else 0)
    for line in wrong[:-1]:
        logger.error("error: %s", line)
    if wrong:
        raise UserError(wrong[-1])
    value = [
        {"model": model, "variant": n.variant, "layer": n.layer, "bytes": n.bytes}
        for model, own in needs.items()
        for n in own
    ]
    write_json(
        checked, {"hessians": value}, Manifest("checked", settings, code, dict(parent.parents))
    )


def tried(
    model: str, settings: Mapping[str, Any], facts: Mapping[str, Any]
) -> tuple[list[str], list[Need]]:
    """One of the study's networks without numbers, tried with images of the real size.

    Lines on the variants that it cannot have, and what the Hessians of the others will take. Raises
    `UserError` if it cannot take the images.
    """
    wrong, needs = [], []
    own, shape = settings["models"][model], facts["image_shape"]
    architecture = architecture_of({**own, "model": model}, len(facts["classes"]), shape[1])
    network = build_without_numbers(architecture)
    if architecture.builder:
        network = _checked_own(network, architecture, shape, trained=own["trained"])
    elif not _runs(network, _images(1, network, shape)):
        return [], []
    image = _images(1, network, shape)
    weights = find_weights(network)
    seen = survey(network, weights, lambda: network(image), Surroundings.here(set()))
    for variant, own in settings["variants"].items():
        try:
            need = _pruning_need(variant, own, network, weights, seen)
            if own["bn_recalibration"] and settings["calibration"]["images"] == 1:
                _refuse_single_values(network, image)
            needs += [need] if need else []
        except UserError as error:
            wrong.append(f"variants.{variant}: {model}: {error}")
    if settings["diagnostics"]:
        needs.append(_diagnostics_need(weights, seen))
    return wrong, needs


def _images(count: int, network: nn.Module, shape: Sequence[int]) -> Tensor:
    """Images without meaning, where the network is."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    return torch.zeros(count, *shape, device=device)


def _checked_own(
    network: nn.Module, architecture: Architecture, shape: Sequence[int], *, trained: bool
) -> nn.Module:
    """The network, with numbers if it cannot do without; `UserError` unless it gives logits.

    Also while it trains, if it is `trained` here: some give more than logits then.
    """
    what, images = f"builder {architecture.builder}", _images(2, network, shape)
    said, classes = f"images {tuple(images.shape)}", architecture.num_classes
    for train in [False, True] if trained else [False]:
        network.train(train)
        try:
            logits = network(images)
        except Exception as error:  # whatever a user's code raises
            reason = in_a_line(error)
            if "meta" in reason.lower() and images.is_meta:
                return _checked_own(build(architecture), architecture, shape, trained=trained)
            raise UserError(
                f"{what}: its network cannot take {said}: {type(error).__name__}: {reason}"
            ) from None
        given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if given != (2, classes):
            when = " while it trains" if train else ""
            raise UserError(
                f"{what}: its network gives {given} for {said}{when}; it has to give logits, "
                f"(2, {classes})"
            )
    return network.eval()


def _runs(network: nn.Module, image: Tensor) -> bool:
    """Whether it takes the images; False, with a warning, if only its numbers would tell."""
    try:
        with torch.no_grad():
            network.eval()(image)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        if "meta" not in reason.lower():
            raise UserError(f"it cannot take images of this size ({reason})") from None
        logger.warning("warning: not known before it is trained: %s", reason)
        return False
    return True


def _pruning_need(
    variant: str,
    own: Mapping[str, Any],
    network: nn.Module,
    weights: Mapping[str, Weight],
    seen: Survey,
) -> Need | None:
    """What the Hessians of a variant take; None without any. `UserError` for names of no layer."""
    choice = {key: own[key] for key in ("coverage", "include", "exclude")}
    others = {key: own[key] for key in own if key not in (*choice, "bn_recalibration")}
    settings = read_settings(**others)
    dense = reasons_to_stay_dense(
        *(network, weights, seen), pattern=settings.pattern, layout=settings.layout, **choice
    )
    pruned = [name for name, reason in dense.items() if not reason]
    if settings.needs != "hessian" or not pruned:
        return None

    def solving(name: str) -> int:
        return layer_need(settings, weights[name].value.shape, seen.usages[name].groups).solving

    largest = max(pruned, key=solving)
    return _need(variant, weights[largest], seen, settings.dtype, solving(largest))


def _diagnostics_need(weights: Mapping[str, Weight], seen: Survey) -> Need:
    """What the largest Hessian takes while its conditioning is measured."""

    def measuring(name: str) -> int:
        shape = weights[name].value.shape
        return MATRICES * hessian_bytes(shape, seen.usages[name].groups, torch.float32)

    largest = max((name for name, usage in seen.usages.items() if usage.calls), key=measuring)
    return _need(None, weights[largest], seen, torch.float32, measuring(largest))


def _need(
    variant: str | None, weight: Weight, seen: Survey, dtype: torch.dtype, total: int
) -> Need:
    shape, kind = weight.value.shape, str(dtype).removeprefix("torch.")
    hessian = hessian_bytes(shape, seen.usages[weight.name].groups, dtype)
    return Need(variant, weight.name, shape[1:].numel(), hessian, total, kind)


def _refuse_single_values(network: nn.Module, image: Tensor) -> None:
    """Raise `UserError` if one image gives batch norm no variance."""
    try:
        network.train()(image)
    except ValueError:  # torch's, of batch norm
        raise UserError(
            "bn_recalibration: a batch of 1 gives a batch-norm layer a single value per "
            "channel, which has no variance; set calibration.images to 2 or more"
        ) from None
    finally:
        network.eval()


def _too_large(
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    needs: Mapping[str, list[Need]],
    installed: int,
) -> Iterator[str]:
    """A line for each that cannot fit into the memory installed (0: of an unknown machine).

    Of what may be too much, the log is told.
    """
    side = facts["image_shape"][1]
    for model, own in needs.items():
        width = settings["models"][model]["width"]
        too_much = [need for need in own if 0 < SHARE * installed < need.bytes]
        yield from memory.too_large(model, width, side, too_much, installed)
        much = [need for need in own if need.bytes > memory.WARNED and need not in too_much]
        for line in memory.too_large(model, width, side, much, 0):
            logger.warning("warning: %s", line)
    for name, recipe in settings["recipes"].items():
        padding, padded = recipe["crop_padding"], memory.padded_bytes(recipe, facts)
        if 0 < installed < padded:
            yield (
                f"recipes.{name}.crop_padding: with {padding} pixels on each side the "
                f"{facts['n_train']} train images take about {memory.gigabytes(padded)}, more than "
                f"the {memory.gigabytes(installed)} of memory of this machine; lower it"
            )
        elif hidden := hidden_crops(recipe, facts):
            logger.warning(
                "warning: recipes.%s.crop_padding: with %d pixels on each side %.0f %% of the "
                "crops hold nothing of their image",
                *(name, padding, 100 * hidden),
            )


if __name__ == "__main__":
    run_job(snakemake, main)
