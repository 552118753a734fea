"""Measure one network, dense or pruned, on the test split (rule `evaluate`)."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.artifacts import Manifest, Origin, check_parents, read_table, write_json
from sparsecnn.data.dataset import load_dataset
from sparsecnn.device import cpu_threads, device_name, use_device
from sparsecnn.evaluation.accuracy import Accuracy, evaluate
from sparsecnn.evaluation.costs import network_costs
from sparsecnn.evaluation.verification import network_sparsity, verify_pattern
from sparsecnn.job import run_job
from sparsecnn.models.network import read_network
from sparsecnn.models.reparametrized import plain_weights

if TYPE_CHECKING:
    from snakemake.script import snakemake

logger = logging.getLogger("sparsecnn")


def main(
    dataset: Path,
    weights: Path,
    metrics: Path,
    settings: dict[str, Any],
    code: str,
    origins: dict[str, Origin],
    device: str,
    layers: Path | None = None,
    dense: Path | None = None,
) -> None:
    """Verify the network's pattern, evaluate it, write its metrics.

    `layers` and `dense` are of a pruned network: its table, and the network it was pruned from.
    """
    model, parent = read_network(weights, "pruned" if layers else "dense", origins["weights"])
    images, normalization, images_manifest = load_dataset(dataset, origins["dataset"], "test")
    parents = {"dataset": images_manifest.content, "network": parent.content}
    reference = None
    if dense:
        reference, manifest = read_network(dense, "dense", origins["dense"])
        parents["dense"] = manifest.content
        check_parents(weights, parent, {"dense": manifest.content})
    rows = read_table(layers, parent) if layers else []
    with plain_weights(model):  # of weight normalisation, for example
        verify_pattern(model.state_dict(), rows)
        sparsity = network_sparsity(model.state_dict(), rows)
        costs = network_costs(model, images.test_images.shape[1:], rows)
    with use_device(device) as on:
        result = evaluate(
            model,
            images.test_images,
            images.test_labels,
            normalization,
            len(images.classes),
            on,
            reference=reference,
        )
    logger.info(
        "top-1 accuracy %.2f %%, loss %.4f on %d images", result.top1, result.loss, result.n
    )
    if "weights" in parent.settings and not dense:
        _warn_near_chance(result, images.classes)
    if dense:
        logger.info(
            "from the dense network: KL divergence %.5f, agreement %.2f %%",
            *(result.kl, result.agreement),
        )
    made, pruning = parent.settings, parent.settings.get("pruning", {})
    value = {
        "model": made["model"],
        "width": made["width"],
        "recipe": made["recipe"],
        "epochs": made["epochs"],
        "seed": made["seed"],
        "variant": settings["variant"],
        "method": pruning.get("method", "dense"),
        "pattern": pruning.get("pattern", ""),
        "layout": pruning.get("layout", ""),
        "coverage": pruning.get("coverage", ""),
        "bn_recalibrated": pruning.get("bn_recalibration", False),
        "top1": result.top1,
        "loss": result.loss,
        "kl": result.kl,
        "agreement": result.agreement,
        "n_test": result.n,
        "per_class": dict(zip(images.classes, result.per_class, strict=True)),
        "chance": result.chance,
        **sparsity,
        **asdict(costs),
        "pruned_layers": [row["layer"] for row in rows if row["status"] == "pruned"],
        "dense_layers": [row["layer"] for row in rows if row["status"] == "dense"],
        "device": parent.device,
    }
    manifest = Manifest(
        "metrics",
        settings,
        code,
        parents,
        device=device_name(on),
        threads=cpu_threads(on),
        # Not among the values: equal networks shall have equal metrics, to the last bit.
        seconds=parent.seconds,
    )
    write_json(metrics, value, manifest)


def _warn_near_chance(result: Accuracy, classes: Sequence[str]) -> None:
    """Of a network that came trained: within three standard deviations of guessing."""
    chance = result.chance / 100
    if result.top1 < 100 * (chance + 3 * (chance * (1 - chance) / result.n) ** 0.5):
        logger.warning(
            "warning: this is hardly better than guessing (%.2f %%); is dataset.normalization what "
            "the network was trained with, and its order of classes %s?",
            *(result.chance, ", ".join([*classes[:3], *(["..."] if len(classes) > 3 else [])])),
        )


if __name__ == "__main__":
    run_job(snakemake, main)
