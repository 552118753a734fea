import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from sparsecnn.evaluation.propagation import output_errors


class Residual(nn.Module):
    """A shortcut, a layer that is used twice, activations in place, and one that is never used."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, width, 3, padding=1)
        self.unused = nn.Linear(2, 2)
        self.twice = nn.Conv2d(width, width, 1, bias=False)
        self.head = nn.Linear(width, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.relu_(self.first(images))
        x = x + functional.relu_(self.twice(x))
        x = x + functional.relu_(self.twice(x))
        y: Tensor = functional.relu_(self.head(x.mean(dim=(2, 3))))
        return y

    def outputs(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs and outputs of every layer call, step by step."""
        a = self.first(images)
        b = a.relu()
        c = self.twice(b)
        d = b + c.relu()
        e = self.twice(d)
        f = (d + e.relu()).mean(dim=(2, 3))
        return [images, b, d, f], [a, c, e, self.head(f)]


@settings(deadline=None, max_examples=25)
@given(
    width=st.integers(1, 4),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    seed=st.integers(0, 10**6),
)
def test_errors_are_those_of_outputs_computed_step_by_step(
    width: int, sizes: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    dense = Residual(width).double().eval()
    pruned = copy.deepcopy(dense)
    with torch.no_grad():
        pruned.first.weight[:, 0] = 0
        pruned.head.bias += 1
    batches = [torch.randn(n, 2, 4, 4, dtype=torch.float64) for n in sizes]
    found = output_errors(dense, pruned, batches)
    assert [error.layer for error in found] == ["first", "twice", "head"]

    images = torch.cat(batches)
    with torch.no_grad():
        inputs, wanted = dense.outputs(images)
        _, got = pruned.outputs(images)
        layers = [pruned.first, pruned.twice, pruned.twice, pruned.head]
        alone = [layer(x) for layer, x in zip(layers, inputs, strict=True)]
    for error, calls in zip(found, [(0,), (1, 2), (3,)], strict=True):
        energy = sum(float(wanted[i].square().sum()) for i in calls)
        own = sum(float((alone[i] - wanted[i]).square().sum()) for i in calls)
        total = sum(float((got[i] - wanted[i]).square().sum()) for i in calls)
        assert error.own == pytest.approx(own / energy)
        assert error.accumulated == pytest.approx(total / energy)


def test_the_same_network_has_no_error_and_no_hook_stays() -> None:
    model = Residual(2).eval()
    twin = copy.deepcopy(model)
    batch = torch.randn(2, 2, 4, 4)
    for error in output_errors(model, twin, [batch]):
        assert error.own == error.accumulated == 0
    assert all(not m._forward_hooks for net in (model, twin) for m in net.modules())


def test_without_any_output_there_is_no_relative_error() -> None:
    dense = nn.Sequential(nn.Linear(2, 2, bias=False)).eval()
    (error,) = output_errors(dense, copy.deepcopy(dense), [torch.zeros(3, 2)])
    assert (error.own, error.accumulated) == (None, None)
