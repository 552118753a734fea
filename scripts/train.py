"""Train one dense network (rule `train`)."""

import logging
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.artifacts import Manifest, Origin, write_table, write_tensors
from sparsecnn.data.dataset import load_dataset, square_side
from sparsecnn.device import (
    cpu_threads,
    device_name,
    number_format_name,
    precision,
    use_device,
)
from sparsecnn.job import run_job
from sparsecnn.models.network import architecture_of, build
from sparsecnn.seeding import derive_seed
from sparsecnn.training.checkpoint import Checkpoints
from sparsecnn.training.interruption import stop_requests
from sparsecnn.training.loop import train
from sparsecnn.training.recipe import Recipe

if TYPE_CHECKING:
    from snakemake.script import snakemake

logger = logging.getLogger("sparsecnn")


def main(
    dataset: Path,
    dense: Path,
    history: Path,
    settings: dict[str, Any],
    code: str,
    origins: dict[str, Origin],
    device: str,
) -> None:
    """Train from scratch, or from the last checkpoint; write the final weights and the history."""
    images, normalization, parent = load_dataset(dataset, origins["dataset"], "train")
    side = square_side(images.train_images)
    architecture = architecture_of(settings, len(images.classes), side)
    model = build(architecture, derive_seed(settings["seed"], "initialisation"))
    training = settings["training"]
    recipe = Recipe(**{field.name: training[field.name] for field in fields(Recipe)})
    with use_device(device, deterministic=training["deterministic"]) as on, stop_requests() as stop:
        number_format = precision(training["precision"], on)
        name = number_format_name(number_format)
        logger.info("training in %s", name)
        manifest = Manifest(
            kind="dense",
            settings={
                **settings,
                "architecture": asdict(architecture),
                "precision": name,
            },
            code=code,
            parents={"dataset": parent.content},
            device=device_name(on),
            threads=cpu_threads(on),
        )
        # Beside the outputs, not among them: Snakemake deletes outputs of jobs that did not end.
        with Checkpoints(dense.with_name("checkpoints"), manifest) as checkpoints:
            records = train(
                model,
                *(images, normalization, recipe, settings["epochs"], settings["seed"], on),
                precision=number_format,
                compiled=training["compile"],
                cuda_graphs=training["cuda_graphs"],
                checkpoints=checkpoints,
                stop=stop,
            )
            files = {history.name: write_table(history, [asdict(record) for record in records])}
            seconds = sum(record.seconds for record in records)
            write_tensors(
                dense, model.state_dict(), replace(manifest, files=files, seconds=seconds)
            )
            checkpoints.remove()


if __name__ == "__main__":
    run_job(snakemake, main)
