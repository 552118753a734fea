"""Measure why pruning one network costs what it costs (rule `diagnose`)."""

import logging
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sparsecnn.artifacts import Manifest, Origin, write_json
from sparsecnn.data.dataset import load_dataset
from sparsecnn.data.subset import train_sample
from sparsecnn.device import cpu_threads, device_name, full_precision, use_device
from sparsecnn.evaluation.conditioning import MATRICES, conditioning
from sparsecnn.evaluation.curvature import (
    Batch,
    extreme_eigenvalues,
    gradient,
    hessian_product,
    loss_change,
    mean_loss,
    norm,
)
from sparsecnn.evaluation.propagation import output_errors
from sparsecnn.job import run_job
from sparsecnn.models.network import read_network
from sparsecnn.pruning.calibration.gathering import Walks, independent
from sparsecnn.pruning.calibration.moments import LayerMoments
from sparsecnn.pruning.calibration.surroundings import Surroundings
from sparsecnn.pruning.calibration.survey import survey
from sparsecnn.pruning.calibration.trajectory import Passes
from sparsecnn.pruning.memory import Budget, Need, hessian_bytes, usable
from sparsecnn.pruning.model.weights import find_weights
from sparsecnn.pruning.state import TwoStates, evaluating
from sparsecnn.seeding import derive_seed

if TYPE_CHECKING:
    from snakemake.script import snakemake

logger = logging.getLogger("sparsecnn")


def main(
    dataset: Path,
    dense: Path,
    pruned: list[Path],
    diagnostics: Path,
    settings: dict[str, Any],
    code: str,
    origins: dict[str, Origin],
    device: str,
) -> None:
    """Write the curvature at the dense network, and for each variant what its change does.

    `pruned` are the networks of `settings["variants"]`, in that order.
    """
    started = time.perf_counter()
    model, parent = read_network(dense, "dense", origins["dense"])
    images, normalization, images_manifest = load_dataset(dataset, origins["dataset"], "train")
    parents = {"dataset": images_manifest.content, "dense": parent.content}
    value = {key: parent.settings[key] for key in ("model", "recipe", "epochs", "seed")}
    with use_device(device, deterministic=settings["deterministic"]) as on, full_precision():
        batches = train_sample(images, normalization, settings["images"], on)
        model.to(on)
        slope = gradient(model, batches)
        value |= {
            "images": settings["images"],
            "network": {**curvature(model, batches, slope), "layers": inputs(model, batches)},
            "variants": {},
        }
        for variant, path in zip(settings["variants"], pruned, strict=True):
            role = f"pruned/{variant}"
            other, manifest = read_network(path, "pruned", origins[role])
            parents[role] = manifest.content
            change = loss_change(model, other.to(on), batches, slope)
            value["variants"][variant] = {
                "loss_change": change and asdict(change),
                "layers": [
                    asdict(layer)
                    for layer in output_errors(model, other, [images for images, _ in batches])
                ],
            }
            logger.info("compared %s with the dense network", variant)
    write_json(
        diagnostics,
        value,
        Manifest(
            "diagnostics",
            settings,
            code,
            parents,
            device=device_name(on),
            threads=cpu_threads(on),
            seconds=time.perf_counter() - started,
        ),
    )


def curvature(model: nn.Module, batches: list[Batch], slope: Tensor) -> dict[str, float]:
    """Loss, norm of its gradient `slope`, and the ends of its Hessian's spectrum."""
    generator = torch.Generator().manual_seed(derive_seed(0, "lanczos"))
    start = torch.randn(len(slope), generator=generator).to(slope.device)
    found = extreme_eigenvalues(partial(hessian_product, model, batches), start)
    logger.info("largest eigenvalue %.4g after %d steps", found.largest, found.iterations)
    if not found.converged:
        logger.warning("it has not converged: the residual is %.2g", found.residual)
    return {"loss": mean_loss(model, batches), "gradient_norm": norm(slope), **asdict(found)}


def inputs(model: nn.Module, batches: list[Batch]) -> list[dict[str, Any]]:
    """Conditioning of each layer's input Hessian, in the order data reaches the layers.

    As many Hessians at a time as fit into three quarters of the memory that is free.
    """

    def run(index: int) -> None:
        model(batches[index][0])

    weights = find_weights(model)
    with evaluating(model):
        device = batches[0][0].device
        around = Surroundings.here({device.type})
        seen = survey(model, weights, lambda: run(0), around)
        layers = {name: weights[name] for name, usage in seen.usages.items() if usage.calls}
        passes = Passes(run, around, {id(one.value): name for name, one in layers.items()})
        walks = Walks(passes, passes, len(batches), TwoStates())
        sizes = {
            name: hessian_bytes(layer.value.shape, seen.usages[name].groups, torch.float32)
            for name, layer in layers.items()
        }
        needs = {name: Need(size, MATRICES * size) for name, size in sizes.items()}
        budget = Budget(usable(device), needs, given=False)
        rows = []
        for one in independent(walks, budget.groups()):
            moments = {name: LayerMoments(name, layers[name].value) for name in one.names}
            one.feed(moments)
            for name in one.names:
                found = conditioning(moments.pop(name).hessian("channels"))
                rows.append({"layer": name, **asdict(found)})
    return rows


if __name__ == "__main__":
    run_job(snakemake, main)
