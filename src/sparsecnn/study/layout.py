"""Where the files of a study lie, as patterns that Snakemake and the lineage check fill in."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sparsecnn.study.config import budgets

NETWORK = "{model}/{recipe}/epochs-{epochs}/seed-{seed}"
DATASET = "data/dataset.safetensors"
DATASET_SUMMARY = "data/dataset.json"
CALIBRATION = "calibration/seed-{seed}.safetensors"
DENSE = f"{NETWORK}/dense.safetensors"
HISTORY = f"{NETWORK}/history.csv"
PRUNED = f"{NETWORK}/{{variant}}/pruned.safetensors"
LAYERS = f"{NETWORK}/{{variant}}/layers.csv"
DIAGNOSTICS = f"{NETWORK}/diagnostics.json"
METRICS = f"{NETWORK}/{{network}}/metrics.json"
ONNX = f"{NETWORK}/{{network}}/model.onnx"
TENSORS = f"{NETWORK}/{{network}}/model.safetensors"
SOURCE = f"{NETWORK}/{{network}}/network.py"
EXPORTED = f"{NETWORK}/{{network}}/model.json"
EXPORTS = (ONNX, TENSORS, SOURCE, EXPORTED)
"""What is made of an exported network; the last has the others on record."""
CHECKED = "checked.json"
TABLE = "metrics.csv"
DIAGNOSTICS_TABLE = "diagnostics.csv"
PROVENANCE = "provenance.json"
CLAIMS = "claims.json"
REPORT = "report/report.md"
PAGE = "report/report.html"
TRANSLATED_REPORT = "report/report.{language}.md"
TRANSLATED_PAGE = "report/report.{language}.html"


class Training(NamedTuple):
    """One training of a study; the fields are the wildcards of `NETWORK`."""

    model: str
    recipe: str
    epochs: int
    seed: int


def network_folder(network: Mapping[Any, Any]) -> str:
    """Its folder inside the study's results, e.g. ``vgg16/strong/epochs-5/seed-0/dense``."""
    return f"{NETWORK.format(**network)}/{network['variant']}"


def trainings(config: Mapping[str, Any]) -> list[Training]:
    """Every training of a checked configuration, once, however many regimes share it."""
    found = {
        Training(model, regime["recipe"], epochs, seed)
        for regime in config["regimes"].values()
        for model, epochs in budgets(regime).items()
        for seed in config["seeds"]
    }
    return sorted(found)


def paths(pattern: str, config: Mapping[str, Any], variants: Sequence[str]) -> Iterator[str]:
    """`pattern` filled in for every training and variant (or network)."""
    for training in trainings(config):
        for variant in variants:
            yield pattern.format(**training._asdict(), variant=variant, network=variant)


def baselines(config: Mapping[str, Any]) -> str:
    """Name of the study whose dataset, calibration sets and dense networks are used."""
    name: str = config["baselines"] or config["study"]
    return name


def baselines_folder(folder: Path, config: Mapping[str, Any]) -> Path:
    """Where the dataset, calibration sets and dense networks of the study in `folder` lie.

    In it, whatever it is called, or in the folder beside it that has the name of its baselines.
    """
    name = baselines(config)
    return folder if name == config["study"] else folder.parent / name


def reports(config: Mapping[str, Any]) -> dict[str, str]:
    """The report in each of its languages, the first under the plain name."""
    first, *others = config["report"]["language"]
    return {first: REPORT} | {own: TRANSLATED_REPORT.format(language=own) for own in others}


def tensor_files(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Every file of tensors that the metrics of the study in `folder` come from, with its kind."""
    base = baselines_folder(folder, config)
    yield base / DATASET, "dataset"
    for seed in config["seeds"]:
        yield base / CALIBRATION.format(seed=seed), "calibration"
    for name in paths(DENSE, config, ["dense"]):
        yield base / name, "dense"
    for name in paths(PRUNED, config, list(config["variants"])):
        yield folder / name, "pruned"
