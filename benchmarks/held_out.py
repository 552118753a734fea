"""What pruning costs on images that nothing was fitted to: solvers told apart, paired.

Top-1 is noise where solvers differ by a tenth of a point; the divergence from the dense network's
predictions is not. Every variant prunes the same networks on the same draws of calibration images.

    python benchmarks/held_out.py dataset.safetensors --held-out held-out.safetensors \
        --networks resnet18:0.25:resnet18.safetensors vgg16:0.25:vgg16.safetensors \
        --seeds 0 1 2 3 4 --out rows.csv --variants \
        'sparsegpt: {method: sparsegpt}' 'admm: {method: admm}' 'more: {method: admm, images: 4096}'

`dataset.safetensors` is what the rule `dataset` makes. The images held out are those of the train
split whose indices the file of `--held-out` has under the key `held_out`; without one, the test
split of the dataset. A network is a file of weights, an artifact of the study or any other. A
variant takes what `prune` takes, and `images`, `augmented` (calibration images are cropped and
mirrored) and `bn_recalibration`. Rows that the table already has are not measured again.
"""

import argparse
import copy
import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn

from sparsecnn import prune
from sparsecnn.data.calibration import augmented_batches, batches, draw_calibration_set
from sparsecnn.data.dataset import Dataset, Normalization, load_dataset
from sparsecnn.device import full_precision, use_device
from sparsecnn.evaluation.accuracy import Accuracy, evaluate
from sparsecnn.models.network import Architecture, build
from sparsecnn.pruning.batchnorm import recalibrate_batchnorm

BATCH = 256
ALTERATIONS: dict[str, Any] = {"crop_padding": 4, "horizontal_flip": True, "cutout": 0}
Data = tuple[Dataset, Normalization]
COLUMNS = ("network", "variant", "seed", "top1", "loss", "kl", "agreement", "error", "seconds")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("--networks", nargs="+", required=True, help="model:width:file")
    parser.add_argument("--variants", nargs="+", required=True, help="'name: {settings}'")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"])
    parser.add_argument("--out", type=Path, default=Path("held-out.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset, normalization, _ = load_dataset(arguments.dataset)
    if arguments.held_out:
        dataset = without(dataset, load_file(arguments.held_out)["held_out"])
    data = dataset, normalization
    variants = {k: v for text in arguments.variants for k, v in yaml.safe_load(text).items()}
    done = known(arguments.out)
    with use_device(arguments.device) as device, full_precision():
        for name, model in networks(arguments.networks, dataset):
            model.to(device)
            dense = evaluated(model, data)
            for seed in arguments.seeds:
                for variant, settings in variants.items():
                    if (name, variant, seed) not in done:
                        row = measure(model, dense, data, seed, settings)
                        write(arguments.out, {"network": name, "variant": variant, **row})
    print(paired(pd.read_csv(arguments.out), next(iter(variants))).to_string())


def without(dataset: Dataset, held_out: Tensor) -> Dataset:
    """The dataset with some train images in the place of its test split."""
    rest = torch.ones(len(dataset.train_labels), dtype=torch.bool)
    rest[held_out] = False
    return replace(
        dataset,
        train_images=dataset.train_images[rest],
        train_labels=dataset.train_labels[rest],
        test_images=dataset.train_images[held_out],
        test_labels=dataset.train_labels[held_out],
    )


def networks(named: Sequence[str], dataset: Dataset) -> Iterator[tuple[str, nn.Module]]:
    """Each network with the name of its file's folder and of the file."""
    for text in named:
        name, width, path = text.split(":", 2)
        size = dataset.train_images.shape[-1]
        model = build(Architecture(name, float(width), len(dataset.classes), size))
        model.load_state_dict(load_file(path))
        yield "/".join(Path(path).with_suffix("").parts[-4:]), model.eval()


def measure(
    model: nn.Module,
    dense: Accuracy,
    data: Data,
    seed: int,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Prune a copy of the network on one draw of images; a row without names."""
    options = dict(settings)
    size, augmented = options.pop("images", 1024), options.pop("augmented", False)
    recalibrated = options.pop("bn_recalibration", False)
    drawn = draw_calibration_set(*data, size, seed, class_balanced=True)
    device = next(model.parameters()).device
    altered = augmented_batches(drawn, BATCH, device, seed, **ALTERATIONS)
    shown = altered if augmented else batches(drawn, BATCH, device)
    pruned = copy.deepcopy(model)
    started = time.perf_counter()
    result = prune(pruned, shown, **options)
    seconds = time.perf_counter() - started
    if recalibrated:
        recalibrate_batchnorm(pruned, augmented_batches(drawn, BATCH, device, seed, **ALTERATIONS))
    errors = [layer.relative_error for layer in result.layers if layer.relative_error is not None]
    own = evaluated(pruned, data, reference=model)
    return {
        "seed": seed,
        "top1": own.top1 - dense.top1,
        "loss": own.loss - dense.loss,
        "kl": own.kl,
        "agreement": own.agreement,
        "error": sum(errors) / len(errors),
        "seconds": seconds,
    }


def evaluated(model: nn.Module, data: Data, reference: nn.Module | None = None) -> Accuracy:
    """A network on the images held out; a copy, for its memory format changes."""
    dataset, normalization = data
    images, labels = dataset.test_images, dataset.test_labels
    device = next(model.parameters()).device
    copied = copy.deepcopy((model, reference))
    return evaluate(
        copied[0],
        images,
        labels,
        normalization,
        len(dataset.classes),
        device,
        BATCH,
        reference=copied[1],
    )


def known(path: Path) -> set[tuple[str, str, int]]:
    """What the table has already."""
    if not path.exists():
        return set()
    table = pd.read_csv(path)
    return set(zip(table["network"], table["variant"], table["seed"], strict=True))


def write(path: Path, row: dict[str, Any]) -> None:
    """Add a row to the table and say it."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(
        " ".join(f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()), flush=True
    )


def paired(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Means over draws, differences from the first variant, and their standard errors."""
    measures = ["top1", "loss", "kl", "agreement", "error", "seconds"]
    wide = table.set_index(["network", "seed", "variant"])[measures].unstack("variant")
    rows = []
    for variant in table["variant"].unique():
        own = wide.xs(variant, axis=1, level="variant")
        difference = (own - wide.xs(reference, axis=1, level="variant")).dropna()
        by = difference.groupby("network")
        for network in by.groups:
            mean, error = by.mean().loc[network], by.sem().loc[network]
            rows.append(
                {"network": network, "variant": variant, "n": len(by.get_group(network))}
                | own.groupby("network").mean().loc[network].round(4).to_dict()
                | {f"d_{m}": f"{mean[m]:+.4f} ({error[m]:.4f})" for m in ("top1", "loss", "kl")}
            )
    return pd.DataFrame(rows).sort_values(["network", "kl"]).set_index(["network", "variant"])


if __name__ == "__main__":
    main()
