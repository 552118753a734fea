"""Write one network, dense or pruned, as files that do without this project (rule `export`)."""

import json
import logging
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save
from torch import nn

from sparsecnn.artifacts import (
    Manifest,
    Origin,
    atomic_write,
    file_sha256,
    read_table,
    write_json,
    write_text,
)
from sparsecnn.data.dataset import Dataset, Normalization, load_dataset
from sparsecnn.device import cpu_threads, device_name, use_device
from sparsecnn.errors import UserError
from sparsecnn.evaluation.verification import verify_pattern
from sparsecnn.export.agreement import compare
from sparsecnn.export.building import how_to_build
from sparsecnn.export.graph import INPUT, OUTPUT, check_file, initializers, to_onnx
from sparsecnn.export.packages import PACKAGES, require_packages
from sparsecnn.job import run_job
from sparsecnn.models.network import read_network
from sparsecnn.models.reparametrized import plain_weights

if TYPE_CHECKING:
    from snakemake.script import snakemake

logger = logging.getLogger("sparsecnn")


def main(
    dataset: Path,
    weights: Path,
    graph: Path,
    tensors: Path,
    source: Path,
    exported: Path,
    settings: dict[str, Any],
    code: str,
    origins: dict[str, Origin],
    layers: Path | None = None,
) -> None:
    """Write the network's ONNX graph, weights and source once they have been checked.

    `layers` is the table of a pruned network. `exported` says what the files are and what was
    checked of them.
    """
    started = time.perf_counter()
    require_packages()
    # One for each constant that was folded.
    for package in ("onnxscript", "onnx_ir"):
        logging.getLogger(package).setLevel(logging.WARNING)
    network, parent = read_network(weights, "pruned" if layers else "dense", origins["weights"])
    images, normalization, images_manifest = load_dataset(dataset, origins["dataset"], "test")
    rows = read_table(layers, parent) if layers else []
    construction = how_to_build(parent.settings["architecture"])
    # Weights that modules compute become the graph's own, so that their zeros stand in the file.
    with use_device("cpu") as on, plain_weights(network):
        value = described(parent, images, normalization, settings)
        shape = images.test_images.shape[1:]
        inside = normalization if settings["normalize"] else None
        data = to_onnx(network, shape, inside, properties(value, parent))
        value["onnx"] = checked(data, network, rows, images, normalization, settings)
        logger.info("%s", summary(value["onnx"]))
        threads = cpu_threads(on)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    weights_file = save(state, metadata={"format": "pt"})
    value["pytorch"] = {
        "builder": construction.builder,
        "arguments": construction.arguments,
        "load": construction.loading(tensors.name),
    }
    value["versions"] = {name: version(name) for name in ("torch", *PACKAGES)}
    write_text(source, construction.source)
    atomic_write(tensors, lambda temporary: temporary.write_bytes(weights_file))
    atomic_write(graph, lambda temporary: temporary.write_bytes(data))
    manifest = Manifest(
        "exported",
        settings,
        code,
        {"dataset": images_manifest.content, "network": parent.content},
        files={path.name: file_sha256(path) for path in (graph, tensors, source)},
        device=device_name(on),
        threads=threads,
        seconds=time.perf_counter() - started,
    )
    write_json(exported, value, manifest)


def described(
    parent: Manifest, images: Dataset, normalization: Normalization, settings: dict[str, Any]
) -> dict[str, Any]:
    """What a user of the files has to know: the network, its input and its output."""
    made, pruning = parent.settings, parent.settings.get("pruning", {})
    return {
        **{key: made[key] for key in ("model", "recipe", "epochs", "seed")},
        "variant": settings["variant"],
        "pattern": pruning.get("pattern", ""),
        "layout": pruning.get("layout", ""),
        "input": {
            "name": INPUT,
            "type": "float32",
            "shape": ["batch", *images.test_images.shape[1:]],
            "normalization": {
                "mean": list(normalization.mean),
                "std": list(normalization.std),
                "in_graph": settings["normalize"],
            },
        },
        "output": {
            "name": OUTPUT,
            "type": "float32",
            "shape": ["batch", len(images.classes)],
            "classes": list(images.classes),
        },
    }


def properties(value: dict[str, Any], parent: Manifest) -> dict[str, str]:
    """The metadata inside the ONNX file, so that it can be used without model.json."""
    return {
        "network": f"{value['model']}/{value['variant']}",
        "pattern": value["pattern"],
        "normalization": json.dumps(value["input"]["normalization"]),
        "classes": json.dumps(value["output"]["classes"], ensure_ascii=False),
        "content": parent.content,
    }


def checked(
    data: bytes,
    network: nn.Module,
    rows: list[dict[str, str]],
    images: Dataset,
    normalization: Normalization,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """What was found of an ONNX file; `UserError` unless it is valid and does what it should."""
    about = check_file(data, network)
    pruned = [row for row in rows if row["status"] == "pruned"]
    try:
        verify_pattern(initializers(data), pruned)
    except UserError as error:
        raise UserError(f"in the ONNX file: {error}") from None
    logger.info("comparing on %d images", len(images.test_images))
    found = compare(
        *(data, network, images.test_images, normalization), normalizes=settings["normalize"]
    )
    return {
        **about,
        "pruned_layers": len(pruned),
        "images": found.images,
        "different_top1": found.different_top1,
        "largest_difference": found.largest_difference,
        "tolerance": found.tolerance,
    }


def summary(onnx: dict[str, Any]) -> str:
    """The same in a line."""
    return (
        f"ONNX opset {onnx['opset']}, {onnx['bytes'] / 1e6:.1f} MB, {onnx['pruned_layers']} layers "
        f"with their pattern; on {onnx['images']} images logits differ from PyTorch's by up to "
        f"{onnx['largest_difference']:.1g}, the top-1 class of {onnx['different_top1']}"
    )


if __name__ == "__main__":
    run_job(snakemake, main)
