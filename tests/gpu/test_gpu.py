"""What must hold on a GPU; run with `pytest -m gpu`."""

import copy

import pytest
import torch

from sparsecnn import prune
from sparsecnn.data.augmentation import augment, normalize
from sparsecnn.data.dataset import Dataset, Normalization
from sparsecnn.device import choose_device
from sparsecnn.evaluation.accuracy import evaluate
from sparsecnn.models.network import Architecture, build
from sparsecnn.pruning import blocks
from sparsecnn.registry import names
from sparsecnn.training.loop import train
from sparsecnn.training.recipe import Recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]
HALF = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
RECIPE = Recipe(64, 0.02, 0.9, 5e-4, crop_padding=4, horizontal_flip=True)


@pytest.fixture
def dataset():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(640) % 10
    images = torch.randint(0, 100, (640, 3, 32, 32), generator=generator)
    images += 15 * labels[:, None, None, None]
    images = images.to(torch.uint8)
    return Dataset(images, labels, images, labels, tuple("abcdefghij"))


@pytest.mark.parametrize("model", names("model"))
def test_training_on_a_gpu_gives_the_same_bits_twice(dataset, model):
    device = choose_device("cuda")
    runs = []
    for _ in range(2):
        network = build(Architecture(model, 0.25, 10, 32))
        history = train(network, dataset, HALF, RECIPE, epochs=2, seed=0, device=device)
        runs.append({name: t.cpu() for name, t in network.state_dict().items()})
    assert history[-1].loss < history[0].loss
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.parametrize("model", names("model"))
@pytest.mark.parametrize("method", ["magnitude", "sparsegpt"])
def test_pruning_on_a_gpu_agrees_with_the_cpu(dataset, model, method):
    network = build(Architecture(model, 0.25, 10, 32)).eval()
    inputs = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    masks, accuracies = [], []
    for device in (torch.device("cpu"), choose_device("cuda")):
        pruned = copy.deepcopy(network).to(device)
        masks.append(prune(pruned, [inputs.to(device)], method=method).masks)
        result = evaluate(pruned, dataset.test_images, dataset.test_labels, HALF, 10, device)
        accuracies.append(result.top1)
    assert masks[0].keys() == masks[1].keys()
    for name, mask in masks[0].items():
        assert (mask == masks[1][name].cpu()).float().mean() > 0.99
    assert abs(accuracies[0] - accuracies[1]) < 2


@pytest.mark.parametrize("pattern", ["1:4", "2:4", "3:4"])
def test_the_fused_kernel_gives_the_masks_of_the_plain_path(monkeypatch, pattern):
    layer = torch.nn.Linear(192, 100).cuda()
    inputs = torch.randn(512, 192, device="cuda").relu()
    copies = [copy.deepcopy(layer), layer]
    fused = prune(copies[0], [inputs], pattern=pattern, precision="float64")
    monkeypatch.setattr(blocks, "_has_triton", lambda device: False)
    plain = prune(copies[1], [inputs], pattern=pattern, precision="float64")
    assert torch.equal(fused.masks[""], plain.masks[""])
    torch.testing.assert_close(copies[0].weight, copies[1].weight)


def test_augmentation_does_not_depend_on_the_device():
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    drawn = [
        augment(images.to(device), torch.Generator().manual_seed(0), 4, horizontal_flip=True)
        for device in ("cpu", "cuda")
    ]
    assert drawn[1].is_cuda
    assert torch.equal(drawn[0], drawn[1].cpu())
    torch.testing.assert_close(normalize(drawn[1], HALF).cpu(), normalize(drawn[0], HALF))
