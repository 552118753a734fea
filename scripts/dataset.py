"""Make the canonical dataset from its source (rule `dataset`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecnn.artifacts import Manifest, write_json
from sparsecnn.data.dataset import Normalization, channel_statistics, save_dataset
from sparsecnn.data.dataset import summary as summarize
from sparsecnn.data.holdout import hold_out
from sparsecnn.errors import UserError
from sparsecnn.job import run_job
from sparsecnn.registry import READER_OPTIONS, resolve
from sparsecnn.study.sources import source_content

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    source: Path | list[Path],  # an empty list if there is none
    cache: str,
    dataset: Path,
    summary: Path,
    settings: dict[str, Any],
    code: str,
) -> None:
    """Read the images, hold some out if asked to, check them, write dataset and summary."""
    read = resolve("dataset", settings["name"])
    options = {key: settings[key] for key in READER_OPTIONS.get(settings["name"], ())}
    images = read(source or None, Path(cache), **options)
    if isinstance(source, Path):
        if settings["content"]:  # else it came from a storage that nobody looks into before
            _require_unchanged(source, settings)
        settings = settings | {"source": str(source)}
    if settings["holdout"]:
        images = hold_out(images, settings["holdout"])
    given = settings["normalization"]
    normalization = (
        Normalization(tuple(given["mean"]), tuple(given["std"]))
        if given
        else channel_statistics(images.train_images)
    )
    manifest = save_dataset(
        dataset, images, normalization, Manifest(kind="dataset", settings=settings, code=code)
    )
    write_json(
        summary,
        summarize(images, normalization, settings["name"], manifest.content),
        Manifest("dataset_summary", settings, code, parents={"dataset": manifest.content}),
    )


def _require_unchanged(source: Path, settings: dict[str, Any]) -> None:
    """Raise `UserError` unless the source still holds what the dataset is to be made from."""
    own = {"name": settings["name"], "source": str(source), "names": settings.get("names")}
    if source_content(own) != settings["content"]:
        raise UserError(f"{source}: it was changed while it was read; run snakemake again")


if __name__ == "__main__":
    run_job(snakemake, main)
