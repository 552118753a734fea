import copy
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.models.resnet import resnet18
from sparsecnn.pruning import prune
from sparsecnn.pruning.calibration.trajectory import paused_passes


class Branches(nn.Module):
    """A residual block whose modules are registered against the order of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(4, 8, 1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.first = nn.Conv2d(4, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x).relu()) + self.shortcut(x)
        out: Tensor = self.head(y.relu().mean((2, 3)))
        return out


@pytest.fixture
def batches() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(n, 4, 6, 6) for n in (3, 5)]


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def forward_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "forward pass"]


@pytest.mark.parametrize("after", [False, True])
def test_passes_pause_in_data_order_with_the_tensors_of_a_plain_pass(
    batches: list[Tensor], after: bool
) -> None:
    model = Branches()
    recorded: list[list[tuple[str, Tensor]]] = [[], []]
    expected = recorded[0]

    def record(name: str) -> None:
        def hook(_: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            expected.append((name, output if after else args[0]))

        layers_of(model)[name].register_forward_hook(hook)

    for name in layers_of(model):
        record(name)
    for i, batch in enumerate(batches):
        expected = recorded[i]
        model(batch)
    fresh = Branches()
    fresh.load_state_dict(model.state_dict())
    with paused_passes(fresh, batches, layers_of(fresh), after=after) as pauses:
        stops = list(pauses)
    assert [s[0][0] for s in stops] == ["first", "second", "shortcut", "head"]
    for i, expected in enumerate(recorded):
        for stop, (name, tensor) in zip(stops, expected, strict=True):
            assert stop[i][0] == name
            torch.testing.assert_close(stop[i][1], tensor)
    assert not forward_threads()


def test_leaving_early_ends_the_passes_and_removes_the_hooks(batches: list[Tensor]) -> None:
    model = Branches()
    with paused_passes(model, batches, layers_of(model)) as pauses:
        next(pauses)
        assert len(forward_threads()) == 2
    assert not forward_threads()
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_an_error_inside_the_model_is_raised_here(batches: list[Tensor]) -> None:
    model = Branches()
    model.head = nn.Linear(9, 2)
    with (
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
        paused_passes(model, batches, layers_of(model)) as pauses,
    ):
        list(pauses)
    assert not forward_threads()


@pytest.mark.parametrize("target", ["own", "dense"])
def test_two_layers_by_hand(target: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    dense = copy.deepcopy(model)
    inputs = torch.randn(50, 8, dtype=torch.float64)
    prune(model, [inputs[:20], inputs[20:]], method="magnitude", exclude=["2"])
    hidden = model[1](model[0](inputs)).detach()
    wanted = dense[2](dense[1](dense[0](inputs)) if target == "dense" else hidden).detach()
    expected_weight = dense[2].weight.detach()
    wanted = wanted - dense[2].bias.detach()
    hessian = 2 / 50 * hidden.T @ hidden
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(8)
    shift = 2 / 50 * wanted.T @ hidden - expected_weight @ hessian
    aim = expected_weight + shift @ torch.linalg.inv(damped)
    result = prune(
        dense,
        [inputs[:20], inputs[20:]],
        method="magnitude",
        calibration="sequential",
        target=target,
        precision="float64",
    )
    mask = result.masks["2"]
    order = aim.abs().reshape(4, 2, 4).argsort(-1, descending=True)[..., :2]
    assert torch.equal(
        mask, torch.zeros(4, 2, 4, dtype=torch.bool).scatter_(-1, order, True).reshape(4, 8)
    )
    torch.testing.assert_close(dense[2].weight.detach(), aim * mask)
    error = (wanted - hidden @ dense[2].weight.detach().T).square().sum()
    assert result.layers[1].relative_error == pytest.approx((error / wanted.square().sum()).item())


def test_dense_target_follows_the_dense_network_better() -> None:
    torch.manual_seed(0)
    dense = resnet18(num_classes=10, width=0.125, image_size=16).eval()
    batches = [torch.randn(32, 3, 16, 16) for _ in range(2)]
    test_batch = torch.randn(64, 3, 16, 16)
    errors = {}
    for target in ("own", "dense"):
        model = copy.deepcopy(dense)
        result = prune(model, batches, calibration="sequential", target=target)
        assert result.layers[0].layer == "conv1"
        assert len(result.masks) == len(result.layers) - 1
        with torch.no_grad():
            errors[target] = (model(test_batch) - dense(test_batch)).square().mean().item()
    assert errors["dense"] < errors["own"]


def test_without_pruned_layers_before_it_sequential_is_independent(batches: list[Tensor]) -> None:
    torch.manual_seed(0)
    model = Branches()
    other = copy.deepcopy(model)
    chosen: dict[str, Any] = {"include": ["second"], "precision": "float64"}
    one = prune(model, batches, calibration="independent", **chosen)
    for target in ("own", "dense"):
        trial = copy.deepcopy(other)
        two = prune(trial, batches, calibration="sequential", target=target, **chosen)
        assert torch.equal(one.masks["second"], two.masks["second"])
        torch.testing.assert_close(trial.second.weight, model.second.weight, rtol=1e-4, atol=1e-5)
        assert two.layers[1].relative_error == pytest.approx(one.layers[1].relative_error, rel=1e-3)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.cell, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cell(self.inner(self.cell(x).relu()).relu())
        out: Tensor = self.head(x)
        return out


def test_layer_used_twice_is_pruned_after_its_last_use() -> None:
    torch.manual_seed(0)
    model, inputs = Recurrent(), [torch.randn(20, 8), torch.randn(30, 8)]
    result = prune(model, inputs, calibration="sequential", target="dense", refit=True)
    assert {row.layer: row.samples for row in result.layers} == {
        "cell": 100,
        "inner": 50,
        "head": 50,
    }
    assert not forward_threads()


def test_batches_that_part_ways_are_refused() -> None:
    class Fork(Recurrent):
        def forward(self, x: Tensor) -> Tensor:
            order = (self.inner, self.cell) if len(x) > 5 else (self.cell, self.inner)
            out: Tensor = self.head(order[1](order[0](x)))
            return out

    inputs = [torch.randn(4, 8), torch.randn(8, 8)]
    with pytest.raises(UserError, match="one batch reached layer 'cell' while another"):
        prune(Fork(), inputs, calibration="sequential")
    prune(Fork(), inputs, calibration="independent")


@pytest.mark.parametrize(
    ("calibration", "target", "message"),
    [
        ("sequentially", "own", "unknown calibration 'sequentially'"),
        ("sequential", "sparse", "unknown target 'sparse'"),
        ("independent", "dense", "only with calibration 'sequential'"),
    ],
)
def test_mistakes_are_explained(calibration: str, target: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prune(nn.Linear(4, 4), [torch.randn(3, 4)], calibration=calibration, target=target)
