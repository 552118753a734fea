"""Counts of what pruning buys, against products that are counted one by one."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT
from torch.sparse._semi_structured_conversions import sparse_semi_structured_from_dense_cutlass
from torchvision import models

from sparsecnn.evaluation.costs import Costs, network_costs
from sparsecnn.evaluation.verification import PatternError
from sparsecnn.models.network import Architecture, build
from sparsecnn.registry import names
from sparsecnn.sparse_cores import sparse_core_misfit


def row(layer: str, groups: int = 1, tensor: str = "weight", status: str = "pruned") -> Any:
    """As read from layers.csv, where everything is text."""
    return {"layer": layer, "tensor": tensor, "status": status, "groups": str(groups)}


def keep(weight: Tensor, kept: int, size: int) -> None:
    """Zero all but the first `kept` of every `size` neighbouring input channels."""
    with torch.no_grad():
        for channel in range(weight.shape[1]):
            if channel % size >= kept:
                weight[:, channel] = 0


def products(model: nn.Module, image: Tensor) -> int:
    """Products of two numbers that are not zero: the sum of outputs, where both are one."""
    ones = deepcopy(model).double().requires_grad_(requires_grad=False)
    for parameter in ones.parameters():
        parameter.copy_((parameter != 0) if parameter.dim() > 1 else torch.zeros(()))
    return int(ones(torch.ones_like(image, dtype=torch.float64)).sum())


CONVOLUTIONS = {
    (1, False): nn.Conv1d,
    (2, False): nn.Conv2d,
    (3, False): nn.Conv3d,
    (1, True): nn.ConvTranspose1d,
    (2, True): nn.ConvTranspose2d,
    (3, True): nn.ConvTranspose3d,
}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_products_of_any_convolution_are_counted_without_those_by_zeros(
    data: st.DataObject,
) -> None:
    dimensions, transposed = data.draw(st.sampled_from(sorted(CONVOLUTIONS)))
    groups, small = data.draw(st.integers(1, 3)), st.integers(1, 3)
    inputs, outputs = (groups * data.draw(st.integers(1, 4)) for _ in range(2))
    shape = [inputs, *(data.draw(st.integers(5, 8)) for _ in range(dimensions))]
    make = CONVOLUTIONS[dimensions, transposed]
    layer: Any = make(
        inputs,
        outputs,
        tuple(data.draw(small) for _ in range(dimensions)),
        stride=data.draw(small),
        dilation=data.draw(st.integers(1, 2)),
        groups=groups,
        bias=data.draw(st.booleans()),
    )
    model = nn.Sequential(layer)
    every = products(model, torch.zeros(1, *shape))
    with torch.no_grad():
        layer.weight[torch.rand_like(layer.weight) < data.draw(st.floats(0, 1))] = 0
    found = network_costs(model, shape, [row("0", groups)])
    assert found.macs == every
    assert found.macs_effective == products(model, torch.zeros(1, *shape))
    assert found.parameters - found.parameters_kept == int((layer.weight == 0).sum())


TORCHVISION = ["resnet18", "mobilenet_v3_small", "vit_b_16"]


@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_cost_what_torchvision_publishes(name: str) -> None:
    with torch.device("meta"):
        model = models.get_model(name)
    published = models.get_model_weights(name)["IMAGENET1K_V1"].meta
    found = network_costs(model, (3, 224, 224), [])
    assert found.parameters == published["num_params"]
    assert round(found.macs / 1e9, 3) == published["_ops"]


@pytest.mark.parametrize("name", names("model"))
def test_built_in_networks_cost_what_their_layers_compute(name: str) -> None:
    model = build(Architecture(name, 0.25, 10, 32))
    seen = []

    def count(module: nn.Module, _: Any, out: Tensor) -> None:
        weight = next(module.parameters())
        seen.append(out[0].numel() * weight[0].numel())

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    found = network_costs(model, (3, 32, 32), [])
    assert found.macs == sum(seen) > 1e6
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert found == Costs(
        parameters=parameters,
        parameters_kept=parameters,
        bytes_dense=2 * parameters,
        bytes_pruned=2 * parameters,
        macs=found.macs,
        macs_effective=found.macs,
        macs_sparse_cores=0.0,
    )


class Unusual(nn.Module):
    """Weights used twice, in part, as a copy of another format, by functions, and never."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(16, 16)
        self.parts = nn.Parameter(torch.randn(32, 16))
        self.copied = nn.Linear(16, 16)
        self.never = nn.Linear(16, 16)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2).mT  # (1, 6, 16)
        tokens = self.twice(self.twice(tokens))
        first, second = self.parts.chunk(2)
        tokens = functional.linear(functional.linear(tokens, first)[:, :2], second)
        return functional.linear(tokens.bfloat16(), self.copied.weight.bfloat16())


def test_each_use_of_a_weight_counts_however_it_is_used() -> None:
    model = Unusual()
    keep(model.twice.weight, 2, 4)
    keep(model.parts, 1, 4)
    keep(model.copied.weight, 3, 4)
    keep(model.never.weight, 0, 4)
    layers = [row("twice"), row("", tensor="parts"), row("copied"), row("never")]
    found = network_costs(model, (16, 2, 3), layers)
    once = 6 * 16 * 16
    assert found.macs == 3 * once + 2 * (once // 3)
    assert found.macs_effective == once + once // 4 + once // 12 + once // 4
    assert found.macs_sparse_cores == pytest.approx((3 + 1 / 3) / (3 + 2 / 3))


def test_products_of_attention_count_though_no_weight_is_in_them() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, images: Tensor) -> Tensor:
            tokens = images.flatten(2).mT
            return self.own(tokens, tokens, tokens, need_weights=False)[0]

    model = Attention().eval()
    keep(model.own.in_proj_weight, 2, 4)
    found = network_costs(model, (16, 2, 3), [row("own", tensor="in_proj_weight")])
    weights, products_of_tokens = 6 * 4 * 16 * 16, 2 * 6 * 6 * 16
    assert found.macs == weights + products_of_tokens
    assert found.macs_effective == weights - 6 * 3 * 16 * 8 + products_of_tokens
    assert torch.backends.mha.get_fastpath_enabled()


class Failing(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError(f"cannot take {super().forward(images).shape}")


@pytest.mark.parametrize("kind", [nn.Sequential, Failing])
def test_the_network_is_left_as_it_was(kind: type[nn.Sequential]) -> None:
    model = kind(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16).eval(), nn.Dropout()).train()
    model[1].eval()
    before = deepcopy(model.state_dict())
    try:
        network_costs(model, (3, 8, 8), [row("0")])
    except RuntimeError:
        assert kind is Failing
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert torch.backends.mha.get_fastpath_enabled()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("kept", "size", "compressed"),
    [(2, 4, True), (1, 4, True), (1, 2, True), (3, 4, False), (4, 8, False), (2, 8, True)],
)
def test_a_layer_is_compressed_if_what_is_stored_fits(
    kept: int, size: int, compressed: bool
) -> None:
    layer = nn.Conv2d(32, 16, 3, bias=False)
    keep(layer.weight, kept, size)
    found = network_costs(nn.Sequential(layer), (32, 5, 5), [row("0")])
    numbers = layer.weight.numel()
    assert found.bytes_dense == 2 * numbers
    assert found.bytes_pruned == (numbers * 9 // 8 if compressed else 2 * numbers)
    assert found.macs_sparse_cores == compressed
    assert found.macs_effective / found.macs == found.parameters_kept / numbers == kept / size


def flattened(weight: Tensor) -> Tensor:
    """Two of every four neighbours along channels, kernel rows and kernel columns, at random."""
    smallest = torch.rand(weight.numel() // 4, 4).argsort(1) < 2
    return smallest.view(weight.shape)


def unstructured(weight: Tensor) -> Tensor:
    """Every second weight, at random."""
    return (torch.randperm(weight.numel()) % 2 == 0).view(weight.shape)


@pytest.mark.parametrize("mask", [flattened, unstructured])
def test_zeros_without_a_format_leave_out_products_but_no_bytes(mask: Any) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 16, 3)
    with torch.no_grad():
        layer.weight[mask(layer.weight)] = 0
    found = network_costs(nn.Sequential(layer), (32, 5, 5), [row("0")])
    assert found.macs_effective == found.macs / 2
    assert (found.bytes_pruned, found.macs_sparse_cores) == (found.bytes_dense, 0)


def test_one_weight_too_many_is_stored_dense_and_so_is_what_was_not_pruned() -> None:
    model = nn.Sequential(nn.Flatten(), *(nn.Linear(16, 16, bias=False) for _ in range(3)))
    for layer in model[1:]:
        keep(layer.weight, 2, 4)
    model[1].weight.data[3, 7] = 1.0
    layers = [row("1"), row("2"), row("3", status="dense")]
    found = network_costs(model, (16, 1, 1), layers)
    assert found.bytes_pruned == 2 * 256 + 256 * 9 // 8 + 2 * 256
    assert found.macs_sparse_cores == pytest.approx(1 / 3)
    assert found.macs_effective == found.parameters_kept == 129 + 128 + 256


@pytest.mark.parametrize(
    ("rows", "channels", "groups", "compressed"),
    [(16, 16, 1, True), (24, 16, 1, False), (16, 24, 1, False), (32, 32, 2, True), (32, 64, 4, 0)],
)
def test_sparse_cores_take_each_group_by_its_shape(
    rows: int, channels: int, groups: int, compressed: bool
) -> None:
    layer = nn.Conv2d(channels, rows, 1, groups=groups)
    keep(layer.weight, 2, 4)
    found = network_costs(nn.Sequential(layer), (channels, 3, 3), [row("0", groups)])
    assert found.macs_sparse_cores == compressed
    assert found.macs_effective == found.macs / 2


def test_the_bytes_are_those_of_torchs_format() -> None:
    weight = torch.randn(64, 128, dtype=torch.float16)
    keep(weight, 2, 4)
    values, indices = sparse_semi_structured_from_dense_cutlass(weight)
    layer = nn.Linear(128, 64, bias=False)
    layer.weight.data = weight.float()
    found = network_costs(nn.Sequential(nn.Flatten(), layer), (128, 1, 1), [row("1")])
    assert found.bytes_pruned == values.nbytes + indices.nbytes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_shapes_are_those_that_torch_asks_of_cusparselt(dtype: torch.dtype) -> None:
    wanted = SparseSemiStructuredTensorCUSPARSELT._DTYPE_SHAPE_CONSTRAINTS[dtype]
    sizes = [8, 16, 24, 32, 40, 64]
    for rows in sizes:
        for columns in sizes:
            fits = rows % wanted.sparse_min_rows == 0 and columns % wanted.sparse_min_cols == 0
            assert (sparse_core_misfit(rows, columns) == "") == fits


def test_a_layer_that_is_not_in_the_network_is_named() -> None:
    with pytest.raises(PatternError, match="'gone' of the table is not in the network"):
        network_costs(nn.Sequential(nn.Linear(4, 4)), (4,), [row("gone")])
