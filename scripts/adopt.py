"""Take a network that was trained elsewhere into the study (rule `adopt`)."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.artifacts import Manifest, Origin, file_sha256, write_tensors
from sparsecnn.data.dataset import load_dataset, square_side
from sparsecnn.errors import UserError
from sparsecnn.job import run_job
from sparsecnn.models.network import architecture_of, build
from sparsecnn.models.weights_files import load_given, read_weights

if TYPE_CHECKING:
    from snakemake.script import snakemake

logger = logging.getLogger("sparsecnn")


def main(
    dataset: Path,
    dense: Path,
    settings: dict[str, Any],
    code: str,
    origins: dict[str, Origin],
    weights: Path | list[Path],
) -> None:
    """Write the given weights as the dense network that they are of.

    `weights` is an empty list where the file is gone.
    """
    if not isinstance(weights, Path):
        raise UserError(f"models.{settings['model']}.weights: the file is gone; put it back")
    if settings["weights"] not in (None, file_sha256(weights)):
        raise UserError(f"{weights}: it changed after this run began; run snakemake again")
    images, _, parent = load_dataset(dataset, origins["dataset"], "test")
    side = square_side(images.test_images)
    architecture = architecture_of(settings, len(images.classes), side)
    model = build(architecture)
    try:
        load_given(model, read_weights(weights), weights)
    except UserError as error:
        raise UserError(f"{error} (the images have {len(images.classes)} classes)") from None
    logger.info("took %d tensors from %s", len(model.state_dict()), weights)
    manifest = Manifest(
        kind="dense",
        settings={**settings, "architecture": asdict(architecture), "file": weights.name},
        code=code,
        parents={"dataset": parent.content},
    )
    write_tensors(dense, model.state_dict(), manifest)


if __name__ == "__main__":
    run_job(snakemake, main)
