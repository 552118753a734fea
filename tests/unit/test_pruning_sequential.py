import copy
from typing import Any

import pytest
import torch
from paused_models import Branches, Recurrent, forward_threads
from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.models.resnet import resnet18
from sparsecnn.pruning import prune


@pytest.fixture
def batches() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(n, 4, 6, 6) for n in (3, 5)]


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
