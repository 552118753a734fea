"""Prune one network (rule `prune`)."""

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.artifacts import Manifest, Origin, write_table, write_tensors
from sparsecnn.data.calibration import augmented_batches, batches, load_calibration
from sparsecnn.device import cpu_threads, device_name, use_device
from sparsecnn.job import run_job
from sparsecnn.models.network import read_network
from sparsecnn.pruning import prune
from sparsecnn.pruning.batchnorm import recalibrate_batchnorm

if TYPE_CHECKING:
    from snakemake.script import snakemake

logger = logging.getLogger("sparsecnn")

BATCH_SIZE = 256
GPU_BATCH_SIZE = 1024
"""Each batch is a forward pass in a thread of its own, for which cuDNN plans every shape anew."""
UNALTERED = {"crop_padding": 0, "horizontal_flip": False, "cutout": 0}
"""What a recipe may do to images, and does not."""
OF_IMAGES = ("augmented_calibration", "bn_recalibration")
"""Settings that say what is shown to the network, and are none of `prune`."""


def main(
    dense: Path,
    calibration: Path,
    pruned: Path,
    layers: Path,
    settings: dict[str, Any],
    code: str,
    origins: dict[str, Origin],
    device: str,
) -> None:
    """Prune the dense network on its calibration set; write its weights and its layers."""
    model, parent = read_network(dense, "dense", origins["dense"])
    images, calibration_manifest = load_calibration(calibration, origins["calibration"])
    pruning = settings["pruning"]
    options = {k: v for k, v in pruning.items() if k not in OF_IMAGES}
    # How a given network was trained is not known: nothing is altered for it.
    training = parent.settings.get("training", UNALTERED)
    alterations = {name: training[name] for name in UNALTERED}
    with use_device(device) as on:
        model.to(on)
        size = GPU_BATCH_SIZE if on.type == "cuda" else BATCH_SIZE
        altered = partial(
            augmented_batches, images, device=on, seed=parent.settings["seed"], **alterations
        )
        augmented = pruning.get("augmented_calibration", False)
        shown = altered(batch_size=size) if augmented else batches(images, size, on)
        result = prune(model, shown, **options)
        logger.info("pruned %d of %d layers", len(result.masks), len(result.layers))
        if pruning["bn_recalibration"]:
            count = recalibrate_batchnorm(model, altered(batch_size=BATCH_SIZE))
            logger.info("re-estimated the statistics of %d batch-norm layers", count)
    manifest = Manifest(
        kind="pruned",
        settings={**parent.settings, **settings},
        code=code,
        parents={"dense": parent.content, "calibration": calibration_manifest.content},
        files={layers.name: write_table(layers, [asdict(layer) for layer in result.layers])},
        device=device_name(on),
        threads=cpu_threads(on),
        seconds=result.seconds,
    )
    write_tensors(pruned, model.state_dict(), manifest)


if __name__ == "__main__":
    run_job(snakemake, main)
