"""Draw one calibration set from the train split (rule `calibrate`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.artifacts import Manifest, Origin
from sparsecnn.data.calibration import draw_calibration_set, save_calibration
from sparsecnn.data.dataset import load_dataset
from sparsecnn.job import run_job

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    dataset: Path,
    calibration: Path,
    settings: dict[str, Any],
    code: str,
    origins: dict[str, Origin],
) -> None:
    """Draw the images and write them with their indices."""
    images, normalization, parent = load_dataset(dataset, origins["dataset"], "train")
    drawn = draw_calibration_set(
        images,
        normalization,
        size=settings["images"],
        seed=settings["seed"],
        class_balanced=settings["class_balanced"],
    )
    manifest = Manifest("calibration", settings, code, parents={"dataset": parent.content})
    save_calibration(calibration, drawn, manifest)


if __name__ == "__main__":
    run_job(snakemake, main)
