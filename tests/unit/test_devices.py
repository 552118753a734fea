"""All that runs on the study's device, on a pretended one that refuses what a GPU refuses."""

import copy

import pytest
import torch
from pretend_device import CPU, DEVICE, OnDevice, pretended_device

from sparsecnn import prune
from sparsecnn.artifacts import Manifest
from sparsecnn.data.calibration import augmented_batches, draw_calibration_set
from sparsecnn.data.dataset import Dataset, Normalization
from sparsecnn.data.subset import train_sample
from sparsecnn.errors import UserError
from sparsecnn.evaluation.accuracy import evaluate
from sparsecnn.evaluation.conditioning import conditioning
from sparsecnn.evaluation.curvature import (
    extreme_eigenvalues,
    gradient,
    hessian_product,
    loss_change,
)
from sparsecnn.evaluation.propagation import output_errors
from sparsecnn.models.network import Architecture, build
from sparsecnn.pruning.batchnorm import recalibrate_batchnorm
from sparsecnn.pruning.factor import reverse_cholesky
from sparsecnn.registry import names
from sparsecnn.training.checkpoint import Checkpoints
from sparsecnn.training.loop import train
from sparsecnn.training.recipe import Recipe

HALF = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture(autouse=True)
def pretended(monkeypatch):
    # Functions of their own: torch's compiler, should a test import it, refuses one of two names.
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: torch.get_rng_state())
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: torch.set_rng_state(state))
    with pretended_device():
        yield


@pytest.fixture
def dataset():
    labels = torch.arange(64) % 10
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    return Dataset(images, labels, images, labels, tuple("abcdefghij"))


@pytest.fixture
def network():
    return build(Architecture("resnet18", 0.0625, 10, 32)).eval()


def on_device(model):
    return copy.deepcopy(model).to(DEVICE)


def assert_same_state(there, here):
    for name, value in there.state_dict().items():
        assert isinstance(value, OnDevice), name
        torch.testing.assert_close(value.cpu(), here.state_dict()[name], msg=name)


def test_the_pretended_device_refuses_what_a_device_refuses():
    there = torch.zeros(3, device=DEVICE)
    assert there.device == DEVICE
    assert (there + 1).sum().item() == 3
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(3)
    for make in (there.double, lambda: there.sum(dtype=torch.float64)):
        with pytest.raises(TypeError, match="no float64"):
            make()
    with pytest.raises(TypeError, match="no float64"):
        torch.zeros(3, dtype=torch.float64, device=DEVICE)


@pytest.mark.parametrize("model", names("model"))
def test_training(dataset, tmp_path, model):
    recipe = Recipe(batch_size=32, learning_rate=0.02, cutout=8, label_smoothing=0.1)
    networks = []
    for device in (CPU, DEVICE):
        torch.manual_seed(0)
        network = build(Architecture(model, 0.125, 10, 32))
        folder = tmp_path / device.type
        checkpoints = Checkpoints(folder, Manifest("dense", {}, "code", {}))
        history = train(network, dataset, HALF, recipe, 2, 0, device, checkpoints=checkpoints)
        assert len(history) == 2
        networks.append(network)
    assert_same_state(networks[1], networks[0])


@pytest.mark.parametrize("method", names("method"))
@pytest.mark.parametrize(
    ("model", "layout"), [("custom_cnn", "flattened"), ("resnet18", "channels")]
)
def test_pruning(method, model, layout):
    network = build(Architecture(model, 0.0625, 10, 32))
    inputs = torch.randn(8, 3, 32, 32)
    there = on_device(network)
    options = {"method": method, "layout": layout, "bias_correction": True}
    here = prune(network, [inputs], **options)
    result = prune(there, [inputs.to(DEVICE)], **options)
    assert_same_state(there, network)
    assert {n: m.cpu().tolist() for n, m in result.masks.items()} == {
        n: m.tolist() for n, m in here.masks.items()
    }


def test_a_hessian_that_only_float64_can_factor():
    # Two equal columns and 126 that hardly count: damping, a part of the mean diagonal, is lost
    # when float32 adds it to 1, but not in float64. Until then a pivot is exactly zero.
    hessian = torch.full((128,), 2.0**-20).diag()[None]
    hessian[:, :2, :2] = 1
    here, there = (reverse_cholesky(hessian.to(device), damping=0) for device in (CPU, DEVICE))
    failures = [("float32", "0"), ("float32", "1e-07"), ("float32", "1e-06"), ("float64", "0")]
    assert here.notes == [f"Cholesky failed in {t} at damping {d}" for t, d in failures]
    assert (there.notes, there.damping) == (here.notes, here.damping)
    assert isinstance(there.upper, OnDevice)
    torch.testing.assert_close(there.upper.triu().cpu(), here.upper.triu())


def test_moments_in_float64_are_refused_where_there_is_none(network):
    with pytest.raises(UserError, match="MPS has no float64"):
        prune(on_device(network), [torch.zeros(1, device=DEVICE)], precision="float64")


def test_batch_norm(dataset, network):
    chosen = draw_calibration_set(dataset, HALF, 16, seed=0, class_balanced=False)
    altered = {"crop_padding": 2, "horizontal_flip": True, "cutout": 4}
    there = on_device(network)
    recalibrate_batchnorm(network, augmented_batches(chosen, 8, CPU, 0, **altered))
    recalibrate_batchnorm(there, augmented_batches(chosen, 8, DEVICE, 0, **altered))
    assert_same_state(there, network)


def test_evaluation(dataset, network):
    split = dataset.test_images, dataset.test_labels
    pruned = copy.deepcopy(network)
    prune(pruned, [torch.randn(8, 3, 32, 32)], method="magnitude")
    for model, reference in ((network, None), (pruned, network)):
        here, there = (
            evaluate(
                *copy.deepcopy((model, *split)), HALF, 10, device, 24, copy.deepcopy(reference)
            )
            for device in (CPU, DEVICE)
        )
        assert here == there


def test_diagnostics(dataset, network):
    pruned = copy.deepcopy(network)
    prune(pruned, [torch.randn(8, 3, 32, 32)], method="magnitude")
    found = []
    for device in (CPU, DEVICE):
        models = [copy.deepcopy(model).to(device) for model in (network, pruned)]
        batches = train_sample(dataset, HALF, 32, device, batch_size=20)
        slope = gradient(models[0], batches)
        ends = extreme_eigenvalues(
            lambda v, model=models[0], at=batches: hessian_product(model, at, v),
            slope,
            iterations=3,
        )
        change = loss_change(*models, batches, slope)
        errors = output_errors(*models, [images for images, _ in batches])
        rows = torch.cat([images.flatten(1)[:, :20] for images, _ in batches])
        found.append((slope.cpu(), ends, change, errors, conditioning((rows.mT @ rows)[None])))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]
