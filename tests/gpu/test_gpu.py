"""What must hold on a GPU; run with `pytest -m gpu`."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from sparsecnn import prune
from sparsecnn.artifacts import Manifest
from sparsecnn.data.augmentation import AugmentedImages
from sparsecnn.data.calibration import augmented_batches, draw_calibration_set
from sparsecnn.data.dataset import Dataset, Normalization
from sparsecnn.data.subset import train_sample
from sparsecnn.device import full_precision, precision, use_device
from sparsecnn.errors import UserError
from sparsecnn.evaluation.accuracy import evaluate
from sparsecnn.evaluation.conditioning import conditioning
from sparsecnn.evaluation.curvature import (
    extreme_eigenvalues,
    flat,
    gradient,
    hessian_product,
    loss_change,
)
from sparsecnn.evaluation.propagation import output_errors
from sparsecnn.models.network import Architecture, build
from sparsecnn.pruning.batchnorm import recalibrate_batchnorm
from sparsecnn.pruning.factor import Curvature
from sparsecnn.pruning.leastsquares import refit
from sparsecnn.pruning.memory import layer_need
from sparsecnn.pruning.methods import block_pruners
from sparsecnn.pruning.methods.sparsegpt import SparseGPT
from sparsecnn.pruning.patterns import parse_pattern
from sparsecnn.pruning.problem import Problem, Solution
from sparsecnn.pruning.settings import read_settings
from sparsecnn.registry import names
from sparsecnn.training.checkpoint import Checkpoints
from sparsecnn.training.loop import train
from sparsecnn.training.recipe import Recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]
HALF = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
RECIPE = Recipe(batch_size=64, learning_rate=0.02)


@pytest.fixture(autouse=True)
def as_in_a_job():
    """Every test: torch looks for cuBLAS's setting once, at the first product of the process."""
    with use_device("cuda"):
        yield


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
    runs = []
    with use_device("cuda") as device:
        for _ in range(2):
            network = build(Architecture(model, 0.25, 10, 32))
            history = train(
                network, dataset, HALF, RECIPE, 2, 0, device, precision=precision("auto", device)
            )
            runs.append({name: t.cpu() for name, t in network.state_dict().items()})
    assert history[-1].loss < history[0].loss
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.parametrize("model", names("model"))
def test_steps_replayed_from_a_cuda_graph_give_the_same_bits(dataset, model, caplog):
    recipe = Recipe(batch_size=96, cutout=8, schedule="triangular")  # 640 = 6 x 96 + 64
    runs = []
    for graphs in (False, True):
        caplog.clear()
        network = build(Architecture(model, 0.25, 10, 32))
        with use_device("cuda") as device, caplog.at_level("INFO"):
            options = {"precision": precision("auto", device), "cuda_graphs": graphs}
            history = train(network, dataset, HALF, recipe, 3, 0, device, **options)
        assert ("replayed from a CUDA graph" in caplog.text) == graphs
        runs.append([t.cpu() for t in network.state_dict().values()])
        runs[-1].append(torch.tensor([(h.loss, h.train_top1) for h in history]))
    assert all(map(torch.equal, *runs))


@pytest.mark.parametrize("model", names("model"))
@pytest.mark.parametrize("method", ["magnitude", "sparsegpt"])
def test_pruning_on_a_gpu_agrees_with_the_cpu(dataset, model, method):
    # In float64: one near-tie that rounding decides otherwise changes all later layers' problems.
    network = build(Architecture(model, 0.25, 10, 32)).double().eval()
    inputs = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    masks, accuracies = [], []
    for name in ("cpu", "cuda"):
        with use_device(name) as device:
            pruned = copy.deepcopy(network).to(device)
            batches = [inputs.to(device)]
            masks.append(prune(pruned, batches, method=method, precision="float64").masks)
            pruned.float()
            test, dense = (dataset.test_images, dataset.test_labels), copy.deepcopy(network).float()
            result = evaluate(pruned, *test, HALF, 10, device, reference=dense)
            accuracies.append(result.top1)
    assert masks[0].keys() == masks[1].keys()
    for name, mask in masks[0].items():
        assert (mask == masks[1][name].cpu()).float().mean() > 0.99
    assert abs(accuracies[0] - accuracies[1]) < 2


@pytest.mark.parametrize("model", names("model"))
def test_curvature_on_a_gpu_repeats_and_agrees_with_the_cpu(dataset, model):
    network = build(Architecture(model, 0.25, 10, 32)).eval()
    vector = torch.randn(sum(p.numel() for p in network.parameters()))
    found = {}
    for name in ("cpu", "cuda"):
        with use_device(name) as device, full_precision():
            there = copy.deepcopy(network).to(device)
            batches = train_sample(dataset, HALF, 64, device, batch_size=48)
            products = [hessian_product(there, batches, vector.to(device)) for _ in range(2)]
            assert torch.equal(*products)
            # Compared in float64: at the kinks of ReLU and max-pooling rounding decides in float32.
            there.double()
            exact = [(images.double(), labels) for images, labels in batches]
            parts = [gradient(there, exact)]
            parts.append(hessian_product(there, exact, vector.double().to(device)))
            found[name] = flat(parts).cpu()
    error = (found["cuda"] - found["cpu"]).norm() / found["cpu"].norm()
    assert error < 1e-6


def test_batch_norm_on_a_gpu_agrees_with_the_cpu(dataset):
    chosen = draw_calibration_set(dataset, HALF, 100, seed=0, class_balanced=True)
    statistics = []
    for device in map(torch.device, ("cpu", "cuda")):
        network = build(Architecture("vgg16", 0.25, 10, 32)).to(device)
        altered = augmented_batches(
            chosen, 64, device, 0, crop_padding=4, horizontal_flip=True, cutout=8
        )
        recalibrate_batchnorm(network, altered)
        statistics.append([buffer.cpu() for buffer in network.buffers()])
    for here, there in zip(*statistics, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", names("model"))
def test_diagnostics_on_a_gpu_agree_with_the_cpu(dataset, model):
    dense = build(Architecture(model, 0.125, 10, 32)).double().eval()
    found = []
    for device in map(torch.device, ("cpu", "cuda")):
        network = copy.deepcopy(dense).to(device)
        batches = train_sample(dataset, HALF, 32, device, batch_size=24)
        batches = [(images.double(), labels) for images, labels in batches]
        pruned = copy.deepcopy(network)
        prune(pruned, [images for images, _ in batches], method="magnitude")
        slope = gradient(network, batches)
        start = torch.ones_like(slope)
        ends = extreme_eigenvalues(partial(hessian_product, network, batches), start, iterations=3)
        change = loss_change(network, pruned, batches, slope)
        errors = output_errors(network, pruned, [images for images, _ in batches])
        found.append(
            [ends.largest, ends.smallest, *vars(change).values()]
            + [part for layer in errors for part in (layer.own, layer.accumulated)]
        )
    assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-6)


def test_what_has_no_deterministic_form_is_one_line():
    pooled = nn.AdaptiveAvgPool2d(3)(torch.zeros(1, 1, 8, 8, device="cuda", requires_grad=True))
    with (
        pytest.raises(UserError, match=r"adaptive_avg_pool2d_backward.* has no deterministic form"),
        use_device("cuda"),
    ):
        pooled.sum().backward()


def test_conditioning_on_a_gpu_agrees_with_the_cpu():
    inputs = torch.randn(2, 40, 100)
    one, other = (conditioning((inputs @ inputs.mT).to(name)) for name in ("cpu", "cuda"))
    assert one.effective_rank == pytest.approx(other.effective_rank, rel=1e-5)
    assert one.condition == pytest.approx(other.condition, rel=1e-3)


@pytest.mark.parametrize(("dtype", "agreement"), [("float64", 1.0), ("float32", 0.998)])
@pytest.mark.parametrize("pattern", ["1:4", "2:4", "3:4"])
def test_the_fused_kernel_gives_the_masks_of_the_plain_path(monkeypatch, pattern, dtype, agreement):
    device = torch.device("cuda")
    chosen = block_pruners.block_pruner(parse_pattern(pattern), device, joint=False)
    assert type(chosen).__name__ == "FusedPruner"
    layer = torch.nn.Linear(192, 100).cuda()
    inputs = torch.randn(512, 192, device="cuda").relu()
    copies = [copy.deepcopy(layer), layer]
    fused = prune(copies[0], [inputs], method="sparsegpt", pattern=pattern, precision=dtype)
    monkeypatch.setattr(block_pruners, "_has_triton", lambda device: False)
    plain = prune(copies[1], [inputs], method="sparsegpt", pattern=pattern, precision=dtype)
    assert (fused.masks[""] == plain.masks[""]).float().mean() >= agreement
    if agreement == 1:
        torch.testing.assert_close(copies[0].weight, copies[1].weight)


def test_augmentation_does_not_depend_on_the_device():
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    batches = []
    for device in map(torch.device, ("cpu", "cuda")):
        source = AugmentedImages(
            images, HALF, device, crop_padding=4, horizontal_flip=True, cutout=8
        )
        drawn = source.draw(64, torch.Generator().manual_seed(0))
        batches.append(source.batch(torch.arange(64, device=device), drawn))
    assert batches[1].is_cuda
    torch.testing.assert_close(batches[1].cpu(), batches[0])


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("graphs", [False, True])
def test_steps_do_not_wait_for_the_gpu(dataset, graphs):
    steps, asked = 640 // 32, iter(range(1, 100))

    def stop():
        step = next(asked)
        # The first steps may allocate, or record; after the last one the epoch's sums are read.
        torch.cuda.set_sync_debug_mode("error" if 5 <= step < steps else "default")

    network = build(Architecture("resnet18", 0.25, 10, 32))
    recipe = Recipe(batch_size=32, cutout=8, label_smoothing=0.1)
    with use_device("cuda") as device:
        try:
            train(network, dataset, HALF, recipe, 1, 0, device, cuda_graphs=graphs, stop=stop)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert next(asked) == steps + 1


@pytest.mark.parametrize("graphs", [False, True])
def test_a_stopped_training_on_a_gpu_ends_with_the_same_bits(dataset, tmp_path, graphs):
    def run(checkpoints=None, stop=lambda: None):
        network = build(Architecture("custom_cnn", 0.25, 10, 32))  # with dropout
        options = {"checkpoints": checkpoints, "stop": stop, "cuda_graphs": graphs}
        with use_device("cuda") as device:
            train(network, dataset, HALF, RECIPE, 3, 0, device, **options)
        return {name: t.cpu() for name, t in network.state_dict().items()}

    whole, asked = run(), iter(range(1, 100))
    identity = Manifest("dense", {}, "c0de")
    with (
        pytest.raises(UserError, match="stopped by SIGTERM after 1 epoch and 4 steps"),
        Checkpoints(tmp_path, identity) as checkpoints,
    ):
        run(checkpoints, lambda: "SIGTERM" if next(asked) == 14 else None)
    with Checkpoints(tmp_path, identity) as checkpoints:
        resumed = run(checkpoints)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_divergence_on_a_gpu_names_the_step(dataset):
    wild = Recipe(batch_size=8, learning_rate=1e30)
    network = build(Architecture("custom_cnn", 0.25, 10, 32))
    with (
        use_device("cuda") as device,
        pytest.raises(UserError, match=r"diverged in epoch 1/3, step [2-9]:"),
    ):
        train(network, dataset, HALF, wild, epochs=3, seed=0, device=device)


def test_too_large_a_batch_is_one_line(dataset):
    network = build(Architecture("custom_cnn", 0.25, 10, 32))
    with use_device("cuda") as device:
        free = torch.cuda.mem_get_info(device)[0]
        fraction = 32 * 2**20 / torch.cuda.get_device_properties(device).total_memory
        assert free > 64 * 2**20
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(fraction)
        try:
            with pytest.raises(
                UserError, match=r"memory; lower batch_size in the recipe \(now 64\)"
            ):
                train(network, dataset, HALF, RECIPE, epochs=1, seed=0, device=device)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)


def problem(columns, rows, dtype, pattern="2:4"):
    """Two groups with correlated inputs, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(2, 4 * columns, 30, generator=generator)
    mixed = sources @ torch.randn(2, 30, columns, generator=generator)
    inputs = (mixed + torch.randn(mixed.shape, generator=generator)).relu().to(dtype)
    weight = torch.randn(2, rows, columns, generator=generator, dtype=dtype)
    curvature = Curvature(inputs.mT @ inputs / (2 * columns), 0.01)
    return Problem(weight, curvature, parse_pattern(pattern), columns)


def on_gpu(one):
    return replace(
        one, weight=one.weight.cuda(), known=Curvature(one.known.hessian.cuda(), one.known.damping)
    )


@pytest.mark.parametrize(("dtype", "agreement"), [(torch.float64, 1.0), (torch.float32, 0.998)])
@pytest.mark.parametrize("pattern", ["1:4", "2:4", "3:4"])
def test_sparsegpt_by_the_fused_kernel_is_sparsegpt(monkeypatch, pattern, dtype, agreement):
    # Rows and columns that fill neither a warp nor a block.
    one = problem(264, 37, dtype, pattern)
    fused = SparseGPT().solve(on_gpu(one))
    monkeypatch.setattr(block_pruners, "_has_triton", lambda device: False)
    plain, there = SparseGPT().solve(one), SparseGPT().solve(on_gpu(one))
    for other in (plain, there):
        assert (fused.mask.cpu() == other.mask.cpu()).float().mean() >= agreement
        if agreement == 1:
            torch.testing.assert_close(fused.weight.cpu(), other.weight.cpu())


@pytest.mark.parametrize("columns", [64, 600])  # rows factored one by one; conjugate gradients
def test_refit_on_a_gpu_agrees_with_the_cpu(columns):
    one = problem(columns, 37, torch.float64)
    mask = one.pattern.mask(one.weight.abs())
    here, there = (
        refit(each, Solution(each.weight * kept, kept)).weight.cpu()
        for each, kept in ((one, mask), (on_gpu(one), mask.cuda()))
    )
    torch.testing.assert_close(there, here)


@pytest.mark.parametrize(
    "options",
    [
        *({"method": method} for method in names("method")),
        {"method": "sparsegpt", "selection": "joint"},
        {"method": "sparsegpt", "pattern": "4:8", "column_order": "importance"},
        {"method": "admm", "pattern": "50%"},
        {"method": "static_obs", "layout": "flattened", "ridge": 0.01, "calibration": "sequential"},
        {"method": "wanda", "permute_channels": True, "bias_correction": True},
    ],
    ids=str,
)
def test_pruning_on_a_gpu_gives_the_same_bits_twice(options):
    network = build(Architecture("resnet18", 0.25, 10, 32)).eval()
    generator = torch.Generator().manual_seed(0)
    runs = []
    inputs = torch.randn(96, 3, 32, 32, generator=generator).split(64)
    with use_device("cuda") as device:
        for _ in range(2):
            pruned = copy.deepcopy(network).to(device)
            result = prune(pruned, inputs, positions_per_image=64, **options)
            runs.append(pruned.state_dict())
    assert 0.3 < result.sparsity < 0.8
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.filterwarnings("ignore:Please use the new API")
def test_the_callers_tf32_changes_no_bit_of_pruning():
    inputs, layer = torch.randn(512, 192).cuda().relu(), torch.nn.Linear(192, 64).cuda()
    copies = [copy.deepcopy(layer), layer]
    before = torch.get_float32_matmul_precision()
    prune(copies[0], [inputs])
    try:
        torch.set_float32_matmul_precision("high")
        prune(copies[1], [inputs])
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(copies[0].weight, copies[1].weight)


@pytest.mark.parametrize("method", ["admm", "sparsegpt", "static_obs", "wanda"])
@pytest.mark.parametrize("size", [(4800, 64), (64, 100_000)])
def test_a_layer_takes_of_a_gpu_what_is_said_beforehand(method, size):
    layer, batch = torch.nn.Linear(*size).cuda(), torch.randn(64, size[0], device="cuda")
    prune(torch.nn.Linear(256, 8).cuda(), [batch[:, :64].repeat(1, 4)], method=method)
    need = layer_need(read_settings(method=method), layer.weight.shape, 1)
    torch.cuda.reset_peak_memory_stats()
    base = torch.cuda.memory_allocated() + layer.weight.nbytes  # a copy of it is made
    prune(layer, [batch], method=method)
    assert torch.cuda.max_memory_allocated() - base <= 1.15 * need.solving + 64 * 2**20
