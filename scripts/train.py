"""Train one dense network (rule `train`)."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.artifacts import Manifest, write_table, write_tensors
from sparsecnn.data.dataset import load_dataset
from sparsecnn.device import choose_device, device_name
from sparsecnn.job import run_job
from sparsecnn.models.network import Architecture, build
from sparsecnn.seeding import derive_seed
from sparsecnn.training.loop import train
from sparsecnn.training.recipe import Recipe

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    dataset: Path, dense: Path, history: Path, settings: dict[str, Any], code: str, device: str
) -> None:
    """Train from scratch; write the last epoch's weights and the history."""
    images, normalization, parent = load_dataset(dataset)
    architecture = Architecture(
        model=settings["model"],
        width=settings["width"],
        num_classes=len(images.classes),
        image_size=images.train_images.shape[-1],
    )
    seed, on = settings["seed"], choose_device(device)
    model = build(architecture, derive_seed(seed, "initialisation"))
    recipe = Recipe(**settings["recipe"])
    records = train(model, images, normalization, recipe, settings["epochs"], seed, on)
    manifest = Manifest(
        kind="dense",
        settings={**settings, "architecture": asdict(architecture)},
        code=code,
        parents={"dataset": parent.content},
        files={history.name: write_table(history, [asdict(record) for record in records])},
        device=device_name(on),
        seconds=sum(record.seconds for record in records),
    )
    write_tensors(dense, model.state_dict(), manifest)


if __name__ == "__main__":
    run_job(snakemake, main)
