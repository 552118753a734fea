"""What the tests of the zoo rely on: that a weight is seen as the network computes with it."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from in_use import two_of_four, uses
from torch import Tensor, nn


class Standardised(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return F.conv2d(input, self.weight - self.weight.mean(1, keepdim=True), self.bias)


class Borrowing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)
        self.idle = nn.Linear(8, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, weight=self.inner.weight)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.attention(inputs, inputs, inputs)[0]


def seen(model: nn.Module, inputs: Tensor, layer: str, tensor: str = "weight") -> list[Any]:
    return [use.weight for use in uses(model.eval(), inputs) if use.is_of(layer, tensor)]


def halved(weight: Tensor) -> None:
    with torch.no_grad():
        weight[:, ::2] = 0


def test_zeros_of_a_plain_layer_are_in_use():
    model = nn.Sequential(nn.Conv2d(8, 4, 3))
    images = torch.randn(1, 8, 5, 5)
    assert not all(map(two_of_four, seen(model, images, "0")))
    halved(model[0].weight)
    assert [two_of_four(weight) for weight in seen(model, images, "0")] == [True]


def test_zeros_that_a_layer_fills_are_not():
    model = nn.Sequential(Standardised(8, 4, 3))
    halved(model[0].weight)
    assert [two_of_four(w) for w in seen(model, torch.randn(1, 8, 5, 5), "0")] == [False]


def test_a_weight_that_another_module_uses_is_seen_and_one_in_no_use_is_not():
    model = Borrowing()
    halved(model.inner.weight)
    inputs = torch.randn(3, 8)
    assert [two_of_four(weight) for weight in seen(model, inputs, "inner")] == [True]
    assert seen(model, inputs, "idle") == []


@pytest.mark.parametrize(
    ("layer", "tensor"), [("attention", "in_proj_weight"), ("attention.out_proj", "weight")]
)
def test_weights_of_attention_are_seen(layer: str, tensor: str):
    model = Attending()
    assert seen(model, torch.randn(2, 3, 8), layer, tensor)


def test_neighbours_are_input_channels():
    weight = torch.zeros(2, 8, 3, 3)
    weight[:, 2:6] = 1
    assert two_of_four(weight)
    weight[0, 0, 0, 0] = 1
    assert not two_of_four(weight)
    assert not two_of_four(torch.zeros(2, 6))
