"""The reference study's protocol, imitated: on small networks exactly, on real ones in numbers."""

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pruning_oracles import reference_protocol
from safetensors.torch import load_file
from torch import Tensor, nn

from sparsecnn.analysis.reference import PROTOCOL, SOLVER
from sparsecnn.data.calibration import augmented_batches, batches, draw_calibration_set
from sparsecnn.data.dataset import Normalization
from sparsecnn.data.image_folder import read_image_folder
from sparsecnn.device import full_precision
from sparsecnn.errors import UserError
from sparsecnn.evaluation.accuracy import evaluate
from sparsecnn.models.custom_cnn import custom_cnn
from sparsecnn.models.network import Architecture, build
from sparsecnn.models.resnet import resnet18
from sparsecnn.models.vgg import vgg16
from sparsecnn.pruning import prune
from sparsecnn.pruning.batchnorm import recalibrate_batchnorm
from sparsecnn.pruning.methods.static_obs import StaticOBS

OF_IMAGES = ("augmented_calibration", "bn_recalibration")
IMITATION: dict[str, Any] = {
    "method": SOLVER,
    **{key: value for key, value in PROTOCOL.items() if key not in OF_IMAGES},
}
CPU = torch.device("cpu")


def with_statistics(model: nn.Module, images: Tensor) -> nn.Module:
    """In double precision, with batch-norm statistics of these images."""
    recalibrate_batchnorm(model.double(), images)
    return model.eval()


@pytest.mark.parametrize("ridge", [1e-4, 0.01])
@pytest.mark.parametrize("network", [custom_cnn, vgg16, resnet18])
def test_the_protocol_against_an_oracle(network: Callable[..., nn.Module], ridge: float) -> None:
    torch.manual_seed(0)
    images = torch.randn(12, 3, 32, 32, dtype=torch.float64)
    model = with_statistics(network(num_classes=5, width=0.0625, image_size=32), images)
    expected = copy.deepcopy(model)
    reference_protocol(expected, images, ridge)
    result = prune(model, images.split(5), **IMITATION | {"ridge": ridge, "precision": "float64"})
    assert all(layer.status == "pruned" for layer in result.layers)
    for name, wanted in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], wanted, rtol=1e-6, atol=1e-9)
    first = next(iter(result.masks.values())).flatten(1)
    assert first.shape[1] == 27
    assert first[:, 24:].all()  # a tail of three weights


def test_columns_that_no_input_reaches_are_pruned_as_others() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 6, bias=False).double()
    inputs = torch.randn(50, 8, dtype=torch.float64)
    inputs[:, 1:4] = 0
    expected = copy.deepcopy(layer)
    reference_protocol(expected, inputs, 0.01)
    prune(layer, inputs, **IMITATION | {"precision": "float64"})
    torch.testing.assert_close(layer.weight, expected.weight)
    assert (layer.weight[:, 1:4] != 0).any()


def test_a_ridge_below_zero_is_refused() -> None:
    with pytest.raises(UserError, match="ridge must not be negative: -1"):
        StaticOBS(ridge=-1)


# What the reference's own code loses: PEERS/README.md. Of VGG-16 at a quarter of the width, with
# the first convolution dense and images as they are; drops of top-1 in points, as the network was
# left and with batch-norm statistics anew.
MEASURED = {"flattened": (17.4, 2.19), "channels": (16.9, 1.43)}
RIDGE = 1e-4


@pytest.fixture(scope="module")
def peers() -> Path:
    path = os.environ.get("SPARSECNN_PEERS")
    if not path:
        pytest.skip("SPARSECNN_PEERS does not name the folder of networks that others pruned")
    return Path(path)


@pytest.fixture(scope="module")
def pruned_vgg(peers: Path, real_images: Path) -> Iterator[Callable[..., tuple[float, float]]]:
    """Call with settings: the points that VGG-16 loses by them, and with batch norm anew."""
    dataset = read_image_folder(real_images, Path())
    kept = torch.ones(len(dataset.train_labels), dtype=torch.bool)
    kept[load_file(peers / "held-out.safetensors")["held_out"]] = False
    dataset = replace(
        dataset,
        train_images=dataset.train_images[kept],
        train_labels=dataset.train_labels[kept],
    )
    normalization = Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    drawn = draw_calibration_set(dataset, normalization, 1024, 0, class_balanced=True)
    alterations: dict[str, Any] = {"crop_padding": 4, "horizontal_flip": True, "cutout": 0}
    altered = augmented_batches(drawn, 256, CPU, 0, **alterations)
    dense = build(Architecture("vgg16", 0.25, 10, 32)).eval()
    dense.load_state_dict(load_file(peers / "vgg16.safetensors"))

    def top1(model: nn.Module) -> float:
        images, labels = dataset.test_images, dataset.test_labels
        return evaluate(model, images, labels, normalization, 10, CPU).top1

    def lost(**settings: Any) -> tuple[float, float]:
        model = copy.deepcopy(dense)
        prune(model, batches(drawn, 256, CPU), **IMITATION | settings)
        before = top1(model)
        recalibrate_batchnorm(model, altered)
        return baseline - before, baseline - top1(model)

    with full_precision():
        baseline = top1(dense)
        yield lost


@pytest.mark.slow
@pytest.mark.parametrize("layout", MEASURED)
def test_what_the_references_own_code_loses(
    pruned_vgg: Callable[..., tuple[float, float]], layout: str
) -> None:
    lost = pruned_vgg(layout=layout, ridge=RIDGE, exclude="features.0")
    assert lost == pytest.approx(MEASURED[layout], abs=1)
